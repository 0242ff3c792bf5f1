"""4. Two runs at once: one waits, both end well, no shard is torn or done twice, no lock stays behind."""

from __future__ import annotations

import fcntl
import signal
import time

from tests.faults.checks import check_done, check_finished, check_told, check_whole, stamps
from tests.faults.harness import faults
from tests.faults.laboratory import Lab
from tests.faults.processes import wait_until

at_once = faults("4 together")


@at_once(
    "{case} runs at once on one cache",
    "all end well; the same bytes, no shard twice",
    cases=(2, 4),
    short={2},
)
def several(lab: Lab, case: int) -> str:
    whole, cache = lab.whole, lab.folder()
    runs = [lab.start("preprocess", *lab.words(cache)) for _ in range(case)]
    ended = [run.wait() for run in runs]
    assert all(e.code == 0 for e in ended), [e.text[-200:] for e in ended]
    check_whole(cache, whole)
    computed = [e for e in ended if "nothing to do" not in e.text]
    assert len(computed) == 1, f"{len(computed)} runs did work"
    waited = [e for e in ended if "waiting for it" in e.text]
    return f"{len(waited)} waited"


@at_once("SIGKILL of the run that others wait for", "the waiting run goes on at once; the same bytes")
def heir(lab: Lab) -> str:
    whole, cache = lab.whole, lab.folder()
    first = lab.preprocessing(cache, 2)
    second = lab.start("preprocess", *lab.words(cache))
    wait_until(lambda: "waiting for it" in second.output.read_text(), second)
    before = stamps(cache)
    first.kill()
    done = second.wait()
    check_done(done)
    check_whole(cache, whole)
    after = stamps(cache)
    assert all(after[name] == stamp for name, stamp in before.items()), "shards were done twice"
    return f"{len(before)} shards taken over"


LOCKS = {
    "a dead process": "process 999999 on {host}",
    "another host": "process 12 on some-other-host",
    "nobody: garbage": "\x00\udcff garbage",
}


@at_once("a stale lock of {case}", "does not block", cases=LOCKS)
def stale(lab: Lab, case: str) -> None:
    cache = lab.copy()
    lock = next(cache.glob("*/clips.json")).with_name(".lock")
    lock.write_bytes(LOCKS[case].encode("utf-8", "surrogateescape"))
    done = lab.preprocess(cache)
    check_done(done, "nothing to do")


@at_once("a lock that is held and holds garbage", "waits and says so; Ctrl-C ends the waiting")
def garbage(lab: Lab) -> str:
    cache = lab.copy()
    lock = next(cache.glob("*/clips.json")).with_name(".lock")
    lock.write_bytes(b"\xff\xfe\x00")
    with open(lock, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = lab.start("preprocess", *lab.words(cache))
        wait_until(lambda: "waiting for it" in run.output.read_text(), run)
        begun = time.monotonic()
        run.kill(signal.SIGINT)
        done = run.wait(30)
    assert done.code == 130 and "Traceback" not in done.text, done.text[-300:]
    return f"ended after {time.monotonic() - begun:.1f} s"


@at_once("a folder where the lock should be", "a line that says so, exit status 1")
def lock_folder(lab: Lab) -> str:
    cache = lab.folder()
    (cache / "table-clips/.lock").mkdir(parents=True)
    return check_told(lab.preprocess(cache), "lock")


@at_once("verify and training while preprocess is at work", "a line that the stage is not finished; no trace")
def readers(lab: Lab) -> str:
    whole, cache = lab.whole, lab.folder()
    run = lab.preprocessing(cache, 1)
    told = check_told(
        lab.run("train", "configs/tiny.yaml", *lab.words(cache), f"train.run={lab.folder()}"),
        "make preprocess",
    )
    assert "Traceback" not in lab.run("verify", *lab.words(cache)).text
    assert run.wait().code == 0
    check_finished(cache, whole)
    check_whole(cache, whole)
    return told[-80:]


@at_once("two trainings in one run folder", "the second is refused with the first one's process")
def trainings(lab: Lab) -> str:
    words = [
        "configs/tiny.yaml",
        *lab.tone_words(lab.heard),
        "model.video=false",
        "model.flow=false",
        "--quiet",
    ]
    path = lab.folder() / "run"
    words += [f"train.run={path}", "loader.batch=4", "train.device=cpu", "train.epochs=200"]
    words += ["train.patience=200"]
    first = lab.start("train", *words)
    wait_until(lambda: (path / "metrics.csv").exists(), first)
    second = lab.run("train", *words, "--resume")
    assert first.process.poll() is None, first.output.read_text()[-300:]
    first.kill(signal.SIGINT)
    assert first.wait(60).code == 130
    return check_told(second, "another run", str(first.pid))[-80:]
