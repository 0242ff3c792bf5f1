"""Write the report on a cross-validation: ``crossval.json`` and ``.md``, figures, ``splits/``.

Everything is read from the finished run folders, so the report can be written again at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.config.load import result_settings
from deiii.data.pages.rendering import render
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.machine import machine
from deiii.model.corpus_title import corpus_title
from deiii.model.evaluation.figures import confusion_figure, layer_bars, save_png
from deiii.model.evaluation.predictions import PredictionTable, read_predictions
from deiii.model.evaluation.results import DOUBTS, speaker_doubts
from deiii.model.evaluation.sections.all_runs import calibration_of_runs, ceilings_of_runs, gaps_of_runs
from deiii.model.evaluation.sections.ceiling import ceiling_lines
from deiii.model.evaluation.sections.gaps import gap_values
from deiii.model.evaluation.sections.layers import mean_weights
from deiii.model.intervals import (
    CCC_LIMITS,
    INTERVAL_FORM,
    estimate,
    interval_kind,
    kind_of_interval,
    no_intervals,
)
from deiii.model.metrics import (
    CLASS_FIGURES,
    ccc,
    class_figures,
    class_intervals,
    class_report,
    figure_of_rows,
)
from deiii.model.training.run_folder import RunFolder, revisions

Runs = Sequence[tuple[int, int, Path]]  # fold, seed, folder
Metrics = Mapping[tuple[int, int], dict[str, Any]]  # content of metrics.json, keyed by fold and seed
Tables = Mapping[tuple[int, int], PredictionTable]  # key: fold and seed


def write_crossval(base: Path, runs: Runs, partial: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Write the report on some runs into ``base``; returns what ``crossval.json`` holds.

    ``partial`` is what `deiii.model.evaluation.crossval.partial_folds` returned; by default the runs have all
    folds.

    Raises:
        RunError: a run was not evaluated.
    """
    metrics = {(fold, seed): RunFolder(path).read_metrics() for fold, seed, path in runs}
    tables = {
        (fold, seed): read_predictions(RunFolder(path).predictions, metrics[fold, seed])
        for fold, seed, path in runs
    }
    info = RunFolder(runs[0][2]).read_info(whole=True)
    classes, attributes = info["classes"], info["attributes"]
    figures = [k for k in CLASS_FIGURES if classes] + [f"ccc_{a}" for a in attributes]
    folds, seeds = sorted({f for f, _, _ in runs}), sorted({s for _, s, _ in runs})
    counts = sum((tables[f, seeds[0]].clips_of_speakers() for f in folds), Counter[str]())
    result: dict[str, Any] = {
        "corpus": info["corpus"], "classes": classes, "attributes": attributes, "folds": len(folds),
        "seeds": seeds, "figures": {k: _over_folds(metrics, folds, seeds, "test", k) for k in figures},
        "validation": {k: _over_folds(metrics, folds, seeds, "val", k) for k in figures},
        "pooled": _pooled([tables[f, s] for s in seeds for f in folds], classes, attributes, len(seeds)),
        "interval": interval_kind(len(seeds), list(counts.values())), "interval_form": INTERVAL_FORM,
        "without": _without(metrics, figures),
        "runs": [_run(f, s, RunFolder(p), metrics[f, s], figures) for f, s, p in runs],
        "splits": {}, "hardware": machine(), "versions": info["versions"],
        "revisions": revisions(p for _, _, p in runs), "settings": shared_settings(p for _, _, p in runs),
        "keys": info["keys"], "monitor": RunFolder(runs[0][2]).read_config().train.monitor,
    }  # fmt: skip
    result |= partial or {}
    if layers := mean_weights(metrics.values()):
        result["layers"] = layers
        save_png(layer_bars(layers), base / "layers.png")
    result |= {key: True for key in DOUBTS if any(own.get(key) for own in metrics.values())}
    again = [RunFolder(p).path.name for f, s, p in runs if metrics[f, s].get("evaluations", 1) > 1]
    if again:
        result["scored_again"] = again
    if classes:
        result["calibration"] = calibration_of_runs(list(tables.values()), list(metrics.values()), classes)
        result["gaps"] = gaps_of_runs(list(tables.values()), list(metrics.values()), classes)
        if ceilings := ceilings_of_runs([metrics[fold, seeds[0]] for fold in folds]):
            result["ceilings"] = ceilings
    if classes and len(seeds) > 1:
        result["seed_ensemble"] = _ensemble(tables, folds, seeds, classes)
    for fold, _, path in runs:
        split = RunFolder(path).read_split()
        (base / "splits").mkdir(exist_ok=True)
        split.save(base / "splits" / f"fold{fold}.json")
        result["splits"][str(fold)] = {
            "digest": split.digest, "test": list(split.speakers("test")), "val": list(split.speakers("val"))
        }  # fmt: skip
    write_json(base / "crossval.json", result)
    title = corpus_title(RunFolder(runs[0][2]).read_config(), info)
    write_text(base / "crossval.md", markdown(result | {"corpus": title}))
    if classes:
        save_png(confusion_figure(result["pooled"]["confusion"], classes), base / "confusion.png")
    return result


def shared_settings(runs: Iterable[Path]) -> dict[str, Any]:
    """Return the settings that can change a result and that all runs have in common, by dotted name.

    Folds and seeds of a cross-validation are not among them, as they differ.
    """
    first, *others = [result_settings(RunFolder(run).read_config()) for run in runs]
    return {key: value for key, value in first.items() if all(own.get(key) == value for own in others)}


def markdown(result: Mapping[str, Any]) -> str:
    """Return the content of ``crossval.json`` as a Markdown page."""
    names = {key: CLASS_FIGURES.get(key, f"CCC {key[4:]}") for key in result["figures"]}
    pooled = {key: result["pooled"].get(key) for key in (*names, *(f"{key}_ci" for key in names))}
    without = {
        hidden: {key: row.get(key) for key in names} for hidden, row in result["without"].items()
    }  # fmt: skip
    values = {
        **result,
        "names": names,
        "first": next(iter(names)),
        "pooled": {**result["pooled"], **pooled},
        "without": without,
        "seed_ensemble": result.get("seed_ensemble"),
        "calibration": result.get("calibration"),
        "ceilings": [f"{line}, mean over folds" for line in ceiling_lines(result.get("ceilings", {}))],
        "gaps": gap_values(result["gaps"], "prediction") if result.get("gaps") else None,
        "with_sex": bool(result.get("gaps", {}).get("sex")),
        "of_folds": result.get("of_folds", 0),
        "untested": result.get("untested", 0),
        "scored_again": result.get("scored_again", []),
        "leaks": speaker_doubts(result),
        "layers": result.get("layers", {}),
        "chosen": result.get("monitor") != "last",
        "interval": kind_of_interval(result),
        "with_intervals": any(pooled[f"{key}_ci"] for key in names),
        "no_intervals": no_intervals(result["pooled"]["speakers"]),
    }
    return render("crossval.md.j2", **values)


def _over_folds(
    metrics: Metrics, folds: Sequence[int], seeds: Sequence[int], part: str, key: str
) -> dict[str, Any]:
    """Return the mean of one figure over folds of means over seeds, and deviations over folds and over seeds.

    A run without the figure (an attribute that nobody rated) is left out. Where no run has it, the mean is
    ``None``.
    """
    value = {run: metrics[run][part].get(key) for run in metrics}
    by_fold = {str(f): _mean(value[f, s] for s in seeds) for f in folds}
    by_seed = {str(s): _mean(value[f, s] for f in folds) for s in seeds}
    return {
        "mean": _mean(by_fold.values()), "sd_folds": _sd(by_fold.values()), "sd_seeds": _sd(by_seed.values()),
        "undefined": sum(v is None for v in value.values()), "by_fold": by_fold, "by_seed": by_seed,
    }  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _sd(values: Iterable[float | None]) -> float | None:
    """Return the sample standard deviation of the known values, or ``None`` for fewer than two."""
    known = [v for v in values if v is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _pooled(
    tables: Sequence[PredictionTable], classes: Sequence[str], attributes: Sequence[str], seeds: int
) -> dict[str, Any]:
    """Return the figures of all predictions together, with intervals over speakers and seeds.

    A CCC is the mean over the seeds of the CCC of all folds.

    Args:
        tables: prediction tables of every run, all folds of the first seed first.
        classes, attributes: what was predicted.
        seeds: their number.
    """
    speakers = [speaker for table in tables for speaker in table.speakers]
    found: dict[str, Any] = {"clips": len(speakers), "speakers": len(set(speakers))}
    folds = len(tables) // seeds
    if classes:
        pairs = [table.class_numbers(classes) for table in tables]
        truth, predicted = (np.concatenate(column) for column in zip(*pairs, strict=True))
        known = truth >= 0
        found |= class_report(truth[known], predicted[known], classes)
        for name in CLASS_FIGURES:
            figure = figure_of_rows(name, truth, predicted, len(classes))
            found[f"{name}_ci"] = _interval(tables, known, seeds, figure, (0.0, 1.0))
    for name in attributes:
        pairs = [table.attribute_pair(name) for table in tables]
        truth, predicted = (np.concatenate(column) for column in zip(*pairs, strict=True))
        known = ~np.isnan(truth)
        of_seeds = [pairs[s * folds : (s + 1) * folds] for s in range(seeds)]
        # The interval is of the mean over seeds; all seeds together have another CCC.
        found[f"ccc_{name}"] = _mean(ccc(*map(np.concatenate, zip(*own, strict=True))) for own in of_seeds)

        def agreement(
            rows: np.ndarray, truth: np.ndarray = truth, predicted: np.ndarray = predicted
        ) -> float | None:
            return ccc(truth[rows], predicted[rows])

        found[f"ccc_{name}_ci"] = _interval(tables, known, seeds, agreement, CCC_LIMITS)
    return found


def _interval(
    tables: Sequence[PredictionTable],
    known: np.ndarray,
    seeds: int,
    figure: Callable[[np.ndarray], float | None],
    limits: tuple[float, float],
) -> list[float] | None:
    """Return the 95 % interval of a figure over speakers, and over seeds where there are several.

    Args:
        tables: predictions of every run, all folds of the first seed first.
        known: which predictions have a truth, bool [N], in the order of the tables.
        seeds: their number.
        figure: maps row numbers among all predictions to a figure.
        limits: limits of the figure.
    """
    speakers = np.array([speaker for table in tables for speaker in table.speakers])
    folds = len(tables) // seeds
    clips = [(run % folds, clip) for run, table in enumerate(tables) for clip in table.clips]
    seed = np.repeat(np.arange(len(tables)) // folds, [len(table.clips) for table in tables])
    rows = np.flatnonzero(known)
    rows_SN = _shared_rows(
        [{clips[row]: row for row in rows[seed[rows] == number]} for number in range(seeds)]
    )
    if not rows_SN.size:
        return None

    def figures(which: np.ndarray) -> list[float] | None:
        values = [figure(own[which]) for own in rows_SN]
        return None if any(value is None for value in values) else [v for v in values if v is not None]

    found = estimate(speakers[rows_SN[0]], figures, limits, rows_SN.shape[1])
    return None if found is None else found.interval


def _without(metrics: Metrics, figures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the figures without each stream, averaged over the runs that have them."""
    runs = list(metrics.values())
    found: dict[str, dict[str, float]] = {}
    for hidden in runs[0]["without"]:
        means = {key: _mean(run["without"][hidden].get(key) for run in runs) for key in figures}
        found[hidden] = {key: mean for key, mean in means.items() if mean is not None}
    return found


def _ensemble(
    tables: Tables, folds: Sequence[int], seeds: Sequence[int], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the UAR where the seeds' probabilities of each fold are averaged, with its interval.

    It is over the clips that every seed predicted: features that were missing may have been computed between
    the runs.
    """
    scores: list[float | None] = []  # of a fold; None where no test clip has a class
    truths: list[np.ndarray] = []
    predictions: list[np.ndarray] = []
    speakers: list[str] = []
    for fold in folds:
        of_seeds = [tables[fold, seed] for seed in seeds]
        rows_SN = _shared_rows([{clip: row for row, clip in enumerate(t.clips)} for t in of_seeds])
        own = [table.select(rows) for table, rows in zip(of_seeds, rows_SN, strict=True)]
        first = own[0]
        labels, _ = first.class_numbers(classes)
        known = np.flatnonzero(labels >= 0)
        columns = [first.classes.index(name) for name in classes]
        mean = np.mean([table.probabilities[:, columns] for table in own], axis=0)
        truth, predicted = labels[known], mean[known].argmax(axis=1)
        scores.append(class_figures(truth, predicted).get("uar"))
        truths.append(truth)
        predictions.append(predicted)
        speakers += first.select(known).speakers
    intervals = class_intervals(np.concatenate(truths), np.concatenate(predictions), speakers, len(classes))
    return {
        "mean": _mean(scores),
        "sd_folds": _sd(scores),
        "ci": intervals["uar_ci"],
        "by_fold": dict(zip(map(str, folds), scores, strict=True)),
    }


def _shared_rows(places: Sequence[Mapping[Any, int]]) -> np.ndarray:
    """Return the rows of the clips that every seed predicted, int64 [S,N], in the order of the first seed.

    Args:
        places: row of each clip, by clip, for each of S seeds.
    """
    shared = [clip for clip in places[0] if all(clip in place for place in places)]
    return np.array([[place[clip] for clip in shared] for place in places], np.int64)


def _run(
    fold: int, seed: int, run: RunFolder, metrics: dict[str, Any], figures: Sequence[str]
) -> dict[str, Any]:
    """Return one run's line of the report."""
    return {
        "fold": fold, "seed": seed, "epoch": metrics["epoch"],
        **{k: metrics["test"].get(k) for k in figures},
        "seconds": round(sum(row["seconds"] or 0.0 for row in run.read_history()), 1),
        "folder": run.path.name,
    }  # fmt: skip
