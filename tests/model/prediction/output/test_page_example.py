"""The example of docs/predict.md that reads a table over time, on tables with known means."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[4] / "docs/predict.md"
WANTED = "minute 0: 0.250 in 60.0 s\nminute 1: 0.500 in 30.0 s\n"
ROWS = [(0, 45, 0.2), (45, 60, 0.4), (60, 90, 0.5)]  # begin, end, p_happy of person 1


def example() -> str:
    (code,) = [
        c for c in re.findall(r"```py\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "-timeline.csv" in c
    ]
    return code


@pytest.mark.parametrize("people", [False, True])
def test_the_mean_of_each_minute_is_that_of_one_person(tmp_path, people):
    """The example took the mean over all people of a table of ``--people all``."""
    rows = [["1", *row] for row in ROWS]
    if people:
        rows += [["2", begin, end, 0.9] for begin, end, _ in ROWS]
    lines = [["person", "begin_s", "end_s", "p_happy"], *rows]
    lines = lines if people else [line[1:] for line in lines]
    (tmp_path / "predict").mkdir()
    text = "".join(",".join(map(str, line)) + "\n" for line in lines)
    (tmp_path / "predict/interview-timeline.csv").write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", example()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == WANTED
