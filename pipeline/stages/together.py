"""Compute the clips of a shard together, while each clip keeps its own outcome and its place.

A stage that declares `Stage.together` puts parts of several clips into one call of its models. If such a call
fails, the clips whose results are missing are computed one by one, so that the error becomes the outcome of
the clip that causes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from deiii.data.cache.outcomes import StageResult, is_machine_trouble
from deiii.data.cache.stage import Together


class _Clip:
    """A clip that was read and is not returned yet."""

    def __init__(self, path: str, read: StageResult, seconds: float):
        self.path = path
        self.reading_s = seconds
        self.computing_s = 0.0  # its share of the calls so far
        self.arrays: Mapping[str, np.ndarray] = read.arrays
        self.result = None if read.outcome.usable else read


class ClipsTogether:
    """Computes clips together and returns their results in order.

    Args:
        start: returns an object that computes clips together, without clips.
        alone: returns the result of one clip, from its path and the arrays that were read; its errors are
            outcomes of the clip, except those of the machine.
        limits: returns the context for a call that may compute this number of clips, on which this time in s
            was spent before: reading and computing a clip have one limit together.
        clock: returns the time in s that is spent on computing.

    >>> clips = ClipsTogether(start, alone)  # doctest: +SKIP
    >>> results = clips.add("a.wav", read_clip("speech", "a.wav", config)) + clips.rest()  # doctest: +SKIP
    """

    def __init__(
        self,
        start: Callable[[], Together],
        alone: Callable[[str, Mapping[str, np.ndarray]], StageResult],
        limits: Callable[[int, float], AbstractContextManager[None]] = lambda clips, spent: nullcontext(),
        clock: Callable[[], float] = time.monotonic,
    ):
        self._start, self._alone, self._limits, self._clock = start, alone, limits, clock
        self._together: Together | None = None
        self._clips: deque[_Clip] = deque()  # those that are not returned yet
        self._open: deque[_Clip] = deque()  # those of them without a result

    def add(self, path: str, read: StageResult, seconds: float = 0.0) -> list[StageResult]:
        """Take the next clip; returns the results that are complete, in the order of the clips.

        Args:
            path: the media file.
            read: its arrays from `deiii.pipeline.stages.clip.read_clip`, or the outcome of a clip without.
            seconds: how long the reading took.

        Raises:
            OSError: an error of the machine, such as a full disk.
        """
        clip = _Clip(path, read, seconds)
        self._clips.append(clip)
        if clip.result is None:
            self._open.append(clip)
            self._call(lambda together: together.add(read.arrays))
        return self._complete()

    def rest(self) -> list[StageResult]:
        """Return the results of the clips that are left. Raises OSError as `add`."""
        if self._open:
            self._call(lambda together: together.rest(), last=True)
        return self._complete()

    def _call(self, step: Callable[[Together], list[StageResult]], last: bool = False) -> None:
        """Give open clips the results of a step; after an error, each of them is computed alone."""
        found: list[StageResult] | None = None
        began = self._clock()
        with self._limits(len(self._open), sum(clip.reading_s + clip.computing_s for clip in self._open)):
            try:
                self._together = self._together or self._start()
                found = step(self._together)
                if len(found) > len(self._open) or last and len(found) < len(self._open):
                    raise RuntimeError(f"{len(found)} results for {len(self._open)} clips")
            except Exception as error:
                if is_machine_trouble(error):
                    raise
                found = self._together = None
        if found is None:
            while self._open:
                clip = self._open.popleft()
                with self._limits(1, clip.reading_s):
                    clip.result = self._alone(clip.path, clip.arrays)
                clip.arrays = {}
            return
        # No call tells how long it took for each clip, so each gets the same share.
        share = (self._clock() - began) / max(1, len(self._open))
        for clip in self._open:
            clip.computing_s += share
        for result in found:
            clip = self._open.popleft()
            clip.result, clip.arrays = result, {}

    def _complete(self) -> list[StageResult]:
        """Return the results of the first clips, as far as they have one."""
        found = []
        while self._clips and (result := self._clips[0].result) is not None:
            self._clips.popleft()
            found.append(result)
        return found
