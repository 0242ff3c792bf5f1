"""Compare several evaluated runs on the test clips that all of them scored.

>>> print(compare(["runs/a", "runs/b"], "runs/compare"))           # doctest: +SKIP

Differences are paired: the jackknife leaves the same speaker out of both runs, so what makes a speaker hard
for both does not widen the t interval (`deiii.model.intervals`). With more than two runs, the p-values of
each figure are corrected for the number of comparisons (Holm 1979).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deiii.data.tools.atomic_files import writable_folder, write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.pictures import figure_text
from deiii.model.evaluation.comparison_table import Row, as_csv, as_latex, as_text
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, save_png, show_spines
from deiii.model.evaluation.predictions import PredictionTable, read_predictions
from deiii.model.evaluation.results import speaker_doubts, unfinished_training
from deiii.model.evaluation.sections.ceiling import ceiling_lines
from deiii.model.intervals import (
    CCC_LIMITS,
    PAIRED_FORM,
    estimate,
    holm,
    interval_kind,
    no_intervals,
    speaker_interval,
)
from deiii.model.metrics import CLASS_FIGURES, ccc, figure_names, figure_of_rows
from deiii.model.training.origin import other_recordings
from deiii.model.training.run_folder import RunError, RunFolder

Figures = dict[str, Callable[[np.ndarray], float | None]]  # name of a figure: a function of row numbers

NARROWEST = 0.2  # shortest range of an axis; matplotlib would choose a tiny range for differences near zero


@dataclass(frozen=True)
class EvaluatedRun:
    """A run with its predictions for the test clips.

    Attributes:
        name: the path of the run folder, as it was given.
        classes: class names, in the order that training numbered them.
        table: the predictions.
        unfinished: a sentence on a run that was scored before the end of its training, else empty.
        leaks: a sentence on a run whose test speakers may have been in training, else empty.
        ceilings: a line for each score of human raters on its test clips.
    """

    name: str
    classes: tuple[str, ...]
    table: PredictionTable
    unfinished: str = ""
    leaks: str = ""
    ceilings: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> EvaluatedRun:
        """Read a run folder.

        Raises:
            RunError: the folder holds no run, or one that was not evaluated.
        """
        run = RunFolder(path)
        classes = tuple(run.read_info(whole=True)["classes"])
        metrics = run.read_metrics()
        table = read_predictions(run.predictions, metrics)
        doubts = speaker_doubts(metrics)
        leaks = f"{doubts}, so its figures may be too high" if doubts else ""
        ceilings = tuple(ceiling_lines(metrics.get("ceilings", {})))
        return cls(str(path), classes, table, unfinished_training(metrics), leaks, ceilings)

    def select(self, clips: Sequence[str]) -> EvaluatedRun:
        """Return the run with some of its clips, in the given order."""
        place = {clip: row for row, clip in enumerate(self.table.clips)}
        return replace(self, table=self.table.select([place[clip] for clip in clips]))

    def figures(self) -> Figures:
        """Return each figure as a function of row numbers."""
        found: Figures = {}
        if self.classes:
            truth, predicted = self.table.class_numbers(self.classes)
            for name in CLASS_FIGURES:
                found[name] = figure_of_rows(name, truth, predicted, len(self.classes))
        for name in self.table.attributes:
            found[f"ccc_{name}"] = _attribute_figure(*self.table.attribute_pair(name))
        return found


def _attribute_figure(truth: np.ndarray, predicted: np.ndarray) -> Callable[[np.ndarray], float | None]:
    def figure(rows: np.ndarray) -> float | None:
        return ccc(truth[rows], predicted[rows])

    return figure


def compare(runs: Sequence[str | Path], out: str | Path) -> str:
    """Write ``compare.csv``, ``.tex`` and ``.png`` into ``out``; returns the table as text.

    Raises:
        RunError: fewer than two runs, one that is named twice or was not evaluated, no test clip or figure in
            common, or clips whose labels or recordings differ.
    """
    for run in runs:
        RunFolder(run).read_info()
    check_names(runs)
    evaluated = [EvaluatedRun.read(run) for run in runs]
    for run in runs[1:]:
        check_recordings(runs[0], runs[0], run, run)
    folder = writable_folder(out)
    rows, note = tabulate(evaluated)
    return write_comparison(rows, note, folder)


def write_comparison(rows: Sequence[Row], note: str, folder: Path) -> str:
    """Write ``compare.csv``, ``.tex`` and ``.png`` into a folder; returns the table as text."""
    write_text(folder / "compare.csv", as_csv(rows))
    write_text(folder / "compare.tex", as_latex(rows, note))
    save_png(draw(rows), folder / "compare.png")
    files = f"table: {folder / 'compare.csv'}, {folder / 'compare.tex'}; figure: {folder / 'compare.png'}"
    return f"{as_text(rows)}\n{note}\n{files}"


def check_names(runs: Sequence[str | Path]) -> None:
    """Refuse what cannot be compared: fewer than two folders, or one that is named twice (RunError)."""
    seen: dict[str, str | Path] = {}
    for run in runs:
        real = os.path.realpath(run)
        if real in seen:
            raise RunError(f"{run} is named twice{'' if seen[real] == run else f', also as {seen[real]}'}; "
                           "name different runs")  # fmt: skip
        seen[real] = run
    if len(runs) < 2:
        raise RunError(
            f"only {', '.join(map(str, runs)) or 'no run'} is named; name two runs or more: "
            "deiii compare runs/a runs/b"
        )


def check_recordings(first: str | Path, run: str | Path, other: str | Path, second: str | Path) -> None:
    """Refuse runs on recordings of equal paths and other contents, as far as these were recorded.

    Args:
        first, other: names of what is compared, for the message.
        run, second: folders of their runs.

    Raises:
        RunError: names some of the recordings.
    """
    if found := other_recordings(RunFolder(run), RunFolder(second)):
        raise RunError(
            f"{first} and {other} are of different recordings: {len(found)} media files of the same path "
            f"differ ({', '.join(found[:3])}); compare runs of one corpus"
        )


def tabulate(runs: Sequence[EvaluatedRun]) -> tuple[list[Row], str]:
    """Return a row for each figure and run, over the clips in common, and a sentence on these clips.

    Raises:
        RunError: the runs have no clip or figure in common, or different labels for a clip.
    """
    clips = shared_clips(runs)
    same = [run.select(clips) for run in runs]
    check_labels(same)
    figures = [run.figures() for run in same]
    names = [name for name in figures[0] if all(name in found for found in figures)]
    if not names:
        raise RunError("the runs predict different things: they have no figure in common")
    rows = []
    for name in names:
        of_figure = [
            _row(run, name, found[name], None if n == 0 else figures[0][name])
            for n, (run, found) in enumerate(zip(same, figures, strict=True))
        ]
        rows += corrected(of_figure)
    note = _describe_clips(runs, same[0].table, any(row.interval for row in rows))
    if len(runs) > 2:
        note += f"; p corrected for {len(runs) - 1} comparisons (Holm)"
    return rows, note


def corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one figure with p-values corrected for their number (Holm)."""
    adjusted = iter(holm([row.p for row in rows if row.p is not None]))
    return [row if row.p is None else replace(row, p=next(adjusted)) for row in rows]


def shared_clips(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Return the clips that all runs scored, in the order of the first; RunError where there is none."""
    shared = set(runs[0].table.clips).intersection(*(run.table.clips for run in runs[1:]))
    if not shared:
        raise RunError(f"{', '.join(run.name for run in runs)} have no test clip in common")
    return [clip for clip in runs[0].table.clips if clip in shared]


def check_labels(runs: Sequence[EvaluatedRun]) -> None:
    """Raise RunError where two runs have different labels, or values of an attribute, for a clip."""
    first = runs[0]
    for other in runs[1:]:
        if first.classes and other.classes:
            pairs = zip(first.table.clips, first.table.truth, other.table.truth, strict=True)
            for clip, one, two in pairs:
                if one != two:
                    raise RunError(f"{other.name} and {first.name} have different labels for {clip}")
        for name in first.table.attributes:
            if name in other.table.attributes:
                one_N, two_N = (run.table.attribute_pair(name)[0] for run in (first, other))
                if len(odd := np.flatnonzero(~np.isclose(one_N, two_N, atol=1e-3, equal_nan=True))):
                    clip = first.table.clips[odd[0]]
                    raise RunError(
                        f"{other.name} and {first.name} have different values of {name} for {clip}; evaluate "
                        "runs of the same ratings"
                    )


def _row(
    run: EvaluatedRun,
    name: str,
    figure: Callable[[np.ndarray], float | None],
    first: Callable[[np.ndarray], float | None] | None,
) -> Row:
    every, speakers = np.arange(len(run.table)), run.table.speakers
    known = known_clips(run.table, name)
    limits = CCC_LIMITS if name.startswith("ccc_") else (0.0, 1.0)
    value, interval = figure(every), speaker_interval(speakers, figure, limits, known=known)
    if first is None:
        return Row(run.name, name, value, interval)

    def difference(rows: np.ndarray) -> list[float] | None:
        own, base = figure(rows), first(rows)
        return None if own is None or base is None else [own - base]

    found = estimate(speakers, difference, None, known=known)
    gap = difference(every)
    return Row(
        run.name, name, value, interval, gap[0] if gap else None,
        found.interval if found else None, found.p if found else None,
    )  # fmt: skip


def known_clips(table: PredictionTable, figure: str) -> np.ndarray:
    """Return the clips whose truth a figure can use, bool [N]."""
    if figure.startswith("ccc_"):
        truth, _ = table.attribute_pair(figure.removeprefix("ccc_"))
        return ~np.isnan(truth)
    return np.array([label != "" for label in table.truth], bool)


def _describe_clips(runs: Sequence[EvaluatedRun], shared: PredictionTable, with_intervals: bool) -> str:
    speakers = len(set(shared.speakers))
    clips, people = counted(len(shared), "test clip"), counted(speakers, "speaker")
    kind = interval_kind(1, list(shared.clips_of_speakers().values()))
    about = f"95 % {kind}, {PAIRED_FORM}" if with_intervals else no_intervals(speakers)
    note = f"{clips} of {people} that all runs scored; {about}"
    left_out = [(len(run.table) - len(shared), run.name) for run in runs if len(run.table) > len(shared)]
    if left_out:
        note += "; left out: " + ", ".join(f"{counted(n, 'clip')} of {name}" for n, name in left_out)
    about_runs = [f"{run.name}: {words}" for run in runs for words in (run.unfinished, run.leaks) if words]
    whole = all(run.ceilings == runs[0].ceilings for run in runs) and not left_out
    return "\n".join([note, *about_runs, *(runs[0].ceilings if whole else ())])


def draw(rows: Sequence[Row]) -> Figure:
    """Return a figure: each run's value (left), its difference from the first run (right), with intervals."""
    labels = figure_names({r.figure: r.value for r in rows})
    runs = list(dict.fromkeys(r.run for r in rows))
    height = 0.9 + 0.34 * len(runs) * len(labels) + 0.35 * len(labels)
    figure = Figure(figsize=(9, max(2.4, height)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for name, label in labels.items():
        for row in (r for r in rows if r.figure == name):
            ticks.append((y, f"{figure_text(Path(row.run).name)}  {label}"))
            _point(left, y, row.value, row.interval, FIRST)
            _point(right, y, row.difference, row.paired, SECOND)
            y += 1
        y += 0.6
    right.axvline(0, color=INK, lw=0.8, ls=":")
    left.set_yticks([t for t, _ in ticks], [t for _, t in ticks], fontsize=9, color=INK)
    left.invert_yaxis()
    left.set_title("test speakers", fontsize=11, loc="left", color=INK)
    right.set_title(f"difference from {figure_text(Path(runs[0]).name)}", fontsize=11, loc="left", color=INK)
    for axes in (left, right):
        low, high = axes.get_xlim()
        if high - low < NARROWEST:
            axes.set_xlim((low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2)
        axes.xaxis.set_major_locator(MaxNLocator(5))  # with more ticks, labels such as -0.025 would touch
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.tick_params(colors=INK, labelsize=9)
        show_spines(axes, "bottom")
    return figure


def _point(axes: Axes, y: float, value: float | None, interval: list[float] | None, colour: str) -> None:
    if value is None:
        return
    if interval:
        axes.plot(interval, [y, y], color=colour, lw=2, alpha=0.6, solid_capstyle="round")
    axes.plot([value], [y], "o", color=colour, ms=6)
