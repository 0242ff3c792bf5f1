"""Checks of what must hold after a fault."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.harness import Lost
from tests.faults.processes import Ended, Running
from tests.faults.workspace import Workspace, shards
from tests.helpers.clips import tree_bytes


def stamps(cache: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every shard, which change when it is written again."""
    return {str(p.relative_to(cache)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in shards(cache)}


def check_identical(cache: Path, expected: Path) -> None:
    """The cache equals the expected one, byte for byte, and contains no temporary files."""
    left = [str(p) for p in cache.rglob("*.tmp")]
    assert not left, f"temporary files left: {left}"
    here, there = tree_bytes(cache), tree_bytes(expected)
    if missing := sorted(set(there) - set(here)):
        raise Lost(f"missing: {missing[:3]}")
    assert not (more := sorted(set(here) - set(there))), f"unexpected files: {more[:3]}"
    if other := [name for name in here if here[name] != there[name]]:
        raise Lost(f"bytes differ from an undisturbed run: {other[:3]}")


def check_finished(cache: Path, expected: Path) -> int:
    """Every shard with its final name is complete; returns their number."""
    found = shards(cache)
    for path in found:
        if path.read_bytes() != (expected / path.relative_to(cache)).read_bytes():
            raise Lost(f"torn: {path.name}")
    return len(found)


def check_resumed(work: Workspace, words: list[str], cache: Path, expected: Path, **more) -> int:
    """The same command succeeds, does not compute finished shards again, and gives the same bytes."""
    before = stamps(cache)
    check_done(work.run("preprocess", *words, **more))
    after = stamps(cache)
    twice = [name for name, stamp in before.items() if after.get(name) != stamp]
    assert not twice, f"computed twice: {twice[:3]}"
    check_identical(cache, expected)
    return len(before)


def check_done(done: Ended, *words: str) -> Ended:
    """The program succeeded and printed these words."""
    assert done.code == 0 and all(w in done.text for w in words), f"{done.code}: {done.text[-400:]}"
    return done


def check_stopped(work: Workspace, run: Running, how: str) -> float:
    """Stop a program (by a signal's name, or ``Ctrl-C in a terminal``); returns the seconds it took.

    It must end in time with status 130, without a trace, and leave no process.
    """
    started = time.monotonic()
    if how in signal.Signals.__members__:
        run.kill(getattr(signal, how))
    elif run.process.poll() is None:
        os.killpg(run.pid, signal.SIGINT)  # what a terminal does
    done = run.wait(60)
    seconds = time.monotonic() - started
    assert done.code == 130, f"exit status {done.code}: {done.text[-300:]}"
    assert "Traceback" not in done.text, done.text[-500:]
    assert seconds < (5 if work.strict else 30), f"took {seconds:.1f} s"
    assert not (left := run.remaining(1)), f"processes remain after their run: {left}"
    return seconds


def check_error(done: Ended, *words: str) -> str:
    """The program ended with exit status 1 and one line that contains these words; returns the line."""
    assert done.code == 1, f"exit status {done.code}: {done.text[-300:]}"
    assert "Traceback" not in done.text, f"a trace: {done.text[-600:]}"
    line = next((t for t in done.text.splitlines() if t.startswith("error: ")), "")
    missing = [w for w in words if w.lower() not in done.text.lower()]
    assert line and not missing, f"the message lacks {missing}: {done.text[-400:]}"
    return line.removeprefix("error: ")[:160]
