"""What docs/science.md cites from others, and what it says about results that are not stored."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

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
    earlier = [s for s in sentences if re.search(r"\b[Aa]n earlier (table|result|run)\b", s)]
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
