"""The results of a shard whose clips are isolated, also for stages that compute clips together.

Such a stage has three processes: one reads the files, one computes the clips in the same batches as a worker
does, and, if that one dies, a third reads and computes each clip alone that waited for a result. So the
shard has the bytes that it has without isolation, unless a clip ends the process that computes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome, StageResult, Status
from deiii.data.cache.stages import get_stage
from deiii.data.config.schema import Config
from deiii.pipeline.stages.clip import compute_alone, load_models, start_together
from deiii.pipeline.stages.isolation import READ, Child, IsolatedClips, pack, serve, unpack
from deiii.pipeline.stages.limits import memory_limit, time_left
from deiii.pipeline.stages.together import ClipsTogether

MODULE = "deiii.pipeline.stages.isolated_together"
REST = b"rest"  # the request for the results of all clips that are left


def isolated_results(stage: str, paths: Sequence[str], config: Config) -> Iterator[StageResult]:
    """Yield the results of media files, read and computed in processes of their own.

    Args:
        stage: name of a stage that reads media files.
        paths: the media files.
        config: settings.

    Raises:
        OSError: an error of the machine, such as a full disk.
    """
    with ExitStack() as stack:
        whole = stack.enter_context(IsolatedClips(stage, config))
        if get_stage(stage).together is None:
            yield from map(whole.run, paths)
            return
        reading = stack.enter_context(IsolatedClips(stage, config, READ))
        computing = stack.enter_context(_IsolatedTogether(stage, config))
        clips = ClipsTogether(
            computing.start, lambda path, arrays: whole.run(path), computing.within, lambda: computing.seconds
        )
        for path in paths:
            yield from clips.add(path, reading.run(path), reading.seconds)
        yield from clips.rest()


class _IsolatedTogether(AbstractContextManager):
    """Computes clips in another process as `deiii.data.cache.stage.Together` does.

    Its methods raise ClipError if the process ends or takes too long.

    Attributes:
        seconds: how long all answers took together, without the start of processes.
    """

    def __init__(self, stage: str, config: Config):
        self._stage, self._config = stage, config
        self._child: Child | None = None
        self._left_s = config.clip_timeout  # time limit of the next answer
        self.seconds = 0.0

    def __exit__(self, *error: object) -> None:
        self._end()

    def start(self) -> _IsolatedTogether:
        """Return this object without clips; a new process will compute."""
        self._end()
        return self

    @contextmanager
    def within(self, clips: int, spent: float) -> Iterator[None]:
        """Limit the time of the block to what is left to clips on which ``spent`` s were spent."""
        self._left_s = time_left(self._config, clips, spent)
        yield

    def add(self, arrays: Mapping[str, np.ndarray]) -> list[StageResult]:
        return self._ask(pack(StageResult(Outcome(Status.OK), dict(arrays))))

    def rest(self) -> list[StageResult]:
        return self._ask(REST)

    def _ask(self, request: bytes) -> list[StageResult]:
        self._child = self._child or Child(MODULE, [self._stage], self._config)
        answer = self._child.ask(request, self._left_s)
        self.seconds += self._child.seconds
        if isinstance(answer, StageResult):
            self._end()
            raise ClipError(answer.outcome.status, answer.outcome.reason)
        return _separated(answer)

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


def main(stage: str) -> int:
    """Serve `_IsolatedTogether`: compute clips in the batches in which a worker computes them."""

    def prepare(config: Config) -> Callable[[bytes], bytes]:
        load_models(stage, config)
        clips = ClipsTogether(
            partial(start_together, stage, config),
            lambda path, arrays: compute_alone(stage, arrays, config),
            lambda number, spent: memory_limit(config.clip_memory_gb),
        )
        return lambda request: _joined(clips.rest() if request == REST else clips.add("", unpack(request)))

    return serve(prepare)


def _joined(results: Sequence[StageResult]) -> bytes:
    """Return results as bytes, which are never empty: their number, and each after its size, of 8 bytes."""
    parts = [pack(result) for result in results]
    sizes = [len(part).to_bytes(8, "little") for part in parts]
    return len(parts).to_bytes(8, "little") + b"".join(s + p for s, p in zip(sizes, parts, strict=True))


def _separated(content: bytes) -> list[StageResult]:
    """Return the results from the bytes that `_joined` returned."""
    found, at = [], 8
    for _ in range(int.from_bytes(content[:8], "little")):
        size = int.from_bytes(content[at : at + 8], "little")
        found.append(unpack(content[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
