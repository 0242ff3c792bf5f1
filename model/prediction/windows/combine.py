"""The prediction for a whole recording from the outputs for its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deiii.model.network.task import Task
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.shapley import shapley


@dataclass(frozen=True)
class Whole:
    """The prediction for a whole recording; empty where no input is left.

    Attributes:
        probabilities: mean probability of each class.
        attributes: mean value of each attribute.
        heads: means of the video head and of the audio head, keyed by head, then by class or attribute.
        contributions: contribution of each input to the most probable class and to each attribute, keyed by
            output, then by input (`deiii.model.prediction.shapley`).
    """

    probabilities: dict[str, float]
    attributes: dict[str, float]
    heads: dict[str, dict[str, float]]
    contributions: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Rows:
    """Some rows of the predictions of one pass over the network.

    Attributes:
        found: predictions of the whole pass.
        task: the classes and attributes.
        rows: the rows.
    """

    found: HeadOutputs
    task: Task
    rows: slice

    def values(self, kind: str, head: str = "fused") -> np.ndarray:
        """Return a head's ``probabilities``, float32 [n,C], or ``attributes``, float32 [n,A]."""
        width = {"probabilities": len(self.task.classes), "attributes": len(self.task.attributes)}[kind]
        every = getattr(self.found, kind).get(head, np.zeros((self.found.count, width), np.float32))
        return every[self.rows]

    def present(self, head: str = "fused") -> np.ndarray:
        """Return whether each row has what the head reads, bool [n]."""
        every = self.found.present.get(head, np.zeros(self.found.count, bool))
        return every[self.rows]

    def mean(
        self, rows: np.ndarray, head: str = "fused", weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean probabilities, float64 [C], and attributes, float64 [A], over a mask, bool [n].

        ``weights``, float64 [n], are those of all rows; without them, each row counts once.
        """
        probabilities = self.values("probabilities", head)[rows]
        attributes = self.values("attributes", head)[rows]
        if weights is None:
            return probabilities.mean(axis=0, dtype=np.float64), attributes.mean(axis=0, dtype=np.float64)
        shares = weights[rows] / weights[rows].sum()
        return shares @ probabilities.astype(np.float64), shares @ attributes.astype(np.float64)


def combine(
    by_inputs: Mapping[frozenset[str], Rows],
    task: Task,
    streams: Sequence[str],
    weights: np.ndarray | None = None,
) -> Whole:
    """Average over the windows, and compute the contributions of the inputs.

    Args:
        by_inputs: the windows' predictions from some of the inputs, from all of them first.
        task: the classes and attributes.
        streams: all inputs of the network, in their order.
        weights: weight of each window in the mean, float64 [n]; without them, each window counts once.
    """
    all_inputs, full = next(iter(by_inputs.items()))
    rows = full.present()
    if not rows.any():
        return Whole({}, {}, {}, {})
    p, a = full.mean(rows, weights=weights)

    def by_name(
        probabilities: np.ndarray, attributes: np.ndarray
    ) -> tuple[dict[str, float], dict[str, float]]:
        return (
            dict(zip(task.classes, probabilities.tolist(), strict=True)),
            dict(zip(task.attributes, attributes.tolist(), strict=True)),
        )

    heads = {}
    for head in ("video", "audio"):
        own = full.present(head)
        if own.any():
            by_class, by_attribute = by_name(*full.mean(own, head, weights))
            heads[head] = by_class | by_attribute
    top = [int(p.argmax())] if len(p) else []

    def value(shown: frozenset[str]) -> np.ndarray:
        probabilities, attributes = by_inputs[shown].mean(rows, weights=weights)
        return np.concatenate([probabilities[top], attributes])

    chance = np.array([1 / len(p) for _ in top] + [sum(r) / 2 for r in task.ranges])
    shares = shapley(sorted(all_inputs, key=list(streams).index), value, chance)
    outputs = [*(task.classes[i] for i in top), *task.attributes]
    contributions = {
        output: {name: float(values[k]) for name, values in shares.items()}
        for k, output in enumerate(outputs)
    }
    return Whole(*by_name(p, a), heads, contributions)
