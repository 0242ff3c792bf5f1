"""The predictions stored in docs/results give the figures that the reports state."""

from __future__ import annotations

import csv
import io
import json
import lzma
import re
import subprocess
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deiii.model.evaluation.crossval_report import markdown
from tests.helpers.intervals import recall_interval, recall_interval_over_seeds

RESULTS = Path(__file__).parents[1] / "docs" / "results"
ARCHIVES = sorted(
    path for path in RESULTS.glob("*/predictions.tar.xz") if (path.parent / "crossval.json").is_file()
)


def stored_tables(archive: Path) -> dict[tuple[int, int], list[dict[str, str]]]:
    """Rows of every stored predictions file, by fold and seed."""
    tables = {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            found = re.fullmatch(r"predictions-fold(\d+)-seed(\d+)\.csv", entry.name)
            stream = tar.extractfile(entry) if found else None
            if found and stream:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
                tables[int(found[1]), int(found[2])] = list(csv.DictReader(text))
    return tables


def rows_of_variants(archive: Path, report: dict) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Rows of all folds together by variant (a network, a set of inputs) and seed.

    Checks that the test speakers of each fold are those of the report, the same for all variants.
    """
    found = defaultdict(list)
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = re.fullmatch(r"(.+)/fold(\d+)-seed(\d+)\.csv", entry.name)
            stream = tar.extractfile(entry) if name else None
            if name and stream:
                rows = list(csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline="")))
                assert {row["speaker"] for row in rows} == set(report["splits"][name[2]]["test"])
                found[name[1], name[3]] += rows
    return found


def recall(rows: list[dict[str, str]]) -> float:
    """Unweighted average recall: the mean over classes of the share of clips predicted right."""
    hits = defaultdict(list)
    for row in rows:
        hits[row["truth"]].append(row["truth"] == row["predicted"])
    return float(np.mean([np.mean(of_class) for of_class in hits.values()]))


@pytest.mark.parametrize("archive", ARCHIVES, ids=[a.parent.name for a in ARCHIVES])
def test_stored_predictions_give_the_reported_recall(archive):
    report = json.loads((archive.parent / "crossval.json").read_text(encoding="utf-8"))
    tables = stored_tables(archive)
    assert len(tables) == report["folds"] * len(report["seeds"])
    assert {(run["fold"], run["seed"]) for run in report["runs"]} == set(tables)
    for run in report["runs"]:
        assert recall(tables[run["fold"], run["seed"]]) == pytest.approx(run["uar"], abs=1e-6)
    by_fold = [
        np.mean([recall(tables[fold, seed]) for seed in report["seeds"]]) for fold in range(report["folds"])
    ]
    assert np.mean(by_fold) == pytest.approx(report["figures"]["uar"]["mean"], abs=1e-6)


@pytest.mark.parametrize("archive", ARCHIVES, ids=[a.parent.name for a in ARCHIVES])
def test_stored_test_speakers_are_those_of_the_report(archive):
    report = json.loads((archive.parent / "crossval.json").read_text(encoding="utf-8"))
    for (fold, _), rows in stored_tables(archive).items():
        assert {row["speaker"] for row in rows} == set(report["splits"][str(fold)]["test"])


@pytest.mark.parametrize("archive", ARCHIVES, ids=[a.parent.name for a in ARCHIVES])
def test_stored_predictions_give_the_reported_interval(archive):
    report = json.loads((archive.parent / "crossval.json").read_text(encoding="utf-8"))
    tables = stored_tables(archive)
    of_seeds: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for (_, seed), table in sorted(tables.items()):
        of_seeds[seed] += [(r["speaker"], r["truth"], r["predicted"]) for r in table]
    if report["interval"] == "t interval over speakers":
        clips = len({r["clip"] for table in tables.values() for r in table})
        expected = recall_interval([row for rows in of_seeds.values() for row in rows], clips)
    else:
        assert report["interval"] == "t interval over seeds and speakers"
        expected = recall_interval_over_seeds(list(of_seeds.values()))
    assert report["pooled"]["uar_ci"] == pytest.approx(expected, abs=1e-6)
    low, high = report["pooled"]["uar_ci"]
    assert f"[{low:.3f}, {high:.3f}]" in (archive.parent / "crossval.md").read_text(encoding="utf-8")


COMPARISONS = sorted(RESULTS.glob("*/peers.tar.xz"))


@pytest.mark.parametrize("archive", COMPARISONS, ids=[a.parent.name for a in COMPARISONS])
def test_stored_predictions_of_every_network_give_the_reported_recall(archive):
    report = json.loads((archive.parent / "table.json").read_text(encoding="utf-8"))
    found = rows_of_variants(archive, report)
    text = (archive.parent / "table.md").read_text(encoding="utf-8")
    for network, row in report["networks"].items():
        for seed, uar in row["by_seed"].items():
            assert recall(found[network, seed]) == pytest.approx(uar, abs=1e-9)
        assert np.mean(list(row["by_seed"].values())) == pytest.approx(row["uar"], abs=1e-9)
        assert f"| {row['parameters']:,} | {row['uar']:.3f} |" in text


CALIBRATED = [  # without validation speakers there are no temperatures
    a
    for a in ARCHIVES
    if re.search(r'"temperatures": \[\s*\d', (a.parent / "crossval.json").read_text("utf-8"))
]


@pytest.mark.parametrize("archive", CALIBRATED, ids=[a.parent.name for a in CALIBRATED])
def test_stored_predictions_give_the_reported_calibration(archive):
    report = json.loads((archive.parent / "crossval.json").read_text(encoding="utf-8"))
    tables, classes = stored_tables(archive), report["classes"]
    raw, own, right = [], [], []
    pairs = [(run["fold"], run["seed"]) for run in report["runs"]]
    for pair, temperature in zip(pairs, report["calibration"]["temperatures"], strict=True):
        for row in tables[pair]:
            p = np.array([float(row[f"p_{name}"]) for name in classes])
            q = np.maximum(p, 1e-12) ** (1 / temperature)
            raw.append(p.max())
            own.append(q.max() / q.sum())
            right.append(classes[int(p.argmax())] == row["truth"])
    for name, confidence in (("raw", raw), ("tempered", own)):
        bins = np.ceil(np.array(confidence) * 15).clip(1, 15)
        gaps = [abs(np.sum((np.array(right, float) - confidence)[bins == b])) for b in range(1, 16)]
        assert sum(gaps) / len(right) == pytest.approx(report["calibration"][name]["ece"], abs=1e-6)


EMOTIONAL = sorted(RESULTS.glob("emotional-av-*/predictions.tar.xz"))


@pytest.mark.parametrize("archive", EMOTIONAL, ids=[a.parent.name for a in EMOTIONAL])
def test_stored_predictions_of_emotional_clips_give_the_reported_recalls_and_gaps(archive):
    report = json.loads((archive.parent / "table.json").read_text(encoding="utf-8"))
    of = rows_of_variants(archive, report)
    found = {
        (variant.replace("_by_speaker", " by speaker"), seed): rows for (variant, seed), rows in of.items()
    }
    seeds = report["seeds"].split(",")
    uar = {v: np.mean([recall(found[v, s]) for s in seeds]) for v in {variant for variant, _ in found}}
    text = (archive.parent / "table.md").read_text(encoding="utf-8")
    for variant, value in uar.items():
        assert report[variant]["uar"] == pytest.approx(value, abs=1e-4)
        assert f"| {variant} | {value:.3f} |" in text
        for speaker, own in report[variant]["by_speaker"].items():
            by_seed = [recall([r for r in found[variant, s] if r["speaker"] == speaker]) for s in seeds]
            assert own == pytest.approx(np.mean(by_seed), abs=1e-4)
    for name, entry in report.items():
        if isinstance(entry, dict) and "gap" in entry:
            one, other = name.split(" - ")
            assert entry["gap"] == pytest.approx(uar[one] - uar[other], abs=2e-4)


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ("emotional-av-2026-11-26", "emotional-av-scratch-2026-11-28", "encoders_minus_scratch"),
        ("emotional-av-2026-11-29", "emotional-av-2026-11-26", "all_minus_one_kept"),
        ("emotional-av-mix-2026-11-27", "emotional-av-2026-11-29", "mix_minus_all"),
        ("emotional-av-discriminant-2026-12-01", "emotional-av-2026-11-29", "discriminant_minus_trained"),
        ("emotional-av-start-2026-11-26", "emotional-av-2026-11-26", "start_minus_encoders"),
        ("emotional-av-mix-2026-11-27", "emotional-av-2026-11-26", "mix_minus_encoders"),
        ("emotional-av-mix-2026-11-27", "emotional-av-start-2026-11-26", "mix_minus_start"),
    ],
)
def test_stored_predictions_give_the_reported_differences_between_recipes(one, other, key):
    found, reports = {}, {}
    for name in (one, other):
        reports[name] = json.loads((RESULTS / name / "table.json").read_text(encoding="utf-8"))
        found[name] = rows_of_variants(RESULTS / name / "predictions.tar.xz", reports[name])
    of = next(name for name in (one, other) if key in reports[name])
    assert reports[of][key]
    for variant, entry in reports[of][key].items():
        folder = variant.replace(" ", "_")
        seeds = reports[of]["seeds"].split(",")
        gaps = [recall(found[one][folder, seed]) - recall(found[other][folder, seed]) for seed in seeds]
        assert entry["gap"] == pytest.approx(np.mean(gaps), abs=1e-4)


NOISE = {"noise=20", "noise=10", "noise=0"}


@pytest.mark.parametrize(
    ("name", "clips", "corruptions"),
    [
        ("ravdess-noise-2026-11-27", 1440, NOISE),
        ("emotional-corrupted-2026-11-28", 144, NOISE | {"blur=2", "occlude=0.3", "compress=40"}),
    ],
)
def test_stored_predictions_of_corrupted_clips_give_the_reported_recalls(name, clips, corruptions):
    report = json.loads((RESULTS / name / "table.json").read_text(encoding="utf-8"))
    found = defaultdict(list)
    with tarfile.open(RESULTS / name / "predictions.tar.xz") as tar:
        for entry in tar:
            rows = io.TextIOWrapper(tar.extractfile(entry), encoding="utf-8", newline="")
            found[entry.name.split("/")[0]] += csv.DictReader(rows)
    assert set(found) == {"clean"} | corruptions
    clean = {row["clip"]: row["truth"] for row in found["clean"]}
    for corruption, rows in found.items():
        assert {row["clip"]: row["truth"] for row in rows} == clean and len(rows) == clips
        assert report[corruption]["uar"] == pytest.approx(recall(rows), abs=1e-4)
        expected = recall_interval([(row["speaker"], row["truth"], row["predicted"]) for row in rows])
        assert report[corruption]["ci"] == pytest.approx(expected, abs=1e-4)
        if corruption != "clean":
            gap = recall(rows) - recall(found["clean"])
            assert report[f"{corruption} - clean"]["gap"] == pytest.approx(gap, abs=1e-4)


@pytest.mark.parametrize(
    ("network", "name"), [("encoders", "predictions.csv"), ("scratch", "predictions-scratch.csv")]
)
def test_stored_predictions_on_urdu_give_the_reported_recall(network, name):
    folder = RESULTS / "urdu-2026-11-26"
    report = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    with tarfile.open(folder / "predictions.tar.xz") as tar:
        stream = tar.extractfile(name)
        assert stream is not None
        rows = list(csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline="")))
    stored = report[network]
    assert len(rows) == report["clips"] and len({r["speaker"] for r in rows}) == report["speakers"]
    assert recall(rows) == pytest.approx(stored["all_classes"]["uar"], abs=1e-6)
    for row in rows:
        row["predicted"] = max(report["common_classes"], key=lambda name, r=row: float(r[f"p_{name}"]))
    assert recall(rows) == pytest.approx(stored["uar"], abs=1e-6)
    assert f"| {stored['uar']:.3f} |" in (folder / "table.md").read_text(encoding="utf-8")
    gap = report["encoders"]["uar"] - report["scratch"]["uar"]
    assert report["encoders_minus_scratch"]["gap"] == pytest.approx(gap, abs=1e-4)


def broken_tables(text: str) -> list[str]:
    """Lines of Markdown that a reader sees in the table above them although they are not part of it."""
    broken = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("|"):
            rule = r"\|(\s*:?-+:?\s*\|)+"
            broken += [line for line in lines[2:] if not line.startswith("|") or re.fullmatch(rule, line)]
    return broken


def test_stored_predictions_of_halves_give_the_reported_accuracies():
    """A jackknife over speakers, with seeds as the second factor, of each variant and of their difference."""
    folder = RESULTS / "halves-2026-11-28"
    report = json.loads((folder / "halves.json").read_text())
    text = lzma.decompress((folder / "predictions.csv.xz").read_bytes()).decode()
    right: dict[str, dict[tuple[int, str], list[float]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        both = (float(row["p_swapped_in_order"]) < 0.5) + (float(row["p_swapped_when_swapped"]) >= 0.5)
        place = int(row["seed"]), row["speaker"]
        right.setdefault(row["variant"], {}).setdefault(place, []).append(both / 2)
    full, without = right["full"], right["no_conformer"]
    right["full - no_conformer"] = {
        place: [a - b for a, b in zip(full[place], without[place], strict=True)] for place in full
    }
    for variant, values in right.items():
        people = sorted({name for _, name in values})
        pseudo = []
        for seed in report["seeds"]:
            sums = {name: sum(values[seed, name]) for name in people}
            counts = {name: len(values[seed, name]) for name in people}
            total, n = sum(sums.values()), sum(counts.values())
            assert n == report["recordings"]
            others = [(total - sums[name]) / (n - counts[name]) for name in people]
            pseudo.append([len(people) * total / n - (len(people) - 1) * other for other in others])
        mean, half = _two_way_interval(np.array(pseudo), report["recordings"])
        assert mean == pytest.approx(report[variant]["accuracy"], abs=1e-4)
        assert report[variant]["ci"] == pytest.approx([mean - half, mean + half], abs=1.5e-4)


def _two_way_interval(pseudo: np.ndarray, clips: int) -> tuple[float, float]:
    """The mean of a table [seeds, speakers] and half its 95 % t interval, by a two-way analysis."""
    s, p = pseudo.shape
    rows, columns = p * pseudo.mean(axis=1).var(ddof=1), s * pseudo.mean(axis=0).var(ddof=1)
    total = ((pseudo - pseudo.mean()) ** 2).sum()
    rest = (total - (s - 1) * rows - (p - 1) * columns) / ((s - 1) * (p - 1))
    squares = rows + columns - rest if min(rows, columns) > rest else max(rows, columns)
    spread = rows**2 / (s - 1) + columns**2 / (p - 1)
    freedom = max(1.0, min(squares**2 / spread, s * p - 1)) if spread else p - 1
    # Where no speaker differs, Bonett and Price (2012) add one clip to each side.
    variance = max(squares / (s * p), 2 / (clips + 2) ** 2)
    return float(pseudo.mean()), float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))


def test_no_table_of_a_stored_page_runs_into_what_follows():
    """Two tables of weights of layers and a picture were one table."""
    pages = {path: broken_tables(path.read_text(encoding="utf-8")) for path in RESULTS.rglob("*.md")}
    assert len(pages) > 10 and {path: lines for path, lines in pages.items() if lines} == {}


def test_the_page_of_a_cross_validation_keeps_its_tables_apart():
    report = json.loads((RESULTS / "calibration-2026-11-26/crossval.json").read_text(encoding="utf-8"))
    page = markdown(report)
    assert len(report["layers"]) == 2 and broken_tables(page) == []


# Commits that were rebased before they were merged; the tables of these results say what has replaced them.
REBASED = {"56d9851d421ad1ae1fcf6b083e8b7e93c72364c3", "207b01f7a620b03921993b9e6873f4e1e697f988"}


def test_the_revisions_of_stored_results_are_in_the_repository():
    """Who wants to repeat a result checks out its revision."""
    if not (RESULTS.parents[1] / ".git").exists():
        pytest.skip("no git checkout")
    git = ["git", "-C", str(RESULTS)]
    asked = [*git, "rev-parse", "--is-shallow-repository"]
    if subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "true":
        pytest.skip("a shallow clone has no history")
    files = [path for path in RESULTS.rglob("*") if path.suffix in {".json", ".md"}]
    named = {
        revision
        for path in files
        for revision in re.findall(
            r"(?i)revisions?\W{1,8}([0-9a-f]{7,40})\b", path.read_text(encoding="utf-8")
        )
    }
    assert len(named) > 20
    lines = "".join(f"{revision}^{{commit}}\n" for revision in sorted(named))
    found = subprocess.run([*git, "cat-file", "--batch-check"], input=lines, capture_output=True, text=True)
    missing = {line.split("^")[0] for line in found.stdout.splitlines() if line.endswith("missing")}
    assert missing == REBASED
