"""Several evaluated runs side by side, on the test clips that all of them scored.

>>> print(compare(["runs/a", "runs/b"], "runs/compare"))           # doctest: +SKIP

Differences are paired: in every round of the bootstrap the same speakers are drawn for both runs, so what
makes a speaker hard for both does not widen the interval (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from deiii.data.tools.atomic_files import write_text
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, save_png
from deiii.model.metrics import bootstrap, ccc, figure_names, matrix_figures
from deiii.model.training.run_folder import RunError, RunFolder

Value = Callable[[np.ndarray], float | None]  # rows to a figure

NARROWEST = 0.2  # of an axis: matplotlib would spread a difference of nothing over all of it


@dataclass
class Scored:
    """A run's predictions on its test clips, one row each."""

    name: str
    clips: list[str]
    speakers: list[str]
    classes: list[str]
    truth: list[str]
    predicted: list[str]
    attributes: dict[str, np.ndarray]  # by name, float64 [N,2]: truth and prediction

    @classmethod
    def read(cls, path: str | Path) -> Scored:
        """From the run's ``predictions.csv``. Raises RunError where it was not evaluated."""
        run = RunFolder(path)
        info = run.read_info()
        if not run.predictions.is_file():
            raise RunError(f"{run.path} has not been evaluated; run `make evaluate RUN={run.path}` first")
        with open(run.predictions, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        number = lambda text: float(text) if text else np.nan
        column = lambda name: [row[name] for row in rows]
        attributes = {
            a: np.array([[number(r[f"{a}_truth"]), number(r[f"{a}_predicted"])] for r in rows]).reshape(-1, 2)
            for a in info["attributes"]
        }
        classes = info["classes"]
        truth, predicted = (column("truth"), column("predicted")) if classes else ([], [])
        return cls(str(path), column("clip"), column("speaker"), classes, truth, predicted, attributes)

    def only(self, clips: Sequence[str]) -> Scored:
        """These clips, in this order."""
        place = {clip: row for row, clip in enumerate(self.clips)}
        rows = [place[c] for c in clips]
        pick = lambda values: [values[r] for r in rows] if values else []
        return Scored(
            self.name, list(clips), pick(self.speakers), self.classes, pick(self.truth), pick(self.predicted),
            {name: values[rows] for name, values in self.attributes.items()},
        )  # fmt: skip

    def values(self) -> dict[str, Value]:
        """Each figure as a function of rows."""
        found: dict[str, Value] = {}
        if self.classes:
            number = {c: i for i, c in enumerate(self.classes)}
            truth = np.array([number.get(t, -1) for t in self.truth])
            guess = np.array([number[p] for p in self.predicted])
            n = len(self.classes)

            def figure(rows: np.ndarray, name: str) -> float | None:
                rows = rows[truth[rows] >= 0]
                if not len(rows):
                    return None
                pairs = np.bincount(truth[rows] * n + guess[rows], minlength=n * n).reshape(n, n)
                return matrix_figures(pairs)[name]

            for name in ("uar", "war", "macro_f1"):
                found[name] = lambda rows, name=name: figure(rows, name)
        for name, both in self.attributes.items():
            found[f"ccc_{name}"] = lambda rows, both=both: ccc(both[rows, 0], both[rows, 1])
        return found


@dataclass
class Row:
    """One run's figure: value and difference from the first run, each with its interval."""

    run: str
    figure: str
    value: float | None
    interval: list[float] | None
    difference: float | None = None
    paired: list[float] | None = None


def compare(runs: Sequence[str | Path], out: str | Path) -> str:
    """Write ``compare.csv`` and ``compare.png`` into ``out``; returns the table as text.

    Raises:
        RunError: fewer than two runs, one that was not evaluated, no test clip or figure in common, or
            clips whose labels differ.
    """
    if len(runs) < 2:
        raise RunError("name at least two runs to compare, e.g. runs/a runs/b")
    scored = [Scored.read(run) for run in runs]
    rows, note = tabulate(scored)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "compare.csv", _csv(rows))
    save_png(draw(rows), out / "compare.png")
    return f"{_text(rows)}\n{note}\ntable: {out / 'compare.csv'}; figure: {out / 'compare.png'}"


def tabulate(scored: Sequence[Scored]) -> tuple[list[Row], str]:
    """Rows by figure and run, over the clips in common, and a sentence on what they were."""
    first = scored[0]
    shared = set(first.clips).intersection(*(s.clips for s in scored[1:]))
    clips = [c for c in first.clips if c in shared]
    if not clips:
        raise RunError(f"{', '.join(s.name for s in scored)} have no test clip in common")
    same = [s.only(clips) for s in scored]
    for other in same[1:]:
        if other.classes and same[0].classes and other.truth != same[0].truth:
            clip = next(c for c, a, b in zip(clips, other.truth, same[0].truth, strict=True) if a != b)
            raise RunError(f"{other.name} and {first.name} have different labels for {clip}")
    every = np.arange(len(clips))
    values = [s.values() for s in same]
    names = [n for n in values[0] if all(n in v for v in values)]
    if not names:
        raise RunError("the runs predict different things: no figure in common")
    rows = []
    for name in names:
        base = values[0][name]
        for s, v in zip(same, values, strict=True):
            mine = v[name]
            row = Row(s.name, name, mine(every), bootstrap(s.speakers, mine))
            if v is not values[0]:
                gap = lambda r, a=mine, b=base: None if (x := a(r)) is None or (y := b(r)) is None else x - y
                row.difference, row.paired = gap(every), bootstrap(s.speakers, gap)
            rows.append(row)
    speakers = len(set(same[0].speakers))
    left = {s.name: len(s.clips) - len(clips) for s in scored if len(s.clips) > len(clips)}
    note = f"{len(clips)} test clips of {speakers} speakers that all runs scored; intervals over speakers"
    if left:
        note += "; left out: " + ", ".join(f"{n} clips of {name}" for name, n in left.items())
    return rows, note


def draw(rows: Sequence[Row]) -> Figure:
    """Left each run's figure, right its difference from the first run, with intervals."""
    labels = figure_names({r.figure: r.value for r in rows})
    runs = list(dict.fromkeys(r.run for r in rows))
    height = 0.9 + 0.34 * len(runs) * len(labels) + 0.35 * len(labels)
    figure = Figure(figsize=(9, max(2.4, height)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    ticks, y = [], 0.0
    for name, label in labels.items():
        for row in (r for r in rows if r.figure == name):
            ticks.append((y, f"{Path(row.run).name}  {label}"))
            _point(left, y, row.value, row.interval, FIRST)
            _point(right, y, row.difference, row.paired, SECOND)
            y += 1
        y += 0.6
    right.axvline(0, color=INK, lw=0.8, ls=":")
    left.set_yticks([t for t, _ in ticks], [t for _, t in ticks], fontsize=9, color=INK)
    left.invert_yaxis()
    left.set_title("test speakers", fontsize=11, loc="left", color=INK)
    right.set_title(f"difference from {Path(runs[0]).name}", fontsize=11, loc="left", color=INK)
    for axes in (left, right):
        low, high = axes.get_xlim()
        if high - low < NARROWEST:
            axes.set_xlim((low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.tick_params(colors=INK, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(GRID)
    return figure


def _point(axes, y: float, value: float | None, interval: list[float] | None, colour: str) -> None:
    if value is None:
        return
    if interval:
        axes.plot(interval, [y, y], color=colour, lw=2, alpha=0.6, solid_capstyle="round")
    axes.plot([value], [y], "o", color=colour, ms=6)


def _text(rows: Sequence[Row]) -> str:
    labels = figure_names({r.figure: r.value for r in rows})
    width = max(len(r.run) for r in rows)
    lines = [f"{'figure':14s} {'run':{width}s}  value  95 % interval     difference  95 % interval, paired"]
    span = lambda ci, form: f"[{ci[0]:{form}}, {ci[1]:{form}}]" if ci else "–"
    for r in rows:
        value = "    –" if r.value is None else f"{r.value:5.3f}"
        gap = "" if r.difference is None else f"{r.difference:+10.3f}  {span(r.paired, '+.3f')}"
        lines.append(
            f"{labels[r.figure]:14s} {r.run:{width}s}  {value}  {span(r.interval, '.3f'):16s}  {gap}".rstrip()
        )
    return "\n".join(lines)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["figure", "run", "value", "low", "high", "difference", "paired_low", "paired_high"])
    for r in rows:
        cells = [r.value, *(r.interval or (None, None)), r.difference, *(r.paired or (None, None))]
        table.writerow([r.figure, r.run, *("" if c is None else f"{c:.6f}" for c in cells)])
    return text.getvalue()
