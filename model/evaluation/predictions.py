"""``predictions.csv`` of an evaluated run: the only code that writes or reads it.

One row per test clip, in UTF-8 with a header:

- ``clip``, ``speaker``: ids.
- ``truth``, ``predicted``: class names (``truth`` is empty where the clip has no label), and ``p_<class>``:
  the probability of each class with four decimals; all only where classes are predicted.
- ``<attribute>_truth``, ``<attribute>_predicted``: values in the corpus's range with four decimals (the truth
  is empty where it is unknown); only for the attributes that are predicted.
"""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.text.csv_text import csv_text
from deiii.model.scored_weights import not_evaluated
from deiii.model.training.run_folder import RunError


@dataclass(frozen=True)
class PredictionTable:
    """Predictions for N clips, C classes and A attributes.

    Attributes:
        clips, speakers: N ids.
        classes: C class names, in the order of the columns of ``probabilities``.
        truth, predicted: N class names, ``""`` for an unlabelled clip; empty where no classes are predicted.
        probabilities: float64 [N,C], 0 to 1.
        attributes: A attribute names.
        attribute_truth: float64 [N,A], NaN where unknown.
        attribute_predicted: float64 [N,A].

    Raises:
        ValueError: the lengths or shapes do not fit.
    """

    clips: tuple[str, ...]
    speakers: tuple[str, ...]
    classes: tuple[str, ...]
    truth: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: np.ndarray
    attributes: tuple[str, ...]
    attribute_truth: np.ndarray
    attribute_predicted: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.clips)
        if len(self.speakers) != n or len(self.truth) != len(self.predicted) or len(self.truth) not in (0, n):
            raise ValueError(
                f"{counted(n, 'clip')}, {counted(len(self.speakers), 'speaker')}, {len(self.truth)} true and "
                f"{len(self.predicted)} predicted classes do not fit together"
            )
        wanted = {
            "probabilities": (n, len(self.classes)),
            "attribute_truth": (n, len(self.attributes)),
            "attribute_predicted": (n, len(self.attributes)),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has the shape {list(getattr(self, name).shape)}, not {list(shape)}")

    def __repr__(self) -> str:
        size = f"{counted(len(self), 'clip')} of {counted(len(set(self.speakers)), 'speaker')}"
        return f"PredictionTable({size}: {', '.join((*self.classes, *self.attributes))})"

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, rows: Sequence[int] | np.ndarray) -> PredictionTable:
        """Return the given rows, in the given order."""
        rows = np.asarray(rows, np.int64)
        return PredictionTable(
            clips=_take(self.clips, rows),
            speakers=_take(self.speakers, rows),
            classes=self.classes,
            truth=_take(self.truth, rows),
            predicted=_take(self.predicted, rows),
            probabilities=self.probabilities[rows],
            attributes=self.attributes,
            attribute_truth=self.attribute_truth[rows],
            attribute_predicted=self.attribute_predicted[rows],
        )

    def class_numbers(self, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the true and the predicted class of each clip as its number in ``classes``, int64 [N].

        A class that is not in the list, and an unlabelled clip, has the number -1.
        """
        number = {name: i for i, name in enumerate(classes)}
        truth = [number.get(name, -1) for name in self.truth]
        predicted = [number.get(name, -1) for name in self.predicted]
        return np.array(truth, np.int64), np.array(predicted, np.int64)

    def clips_of_speakers(self) -> Counter[str]:
        """Return how many clips of each speaker have a class or a rating, of those who have any."""
        known = ~np.isnan(self.attribute_truth).all(axis=1) if self.attributes else np.zeros(len(self), bool)
        if self.truth:
            known = known | np.array([label != "" for label in self.truth], bool)
        return Counter(self.speakers[row] for row in np.flatnonzero(known))

    def attribute_pair(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return truth (NaN where unknown) and prediction of one attribute, float64 [N] each."""
        column = self.attributes.index(name)
        return self.attribute_truth[:, column], self.attribute_predicted[:, column]


def write_predictions(path: str | Path, table: PredictionTable) -> None:
    """Write ``predictions.csv`` atomically."""
    header = ["clip", "speaker"]
    if table.classes:
        header += ["truth", "predicted", *(f"p_{name}" for name in table.classes)]
    header += [f"{name}_{side}" for name in table.attributes for side in ("truth", "predicted")]
    lines = [header]
    for n, clip in enumerate(table.clips):
        line = [clip, table.speakers[n]]
        if table.classes:
            line += [table.truth[n], table.predicted[n]]
            line += [f"{p:.4f}" for p in table.probabilities[n]]
        for truth, predicted in zip(table.attribute_truth[n], table.attribute_predicted[n], strict=True):
            line += ["" if np.isnan(truth) else f"{truth:.4f}", f"{predicted:.4f}"]
        lines.append(line)
    write_text(path, csv_text(lines))


def read_predictions(path: str | Path, metrics: Mapping[str, Any] | None = None) -> PredictionTable:
    """Read ``predictions.csv`` of a run folder.

    Args:
        path: the file.
        metrics: what ``metrics.json`` beside it holds, if the number of clips there is to be compared.

    Raises:
        RunError: the file is missing, is not such a table, or lacks clips.

    >>> read_predictions("runs/latest/predictions.csv").classes   # doctest: +SKIP
    ('happy', 'sad')
    """
    path = Path(path)
    command = f"deiii evaluate {shlex.quote(str(path.parent))}"
    if not path.is_file():
        raise RunError(not_evaluated(path.parent))
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        rows = list(reader)
    classes = tuple(name.removeprefix("p_") for name in header if name.startswith("p_"))
    sides = ("_truth", "_predicted")
    others = [name for name in header if not name.startswith("p_")]  # a class may be called truth
    attributes = tuple(n.removesuffix(sides[0]) for n in others if n.endswith(sides[0]) and n != sides[0])
    needed = ["clip", "speaker", *(a + sides[1] for a in attributes)]
    if classes:
        needed += ["truth", "predicted"]
    missing = [name for name in needed if name not in header]
    if missing:
        raise RunError(f"{path} lacks the columns {', '.join(missing)}; run `{command} --again`")
    counts = (metrics or {}).get("clips", {}).get("test", {})
    # Clips without a truth, such as those whose raters tie, are predicted and not scored.
    expected = counts["scored"] + counts.get("unlabelled", 0) if "scored" in counts else len(rows)
    if expected != len(rows):
        raise RunError(
            f"{path} is damaged ({counted(len(rows), 'row')} for {counted(expected, 'predicted clip')}); "
            f"run `{command} --again`"
        )
    try:
        return PredictionTable(
            clips=tuple(row["clip"] for row in rows),
            speakers=tuple(row["speaker"] for row in rows),
            classes=classes,
            truth=tuple(row["truth"] for row in rows) if "truth" in header else (),
            predicted=tuple(row["predicted"] for row in rows) if "predicted" in header else (),
            probabilities=_numbers(rows, [f"p_{name}" for name in classes]),
            attributes=attributes,
            attribute_truth=_numbers(rows, [a + sides[0] for a in attributes]),
            attribute_predicted=_numbers(rows, [a + sides[1] for a in attributes]),
        )
    except (ValueError, TypeError) as error:  # a cell that is not a number, or a row that is cut off
        raise RunError(f"{path} is damaged ({error}); run `{command} --again`") from None


def _take(values: Sequence[str], rows: np.ndarray) -> tuple[str, ...]:
    return tuple(values[row] for row in rows) if values else ()


def _numbers(rows: Sequence[dict[str, str]], names: Sequence[str]) -> np.ndarray:
    """Return columns as float64 [rows, names]; an empty cell is NaN."""
    values = [[float(row[name]) if row[name] != "" else np.nan for name in names] for row in rows]
    return np.array(values, np.float64).reshape(len(rows), len(names))
