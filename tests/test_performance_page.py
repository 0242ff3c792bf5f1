"""The figures of docs/performance.md are those of the stored measurements that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
STORED = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks" / "results").glob("*.txt")
}
NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:,\d{3})*(?:\.\d+)?")
UNITS = (1, 100, 1000, 1e-3, 1 / 60)  # the page may write ratios as percent, and s as ms or minutes
# Numbers of such paragraphs that the named files do not hold.
OTHERS = {
    "settings and inputs": {"300000", "30000", "320", "112", "180"},
    "targets": {"20000", "1800"},
    "sums of two numbers of the named file": {"729", "471", "748", "10443"},
    "of gpu_check-2026-11-27.txt, which an earlier paragraph names": {
        "6460",
        "7.98",
        "1.86",
        "0.060",
        "0.063",
    },
    "counted by a command that the page gives": {"1716", "2153", "1730", "1756"},
}


def figures(text: str) -> list[str]:
    return [word.replace(",", "").lstrip("+-") for word in NUMBER.findall(text)]


def is_stored(figure: str, values: list[float]) -> bool:
    places = len(figure.partition(".")[2])
    near = 0.51 * 10**-places
    return any(abs(value * unit - float(figure)) <= near for value in values for unit in UNITS)


def paragraphs() -> dict[str, tuple[list[str], list[str]]]:
    """The stored files that a paragraph names, and the figures in it, by its first words."""
    found = {}
    for text in re.split(r"\n\s*\n", PAGE):
        names = sorted(name for name in STORED if name in text)
        plain = re.sub(r"`[^`]*`", "", text)
        of_size = [word for word in figures(plain) if "." in word or float(word) >= 100]
        if names:
            found[text[:40]] = names, of_size
    return found


PARAGRAPHS = paragraphs()


@pytest.mark.parametrize("begin", PARAGRAPHS)
def test_the_figures_beside_a_stored_file_are_in_it(begin):
    names, stated = PARAGRAPHS[begin]
    values = [float(word) for name in names for word in figures(STORED[name])]
    known = set().union(*OTHERS.values())
    missing = [figure for figure in stated if figure not in known and not is_stored(figure, values)]
    assert not missing, f"not in {names}: {missing}"


def test_most_figures_of_the_page_are_compared_and_a_wrong_digit_is_seen():
    known = set().union(*OTHERS.values())
    compared = seen = 0
    for names, stated in PARAGRAPHS.values():
        values = [float(word) for name in names for word in figures(STORED[name])]
        for figure in stated:
            if figure in known:
                continue
            places = len(figure.partition(".")[2])
            compared += 1
            seen += not is_stored(f"{float(figure) + 5 * 10**-places:.{places}f}", values)
    assert compared >= 90 and seen >= 0.7 * compared
