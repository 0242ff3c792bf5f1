"""One clip in a process of its own, for files on which a decoder crashes, hangs or eats memory.

Only used after a worker died on a shard: a fresh process a clip costs about a second.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from data.config import parse_config, to_yaml
from data.outcomes import MACHINE_TROUBLE, Outcome, Status
from data.schema import Config
from pipeline.limits import memory_limit
from pipeline.result import StageResult

NO_ROOM, NO_PARENT = 71, 72  # exit statuses of the child
AGAIN = "then or with a higher limit run with retry=true"


def run_isolated(stage: str, path: str, config: Config) -> StageResult:
    """The result of `pipeline.stages.run_clip`, whatever the file does to the process.

    Outcomes: ``timed_out`` after ``clip_timeout`` seconds, ``out_of_memory`` past
    ``clip_memory_gb``, ``crashed_decoder`` where the process died otherwise, twice: once may be
    the machine's doing.

    Raises:
        OSError: where there is no room for the result.
    """
    result = _attempt(stage, path, config)
    if result.outcome.status in (Status.CRASHED_DECODER, Status.OUT_OF_MEMORY):
        result = _attempt(stage, path, config)
    return result


def _attempt(stage: str, path: str, config: Config) -> StageResult:
    with tempfile.TemporaryDirectory(prefix="deiii-clip-") as folder:
        answer = Path(folder) / "result.npz"
        settings = Path(folder) / "settings.yaml"
        settings.write_text(to_yaml(config), encoding="utf-8")
        command = [sys.executable, "-m", "pipeline.isolation", stage, path, str(settings), str(answer)]
        # The child holds the other end of its stdin and ends when we do (`_end_with_parent`).
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with child:
            try:
                errors = _wait(child, config.clip_timeout)
            except subprocess.TimeoutExpired:
                reason = f"decoding did not end within {config.clip_timeout:g} s (clip_timeout); {AGAIN}"
                return StageResult(Outcome(Status.TIMED_OUT, reason, 0.0))
            finally:
                child.kill()
        if answer.exists():
            return _read(answer)
        if child.returncode == NO_ROOM:
            raise OSError(errno.ENOSPC, "no room for the result of a clip in the temporary folder", folder)
        if child.returncode == -signal.SIGKILL:
            reason = (
                f"its process was killed, most likely for memory; re-encode it at a smaller size, {AGAIN}"
            )
            return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
        last = (errors.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        reason = f"decoding it ended the process ({last[:200]}); re-encode it, e.g. with ffmpeg"
        return StageResult(Outcome(Status.CRASHED_DECODER, reason, 0.0))


def _wait(child: subprocess.Popen, seconds: float) -> str:
    """Wait without closing the child's stdin, as `communicate` would; returns its stderr."""
    lines: list[str] = []
    assert child.stderr is not None
    reader = threading.Thread(target=lambda: lines.extend(child.stderr), daemon=True)
    reader.start()
    child.wait(seconds)
    reader.join(5)
    return "".join(lines[-50:])


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: nobody waits for its result then."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(NO_PARENT)

    threading.Thread(target=watch, daemon=True).start()


def _write(path: Path, result: StageResult) -> None:
    outcome = result.outcome
    head = np.array([str(outcome.status), outcome.reason], dtype=np.str_)
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, _head=head, _fraction=np.array(outcome.fraction), **result.arrays)
    temporary.rename(path)


def _read(path: Path) -> StageResult:
    with np.load(path, allow_pickle=False) as file:
        status, reason = (str(t) for t in file["_head"])
        outcome = Outcome(Status(status), reason, float(file["_fraction"]))
        return StageResult(outcome, {n: file[n] for n in file.files if not n.startswith("_")})


def main(argv: list[str]) -> int:
    from pipeline.stages import load_models, run_clip

    _end_with_parent()
    stage, path, settings, answer = argv
    config = parse_config(Path(settings).read_text(encoding="utf-8"))
    load_models(stage, config)
    try:
        with memory_limit(config.clip_memory_gb):
            result = run_clip(stage, path, config)
        _write(Path(answer), result)
    except OSError as error:
        if error.errno in MACHINE_TROUBLE:
            return NO_ROOM
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
