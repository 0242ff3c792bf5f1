"""Features of one recording in memory, as a feature set whose clips are parts of it.

Prediction cuts a recording into windows and gives them to the same loader that training and
evaluation use, so that all three read a clip in the same way.

>>> time = np.arange(50) / 25
>>> arrays = {"faces": {"frames": np.zeros((50, 8, 8, 3), np.uint8), "time": time, "valid": time >= 0}}
>>> recording(arrays, [(0.0, 2.0), (0.5, 1.5)], ("happy", "sad")).streams["faces"].length.tolist()
[50, 25]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deiii.data.cache.shards import FieldLayout
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.stage_arrays import Stream

SLACK_S = 1e-6  # s; a window's borders are sums of floats


@dataclass(repr=False)
class MemoryStream(Stream):
    """One stage's arrays of a recording; every clip of the stream is a run of their rows.

    Attributes:
        arrays: fields by name, as the stage stores them.
        Others: attributes of `Stream`.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def cut(
        cls, stage: str, arrays: Mapping[str, np.ndarray], intervals: Sequence[tuple[float, float]]
    ) -> MemoryStream:
        """Return the rows whose time lies in each interval [begin, end), in s."""
        layouts = {n: FieldLayout(0, a.dtype.str, a.shape) for n, a in arrays.items()}
        borders = np.asarray(intervals, np.float64).reshape(-1, 2) - SLACK_S
        start, stop = np.searchsorted(arrays.get("time", np.zeros(0)), borders).T
        length = (stop - start).astype(np.int64)
        shard = np.where(length > 0, 0, -1)
        return cls(stage, [], [], [layouts], shard, start.astype(np.int64), length, arrays=arrays)

    def _field(self, shard: int, name: str) -> np.ndarray:
        return self.arrays[name]


def recording(
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    intervals: Sequence[tuple[float, float]],
    classes: tuple[str, ...],
) -> FeatureSet:
    """Return a feature set with one clip per interval; what a clip lacks is empty.

    Args:
        arrays: fields that each stage stores, keyed by stage; `Stage.empty` for a stage that found nothing.
        intervals: begin and end in s on the recording's clock; clip i is the i-th.
        classes: the network's classes.
    """
    clips = [Clip(str(i), "", "recording") for i in range(len(intervals))]
    streams = {stage: MemoryStream.cut(stage, fields, intervals) for stage, fields in arrays.items()}
    corpus = Corpus("recording", "", classes, tuple(clips))
    return FeatureSet(corpus, clips, {}, streams, {}, {})
