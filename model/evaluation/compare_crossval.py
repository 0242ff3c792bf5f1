"""Compare cross-validations with the same folds, paired over folds, seeds and speakers.

>>> print(compare_crossvals(["runs/cv-base", "runs/cv-changed"], "runs/compare"))     # doctest: +SKIP

For each seed the predictions of all folds are taken together, so every test speaker counts once. A difference
is taken within a seed; its t interval is over seeds and speakers (`deiii.model.intervals.estimate`), and the
jackknife leaves the same speaker out of all cross-validations. With more than two, the p-values of each
figure are corrected for the number of comparisons (Holm 1979).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.tools.atomic_files import writable_folder
from deiii.data.tools.counts import counted
from deiii.model.evaluation.compare import (
    EvaluatedRun,
    check_labels,
    check_names,
    check_recordings,
    corrected,
    known_clips,
    shared_clips,
    write_comparison,
)
from deiii.model.evaluation.comparison_table import Row
from deiii.model.evaluation.predictions import PredictionTable, read_predictions
from deiii.model.evaluation.results import speaker_doubts
from deiii.model.file_names import CROSSVAL
from deiii.model.intervals import CCC_LIMITS, PAIRED_FORM, estimate, interval_kind, no_intervals
from deiii.model.training.run_folder import RunError, RunFolder


@dataclass(frozen=True)
class CrossValidation:
    """A finished cross-validation with its predictions.

    Attributes:
        name: the path of its folder, as it was given.
        run: the folder of one of its runs.
        folds: names of the test and of the validation speakers, keyed by fold.
        seeds: predictions of all folds, joined as those of one run, keyed by seed.
        leaks: why test speakers may have been in training; empty if they were not.
    """

    name: str
    run: Path
    folds: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    seeds: Mapping[int, EvaluatedRun]
    leaks: str = ""

    @classmethod
    def read(cls, path: str | Path) -> CrossValidation:
        """Read the folder of a cross-validation.

        Raises:
            RunError: the folder holds none, a damaged one, or runs that were not evaluated or whose training
                went on after the evaluation.
        """
        folder = Path(path)
        try:
            report = json.loads((folder / CROSSVAL).read_text(encoding="utf-8"))
            folds = {f: (tuple(s["test"]), tuple(s["val"])) for f, s in report["splits"].items()}
            runs = [(r["fold"], r["seed"], folder / r["folder"]) for r in report["runs"]]
            classes = tuple(report["classes"])
        except FileNotFoundError:
            if not folder.exists():
                raise RunError(f"there is no folder {folder}; name finished cross-validations") from None
            raise RunError(
                f"{folder} is not a finished cross-validation; compare runs with runs, or cross-validations "
                "with cross-validations"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{folder} holds no cross-validation that can be read ({error}); `deiii crossval` writes one"
            ) from None
        seeds = {}
        for seed in sorted({seed for _, seed, _ in runs}):
            own = [(fold, _predictions(RunFolder(run))) for fold, s, run in runs if s == seed]
            seeds[seed] = EvaluatedRun(str(path), classes, _joined(sorted(own, key=lambda pair: pair[0])))
        return cls(str(path), runs[0][2], folds, seeds, speaker_doubts(report))


def is_crossval(path: str | Path) -> bool:
    """Return whether a folder holds a finished cross-validation."""
    return (Path(path) / CROSSVAL).is_file()


def compare_crossvals(names: Sequence[str | Path], out: str | Path) -> str:
    """Write ``compare.csv``, ``.tex`` and ``.png`` into ``out``; returns the table as text.

    Raises:
        RunError: fewer than two cross-validations, one that is named twice or is not finished, different
            folds, no seed, clip or figure in common, or different labels or recordings of a clip.
    """
    found = [CrossValidation.read(name) for name in names]
    check_names(names)
    for other in found[1:]:
        check_folds(found[0], other)
        check_recordings(found[0].name, found[0].run, other.name, other.run)
    folder = writable_folder(out)
    rows, note = tabulate(found)
    return write_comparison(rows, note, folder)


def check_folds(first: CrossValidation, other: CrossValidation) -> None:
    """Refuse cross-validations whose folds differ: the difference would be one of speakers, not of methods.

    Raises:
        RunError: names the fold and the speakers.
    """
    if first.folds.keys() != other.folds.keys():
        raise RunError(
            f"{other.name} has the folds {', '.join(other.folds)}, {first.name} {', '.join(first.folds)}; "
            "compare cross-validations of the same folds (deiii crossval --folds)"
        )
    for fold, parts in first.folds.items():
        for kind, mine, theirs in zip(
            ("test speakers", "validation speakers"), parts, other.folds[fold], strict=True
        ):
            if set(mine) != set(theirs):
                odd = sorted(set(mine) ^ set(theirs))
                raise RunError(
                    f"fold {fold} of {other.name} has other {kind} than that of {first.name} "
                    f"({', '.join(odd[:5])}); compare cross-validations of one protocol"
                )


def tabulate(found: Sequence[CrossValidation]) -> tuple[list[Row], str]:
    """Return a row for each figure and cross-validation, and a sentence on the clips and seeds.

    The rows are over the clips and seeds that all cross-validations have.

    Raises:
        RunError: there is no seed, clip or figure in common, or labels of a clip differ.
    """
    seeds = sorted(set(found[0].seeds).intersection(*(cv.seeds for cv in found[1:])))
    if not seeds:
        raise RunError(
            f"{', '.join(cv.name for cv in found)} have no seed in common, so their runs cannot be paired; "
            "run deiii crossval with the same --seeds"
        )
    every = [cv.seeds[seed] for cv in found for seed in seeds]
    clips = shared_clips(every)
    paired = [[cv.seeds[seed].select(clips) for seed in seeds] for cv in found]
    check_labels([run for runs in paired for run in runs])
    figures = [[run.figures() for run in runs] for runs in paired]
    names = [name for name in figures[0][0] if all(name in own for runs in figures for own in runs)]
    if not names:
        raise RunError("the cross-validations predict different things: they have no figure in common")
    table = paired[0][0].table
    rows: list[Row] = []
    for name in names:
        known = known_clips(table, name)
        limits = CCC_LIMITS if name.startswith("ccc_") else (0.0, 1.0)
        own = []
        for n, cv in enumerate(found):
            values = [f[name] for f in figures[n]]
            row = _row(cv.name, name, table, known, limits, values)
            own.append(row if n == 0 else _with_difference(row, table, known, values, [
                f[name] for f in figures[0]
            ]))  # fmt: skip
        rows += corrected(own)
    return rows, _note(found, seeds, table, any(row.interval for row in rows))


def _row(name: str, figure: str, table: PredictionTable, known: np.ndarray, limits: Any, values: list) -> Row:
    """Return a figure's mean over the seeds, and its interval."""

    def of_seeds(which: np.ndarray) -> list[float] | None:
        found = [value(which) for value in values]
        return None if None in found else found

    whole = of_seeds(np.arange(len(table)))
    interval = estimate(table.speakers, of_seeds, limits, known=known)
    mean = float(np.mean(whole)) if whole else None
    return Row(name, figure, mean, interval.interval if interval else None)


def _with_difference(row: Row, table: PredictionTable, known: np.ndarray, values: list, first: list) -> Row:
    """Return the row with its difference from the first cross-validation, seed by seed."""

    def gaps(which: np.ndarray) -> list[float] | None:
        pairs = [(mine(which), base(which)) for mine, base in zip(values, first, strict=True)]
        return None if any(None in pair for pair in pairs) else [mine - base for mine, base in pairs]

    whole = gaps(np.arange(len(table)))
    found = estimate(table.speakers, gaps, None, known=known)
    return replace(
        row,
        difference=float(np.mean(whole)) if whole else None,
        paired=found.interval if found else None,
        p=found.p if found else None,
    )


def _predictions(run: RunFolder) -> PredictionTable:
    """Return the predictions of one run, after a check of their number where its figures are stored."""
    metrics = run.read_metrics() if run.metrics_json.exists() else None  # only some files may be copied
    return read_predictions(run.predictions, metrics)


def _joined(tables: Sequence[tuple[int, PredictionTable]]) -> PredictionTable:
    """Return the predictions of all folds as one table; a clip's name begins with its fold."""
    first = tables[0][1]

    def column(name: str) -> tuple[str, ...]:
        return tuple(value for _, table in tables for value in getattr(table, name))

    def stacked(name: str) -> np.ndarray:
        return np.concatenate([getattr(table, name) for _, table in tables])

    return PredictionTable(
        clips=tuple(f"{fold}:{clip}" for fold, table in tables for clip in table.clips),
        speakers=column("speakers"), classes=first.classes,
        truth=column("truth"), predicted=column("predicted"), probabilities=stacked("probabilities"),
        attributes=first.attributes, attribute_truth=stacked("attribute_truth"),
        attribute_predicted=stacked("attribute_predicted"),
    )  # fmt: skip


def _note(
    found: Sequence[CrossValidation], seeds: Sequence[int], table: PredictionTable, with_intervals: bool
) -> str:
    speakers = len(set(table.speakers))
    people = counted(speakers, "speaker")
    counts = list(table.clips_of_speakers().values())
    words = [
        f"{counted(len(table), 'test clip')} of {people} in {counted(len(found[0].folds), 'fold')}, "
        f"{counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))}); "
        + (
            f"95 % {interval_kind(len(seeds), counts)}, {PAIRED_FORM}"
            if with_intervals
            else no_intervals(speakers)
        )
    ]
    words += [f"{cv.name}: {cv.leaks}, so its figures may be too high" for cv in found if cv.leaks]
    for cv in found:
        others = sorted(set(cv.seeds) - set(seeds))
        if others:
            words.append(f"left out: seed {', '.join(map(str, others))} of {cv.name}")
        clips = max(len(run.table) for run in cv.seeds.values()) - len(table)
        if clips:
            words.append(f"left out: {counted(clips, 'clip')} of {cv.name}")
    if len(found) > 2:
        words.append(f"p corrected for {len(found) - 1} comparisons (Holm)")
    return "; ".join(words)
