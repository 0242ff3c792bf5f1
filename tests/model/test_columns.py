"""Tables for the terminal: columns stay in line where labels are long or their characters are wide."""

from __future__ import annotations

import pytest
from tqdm.utils import disp_len

from deiii.model.evaluation.comparison_table import Row, as_text
from deiii.model.prediction.files import describe
from deiii.model.prediction.live import show
from deiii.model.prediction.result import Prediction
from deiii.model.prediction.windows.moments import Moment

LABELS = ("pleasantly surprised and amused", "高兴", "sad")
PROBABILITIES = dict(zip(LABELS, (0.5, 0.3, 0.2), strict=True))


def places(lines, numbers):
    """The column, in characters of the terminal, in which each line has its number."""
    return {disp_len(line[: line.index(number)]) for line, number in zip(lines, numbers, strict=True)}


@pytest.mark.parametrize("labels", [LABELS, LABELS[1:]])
def test_the_table_of_predict(labels):
    p = Prediction("a.mp4", 1.0, {}, {n: PROBABILITIES[n] for n in labels}, {"valence": -0.75})
    lines = describe(p).splitlines()[1:]
    numbers = [f"{PROBABILITIES[n]:6.3f}" for n in labels] + [" -0.75"]
    (place,) = places(lines, numbers)
    assert place == (27 if "sad" == labels[1] else 3 + len(LABELS[0]))


def test_the_lines_of_a_live_source():
    moments = [Moment(1.0, 0.5, 1.5, PROBABILITIES | {label: 0.9}, {}) for label in LABELS]
    assert len(places([show.line(moment, 0) for moment in moments], ["0.90"] * 3)) == 1


def test_the_summary_of_a_live_source():
    found = {"seconds": 1.0, "predictions": 3, "frames": 25, "dropped": 0, "connections": 1}
    found |= {"damaged": 0, "missing": 0, "delay_median_s": None, "probabilities": PROBABILITIES}
    lines = show.describe(found).splitlines()[1:]
    assert len(places(lines, ["0.500", "0.300", "0.200"])) == 1


def test_the_table_of_compare():
    names = ("valence", "dominance", "pleasantness")
    rows = [Row("runs/高兴", f"ccc_{name}", 0.5, None) for name in names]
    rows += [Row("runs/long name", f"ccc_{name}", 0.5, None) for name in names]
    lines = as_text(rows).splitlines()
    assert len(places(lines, ["value", *["0.500"] * 6])) == 1
