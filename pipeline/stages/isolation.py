"""Run clips in a process of their own, for files on which a decoder crashes, hangs or takes all memory.

This is used only after a worker died on a shard. One process serves the clips of the shard in turn, because
starting it takes some seconds; when a clip ends it, a new one continues. Settings, paths and results travel
through pipes, so that nothing is left on the disk if a process dies.
"""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

import numpy as np

from deiii.data.cache.outcomes import MACHINE_TROUBLE, Outcome, StageResult, Status
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.schema import Config
from deiii.data.tools.processes.main_guard import environment_of_child
from deiii.pipeline.stages.limits import memory_limit

NO_PARENT = 72  # exit status of a child whose parent is gone
START_S = 300.0  # s that a process may take to start: much, because its files may lie on a slow network disk
READY = b"ready"  # what a process answers when it has started
MACHINE_ERROR = 100  # plus errno: exit status of a child after an error of the machine
AGAIN = "then, or with a higher limit, run with retry=true"
CLIP, READ = "clip", "read"  # what a process does with a file: `run_clip`, `read_clip`
# After these outcomes the process decodes no further clip.
ENDING = (Status.CRASHED_DECODER, Status.OUT_OF_MEMORY, Status.TIMED_OUT)


class IsolatedClips(AbstractContextManager):
    """Computes the results of `deiii.pipeline.stages.clip.run_clip` in a process of their own.

    Further outcomes are ``timed_out`` after ``clip_timeout`` seconds, ``out_of_memory`` above
    ``clip_memory_gb``, and ``crashed_decoder`` if the process died for another reason. These three count only
    from a process that served no other clip before, because an earlier clip can be the cause: otherwise the
    clip is tried again in a new process. After the last two it is tried once more, because the machine can be
    the cause.

    Args:
        stage: name of a stage that reads media files.
        config: settings.
        kind: `READ` for the results of `deiii.pipeline.stages.clip.read_clip` instead.

    Attributes:
        seconds: how long the last attempt at the newest clip took, without the start of its process.

    >>> with IsolatedClips("logmel", Config()) as isolated:  # doctest: +SKIP
    ...     isolated.run("a.mp4").outcome.status
    <Status.OK: 'ok'>
    """

    def __init__(self, stage: str, config: Config, kind: str = CLIP):
        self._stage, self._config, self._kind = stage, config, kind
        self._child: Child | None = None
        self.seconds = 0.0

    def __exit__(self, *error: object) -> None:
        self._end()

    def run(self, path: str) -> StageResult:
        """Return the result of one clip.

        Raises:
            OSError: an error of the machine, such as a full disk.
        """
        if self._child is not None:
            result = self._attempt(path)
            if result.outcome.status not in ENDING:
                return result
        result = self._attempt(path)
        if result.outcome.status in (Status.CRASHED_DECODER, Status.OUT_OF_MEMORY):
            result = self._attempt(path)
        return result

    def _attempt(self, path: str) -> StageResult:
        """Return the result from the process that is there, or a new one, and end it where it must end."""
        if self._child is None:
            self._child = Child("deiii.pipeline.stages.isolation", (self._stage, self._kind), self._config)
        result = None
        try:
            answer = self._child.ask(os.fsencode(path), self._config.clip_timeout, path)
            result = unpack(answer) if isinstance(answer, bytes) else answer
            self.seconds = self._child.seconds
        finally:
            if result is None or result.outcome.status in ENDING:
                self._end()
        return result

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class Child:
    """A process that serves clips.

    Args:
        module: its main module, which calls `serve`.
        words: its arguments.
        config: settings.

    Attributes:
        seconds: how long the newest answer took, without the start of the process.
    """

    def __init__(self, module: str, words: Sequence[str], config: Config):
        self.seconds = 0.0
        self._ready = False  # whether the process has loaded its modules and models
        command = [sys.executable, "-m", module, *words]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment_of_child()
        )
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._messages = b""
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_messages)
        ]
        for reader in self._readers:
            reader.start()
        self._send(to_yaml(config).encode())

    def ask(self, request: bytes, seconds: float, path: str | None = None) -> bytes | StageResult:
        """Return the answer to a request, or, if the process ended or must end, the outcome of its clip.

        Args:
            request: what the process reads; not empty.
            seconds: time limit, which begins when the process has started.
            path: the media file, for errors.

        Raises:
            OSError: an error of the machine, such as a full disk.
        """
        self.seconds = 0.0
        self._send(request)
        try:
            if not self._ready:
                answer = self._answers.get(timeout=max(START_S, seconds))
                self._ready = answer == READY
                if not self._ready:
                    return self._ended(path, seconds)
            began = time.monotonic()
            deadline = began + seconds
            content = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            self.seconds = time.monotonic() - began
            # A process can close its pipe and hang, so its end has the same time limit.
            return content or self._ended(path, max(0.0, deadline - time.monotonic()))
        except (queue.Empty, subprocess.TimeoutExpired):
            if not self._ready:
                reason = f"its process did not start within {max(START_S, seconds):g} s; run with retry=true"
                return StageResult(Outcome(Status.TIMED_OUT, reason, 0.0))
            reason = f"decoding did not end within {seconds:g} s (clip_timeout); re-encode it, {AGAIN}"
            return StageResult(Outcome(Status.TIMED_OUT, reason, 0.0))

    def _ended(self, path: str | None, seconds: float) -> StageResult:
        """Return the result of the clip on which the process ended."""
        status = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        if status - MACHINE_ERROR in MACHINE_TROUBLE:
            raise OSError(status - MACHINE_ERROR, os.strerror(status - MACHINE_ERROR), path)
        if status == -signal.SIGKILL:
            reason = (
                "its process was killed, most likely because memory ran out; re-encode it at a smaller size, "
                f"{AGAIN}"
            )
            return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
        lines = self._messages.decode(errors="replace").strip().splitlines()
        last = (lines or [f"exit status {status}"])[-1]
        reason = f"decoding it ended the process ({last[:200]}); re-encode it, e.g. with ffmpeg"
        return StageResult(Outcome(Status.CRASHED_DECODER, reason, 0.0))

    def end(self) -> None:
        """End the process and free its pipes."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:  # a path that the process did not take
                    pass

    def _send(self, content: bytes) -> None:
        # The pipe stays open. The child ends when it closes, so it ends with this process.
        if self._process.stdin is None:
            raise RuntimeError("the process of a clip was started without pipes")
        try:
            self._process.stdin.write(len(content).to_bytes(8, "little") + content)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process is dead, and its answers have ended

    def _read_answers(self) -> None:
        while self._process.stdout is not None and (content := _receive(self._process.stdout)):
            self._answers.put(content)
        self._answers.put(b"")

    def _read_messages(self) -> None:
        if self._process.stderr is not None:
            self._messages = self._process.stderr.read()


def _receive(stream: IO[bytes]) -> bytes:
    """Read bytes that follow their number, of 8 bytes; empty if the stream ends before they are complete."""
    size = int.from_bytes(stream.read(8), "little")
    content = stream.read(size)
    return content if len(content) == size else b""


def pack(result: StageResult) -> bytes:
    """Return a result as the bytes of an ``.npz`` file."""
    outcome = result.outcome
    head = np.array([str(outcome.status), outcome.reason], dtype=np.str_)
    arrays: dict[str, Any] = {"_head": head, "_fraction": np.array(outcome.fraction), **result.arrays}
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def unpack(content: bytes) -> StageResult:
    """Return the result from the bytes that `pack` returned."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        status, reason = (str(t) for t in file["_head"])
        outcome = Outcome(Status(status), reason, float(file["_fraction"]))
        return StageResult(outcome, {n: file[n] for n in file.files if not n.startswith("_")})


def _requests() -> queue.SimpleQueue[bytes]:
    """Read what the parent sends in a thread, which ends this process when the parent is gone."""
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # sys.stdin has a lock, which would disturb the end of the process.
    stream = os.fdopen(os.dup(0), "rb")

    def read() -> None:
        while content := _receive(stream):
            received.put(content)
        os._exit(NO_PARENT)

    threading.Thread(target=read, daemon=True).start()
    return received


def serve(prepare: Callable[[Config], Callable[[bytes], bytes]]) -> int:
    """Answer requests: settings and requests come from standard input, answers go to standard output.

    Args:
        prepare: returns the function from a request to its answer, which is not empty; it loads what that
            function needs.
    """
    from deiii.pipeline.stages.clip import settle_process

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints to standard output must not be part of an answer
    requests = _requests()
    config = parse_config(requests.get().decode())
    settle_process()
    answer = prepare(config)
    _send_answer(answers, READY)
    while True:
        request = requests.get()
        try:
            content = answer(request)
        except OSError as error:
            if error.errno in MACHINE_TROUBLE:
                return MACHINE_ERROR + error.errno
            raise
        _send_answer(answers, content)


def _send_answer(stream: IO[bytes], content: bytes) -> None:
    stream.write(len(content).to_bytes(8, "little") + content)
    stream.flush()


def main(stage: str, kind: str) -> int:
    """Serve clips: a request is the path of a media file, and the answer its result."""
    from deiii.pipeline.stages.clip import check_models, load_models, read_clip, run_clip

    def prepare(config: Config) -> Callable[[bytes], bytes]:
        load, work = (check_models, read_clip) if kind == READ else (load_models, run_clip)
        load(stage, config)

        def answer(request: bytes) -> bytes:
            with memory_limit(config.clip_memory_gb):
                return pack(work(stage, os.fsdecode(request), config, config.corpus.corrupt))

        return answer

    return serve(prepare)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
