"""One clip in a process of its own, for files on which a decoder crashes, hangs or eats memory.

Only used after a worker died on a shard: a fresh process a clip costs about a second. Settings go in
and the result comes out through pipes, so nothing is left on the disk whoever dies.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from typing import IO

import numpy as np

from deiii.data.cache.outcomes import MACHINE_TROUBLE, Outcome, StageResult, Status
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.schema import Config
from deiii.pipeline.stages.limits import memory_limit

NO_PARENT, TROUBLE = 72, 100  # exit statuses of the child; TROUBLE + errno for the machine's own troubles
AGAIN = "then, or with a higher limit, run with retry=true"


def run_isolated(stage: str, path: str, config: Config) -> StageResult:
    """The result of `deiii.pipeline.stages.clip.run_clip`, whatever the file does to the process.

    Outcomes: ``timed_out`` after ``clip_timeout`` seconds, ``out_of_memory`` past
    ``clip_memory_gb``, ``crashed_decoder`` where the process died otherwise, twice: once may be
    the machine's doing.

    Raises:
        OSError: for a trouble of the machine that is none of the clip's.
    """
    result = _attempt(stage, path, config)
    if result.outcome.status in (Status.CRASHED_DECODER, Status.OUT_OF_MEMORY):
        result = _attempt(stage, path, config)
    return result


def _attempt(stage: str, path: str, config: Config) -> StageResult:
    command = [sys.executable, "-m", "deiii.pipeline.stages.isolation", stage, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin and child.stdout and child.stderr
        answer, errors = _reader(child.stdout), _reader(child.stderr)
        try:
            settings = to_yaml(config).encode()
            # Our end stays open: the child ends when it closes, which is when we are gone.
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
        status, content, told = child.returncode, answer(), errors().decode(errors="replace")
    if status == 0 and content:
        return _unpack(content)
    if status - TROUBLE in MACHINE_TROUBLE:
        raise OSError(status - TROUBLE, os.strerror(status - TROUBLE), path)
    if status == -signal.SIGKILL:
        reason = f"its process was killed, most likely for memory; re-encode it at a smaller size, {AGAIN}"
        return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
    last = (told.strip().splitlines() or [f"exit status {status}"])[-1]
    reason = f"decoding it ended the process ({last[:200]}); re-encode it, e.g. with ffmpeg"
    return StageResult(Outcome(Status.CRASHED_DECODER, reason, 0.0))


def _reader(stream: IO[bytes]):
    """Read a pipe to its end in the background; call the result to get what came."""
    parts: list[bytes] = []
    thread = threading.Thread(target=lambda: parts.append(stream.read()), daemon=True)
    thread.start()

    def finish() -> bytes:
        thread.join(10)
        return b"".join(parts)

    return finish


def _pack(result: StageResult) -> bytes:
    outcome, packed = result.outcome, io.BytesIO()
    head = np.array([str(outcome.status), outcome.reason], dtype=np.str_)
    np.savez(packed, _head=head, _fraction=np.array(outcome.fraction), **result.arrays)
    return packed.getvalue()


def _unpack(content: bytes) -> StageResult:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        status, reason = (str(t) for t in file["_head"])
        outcome = Outcome(Status(status), reason, float(file["_fraction"]))
        return StageResult(outcome, {n: file[n] for n in file.files if not n.startswith("_")})


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: nobody waits for its result then."""

    def watch() -> None:
        while os.read(0, 4096):  # not through sys.stdin: its lock would break the end of the process
            pass
        os._exit(NO_PARENT)

    threading.Thread(target=watch, daemon=True).start()


def main(stage: str, path: str) -> int:
    from deiii.pipeline.stages.clip import load_models, run_clip, settle_process

    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no part of the answer
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
            return TROUBLE + error.errno
        raise
    with answer:
        answer.write(_pack(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
