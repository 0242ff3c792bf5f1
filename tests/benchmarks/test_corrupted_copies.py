"""Training on corrupted copies: the tables of known predictions, the stored result, and a small real run."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corrupted_copies import CLEAN, WITH, WITHOUT, Answers, collect, keep_predictions, markdown
from tests.helpers.intervals import recall_interval
from tests.helpers.science_pages import science_text

DOCS = Path(__file__).parents[2] / "docs"
STORED = DOCS / "results/ravdess-noise-copies-2026-11-28"


def answers(wrong: int) -> Answers:
    """Eight clips of each of four speakers, of two classes; ``wrong`` clips of each speaker are wrong."""
    rows = [
        (f"{speaker}{n}", speaker, "ab"[n % 2], "ba"[n % 2] if n // 2 < wrong else "ab"[n % 2])
        for speaker in "wxyz"
        for n in range(8)
    ]
    return Answers(np.array(rows), ("a", "b"))


def test_recalls_and_paired_differences_of_known_predictions(tmp_path):
    found = {
        WITHOUT: {CLEAN: [answers(1)], "noise=0": [answers(3)]},
        WITH: {CLEAN: [answers(1)], "noise=0": [answers(1)]},
    }
    result = collect(found)
    assert [row["uar"] for row in result[WITHOUT].values()] == [0.75, 0.25]
    assert [row["gap"] for row in result["difference"].values()] == [0.0, 0.5]
    assert "| noise=0 | 0.250 |" in markdown(result, "notes")
    keep_predictions({"with-copies/noise=0": found[WITH]["noise=0"]}, [3], tmp_path / "kept.tar.xz")
    with tarfile.open(tmp_path / "kept.tar.xz") as tar:
        assert tar.getnames() == ["with-copies/noise=0/seed3.csv"]


def test_stored_predictions_give_the_reported_figures():
    """Recalls and intervals are computed anew; the pages print the stored figures."""
    report = json.loads((STORED / "table.json").read_text(encoding="utf-8"))
    table = (STORED / "table.md").read_text(encoding="utf-8")
    rows = {}
    with tarfile.open(STORED / "predictions.tar.xz") as tar:
        for entry in tar:
            text = io.TextIOWrapper(tar.extractfile(entry), encoding="utf-8", newline="")
            variant, corruption, _ = entry.name.split("/")
            rows[variant.replace("-", " "), corruption] = list(csv.DictReader(text))
    assert set(rows) == {(v, c) for v in (WITH, WITHOUT) for c in (CLEAN, "noise=20", "noise=10", "noise=0")}
    recalls = {}
    for (variant, corruption), own in rows.items():
        assert len({row["clip"] for row in own}) == len(own) == 1440
        truth, right = (np.array([row["truth"] for row in own]),
                        np.array([row["truth"] == row["predicted"] for row in own]))  # fmt: skip
        recalls[variant, corruption] = np.mean([right[truth == name].mean() for name in set(truth)])
        stored = report[variant][corruption]
        assert stored["uar"] == pytest.approx(recalls[variant, corruption], abs=1e-4)
        expected = recall_interval([(row["speaker"], row["truth"], row["predicted"]) for row in own])
        assert stored["ci"] == pytest.approx(expected, abs=1e-4)
    science = " ".join(science_text().split())
    for corruption, entry in report["difference"].items():
        gap = recalls[WITH, corruption] - recalls[WITHOUT, corruption]
        assert entry["gap"] == pytest.approx(gap, abs=1e-4)
        line = next(line for line in table.splitlines() if line.startswith(f"| {corruption} |"))
        low, high = entry["ci"]
        assert line.endswith(f"| {entry['gap']:+.3f} | {low:+.3f} to {high:+.3f} |")
        level = "none" if corruption == CLEAN else f"{corruption.partition('=')[2]} dB"
        without, with_copies = recalls[WITHOUT, corruption], recalls[WITH, corruption]
        paired = f"{entry['gap']:+.3f} ({low:+.3f} to {high:+.3f})"
        assert f"| {level} | {without:.3f} | {with_copies:.3f} | {paired} |" in science
