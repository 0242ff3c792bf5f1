"""Run one clip in a process of its own, for files on which a decoder crashes, hangs or takes all memory.

This is used only after a worker died on a shard, because a new process takes about a second. Settings and
result travel through pipes, so that nothing is left on the disk if a process dies.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from deiii.data.cache.outcomes import MACHINE_TROUBLE, Outcome, StageResult, Status
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.schema import Config
from deiii.data.tools.processes.main_guard import environment_of_child
from deiii.pipeline.stages.limits import memory_limit

NO_PARENT = 72  # exit status of a child whose parent is gone
MACHINE_ERROR = 100  # plus errno: exit status of a child after an error of the machine
AGAIN = "then, or with a higher limit, run with retry=true"


def run_isolated(stage: str, path: str, config: Config) -> StageResult:
    """Compute the result of `deiii.pipeline.stages.clip.run_clip` in a process of its own.

    Further outcomes are ``timed_out`` after ``clip_timeout`` seconds, ``out_of_memory`` above
    ``clip_memory_gb``, and ``crashed_decoder`` if the process died for another reason. After the last two the
    clip is tried once more, because the machine can be the cause.

    Raises:
        OSError: an error of the machine, such as a full disk.
    """
    result = _attempt(stage, path, config)
    if result.outcome.status in (Status.CRASHED_DECODER, Status.OUT_OF_MEMORY):
        result = _attempt(stage, path, config)
    return result


def _attempt(stage: str, path: str, config: Config) -> StageResult:
    command = [sys.executable, "-m", "deiii.pipeline.stages.isolation", stage, path]
    pipe = subprocess.PIPE
    environment = environment_of_child()
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as child:
        if child.stdin is None or child.stdout is None or child.stderr is None:
            raise RuntimeError("the process of a clip was started without pipes")
        answer = _read_in_background(child.stdout)
        errors = _read_in_background(child.stderr)
        try:
            settings = to_yaml(config).encode()
            # This end of the pipe stays open. The child ends when it closes, so it ends with this process.
            child.stdin.write(len(settings).to_bytes(8, "little") + settings)
            child.stdin.flush()
            child.wait(config.clip_timeout)
        except BrokenPipeError:
            child.wait(config.clip_timeout)
        except subprocess.TimeoutExpired:
            reason = (
                f"decoding did not end within {config.clip_timeout:g} s (clip_timeout); re-encode it, {AGAIN}"
            )
            return StageResult(Outcome(Status.TIMED_OUT, reason, 0.0))
        finally:
            child.kill()
        status = child.returncode
        content = answer()
        messages = errors().decode(errors="replace")
    if status == 0 and content:
        return _unpack(content)
    if status - MACHINE_ERROR in MACHINE_TROUBLE:
        raise OSError(status - MACHINE_ERROR, os.strerror(status - MACHINE_ERROR), path)
    if status == -signal.SIGKILL:
        reason = (
            "its process was killed, most likely because memory ran out; re-encode it at a smaller size, "
            f"{AGAIN}"
        )
        return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
    last = (messages.strip().splitlines() or [f"exit status {status}"])[-1]
    reason = f"decoding it ended the process ({last[:200]}); re-encode it, e.g. with ffmpeg"
    return StageResult(Outcome(Status.CRASHED_DECODER, reason, 0.0))


def _read_in_background(stream: IO[bytes]) -> Callable[[], bytes]:
    """Read a pipe to its end in a thread; the returned function waits for it and returns the bytes."""
    parts: list[bytes] = []

    def read() -> None:
        parts.append(stream.read())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def finish() -> bytes:
        thread.join(10)
        return b"".join(parts)

    return finish


def _pack(result: StageResult) -> bytes:
    """Return a result as the bytes of an ``.npz`` file."""
    outcome = result.outcome
    head = np.array([str(outcome.status), outcome.reason], dtype=np.str_)
    arrays: dict[str, Any] = {"_head": head, "_fraction": np.array(outcome.fraction), **result.arrays}
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def _unpack(content: bytes) -> StageResult:
    """Return the result from the bytes that `_pack` returned."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        status, reason = (str(t) for t in file["_head"])
        outcome = Outcome(Status(status), reason, float(file["_fraction"]))
        return StageResult(outcome, {n: file[n] for n in file.files if not n.startswith("_")})


def _end_with_parent() -> None:
    """End this process when its parent is gone and no process waits for the result."""

    def watch() -> None:
        while os.read(0, 4096):  # sys.stdin has a lock, which would disturb the end of the process
            pass
        os._exit(NO_PARENT)

    threading.Thread(target=watch, daemon=True).start()


def main(stage: str, path: str) -> int:
    """Run one clip in this process: settings come from standard input, the result goes to standard output."""
    from deiii.pipeline.stages.clip import load_models, run_clip, settle_process

    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints to standard output must not be part of the answer
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    config = parse_config(sys.stdin.buffer.read(size).decode())
    _end_with_parent()
    settle_process()
    load_models(stage, config)
    try:
        with memory_limit(config.clip_memory_gb):
            result = run_clip(stage, path, config)
    except OSError as error:
        if error.errno in MACHINE_TROUBLE:
            return MACHINE_ERROR + error.errno
        raise
    with answer:
        answer.write(_pack(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
