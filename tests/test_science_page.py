"""The figures of our own in docs/science.md and the pages of details are those of the stored results."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stored_gap import gaps, read
from deiii.model.calibration import chance_ece, ece, tempered
from deiii.model.evaluation.sections.gaps import gaps_of_predictions
from deiii.model.intervals import estimate, mean_interval
from tests.helpers.markdown_tables import table_rows
from tests.helpers.science_pages import science_text, section

RESULTS = Path(__file__).parents[1] / "docs" / "results"
TEXT = science_text()
HIDDEN = "ravdess-speech-hidden-2026-11-28"
COPIES = "ravdess-speech-copies-2026-11-28"


def own_rows() -> list[tuple[str, list[str]]]:
    """The rows of our own in the table of science.md: the file that each names, and its figures as text."""
    files = dict(re.findall(r"^- \[([a-z])\] \[[^\]]+\]\((results/\S+?)\)", TEXT, re.MULTILINE))
    rows = re.findall(r"^\|.*\| ([*\d. ]*) \| ([\d. ]*)\| \[([a-z])\] \|$", TEXT, re.MULTILINE)
    return [(files[letter], [uar.strip("* "), war.strip()]) for uar, war, letter in rows]


def headlines(report: dict) -> set[str]:
    """UAR and WAR that a report states for all folds and seeds together, with three decimals."""
    found = [report["figures"][name]["mean"] for name in ("uar", "war") if "figures" in report]
    found += [report[name]["mean"] for name in ("seed_ensemble",) if name in report]
    rows = (*report.values(), *report.get("networks", {}).values())
    found += [row[name] for row in rows if isinstance(row, dict) for name in ("uar", "war") if name in row]
    return {f"{value:.3f}" for value in found if isinstance(value, float)}


def test_every_row_of_our_own_beside_published_results_is_in_its_file():
    rows = own_rows()
    assert len(rows) >= 12
    for file, figures in rows:
        report = json.loads((RESULTS.parent / file).with_suffix(".json").read_text(encoding="utf-8"))
        for figure in figures:
            assert not figure or figure in headlines(report), (file, figure)


def test_intervals_in_the_notes_on_our_own_rows_are_in_their_files():
    """They are typed by hand in science.md; the tables of the results are made by programs."""
    seen = 0
    for note in re.findall(r"^- \[[a-z]\] \[[^\]]+\]\(results/.*?(?=^- )", TEXT, re.MULTILINE | re.DOTALL):
        file = re.search(r"\]\((results/\S+?)\)", note)
        assert file
        stored = (RESULTS.parent / file[1]).read_text(encoding="utf-8")
        for low, high in re.findall(r"(\d\.\d{3}) to (\d\.\d{3})", note):
            seen += 1
            assert f"{low} to {high}" in stored or f"[{low}, {high}]" in stored, (file[1], low, high)
    assert seen >= 7


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (COPIES, HIDDEN),
        (HIDDEN, "ravdess-speech-two-encoders-2026-11-26"),
        ("ravdess-speech-all-speakers-2026-11-28", HIDDEN),
    ],
)
def test_differences_between_recipes_are_those_of_their_predictions(one, other):
    found = gaps(read(RESULTS / one), read(RESULTS / other))["mean"]
    low, high = found["ci"]
    assert f"{found['gap']:+.3f} ({low:+.3f} to {high:+.3f})" in " ".join(TEXT.split())


def test_averaged_networks_differ_as_their_predictions_say():
    text = " ".join(TEXT.split())
    for one, other in ((COPIES, HIDDEN), (HIDDEN, "ravdess-speech-two-encoders-2026-11-26")):
        found = gaps(read(RESULTS / one), read(RESULTS / other))["averaged"]
        low, high = found["ci"]
        assert f"five averaged {found['gap']:+.3f} ({low:+.3f} to {high:+.3f})" in text


def test_what_speaker_statistics_add_from_scratch_is_that_of_the_stored_predictions():
    """One seed was trained with them; it is paired with the same seed without them."""
    one, all_seeds = (read(RESULTS / f"ravdess-audio{name}-2026-11-24") for name in ("-by-speaker", ""))
    kept = [all_seeds.seeds.index(seed) for seed in one.seeds]
    other = replace(all_seeds, seeds=one.seeds, probabilities=all_seeds.probabilities[kept])
    found = gaps(one, other)["averaged"]
    (with_them, without), (low, high) = found["uar"], found["ci"]
    text = " ".join(section("Audio only, from scratch").split())
    assert f"{with_them:.3f} instead of {without:.3f} (one seed" in text
    assert f"{found['gap']:+.3f}, 95 % t over speakers {low:+.3f} to {high:+.3f}" in text


@pytest.mark.parametrize("variant", ["no_modality_dropout", "fused_head_only"])
def test_what_one_means_of_told_adds_to_neither_is_that_of_the_stored_predictions(variant):
    """The stored table has differences from the full network alone."""
    right: dict[tuple[str, str], dict[tuple[str, str], bool]] = {}
    with tarfile.open(RESULTS / "ablation-told-2026-11-28/predictions.tar.xz") as tar:
        for entry in tar:
            name = re.fullmatch(r"predictions-told-(\w+)-seed(\d+)\.csv", entry.name)
            stream = tar.extractfile(entry) if name else None
            if name and stream:
                rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline=""))
                right[name[1], name[2]] = {
                    (row["speaker"], row["clip"]): row["truth"] == row["predicted"] for row in rows
                }
    seeds = sorted(seed for name, seed in right if name == variant)
    clips = list(right[variant, seeds[0]])
    gaps = np.array([[float(right[variant, s][c]) - right["neither", s][c] for c in clips] for s in seeds])
    found = estimate([speaker for speaker, _ in clips], lambda rows: gaps[:, rows].mean(axis=1).tolist())
    assert found and len(seeds) == 5
    low, high = found.interval
    assert f"{gaps.mean():+.3f} ({low:+.3f} to {high:+.3f}" in " ".join(TEXT.split())


def test_two_seeds_of_a_fold_differ_as_the_stored_runs_say():
    report = json.loads((RESULTS / "ravdess-audio-2026-11-24/crossval.json").read_text(encoding="utf-8"))
    of_fold: dict[int, list[float]] = {}
    for run in report["runs"]:
        of_fold.setdefault(run["fold"], []).append(run["uar"])
    spread = np.sqrt(np.mean([np.var(values, ddof=1) for values in of_fold.values()]))
    assert f"a standard deviation of {spread:.3f} (root mean square" in " ".join(TEXT.split())


def test_the_ece_of_all_predictions_is_that_of_the_reports():
    text = " ".join(section("Calibration").split())
    for folder in (HIDDEN, COPIES, "ravdess-speech-two-encoders-2026-11-26"):
        report = json.loads((RESULTS / folder / "crossval.json").read_text(encoding="utf-8"))["calibration"]
        for kind in ("raw", "tempered"):
            assert f"{report[kind]['ece']:.3f}" in text


def rows(title: str, number: int = 0) -> list[list[str]]:
    """The cells of a table below a heading, without its head."""
    return table_rows(section(title), number)


@pytest.mark.parametrize(("folder", "number"), [(HIDDEN, 0), ("ravdess-audio-2026-11-24", 1)])
def test_the_tables_of_chosen_epochs_are_the_stored_ones(folder, number):
    stored = json.loads((RESULTS / folder / "epoch_choice.json").read_text(encoding="utf-8"))
    assert stored["runs"] == 30
    table = rows("The epoch chosen on the test fold", number)
    for (_, uar, gap), key in zip(table, ("uar", "loss", "last", "test"), strict=True):
        assert uar == f"{stored[key]['uar']:.3f}"
        if key != "test":
            low, high = stored[key]["gap_ci"]
            assert gap == f"{stored[key]['gap']:+.3f} ({low:.3f} to {high:.3f})"


def test_the_mean_ece_of_single_runs_is_that_of_their_predictions():
    """All predictions together have a smaller ECE, because runs cancel each other."""
    text = " ".join(section("Calibration").split())
    for folder in (HIDDEN, COPIES, "ravdess-speech-two-encoders-2026-11-26"):
        stored = read(RESULTS / folder)
        report = json.loads((RESULTS / folder / "crossval.json").read_text(encoding="utf-8"))
        label = np.array([stored.classes.index(name) for name in stored.truth])
        raw, own, chance = [], [], []
        for run, temperature in zip(report["runs"], report["calibration"]["temperatures"], strict=True):
            rows = np.isin(stored.speakers, _test_speakers(report, run["fold"]))
            p = stored.probabilities[stored.seeds.index(str(run["seed"]))][rows]
            raw.append(ece(p, label[rows]))
            own.append(ece(tempered(p, temperature), label[rows]))
            chance.append(chance_ece(tempered(p, temperature)))
        words = re.findall(r"(0\.\d{3})", text.split("mean of the ECE of single runs", 1)[1])
        assert {f"{np.mean(raw):.3f}", f"{np.mean(own):.3f}"} <= set(words)
        if folder == HIDDEN:
            assert {f"{min(own):.3f}", f"{max(own):.3f}"} <= set(words)
            worse = sum(after > before for before, after in zip(raw, own, strict=True))
            assert f"in {worse} of the {len(own)} runs" in text
            assert f"{np.mean(chance):.3f} on the average of these {len(chance)} runs" in text


def _test_speakers(report: dict, fold: int) -> list[str]:
    return [name.rpartition(":")[2] for name in report["splits"][str(fold)]["test"]]


def test_what_the_last_epoch_gains_over_the_chosen_one_is_that_of_the_stored_folds():
    text = " ".join(section("The epoch chosen on the test fold").split())
    for folder in (HIDDEN, "ravdess-speech-two-encoders-2026-11-26", "ravdess-audio-2026-11-24"):
        stored = json.loads((RESULTS / folder / "epoch_choice.json").read_text(encoding="utf-8"))
        for key in ("uar", "loss"):
            gap = np.subtract(stored["last"]["by_fold"], stored[key]["by_fold"])
            low, high = mean_interval(gap) or (0, 0)
            assert f"{low:.3f} to {high:.3f}" in text and f"{gap.mean():.3f}" in text


def test_the_pitfall_of_random_splits_names_the_range_of_the_table():
    """It said 60 to 98 % and 46 to 68 %, which the table did not have."""
    published = [
        [cell.strip() for cell in line.split("|")]
        for line in re.findall(r"^\| RAVDESS, 8 \|(.*)\|$", TEXT, re.MULTILINE)
        if "(A)" in line and "DE-III" not in line and "regression" not in line and "SVM" not in line
    ]
    unknown = sorted(row[6] for row in published if row[0] == "not stated")
    unseen = sorted(row[6] for row in published if row[0] != "not stated" and row[6])
    text = " ".join(section("Known pitfalls").split())
    assert f"a WAR of {' and '.join(unknown)}, those on unseen speakers {unseen[0]} to {unseen[-1]}" in text


CLIPS = {
    "all five other speakers": "emotional-av-2026-11-29",
    "four of them](#one": "emotional-av-2026-11-26",
    "started from": "emotional-av-start-2026-11-26",
    "all five and": "emotional-av-mix-2026-11-27",
    "from scratch, four": "emotional-av-scratch-2026-11-28",
    "all five, heads in closed form": "emotional-av-discriminant-2026-12-01",
}


def test_the_table_of_emotional_clips_has_the_figures_of_the_stored_tables():
    inputs = [f"{kind}{how}" for how in ("", " by speaker") for kind in ("audio", "video", "both")]
    lines = section("Results on emotional video clips in detail").splitlines()
    for words, folder in CLIPS.items():
        (line,) = [line for line in lines if line.startswith("|") and words in line]
        text = (RESULTS / folder / "table.md").read_text(encoding="utf-8")
        stored = dict(re.findall(r"^\| ([a-z ]+) \| (\d\.\d{3}) \|", text, re.MULTILINE))
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        assert cells == [stored.get(name, "") for name in inputs], words


RAVDESS = {
    "from scratch": ("ravdess-audio-2026-11-24", None),
    ": the configuration": (COPIES, COPIES),
    "the same without copies": (HIDDEN, HIDDEN),
    "no speaker kept": ("ravdess-speech-all-speakers-2026-11-28", None),
    "a linear layer": ("ravdess-speech-two-encoders-2026-11-26", "ravdess-speech-two-encoders-2026-11-26"),
}


def test_the_table_of_ravdess_has_the_figures_of_the_stored_reports():
    lines = section("Results on RAVDESS in detail").splitlines()
    for words, (folder, reference) in RAVDESS.items():
        (line,) = [line for line in lines if line.startswith("|") and words in line]
        report = json.loads((RESULTS / folder / "crossval.json").read_text(encoding="utf-8"))
        expected = [report["figures"]["uar"]["mean"], report["seed_ensemble"]["mean"]]
        if reference:
            simple = json.loads((RESULTS / reference / "reference.json").read_text(encoding="utf-8"))
            expected.append(simple["logistic_regression"]["uar"])
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        assert [float(cell) for cell in cells if cell] == pytest.approx(expected, abs=5e-4), words


def test_the_gaps_between_women_and_men_are_those_of_the_stored_predictions():
    rows = [line for line in section("Women and men, and single speakers").splitlines() if "(0." in line]
    folders = (COPIES, HIDDEN, "ravdess-audio-2026-11-24")
    for line, folder in zip(rows, folders, strict=True):
        stored = read(RESULTS / folder)
        number = [stored.classes.index(name) for name in stored.truth]
        guess = stored.probabilities.argmax(axis=2)
        truth, owner = np.tile(number, len(guess)), np.tile(stored.speakers, len(guess))
        sexes = {s: "female" if int(s[-2:]) % 2 == 0 else "male" for s in stored.speakers}
        found = gaps_of_predictions(truth, guess.ravel(), owner, sexes)
        women, men, gap = (found["sex"][key] for key in ("female", "male", "difference"))
        for side in (women, men):
            low, high = side["uar_ci"]
            assert f"| {side['uar']:.3f} ({low:.3f} to {high:.3f}) |" in line
        low, high = gap["uar_ci"]
        assert f"| {gap['uar']:+.3f} ({low:+.3f} to {high:+.3f}) |" in line
        spread = found["speakers"]["uar"]
        assert f"| {spread['worst']:.3f}, {spread['best']:.3f} |" in line
