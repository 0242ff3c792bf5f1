"""Stored figures of the synthetic tasks, computed again from the stored predictions."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

RESULTS = Path(__file__).parents[1] / "docs" / "results"
ABLATIONS = sorted(RESULTS.glob("ablation-*/predictions.tar.xz"))
CONTINUOUS = sorted(RESULTS.glob("continuous-*/predictions.tar.xz"))


def test_every_table_of_these_tasks_has_its_predictions_and_one_revision():
    tables = sorted(RESULTS.glob("ablation-*/table.json")) + sorted(RESULTS.glob("continuous-*/table.json"))
    assert len(tables) >= 4
    for table in tables:
        assert (table.parent / "predictions.tar.xz").is_file(), table
        assert len(json.loads(table.read_text(encoding="utf-8"))["revisions"]) == 1, table


@pytest.mark.parametrize("archive", ABLATIONS, ids=[a.parent.name for a in ABLATIONS])
def test_stored_predictions_give_the_accuracy_of_each_run_of_the_ablation(archive):
    tasks = json.loads((archive.parent / "table.json").read_text(encoding="utf-8"))["tasks"]
    reported = {
        f"predictions-{task}-{variant}-seed{seed}.csv": accuracy
        for task, rows in tasks.items()
        for variant, row in rows.items()
        for seed, accuracy in row["by_seed"].items()
    }
    found = {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            rows = list(
                csv.DictReader(io.TextIOWrapper(tar.extractfile(entry), encoding="utf-8", newline=""))
            )
            found[entry.name] = float(np.mean([row["truth"] == row["predicted"] for row in rows]))
    assert found == pytest.approx(reported)


@pytest.mark.parametrize("archive", CONTINUOUS, ids=[a.parent.name for a in CONTINUOUS])
def test_stored_predictions_give_the_ccc_of_each_run(archive):
    """CCC as in Lin 1989: twice the covariance by the sum of both variances and the squared gap of means."""
    variants = json.loads((archive.parent / "table.json").read_text(encoding="utf-8"))["variants"]
    with tarfile.open(archive) as tar:
        for entry in tar:
            file = io.TextIOWrapper(tar.extractfile(entry), encoding="utf-8", newline="")
            rows = list(csv.DictReader(file))
            variant, _, seed = (
                entry.name.removeprefix("predictions-").removesuffix(".csv").rpartition("-seed")
            )
            for name in ("valence", "arousal"):
                if f"{name}_truth" not in rows[0]:
                    assert name not in variants[variant]
                    continue
                truth, guess = (
                    np.array([float(row[f"{name}_{kind}"]) for row in rows])
                    for kind in ("truth", "predicted")
                )
                covariance = np.mean((truth - truth.mean()) * (guess - guess.mean()))
                ccc = 2 * covariance / (truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2)
                assert ccc == pytest.approx(variants[variant][name]["by_seed"][seed], abs=1e-3), entry.name
