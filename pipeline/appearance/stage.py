"""The appearance stage: features of a frozen encoder for each face crop.

Batches hold crops of several clips. A row without a face is zero and marked as invalid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import AppearanceConfig
from deiii.pipeline.encoders.load import Loaded


def encode_crops(
    clips: Iterable[Mapping[str, np.ndarray]], config: AppearanceConfig, encoder: Loaded
) -> Iterator[StageResult]:
    """Yield the features of the face crops of clips, in the order of the clips.

    Args:
        clips: ``frames`` uint8 [n,S,S,3], ``time`` and ``valid`` of each clip as the faces stage stored them.
        config: settings.
        encoder: encoder from `deiii.pipeline.encoders.load.load_encoder`.

    Yields:
        Arrays with one row per frame: ``states`` float16 [n,L,D], zero where not ``valid`` bool [n], and
        ``time`` float64 [n] in s. The outcome is ``ok_partial`` with the valid share where a row has no face.
    """
    # Each cell of a grid is stored as a layer.
    shape = len(encoder.choice.layers) * max(1, config.grid**2), encoder.choice.encoder.width
    waiting: deque[_Clip] = deque()
    batch: list[tuple[_Clip, int]] = []
    for arrays in clips:
        clip = _Clip(arrays, shape)
        waiting.append(clip)
        for row in np.flatnonzero(clip.valid):
            if batch and batch[0][0].frames.shape[1:] != clip.frames.shape[1:]:
                batch = _encode(batch, encoder)
            batch.append((clip, int(row)))
            if len(batch) == encoder.batch:
                batch = _encode(batch, encoder)
        clip.complete = True
        while waiting and waiting[0].done:
            yield waiting.popleft().result()
    if batch:
        _encode(batch, encoder)
    while waiting:
        yield waiting.popleft().result()


class _Clip:
    """A clip, and the part of its result that is computed; ``shape`` is (L,D), that of a row."""

    def __init__(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]):
        self.frames = arrays["frames"]
        self.time = np.asarray(arrays["time"], np.float64)
        self.valid = np.array(arrays["valid"], bool)
        self.states = np.zeros((len(self.time), *shape), np.float16)
        self.open = int(self.valid.sum())  # rows that are not computed yet
        self.not_finite = 0  # rows whose states could not be stored
        self.complete = False

    @property
    def done(self) -> bool:
        return self.complete and self.open == 0

    def result(self) -> StageResult:
        arrays = {"states": self.states, "valid": self.valid, "time": self.time}
        lacking = int((~self.valid).sum())
        if not lacking:
            return StageResult(Outcome(Status.OK), arrays)
        reason = f"no face in {lacking - self.not_finite} of {len(self.valid)} frames"
        if self.not_finite:
            reason += f"; in {self.not_finite} the encoder's output is not finite, or too large for float16"
        return StageResult(Outcome(Status.OK_PARTIAL, reason, float(self.valid.mean())), arrays)


def _encode(batch: list[tuple[_Clip, int]], encoder: Loaded) -> list[tuple[_Clip, int]]:
    """Encode the crops of a batch into their clips; returns an empty batch."""
    values = encoder.network(np.stack([clip.frames[row] for clip, row in batch]))
    for (clip, row), states in zip(batch, values, strict=True):
        with np.errstate(over="ignore"):
            clip.states[row] = states
        if not np.isfinite(clip.states[row]).all():  # values may also be too large for float16
            clip.states[row] = 0
            clip.valid[row] = False
            clip.not_finite += 1
        clip.open -= 1
    return []
