"""Rows of a comparison, and their forms: text for the terminal, CSV, and LaTeX for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deiii.data.tools.text.columns import padded, width_of
from deiii.data.tools.text.csv_text import csv_text
from deiii.data.tools.text.figure_text import bracketed, number, p_value
from deiii.model.metrics import figure_names

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # other signs in LaTeX's default font
    **{character: rf"\{character}" for character in "&%$#_{}"},
}  # fmt: skip
HEAD = r"Figure & Run & Value [95\,\% interval] & Difference [95\,\% interval] & $p$ \\"


@dataclass(frozen=True)
class Row:
    """One figure of one run.

    Attributes:
        run: the run's name.
        figure: the figure's key, as in ``metrics.json``.
        value, interval: the figure and its 95 % interval; ``None`` where undefined.
        difference, paired: the difference from the first run and its 95 % interval; ``None`` for the first.
        p: two-sided p-value of no difference, corrected for the number of comparisons with the first run.
    """

    run: str
    figure: str
    value: float | None
    interval: list[float] | None
    difference: float | None = None
    paired: list[float] | None = None
    p: float | None = None


def as_text(rows: Sequence[Row]) -> str:
    """Return the rows as lines for the terminal."""
    labels = figure_names({r.figure: r.value for r in rows})
    figures = width_of(labels.values(), least=14)
    runs = width_of(r.run for r in rows)
    lines = [
        f"{padded('figure', figures)} {padded('run', runs)}  value  95 % interval     difference  "
        "95 % interval, paired  p"
    ]
    for r in rows:
        value = f"{number(r.value):>5s}"
        interval = bracketed(r.interval, "–")
        paired = f"{bracketed(r.paired, '–', '+'):21s}  {p_value(r.p)}"
        difference = "" if r.difference is None else f"{number(r.difference, '+'):>10s}  {paired}"
        name = f"{padded(labels[r.figure], figures)} {padded(r.run, runs)}"
        lines.append(f"{name}  {value}  {interval:16s}  {difference}".rstrip())
    return "\n".join(lines)


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as a CSV file, with six decimals; p-values have six significant digits."""
    table = [["figure", "run", "value", "low", "high", "difference", "paired_low", "paired_high", "p"]]
    for r in rows:
        cells = [r.value, *(r.interval or (None, None)), r.difference, *(r.paired or (None, None))]
        figures = ["" if c is None else f"{c:.6f}" for c in cells]
        table.append([r.figure, r.run, *figures, "" if r.p is None else f"{r.p:.6g}"])
    return csv_text(table)


def as_latex(rows: Sequence[Row], note: str) -> str:
    r"""Return the rows of a comparison as a LaTeX table (package booktabs) for a paper.

    Args:
        rows: the rows, all runs of the first figure first.
        note: a sentence on the clips and the intervals; it becomes a comment above the table.

    >>> print(as_latex([Row("runs/a_b", "uar", 0.55, None, 0.05, [-0.02, 0.12], 0.14)], "4 clips"), end="")
    % 4 clips
    \begin{tabular}{llllr}
    \toprule
    Figure & Run & Value [95\,\% interval] & Difference [95\,\% interval] & $p$ \\
    \midrule
    UAR & runs/a\_b & 0.550 & $+0.050$ [$-0.020$, $+0.120$] & 0.140 \\
    \bottomrule
    \end{tabular}
    """
    names = figure_names({row.figure: row.value for row in rows})
    lines = [f"% {line}" for line in note.splitlines()]
    lines += [r"\begin{tabular}{llllr}", r"\toprule", HEAD, r"\midrule"]
    for place, row in enumerate(rows):
        if place and row.figure != rows[place - 1].figure:
            lines.append(r"\midrule")
        cells = [
            escaped(names[row.figure]),
            escaped(row.run),
            _cell(row.value, row.interval),
            _cell(row.difference, row.paired, signed=True),
            _p(row.p),
        ]
        lines.append(" & ".join(cells).rstrip() + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    r"""Return a text with LaTeX's special characters escaped; two hyphens stay hyphens.

    >>> print(escaped("50 % of a_b--c <d>"))
    50 \% of a\_b-{}-c \textless{}d\textgreater{}
    """
    escapes = "".join(SPECIAL.get(character, character) for character in text)
    return re.sub("-(?=-)", "-{}", escapes)


def _cell(value: float | None, interval: Sequence[float] | None, signed: bool = False) -> str:
    if value is None:
        return ""
    sign = "+" if signed else ""
    value_text, *limits = (_in_math(number(v, sign), signed) for v in (value, *(interval or ())))
    return f"{value_text} [{', '.join(limits)}]" if limits else value_text


def _p(p: float | None) -> str:
    text = p_value(p).replace(" ", "")
    return _in_math(text, text.startswith(("<", ">")))


def _in_math(text: str, wanted: bool) -> str:
    return f"${text}$" if wanted else text
