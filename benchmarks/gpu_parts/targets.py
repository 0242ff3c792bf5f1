"""The targets of `benchmarks.gpu_check`, beside the figures that were measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Goal(NamedTuple):
    """A figure and its target.

    Attributes:
        name: description of the figure.
        part: the part that measures it.
        figure: function that returns it from the part's results; ``None`` where they do not hold it.
        target: its limit.
        least: whether the limit is the smallest good value; the largest otherwise.
    """

    name: str
    part: str
    figure: Callable[[list[Row]], float | None]
    target: float
    least: bool


def target_lines(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each target: the figure, and whether it is reached; "not measured" without a figure.

    Args:
        parts: findings of each part, as in the RESULT line of `benchmarks.gpu_check`, keyed by name.

    >>> target_lines({"preprocess": {"found": [{"run": "flow alone", "gpu_busy_working": 71.0}]}})[-2]
    'GPU busy while flow is computed from cached faces, %: 71, target at least 70: reached'
    """
    lines = []
    for name, part, figure, target, least in TARGETS:
        found = figure(parts.get(part, {}).get("found", []))
        limit = f"target at {'least' if least else 'most'} {target:,g}"
        if found is None:
            lines.append(f"{name}: not measured, {limit}")
            continue
        reached = found >= target if least else found <= target
        lines.append(f"{name}: {found:,g}, {limit}: {'reached' if reached else 'not reached'}")
    return lines


def _values(rows: Iterable[Row], key: str, **wanted: Any) -> list[float]:
    """Return a figure of the rows that have it and the wanted values."""
    fits = (row for row in rows if all(row.get(name) == value for name, value in wanted.items()))
    return [row[key] for row in fits if row.get(key) is not None]


def _raft_large(rows: list[Row]) -> float | None:
    return max(_values(rows, "pairs_per_s", model="raft_large", dtype="float16"), default=None)


def _against_torchvision(rows: list[Row]) -> float | None:
    theirs = _values(rows, "pairs_per_s", model="raft_large", way="torchvision batched float32")
    ours = _raft_large(rows)
    return None if ours is None or not theirs else round(ours / max(theirs), 1)


def _epoch(rows: list[Row]) -> float | None:
    return min(_values(rows, "epoch_s_of_7442", launch="graph"), default=None)


def _stall(rows: list[Row]) -> float | None:
    return max(_values(rows, "stall", launch="graph"), default=None)


def _busy(rows: list[Row]) -> float | None:
    return max(_values(rows, "gpu_busy_mean", run="all stages"), default=None)


def _busy_with_flow(rows: list[Row]) -> float | None:
    return max(_values(rows, "gpu_busy_working", run="flow alone"), default=None)


def _busy_in_training(rows: list[Row]) -> float | None:
    return min(_values(rows, "gpu_busy_working", run="training"), default=None)


def _failed(rows: list[Row]) -> float | None:
    return max(_values(rows, "files_with_failures"), default=None)


TARGETS = (
    Goal("pairs/s of raft_large at 128 px in float16", "flow", _raft_large, 10_000, True),
    Goal("the same as a multiple of torchvision, batched, float32", "flow", _against_torchvision, 8, True),
    Goal("epoch of base at CREMA-D's size, s", "train", _epoch, 2, False),
    Goal("largest stall of any residency, as a share", "train", _stall, 0.02, False),
    Goal("GPU busy in training, %", "steps", _busy_in_training, 80, True),
    Goal("GPU busy in preprocessing, %", "preprocess", _busy, 70, True),
    Goal("GPU busy while flow is computed from cached faces, %", "preprocess", _busy_with_flow, 70, True),
    Goal("files with tests marked gpu that fail", "tests", _failed, 0, False),
)
