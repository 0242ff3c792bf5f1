"""What docs/science.md cites from others, and what it says about results that are not stored."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from deiii.model.intervals import estimate, unequal_counts
from tests.helpers.science_pages import science_text

RESULTS = Path(__file__).parents[1] / "docs" / "results"
TEXT = science_text()

# UAR and WAR in per cent, read off figs/CEA-DEA.jpg of github.com/XuecWu/AVF-MAE.
CITED = {
    ("RAVDESS, 8", "HuBERT-base"): (74.15, 74.37),
    ("RAVDESS, 8", "WavLM-Base+"): (75.28, 75.36),
    ("RAVDESS, 8", "SVFAP"): (75.15, 75.01),
    ("RAVDESS, 8", "MAE-DFER"): (75.91, 75.56),
    ("RAVDESS, 8", "HiCMAE"): (87.96, 87.99),
    ("RAVDESS, 8", "AVF-MAE++"): (87.44, 87.57),
    ("CREMA-D, 6", "HuBERT-base"): (72.72, 72.57),
    ("CREMA-D, 6", "WavLM-Base+"): (73.34, 73.39),
    ("CREMA-D, 6", "SVFAP"): (77.31, 77.37),
    ("CREMA-D, 6", "MAE-DFER"): (77.33, 77.38),
    ("CREMA-D, 6", "HiCMAE"): (84.91, 84.89),
    ("CREMA-D, 6", "AVF-MAE++"): (86.02, 85.95),
    ("MSP-IMPROV", "HiCMAE"): (65.78, 74.95),
    ("MSP-IMPROV", "AVF-MAE++"): (70.05, 76.07),
}


def test_cited_figures_are_those_of_their_source():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if "| [1] |" in line
    ]
    found = {(row[0], row[2].split(" (")[0]): (row[6], row[7]) for row in rows}
    assert len(rows) == len(CITED) and found.keys() == CITED.keys()
    for key, figures in CITED.items():
        for text, percent in zip(found[key], figures, strict=True):
            assert re.fullmatch(r"0\.\d{3}", text)
            assert float(text) == pytest.approx(percent / 100, abs=5.01e-4), key
    assert all("test" in row[5] for row in rows)  # where the epoch was chosen


def test_results_with_bootstrap_intervals_are_named():
    """The page also named tables that had been replaced by tables with t intervals."""
    (item,) = re.findall(r"^- \*\*[^*]*bootstrap intervals\*\*.*?(?=^- )", TEXT, re.MULTILINE | re.DOTALL)
    files = [p for p in RESULTS.glob("*/*") if p.suffix in (".json", ".md")]
    holding = {str(p.relative_to(RESULTS)) for p in files if "bootstrap" in p.read_text(encoding="utf-8")}
    assert set(re.findall(r"\]\(results/(\S+?)\)", item)) == holding


def test_earlier_results_without_a_file_have_no_figures():
    """Figures of tables that were replaced had stayed, and no file in the repository has them."""
    sentences = re.split(r"(?<=[.:;])\s+", " ".join(TEXT.split()))
    named = r"\b[Aa]n earlier (table|result|run)\b|scored before,? at revision"
    earlier = [s for s in sentences if re.search(named, s)]
    assert len(earlier) >= 3
    for sentence in earlier:
        assert "](results/" in sentence or not re.search(r"\d\.\d", sentence), sentence


def test_the_coverage_of_intervals_is_that_of_the_stored_simulation():
    file = RESULTS.parents[1] / "benchmarks/results/interval_coverage-2026-11-30.txt"
    result = json.loads(file.read_text(encoding="utf-8").splitlines()[-1].removeprefix("RESULT "))
    low, high = result["2_seeds_that_differ"]
    least = [result[f"{seeds}_seeds"]["least"] for seeds in (3, 5)]
    text = " ".join(TEXT.split())
    assert f"in {100 * low:.0f} to {100 * high:.0f} % of the rounds" in text
    assert (
        f"three seeds in {100 * least[0]:.0f} % or more, and with five in {100 * least[1]:.0f} % or more"
        in text
    )


def test_the_stored_audit_found_the_known_leaks_and_raised_no_alarm():
    file = RESULTS.parents[1] / "benchmarks/results/audit-2026-11-30.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    result = json.loads(lines[-1].removeprefix("RESULT "))
    assert (result["found"], result["known"], result["false_alarms"]) == (5, 5, 0)
    assert "the five known leaks are found" in " ".join(TEXT.split())
    shared = next(line for line in lines if "91 of 91 speakers" in line)
    assert shared.strip().startswith("LEAK:")


def test_the_results_in_the_readme_are_those_of_the_science_page():
    root = Path(__file__).parents[1]
    readme, science = ((root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/science.md"))
    section = readme.partition("## Results\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 4
    cells = {
        cell.strip(" *") for line in science.splitlines() if line.startswith("|") for cell in line.split("|")
    }
    notes = science.partition("- [1] ")[2]
    for row in rows:
        uar, interval = (cell.strip() for cell in row[-3:-1])
        assert uar in cells and interval in notes, row
    assert {number for number in re.findall(r"0\.\d{3}", section.rpartition("|")[2])} <= cells


def note(letter):
    """The note on the rows of our own with this letter."""
    return re.findall(rf"^- \[{letter}\] .*?(?=^- )", TEXT, re.MULTILINE | re.DOTALL)[0]


def test_the_readme_names_the_kind_of_each_interval():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    about = " ".join(readme.partition("## Results\n")[2].partition("| recordings")[0].split())
    assert about.endswith("95 % interval over speakers and seeds, in the second row over speakers alone:")
    for letter, over_seeds in (("o", True), ("c", False), ("m", True), ("k", True)):
        (folder,) = set(re.findall(r"\]\(results/([^/)]+)/(?:crossval|table)\.md\)", note(letter))[:1])
        (file,) = [p for n in ("crossval.json", "table.json") if (p := RESULTS / folder / n).exists()]
        assert ("seeds" in json.loads(file.read_text(encoding="utf-8"))["interval"]) == over_seeds, letter
    assert "95 % interval over speakers, without the spread over seeds" in " ".join(note("c").split())


def stored_rows(archive):
    """Rows of an archive of predictions, by file."""
    with tarfile.open(archive) as tar:
        files = {e.name: tar.extractfile(e) for e in tar.getmembers() if e.name.endswith(".csv")}
        return {
            name: list(csv.DictReader(io.TextIOWrapper(content, encoding="utf-8", newline="")))
            for name, content in files.items()
        }


def test_intervals_of_urdu_may_be_too_narrow_because_of_unequal_counts():
    rows = stored_rows(RESULTS / "urdu-2026-11-26/predictions.tar.xz")["predictions.csv"]
    counts = Counter(row["speaker"] for row in rows)
    assert unequal_counts(list(counts.values())) and max(counts.values()) == 80
    assert "(one has 80), so the intervals of these rows may be too narrow" in " ".join(note("i").split())


def test_the_tables_of_two_seeds_that_do_not_say_so_are_named():
    (item,) = re.findall(r"^- \*\*Two seeds are few.*?(?=^- )", TEXT, re.MULTILINE | re.DOTALL)
    silent = set()
    for path in RESULTS.glob("*/*.json"):
        tree = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(tree, dict) and len(tree.get("seeds") or ()) == 2 and "interval" in tree:
            page = path.with_suffix(".md")
            silent |= {str(page.relative_to(RESULTS))} - (
                {str(page.relative_to(RESULTS))}
                if "too narrow" in page.read_text(encoding="utf-8")
                else set()
            )
    assert silent == set(re.findall(r"\]\(results/(\S+?)\)", item))


def test_the_table_without_wilsons_form_is_named():
    """The UAR intervals of the other tables of emotional clips follow from their predictions."""
    other, wilson = set(), {}
    for archive in sorted(RESULTS.glob("emotional-av-*/predictions.tar.xz")):
        report = json.loads((archive.parent / "table.json").read_text(encoding="utf-8"))
        hits = defaultdict(lambda: defaultdict(dict))
        for name, rows in stored_rows(archive).items():
            variant, run = name.split("/")
            own = hits[variant.replace("_", " ")][run.partition("-seed")[2]]
            own |= {(r["speaker"], r["clip"]): (r["truth"], r["truth"] == r["predicted"]) for r in rows}
        for variant, seeds in hits.items():
            keys = sorted(next(iter(seeds.values())))
            truth = np.array([next(iter(seeds.values()))[key][0] for key in keys])
            right = np.array([[own[key][1] for key in keys] for own in seeds.values()])

            def recalls(rows, truth=truth, right=right):
                each = [right[:, rows[truth[rows] == c]].mean(axis=1) for c in np.unique(truth[rows])]
                return np.mean(each, axis=0).tolist()

            found = estimate([speaker for speaker, _ in keys], recalls, (0.0, 1.0))
            if report[variant]["ci"] != pytest.approx(found.interval, abs=2e-4):
                other.add(archive.parent.name)
                wilson[variant] = found.interval, report[variant]["ci"]
    (item,) = re.findall(r"^- \*\*One stored table has t .*?(?=^- )", TEXT, re.MULTILINE | re.DOTALL)
    assert other == {folder for folder in re.findall(r"results/([^/)]+)/table\.md", item)}
    low, high = ("{:.3f} to {:.3f}".format(*ends) for ends in wilson["video by speaker"])
    assert f"by speaker {low} instead of {high}" in item
    for variant, (ends, stored) in wilson.items():
        assert variant.startswith("video") or ends == pytest.approx(stored, abs=0.03)


def test_what_is_said_of_all_comparisons_of_networks_follows_from_their_tables():
    worse = defaultdict(set)
    for path in RESULTS.glob("peers-*/table.json"):
        tree = json.loads(path.read_text(encoding="utf-8"))
        for name, row in tree["networks"].items():
            if row.get("p_holm", 1) < 0.05:
                assert row["gap"] < 0
                worse[tree["corpus"]].add(re.sub("-(matched|alone)", "", name))
    assert worse == {"synthetic-order": {"attention", "vavl-batch-axis"}}
    text = " ".join(TEXT.split())
    assert "In no comparison of networks on real recordings ([peers](peers.md)) is a difference" in text
    assert "two networks are significantly worse than DE-III on one task, and no other difference" in text


def test_the_weights_of_the_layers_are_those_of_the_report():
    report = json.loads((RESULTS / "ravdess-speech-hidden-2026-11-28/crossval.json").read_text("utf-8"))
    weights = {
        stage: [f"{layer['mean']:.2f}" for layer in layers.values()]
        for stage, layers in report["layers"].items()
    }
    common, last = weights["speech"][0], weights["speech"][-1]
    assert all(abs(float(w) - float(common)) < 0.011 for w in weights["speech"][:-1])
    one, two, three = weights["speech2"]
    assert f"({common}, but {last} for the last one), those of Resemblyzer {one}, {two} and {three}" in (
        " ".join(TEXT.split())
    )
