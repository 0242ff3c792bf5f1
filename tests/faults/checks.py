"""What must hold after a fault."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.harness import Lost
from tests.faults.laboratory import Lab, shards
from tests.faults.processes import Ended, Running
from tests.helpers.clips import tree_bytes


def stamps(cache: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a shard file was written again: its inode and its time."""
    return {str(p.relative_to(cache)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in shards(cache)}


def check_whole(cache: Path, whole: Path) -> None:
    """A cache equals another, byte for byte, and holds no temporary files."""
    left = [str(p) for p in cache.rglob("*.tmp")]
    assert not left, f"temporary files left: {left}"
    here, there = tree_bytes(cache), tree_bytes(whole)
    if missing := sorted(set(there) - set(here)):
        raise Lost(f"missing: {missing[:3]}")
    assert not (more := sorted(set(here) - set(there))), f"files too many: {more[:3]}"
    if other := [name for name in here if here[name] != there[name]]:
        raise Lost(f"other bytes than an undisturbed run's: {other[:3]}")


def check_finished(cache: Path, whole: Path) -> int:
    """Every shard with its final name is whole; returns how many there are."""
    found = shards(cache)
    for path in found:
        if path.read_bytes() != (whole / path.relative_to(cache)).read_bytes():
            raise Lost(f"torn: {path.name}")
    return len(found)


def check_resumed(lab: Lab, words: list[str], cache: Path, whole: Path, **more) -> int:
    """The same command again ends well, keeps what is finished, and ends with the same bytes."""
    before = stamps(cache)
    check_done(lab.run("preprocess", *words, **more))
    after = stamps(cache)
    twice = [name for name, stamp in before.items() if after.get(name) != stamp]
    assert not twice, f"done twice: {twice[:3]}"
    check_whole(cache, whole)
    return len(before)


def check_done(done: Ended, *words: str) -> Ended:
    """It ended well, and said these words."""
    assert done.code == 0 and all(w in done.text for w in words), f"{done.code}: {done.text[-400:]}"
    return done


def check_stopped(lab: Lab, run: Running, how: str) -> float:
    """Asked to stop (``SIGTERM``, ``SIGINT``, ``Ctrl-C in a terminal``), it does so; returns the seconds."""
    begun = time.monotonic()
    if how in ("SIGTERM", "SIGINT"):
        run.kill(getattr(signal, how))
    elif run.process.poll() is None:
        os.killpg(run.pid, signal.SIGINT)  # what a terminal does
    done = run.wait(60)
    seconds = time.monotonic() - begun
    assert done.code == 130, f"exit status {done.code}: {done.text[-300:]}"
    assert "Traceback" not in done.text, done.text[-500:]
    assert seconds < (5 if lab.strict else 30), f"took {seconds:.1f} s"
    assert not (left := run.survivors(1)), f"processes survive their run: {left}"
    return seconds


def check_told(done: Ended, *words: str) -> str:
    """A clear error: exit status 1, one line with these words, no trace. Returns the line."""
    assert done.code == 1, f"exit status {done.code}: {done.text[-300:]}"
    assert "Traceback" not in done.text, f"a trace: {done.text[-600:]}"
    line = next((t for t in done.text.splitlines() if t.startswith("error: ")), "")
    missing = [w for w in words if w.lower() not in done.text.lower()]
    assert line and not missing, f"the message lacks {missing}: {done.text[-400:]}"
    return line.removeprefix("error: ")[:160]
