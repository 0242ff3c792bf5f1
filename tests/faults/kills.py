"""1. Kills: whichever process is killed, and when, the same command then gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.checks import (
    check_done,
    check_error,
    check_finished,
    check_identical,
    check_resumed,
    check_stopped,
)
from tests.faults.harness import faults
from tests.faults.processes import Running, wait_until
from tests.faults.workspace import Workspace, shards

kill = faults("1 kills")
ENDS = "the run itself succeeds, with the same bytes"
RESUMES = "the same command continues; same bytes, no shard computed twice, nothing left behind"


@kill(
    "SIGKILL of a worker in the middle of a shard",
    ENDS,
    short=True,
)
def worker(work: Workspace) -> str:
    expected, cache = work.undisturbed, work.folder()
    run = work.start_preprocessing(cache, 2)
    victims = run.workers()
    assert len(victims) == 2, f"{len(victims)} workers"
    victims[0].kill()
    done = run.wait()
    check_done(done)
    check_identical(cache, expected)
    return f"{len(shards(cache))} shards, none lost"


@kill("SIGKILL of both workers at once, after {case} shards", ENDS, cases=(1, 3, 6, 12))
def all_workers(work: Workspace, case: int) -> str:
    """Results that are fetched, and shards that one worker takes over from the other, are lost together."""
    expected, cache = work.undisturbed, work.folder()
    run = work.start_preprocessing(cache, case)
    for victim in run.workers():
        victim.kill()
    done = run.wait()
    check_done(done)
    check_identical(cache, expected)


@kill("SIGKILL of the main process, random time {case}", RESUMES, cases=range(1, 21), short={1})
def main_process(work: Workspace, case: int) -> str:
    expected = work.undisturbed
    after, delay = work.random.randrange(17), work.random.uniform(0.0, 0.25)
    cache = work.folder()
    run = work.start("preprocess", *work.words(cache))
    wait_until(lambda: cache.exists() and len(shards(cache)) >= after, run)
    time.sleep(delay)
    return _killed(work, run, cache, expected, signal.SIGKILL, work.words(cache))


@kill("power failure: SIGKILL of every process at once, after {case} shards", RESUMES, cases=(2, 9, 15))
def power_cut(work: Workspace, case: int) -> str:
    expected, cache = work.undisturbed, work.folder()
    run = work.start_preprocessing(cache, case)
    os.killpg(run.pid, signal.SIGKILL)
    return _killed(work, run, cache, expected, None, work.words(cache))


def _killed(
    work: Workspace, run: Running, cache: Path, expected: Path, sent: int | None, words: list[str]
) -> str:
    if sent is not None and run.process.poll() is None:
        run.kill(sent)
    run.process.wait(20)
    left = run.remaining(20)
    assert not left, f"processes survive their run: {left}"
    kept = check_finished(cache, expected)
    check_resumed(work, words, cache, expected)
    return f"{kept} of {len(shards(expected))} shards kept"


@kill(
    "SIGKILL of the main process in the speech stage, after {case} shards", RESUMES, cases=(1, 4), short={1}
)
def in_the_speech_stage(work: Workspace, case: int) -> str:
    expected, cache = work.speech_cache, work.folder()
    words = work.speech_words(cache)
    run = work.start("preprocess", *words)
    wait_until(lambda: len(shards(cache)) >= case, run)
    return _killed(work, run, cache, expected, signal.SIGKILL, words)


@kill("SIGKILL of the main process in the appearance stage, after {case} shards", RESUMES, cases=(0, 2))
def in_the_appearance_stage(work: Workspace, case: int) -> str:
    """Its batches hold crops of several clips. All shards of faces are there before it begins."""
    expected, cache = work.appearance_cache, work.folder()
    words = work.appearance_words(cache)
    faces = len(shards(expected)) // 2
    run = work.start("preprocess", *words)
    wait_until(lambda: len(shards(cache)) >= faces + case, run)
    return _killed(work, run, cache, expected, signal.SIGKILL, words)


HOWS = ("SIGTERM", "SIGINT", "Ctrl-C in a terminal", "SIGHUP")


@kill("{case} while shards are being computed", f"stops within 5 s with status 130; {RESUMES}",
      cases=HOWS, short=HOWS[::2])  # fmt: skip
def asked_to_stop(work: Workspace, case: str) -> str:
    expected, cache = work.undisturbed, work.folder()
    run = work.start_preprocessing(cache, 4)
    seconds = check_stopped(work, run, case)
    assert not list(cache.rglob("*.tmp")), "temporary files left by a run that was not killed"
    check_finished(cache, expected)
    kept = check_resumed(work, work.words(cache), cache, expected)
    return f"ended after {seconds:.1f} s, {kept} shards kept"


@kill("{case} while workers are in the middle of a clip that takes a minute", "stops within 5 s",
      cases=("SIGTERM", "Ctrl-C in a terminal"))  # fmt: skip
def stopped_in_a_long_clip(work: Workspace, case: str) -> str:
    cache, started = work.folder(), work.folder() / "begun"
    code = f"import pathlib, time\n    pathlib.Path({str(started)!r}).touch(); time.sleep(60)"
    slow = work.environment_with(
        f"import deiii.pipeline.faces.stage as m\ndef wait(*all):\n    {code}\nm.extract_faces = wait"
    )
    run = work.start("preprocess", *work.words(cache, "stages=[faces]"), env=slow)
    wait_until(started.exists, run)
    return f"ended after {check_stopped(work, run, case):.1f} s"


@kill("Ctrl-C in a terminal {case} s after the first lines, while the cluster is starting",
      "stops within 5 s with status 130", cases=(0, 0.3, 1, 2))  # fmt: skip
def stopped_at_start(work: Workspace, case: float) -> str:
    run = work.start("preprocess", *work.words(work.folder()))
    wait_until(lambda: "shards finished" in run.output.read_text(), run)
    time.sleep(case)
    return f"ended after {check_stopped(work, run, 'Ctrl-C in a terminal'):.1f} s"


@kill("Ctrl-C twice, {case} s apart", "stops as after one", cases=(0.05, 0.3))
def ctrl_c_twice(work: Workspace, case: float) -> str:
    cache = work.folder()
    run = work.start_preprocessing(cache, 2)
    os.killpg(run.pid, signal.SIGINT)
    time.sleep(case)
    seconds = check_stopped(work, run, "Ctrl-C in a terminal")
    assert not list(cache.rglob("*.tmp")), "temporary files left by a run that was not killed"
    return f"ended after {seconds:.1f} s"


@kill("all processes are stopped for 20 s in the middle of the run, as when a laptop sleeps", ENDS)
def machine_sleeps(work: Workspace) -> None:
    expected, cache = work.undisturbed, work.folder()
    run = work.start_preprocessing(cache, 3)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.killpg(run.pid, number)
        time.sleep(20 if number == signal.SIGSTOP else 0)
    check_done(run.wait())
    check_identical(cache, expected)


@kill("{case} while the synthetic corpus is being made", "stops within 5 s, status 130; then the same bytes",
      cases=("SIGTERM", "Ctrl-C in a terminal"))  # fmt: skip
def stopped_while_synthesizing(work: Workspace, case: str) -> str:
    root = work.folder()
    words = [f"corpus.root={root}", "corpus.synthetic.speakers=3", "corpus.synthetic.clips_per_class=1"]
    words += ["corpus.synthetic.seconds=0.8", "corpus.synthetic.fps=12.5", "corpus.synthetic.size=96"]
    run = work.start("synthesize", *words, "workers=2")
    wait_until(lambda: len(list(root.rglob("*.mp4"))) >= 5, run)
    seconds = check_stopped(work, run, case)
    assert work.run("synthesize", *words, "workers=2").code == 0
    here = {p.relative_to(root): p.read_bytes() for p in root.rglob("*.mp4")}
    assert here == {p.relative_to(work.synthetic): p.read_bytes() for p in work.synthetic.rglob("*.mp4")}
    assert not list(root.rglob("*.tmp"))
    return f"ended after {seconds:.1f} s"


@kill("{case} workers instead of 2", "the same bytes", cases=(1, 4))
def other_number_of_workers(work: Workspace, case: int) -> None:
    expected, cache = work.undisturbed, work.folder()
    check_done(work.preprocess(cache, f"workers={case}"))
    check_identical(cache, expected)


@kill("SIGKILL of the scheduler of an existing cluster after {case} shards",
      f"an error line within 10 s; {RESUMES}", cases=(0, 3, 8))  # fmt: skip
def scheduler(work: Workspace, case: int) -> str:
    expected, cache = work.undisturbed, work.folder()
    with _cluster(work.folder()) as cluster:
        run = work.start("preprocess", *work.words(cache), f"scheduler={cluster.address}")
        wait_until(lambda: len(shards(cache)) >= case and "dashboard at" in run.output.read_text(), run)
        return _without_scheduler(work, run, cluster, cache, expected)


@kill("the same, and a new scheduler starts at its address at once", f"the same; {RESUMES}")
def scheduler_again(work: Workspace) -> str:
    expected, cache = work.undisturbed, work.folder()
    with _cluster(work.folder()) as cluster:
        run = work.start("preprocess", *work.words(cache), f"scheduler={cluster.address}")
        wait_until(lambda: len(shards(cache)) >= 3, run)
        return _without_scheduler(work, run, cluster, cache, expected, again=True)


def _without_scheduler(
    work: Workspace, run: Running, cluster: _cluster, cache: Path, expected: Path, again=False
):
    started = time.monotonic()
    cluster.scheduler.kill()
    if again:
        cluster.start_scheduler(cluster.address.rsplit(":", 1)[1])
    message = check_error(run.wait(90), cluster.address, "start it again", "finished shards are kept")
    seconds = time.monotonic() - started
    assert seconds < (10 if work.strict else 60), f"took {seconds:.1f} s"
    assert not (left := run.remaining(1)), f"processes survive their run: {left}"
    check_finished(cache, expected)
    kept = check_resumed(work, work.words(cache), cache, expected)
    return f"{message} ({seconds:.1f} s); {kept} shards kept"


class _cluster:
    """A Dask scheduler and one worker, each in its own process."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / "scheduler.json"
        self.running: list[subprocess.Popen] = []

    def __enter__(self) -> _cluster:
        self.scheduler = self.start_scheduler("0")
        self._start(
            "worker", "--scheduler-file", self.file, "--nthreads", "1", "--no-dashboard",
            "--local-directory", self.folder, "--no-nanny",
        )  # fmt: skip
        wait_until(self.file.exists, seconds=60)
        time.sleep(0.2)
        self.address = json.loads(self.file.read_text())["address"]
        return self

    def start_scheduler(self, port: str) -> subprocess.Popen:
        words = ["--host", "127.0.0.1", "--port", port, "--scheduler-file", self.file, "--no-dashboard"]
        return self._start("scheduler", *words)

    def _start(self, *words) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *map(str, words)]
        with open(self.folder / "log.txt", "a") as log:
            self.running.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self.running[-1]

    def __exit__(self, *_) -> None:
        for process in self.running:
            process.kill()
            process.wait()
