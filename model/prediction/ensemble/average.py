"""Average the outputs of networks, and calibrate probabilities; this module needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deiii.data.loader.stage_arrays import StageLevels
from deiii.model.calibration import tempered
from deiii.model.prediction.result import HeadOutputs, Scorer


@dataclass(frozen=True)
class AverageScorer:
    """Scores intervals with several networks; see `deiii.model.prediction.result.Scorer`.

    Attributes:
        scorers: scorers of the members.
    """

    scorers: tuple[Scorer, ...]

    def __call__(
        self,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        intervals: Sequence[tuple[float, float]],
        hidden: Sequence[set[str]],
        levels: StageLevels | None,
    ) -> HeadOutputs:
        """Return the mean outputs of the heads that all members have, for each interval."""
        found = [scorer(arrays, intervals, hidden, levels) for scorer in self.scorers]
        heads = [head for head in found[0].present if all(head in one.present for one in found)]

        def mean(kind: str) -> dict[str, np.ndarray]:
            columns = [getattr(one, kind) for one in found]
            return {
                head: np.stack([one[head] for one in columns])
                .mean(axis=0, dtype=np.float64)
                .astype(np.float32)
                for head in heads
                if all(head in one for one in columns)
            }

        present = {head: np.logical_and.reduce([one.present[head] for one in found]) for head in heads}
        return HeadOutputs(len(intervals), mean("probabilities"), mean("attributes"), present)


@dataclass(frozen=True)
class TemperedScorer:
    """Scores intervals with calibrated probabilities of the fused head.

    Attributes:
        scorer: scorer of the network or the ensemble.
        temperature: fitted on validation speakers (`deiii.model.calibration`).
    """

    scorer: Scorer
    temperature: float

    def __call__(
        self,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        intervals: Sequence[tuple[float, float]],
        hidden: Sequence[set[str]],
        levels: StageLevels | None,
    ) -> HeadOutputs:
        """Return the outputs for each interval; only the probabilities of the fused head are changed."""
        found = self.scorer(arrays, intervals, hidden, levels)
        if "fused" not in found.probabilities:
            return found
        fused = tempered(found.probabilities["fused"], self.temperature)
        return replace(found, probabilities={**found.probabilities, "fused": fused})
