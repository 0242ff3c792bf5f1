"""Stored figures of the synthetic tasks, computed again from the stored predictions."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation import variant_config
from deiii.model.intervals import estimate
from deiii.model.network.deiii import DEIII
from tests.helpers.science_pages import science_text

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


SCIENCE = science_text()


def test_the_ablation_of_science_has_the_figures_of_its_table():
    """They are typed by hand."""
    tasks = json.loads((RESULTS / "ablation-2026-11-29/table.json").read_text(encoding="utf-8"))["tasks"]
    names = {"full": "full", "no L_S": "no_time_match", "audio alone": "audio_only", "no IFE": "no_ife"}
    names |= {f"no {kind}": f"no_{kind}" for kind in ("flow", "frames", "audio")}
    table = SCIENCE.partition("| `cues` | accuracy |")[2].partition("\n\n")[0]
    lines = [[cell.strip(" *") for cell in line.split("|")] for line in table.splitlines()[2:]]
    rows = [(cells[1], cells[2], cells[5], cells[6]) for cells in lines]
    assert len(rows) == 6
    for left, left_figure, right, right_figure in rows:
        variant = names.get(left, "frames_only")
        assert f"{tasks['cues'][variant]['accuracy']:.3f}" == left_figure, left
        if right:
            variant = names.get(right, "video_only")
            assert f"{tasks['sync'][variant]['accuracy']:.3f}" == right_figure, right


def test_the_largest_excess_over_a_ceiling_may_be_chance():
    """The interval of science.md, computed again from the predictions; a leak would lie above zero."""
    found = []
    with tarfile.open(RESULTS / "ablation-2026-11-29/predictions.tar.xz") as tar:
        for seed in range(5):
            entry = tar.extractfile(f"predictions-cues-no_frames-seed{seed}.csv")
            rows = list(csv.DictReader(io.TextIOWrapper(entry, encoding="utf-8", newline="")))
            found.append(sorted(rows, key=lambda row: row["clip"]))
    excess = np.array([[row["truth"] == row["predicted"] for row in rows] for rows in found]) - 0.5
    speakers = [row["speaker"] for row in found[0]]
    interval = estimate(speakers, lambda rows: excess[:, rows].mean(axis=1).tolist()).interval
    low, high = interval
    assert f"+{excess.mean():.3f} (95 % t over seeds and speakers {low:.3f} to {high:+.3f})" in SCIENCE
    assert low < 0


def test_the_validation_figures_tell_which_network_learned_valence():
    folder = RESULTS / "continuous-2026-11-29"
    variants = json.loads((folder / "table.json").read_text(encoding="utf-8"))["variants"]
    with (folder / "validation.csv").open(newline="", encoding="utf-8") as file:
        last = {row["run"]: row["val_ccc_valence"] for row in csv.DictReader(file)}
    seeing = [name for name in variants if name != "audio_only"]
    for name in seeing:
        figures = variants[name]["valence"]["by_seed"]
        assert f"| {', '.join(f'{value:.3f}' for value in figures.values())} |" in SCIENCE, name
        for seed, value in figures.items():
            validation = float(last[f"{name}-seed{seed}"])
            assert validation >= 0.85 if value > 0.5 else validation <= 0.26, (name, seed)
    learned = [value > 0.5 for name in seeing for value in variants[name]["valence"]["by_seed"].values()]
    assert (len(learned), sum(learned)) == (15, 8)


def test_the_page_has_the_figures_of_the_linear_task():
    folder = RESULTS / "ablation-binding-linear-2026-11-30"
    rows = json.loads((folder / "table.json").read_text(encoding="utf-8"))["tasks"]["binding_linear"]
    full, concat = rows["full"], rows["ov_concat"]
    seeds = [f"{find(row['by_seed'].values()):.3f}" for row in (full, concat) for find in (min, max)]
    low, high = concat["against_full_ci"]
    text = " ".join(science_text().split())
    assert f"{full['accuracy']:.3f} with attention (seeds {seeds[0]} to {seeds[1]})" in text
    assert f"{concat['accuracy']:.3f} with concatenation ({seeds[2]} to {seeds[3]})" in text
    assert (
        f"{concat['against_full']:.3f} (95 % t over seeds and speakers {low:.3f} to {high:.3f}; p <" in text
    )
    assert concat["against_full_p"] < 0.001
    sizes = []
    for variant in ("full", "ov_concat"):
        config = variant_config(folder, ("binding_linear", variant, 0), [])
        sizes.append(sum(p.numel() for p in DEIII(config.model, n_classes=2).parameters()))
    assert f"more parameters ({sizes[0]:,} and {sizes[1]:,})" in text
