"""4. Runs at once: one waits, all succeed, no shard is incomplete or computed twice, no lock remains."""

from __future__ import annotations

import fcntl
import os
import signal
import time

from tests.faults.checks import check_done, check_error, check_finished, check_identical, stamps
from tests.faults.harness import faults
from tests.faults.processes import wait_until
from tests.faults.workspace import Workspace

at_once = faults("4 together")


@at_once(
    "{case} runs at once on one cache",
    "all succeed; the same bytes, no shard computed twice",
    cases=(2, 4),
    short={2},
)
def several(work: Workspace, case: int) -> str:
    expected, cache = work.undisturbed, work.folder()
    runs = [work.start("preprocess", *work.words(cache)) for _ in range(case)]
    ended = [run.wait() for run in runs]
    assert all(e.code == 0 for e in ended), [e.text[-200:] for e in ended]
    check_identical(cache, expected)
    computed = [e for e in ended if "nothing to do" not in e.text]
    assert len(computed) == 1, f"{len(computed)} runs computed shards"
    waited = [e for e in ended if "waiting for it" in e.text]
    return f"{len(waited)} waited"


@at_once("SIGKILL of the run that others wait for", "the waiting run continues at once; the same bytes")
def waiting_run_continues(work: Workspace) -> str:
    expected, cache = work.undisturbed, work.folder()
    first = work.start_preprocessing(cache, 2)
    second = work.start("preprocess", *work.words(cache))
    wait_until(lambda: "waiting for it" in second.output.read_text(), second)
    before = stamps(cache)
    first.kill()
    done = second.wait()
    check_done(done)
    check_identical(cache, expected)
    after = stamps(cache)
    assert all(after[name] == stamp for name, stamp in before.items()), "shards were computed twice"
    return f"{len(before)} shards taken over"


LOCKS = {
    "a dead process": "process 999999 on {host}",
    "another host": "process 12 on some-other-host",
    "no process: garbage": "\x00\udcff garbage",
}


@at_once("a stale lock of {case}", "does not block", cases=LOCKS)
def stale(work: Workspace, case: str) -> None:
    cache = work.copy()
    lock = next(cache.glob("*/clips.json")).with_name(".lock")
    lock.write_bytes(LOCKS[case].encode("utf-8", "surrogateescape"))
    done = work.preprocess(cache)
    check_done(done, "nothing to do")


@at_once("a held lock whose file contains garbage", "the run waits and says so; Ctrl-C ends the waiting")
def garbage(work: Workspace) -> str:
    cache = work.copy()
    lock = next(cache.glob("*/clips.json")).with_name(".lock")
    lock.write_bytes(b"\xff\xfe\x00")
    with open(lock, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = work.start("preprocess", *work.words(cache))
        wait_until(lambda: "waiting for it" in run.output.read_text(), run)
        started = time.monotonic()
        run.kill(signal.SIGINT)
        done = run.wait(30)
    assert done.code == 130 and "Traceback" not in done.text, done.text[-300:]
    return f"ended after {time.monotonic() - started:.1f} s"


@at_once("a folder in place of the lock file", "an error line, exit status 1")
def lock_folder(work: Workspace) -> str:
    cache = work.folder()
    (cache / "table-clips/.lock").mkdir(parents=True)
    return check_error(work.preprocess(cache), "lock")


@at_once(
    "verify and training while preprocess runs", "an error line that the stage is not finished; no trace"
)
def readers(work: Workspace) -> str:
    expected, cache = work.undisturbed, work.folder()
    run = work.start_preprocessing(cache, 1)
    os.killpg(run.pid, signal.SIGSTOP)  # otherwise it may end before training has started
    words = [*work.words(cache), "loader.crop=32", f"train.run={work.folder()}"]
    message = check_error(work.run("train", "configs/tiny.yaml", *words), "deiii preprocess")
    assert "Traceback" not in work.run("verify", *work.words(cache)).text
    os.killpg(run.pid, signal.SIGCONT)
    assert run.wait().code == 0
    check_finished(cache, expected)
    check_identical(cache, expected)
    return message[-80:]


@at_once(
    "two trainings in one run folder", "the second is refused; the message names the first one's process"
)
def trainings(work: Workspace) -> str:
    words = [
        "configs/tiny.yaml",
        *work.tone_words(work.tone_cache),
        "model.video=false",
        "model.flow=false",
        "--quiet",
    ]
    path = work.folder() / "run"
    words += [f"train.run={path}", "loader.batch=4", "train.device=cpu", "train.epochs=200"]
    words += ["train.patience=200"]
    first = work.start("train", *words)
    wait_until(lambda: (path / "metrics.csv").exists(), first)
    second = work.run("train", *words, "--resume")
    assert first.process.poll() is None, first.output.read_text()[-300:]
    first.kill(signal.SIGINT)
    assert first.wait(60).code == 130
    return check_error(second, "another run", str(first.pid))[-80:]
