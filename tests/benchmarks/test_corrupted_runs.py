"""Runs scored on corrupted recordings: the table of known predictions."""

from __future__ import annotations

import tarfile

import pytest

from benchmarks.corrupted_copies import CLEAN, keep_predictions
from benchmarks.corrupted_runs import collect, markdown, runs_of
from deiii.model.training.run_folder import RunError
from tests.benchmarks.test_corrupted_copies import answers
from tests.helpers.intervals import recall_interval_over_seeds


def test_recalls_intervals_and_paired_differences_of_known_predictions(tmp_path):
    """``wrong`` of eight clips of each speaker are wrong, up to four in each class."""
    tables = {CLEAN: [answers(0), answers(1)], "noise=0": [answers(2), answers(3)]}
    result = collect(tables)
    assert [row["uar"] for row in result.values()] == [0.875, 0.375]
    assert "gap" not in result[CLEAN] and result["noise=0"]["gap"] == -0.5
    rows = [[tuple(row[1:]) for row in own.names.tolist()] for own in tables["noise=0"]]
    assert result["noise=0"]["ci"] == pytest.approx(recall_interval_over_seeds(rows), abs=1e-4)
    text = markdown(result, "notes")
    assert "| none | 0.875 |" in text and "| noise=0 | 0.375 |" in text and "| -0.500 |" in text
    keep_predictions({"": tables}, [3, 5], tmp_path / "kept.tar.xz")
    with tarfile.open(tmp_path / "kept.tar.xz") as tar:
        assert sorted(tar.getnames()) == sorted(f"{c}/seed{s}.csv" for c in tables for s in (3, 5))


def test_seeds_need_runs_of_the_same_folds(tmp_path):
    for name in ("fold0-seed0", "fold1-seed0", "fold0-seed1", "splits"):
        (tmp_path / name).mkdir()
    assert [path.name for path in runs_of(tmp_path, [0])[0]] == ["fold0-seed0", "fold1-seed0"]
    with pytest.raises(RunError, match="seed 1: fold0"):
        runs_of(tmp_path, [0, 1])
    with pytest.raises(RunError, match="seed 7: none"):
        runs_of(tmp_path, [7])
