"""Runs scored on corrupted recordings: the table of known predictions."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import defaultdict

import pytest

from benchmarks.corrupted_copies import CLEAN, Answers, keep_predictions
from benchmarks.corrupted_runs import collect, markdown, runs_of
from deiii.model.training.run_folder import RunError
from tests.benchmarks.test_corrupted_copies import answers
from tests.helpers.intervals import recall_interval_over_seeds
from tests.helpers.science_pages import DOCS, science_text


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
    keep_predictions(tables, [3, 5], tmp_path / "kept.tar.xz")
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


def test_stored_predictions_give_the_reported_figures():
    """Recalls, intervals and differences are computed anew, and the page has the stored figures."""
    folder = DOCS / "results/emotional-corrupted-scratch-2026-11-30"
    report = json.loads((folder / "table.json").read_text(encoding="utf-8"))["corruptions"]
    page = (
        science_text()
        .partition("Networks from scratch were scored in the same way")[2]
        .partition("The intervals are")[0]
    )
    found = defaultdict(list)  # the rows of each seed, by corruption
    with tarfile.open(folder / "predictions.tar.xz") as tar:
        for entry in tar:
            text = io.TextIOWrapper(tar.extractfile(entry), encoding="utf-8", newline="")
            rows = list(csv.DictReader(text))
            assert len({row["clip"] for row in rows}) == len(rows) == 144
            found[entry.name.split("/")[0]].append(rows)
    assert set(found) == set(report) and len(report) == 7
    right = {}
    for corruption, seeds in found.items():
        assert len(seeds) == 3
        hits = [row["truth"] == row["predicted"] for rows in seeds for row in rows]
        right[corruption] = sum(hits) / len(hits)  # the recall, as all classes have equally many clips
        stored = report[corruption]
        assert stored["uar"] == pytest.approx(right[corruption], abs=1e-4)
        own = [[(row["speaker"], row["truth"], row["predicted"]) for row in rows] for rows in seeds]
        assert stored["ci"] == pytest.approx(recall_interval_over_seeds(own), abs=1e-4)
        if corruption == CLEAN:
            assert f"{stored['uar']:.3f} (" in page
            continue
        low, high = stored["gap_ci"]
        assert f"{stored['uar']:.3f} | {stored['gap']:+.3f} ({low:+.3f} to {high:+.3f})" in page
    for corruption in set(found) - {CLEAN}:
        assert report[corruption]["gap"] == pytest.approx(right[corruption] - right[CLEAN], abs=1e-4)


def changed(column, value, clip="w0"):
    found = answers(1)
    names = found.names.copy()
    names[names[:, 0] == clip, column] = value
    return Answers(names, found.classes)


def test_a_clip_without_a_prediction_counts_as_wrong_and_one_without_a_class_not_at_all():
    """Of 32 clips, 16 of each class, 4 of each class are wrong; w6 is a right one of the class a."""
    lost = collect({CLEAN: [answers(1)], "noise=0": [changed(3, "", "w6")]})["noise=0"]
    assert lost["uar"] == pytest.approx((11 / 16 + 12 / 16) / 2, abs=1e-4)
    unlabelled = [changed(2, "", "w6")]
    rows = collect({CLEAN: unlabelled, "noise=0": unlabelled})
    assert rows[CLEAN]["uar"] == pytest.approx((11 / 15 + 12 / 16) / 2, abs=1e-4)
    assert rows["noise=0"]["gap"] == 0 and rows["noise=0"]["gap_ci"][0] < 0


def test_predictions_for_other_clips_or_labels_are_not_paired():
    for column, value in ((0, "other"), (1, "x"), (2, "b")):
        with pytest.raises(ValueError, match="different clips or other labels"):
            collect({CLEAN: [answers(1)], "noise=0": [changed(column, value)]})


def test_two_speakers_have_a_recall_and_no_interval():
    few = Answers(answers(1).names[:16], ("a", "b"))
    result = collect({CLEAN: [few], "noise=0": [few]})
    assert result["noise=0"] == {"uar": 0.75, "ci": None, "gap": 0.0, "gap_ci": None}
    assert "| noise=0 | 0.750 |  | 0.000 |  |" in markdown(result, "notes")
