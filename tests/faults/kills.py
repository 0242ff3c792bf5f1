"""1. Kills: whatever dies, and whenever, the same command again ends with the same bytes."""

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
    check_finished,
    check_resumed,
    check_stopped,
    check_told,
    check_whole,
)
from tests.faults.harness import faults
from tests.faults.laboratory import Lab, shards
from tests.faults.processes import Running, wait_until

kill = faults("1 kills")
ENDS = "the run itself ends well, with the same bytes"
RESUMES = "the same command resumes; same bytes, no shard twice, nothing left over"


@kill(
    "SIGKILL of a worker in the middle of a shard",
    "the run itself ends well, with the same bytes",
    short=True,
)
def worker(lab: Lab) -> str:
    whole, cache = lab.whole, lab.folder()
    run = lab.preprocessing(cache, 2)
    victims = run.workers()
    assert len(victims) == 2, f"{len(victims)} workers"
    victims[0].kill()
    done = run.wait()
    check_done(done)
    check_whole(cache, whole)
    return f"{len(shards(cache))} shards, none lost"


@kill("SIGKILL of both workers at once", ENDS)
def all_workers(lab: Lab) -> str:
    whole, cache = lab.whole, lab.folder()
    run = lab.preprocessing(cache, 3)
    for victim in run.workers():
        victim.kill()
    done = run.wait()
    check_done(done)
    check_whole(cache, whole)


@kill("SIGKILL of the main process, random moment {case}", RESUMES, cases=range(1, 21), short={1})
def main_process(lab: Lab, case: int) -> str:
    whole = lab.whole
    after, delay = lab.random.randrange(17), lab.random.uniform(0.0, 0.25)
    cache = lab.folder()
    run = lab.start("preprocess", *lab.words(cache))
    wait_until(lambda: cache.exists() and len(shards(cache)) >= after, run)
    time.sleep(delay)
    return _killed(lab, run, cache, whole, signal.SIGKILL)


@kill("power cut: SIGKILL of every process at once, moment {case}", RESUMES, cases=(2, 9, 15))
def power_cut(lab: Lab, case: int) -> str:
    whole, cache = lab.whole, lab.folder()
    run = lab.preprocessing(cache, case)
    os.killpg(run.pid, signal.SIGKILL)
    return _killed(lab, run, cache, whole, None)


def _killed(lab: Lab, run: Running, cache: Path, whole: Path, sent: int | None) -> str:
    if sent is not None and run.process.poll() is None:
        run.kill(sent)
    run.process.wait(20)
    left = run.survivors(20)
    assert not left, f"processes survive their run: {left}"
    kept = check_finished(cache, whole)
    check_resumed(lab, lab.words(cache), cache, whole)
    return f"{kept} of {len(shards(whole))} shards kept"


HOWS = ("SIGTERM", "SIGINT", "Ctrl-C in a terminal")


@kill("{case} while shards are being made", f"stops within 5 s with status 130; {RESUMES}",
      cases=HOWS, short=HOWS[::2])  # fmt: skip
def asked_to_stop(lab: Lab, case: str) -> str:
    whole, cache = lab.whole, lab.folder()
    run = lab.preprocessing(cache, 4)
    seconds = check_stopped(lab, run, case)
    assert not list(cache.rglob("*.tmp")), "temporary files left by a run that could tidy up"
    check_finished(cache, whole)
    kept = check_resumed(lab, lab.words(cache), cache, whole)
    return f"ended after {seconds:.1f} s, {kept} shards kept"


@kill("{case} while workers are in the middle of a clip that takes a minute", "stops within 5 s all the same",
      cases=("SIGTERM", "Ctrl-C in a terminal"))  # fmt: skip
def stopped_in_a_long_clip(lab: Lab, case: str) -> str:
    cache, begun = lab.folder(), lab.folder() / "begun"
    code = f"import pathlib, time\n    pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    slow = lab.injected(
        f"import deiii.pipeline.faces.stage as m\ndef wait(*all):\n    {code}\nm.extract_faces = wait"
    )
    run = lab.start("preprocess", *lab.words(cache, "stages=[faces]"), env=slow)
    wait_until(begun.exists, run)
    return f"ended after {check_stopped(lab, run, case):.1f} s"


@kill("Ctrl-C in a terminal {case} s after the opening lines, while the cluster is starting",
      "stops within 5 s with status 130", cases=(0, 0.3, 1, 2))  # fmt: skip
def stopped_at_start(lab: Lab, case: float) -> str:
    run = lab.start("preprocess", *lab.words(lab.folder()))
    wait_until(lambda: "shards finished" in run.output.read_text(), run)
    time.sleep(case)
    return f"ended after {check_stopped(lab, run, 'Ctrl-C in a terminal'):.1f} s"


@kill("Ctrl-C twice, {case} s apart", "stops as cleanly as after one", cases=(0.05, 0.3))
def impatient(lab: Lab, case: float) -> str:
    cache = lab.folder()
    run = lab.preprocessing(cache, 2)
    os.killpg(run.pid, signal.SIGINT)
    time.sleep(case)
    seconds = check_stopped(lab, run, "Ctrl-C in a terminal")
    assert not list(cache.rglob("*.tmp")), "temporary files left by a run that could tidy up"
    return f"ended after {seconds:.1f} s"


@kill("the machine sleeps for 20 s in the middle of the run", ENDS)
def sleeps(lab: Lab) -> None:
    whole, cache = lab.whole, lab.folder()
    run = lab.preprocessing(cache, 3)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.killpg(run.pid, number)
        time.sleep(20 if number == signal.SIGSTOP else 0)
    check_done(run.wait())
    check_whole(cache, whole)


@kill("{case} while the corpus is being drawn", "stops within 5 s with status 130; goes on to the same bytes",
      cases=("SIGTERM", "Ctrl-C in a terminal"))  # fmt: skip
def drawing(lab: Lab, case: str) -> str:
    root = lab.folder()
    words = [f"corpus.root={root}", "corpus.synthetic.speakers=3", "corpus.synthetic.clips_per_class=1"]
    words += ["corpus.synthetic.seconds=0.8", "corpus.synthetic.fps=12.5", "corpus.synthetic.size=96"]
    run = lab.start("synthesize", *words, "workers=2")
    wait_until(lambda: len(list(root.rglob("*.mp4"))) >= 5, run)
    seconds = check_stopped(lab, run, case)
    assert lab.run("synthesize", *words, "workers=2").code == 0
    here = {p.relative_to(root): p.read_bytes() for p in root.rglob("*.mp4")}
    assert here == {p.relative_to(lab.drawn): p.read_bytes() for p in lab.drawn.rglob("*.mp4")}
    assert not list(root.rglob("*.tmp"))
    return f"ended after {seconds:.1f} s"


@kill("{case} workers instead of 2", "the same bytes", cases=(1, 4))
def workers(lab: Lab, case: int) -> None:
    whole, cache = lab.whole, lab.folder()
    check_done(lab.preprocess(cache, f"workers={case}"))
    check_whole(cache, whole)


@kill("SIGKILL of the scheduler of an existing cluster after {case} shards",
      f"a line that says so, within 10 s; {RESUMES}", cases=(0, 3, 8))  # fmt: skip
def scheduler(lab: Lab, case: int) -> str:
    whole, cache = lab.whole, lab.folder()
    with _cluster(lab.folder()) as cluster:
        run = lab.start("preprocess", *lab.words(cache), f"scheduler={cluster.address}")
        wait_until(lambda: len(shards(cache)) >= case and "workers, dashboard" in run.output.read_text(), run)
        return _without_scheduler(lab, run, cluster, cache, whole)


@kill("the same, and another one answers at its address at once", f"the same; {RESUMES}")
def scheduler_again(lab: Lab) -> str:
    whole, cache = lab.whole, lab.folder()
    with _cluster(lab.folder()) as cluster:
        run = lab.start("preprocess", *lab.words(cache), f"scheduler={cluster.address}")
        wait_until(lambda: len(shards(cache)) >= 3, run)
        return _without_scheduler(lab, run, cluster, cache, whole, again=True)


def _without_scheduler(lab: Lab, run: Running, cluster: _cluster, cache: Path, whole: Path, again=False):
    begun = time.monotonic()
    cluster.scheduler.kill()
    if again:
        cluster.start_scheduler(cluster.address.rsplit(":", 1)[1])
    told = check_told(run.wait(90), cluster.address, "start it again", "finished shards are kept")
    seconds = time.monotonic() - begun
    assert seconds < (10 if lab.strict else 60), f"took {seconds:.1f} s"
    assert not (left := run.survivors(1)), f"processes survive their run: {left}"
    check_finished(cache, whole)
    kept = check_resumed(lab, lab.words(cache), cache, whole)
    return f"{told} ({seconds:.1f} s); {kept} shards kept"


class _cluster:
    """A scheduler and a worker as processes of their own."""

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
