"""The report on a cross-validation: ``crossval.json``, ``crossval.md``, ``confusion.png``, ``splits/``.

Everything is read from the finished run folders, so it can be made again at any time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.corpora.splits import Split
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.machine import machine
from deiii.model.evaluation.figures import confusion_figure, save_png
from deiii.model.metrics import bootstrap, ccc, class_figures, class_intervals, class_report
from deiii.model.training.run_folder import RunFolder, revisions

CLASS_FIGURES = {"uar": "UAR", "war": "WAR", "macro_f1": "macro-F1"}
Runs = Sequence[tuple[int, int, Path]]


def write_crossval(base: Path, runs: Runs) -> dict[str, Any]:
    """Write the report on runs (fold, seed, folder) into ``base``; returns ``crossval.json``'s content."""
    tables = {(fold, seed): _predictions(RunFolder(path).predictions) for fold, seed, path in runs}
    metrics = {(f, s): json.loads(RunFolder(p).metrics_json.read_text(encoding="utf-8")) for f, s, p in runs}
    info = RunFolder(runs[0][2]).read_info()
    classes, attributes = info["classes"], info["attributes"]
    figures = [k for k in CLASS_FIGURES if classes] + [f"ccc_{a}" for a in attributes]
    folds, seeds = sorted({f for f, _, _ in runs}), sorted({s for _, s, _ in runs})
    result: dict[str, Any] = {
        "corpus": info["corpus"], "classes": classes, "attributes": attributes, "folds": len(folds),
        "seeds": seeds, "figures": {k: _over_folds(metrics, folds, seeds, "test", k) for k in figures},
        "validation": {k: _over_folds(metrics, folds, seeds, "val", k) for k in figures},
        "pooled": _pooled(list(tables.values()), classes, attributes),
        "without": _without(metrics, figures),
        "runs": [_run(f, s, RunFolder(p), metrics[f, s], figures) for f, s, p in runs],
        "splits": {}, "hardware": machine(), "versions": info["versions"],
        "revisions": revisions(p for _, _, p in runs),
        "keys": info["keys"],
    }  # fmt: skip
    if classes and len(seeds) > 1:
        result["seed_ensemble"] = _ensemble(tables, folds, seeds, classes)
    for fold, _, path in runs:
        split = Split.load(RunFolder(path).split)
        (base / "splits").mkdir(exist_ok=True)
        split.save(base / "splits" / f"fold{fold}.json")
        result["splits"][str(fold)] = {
            "digest": split.digest, "test": list(split.speakers("test")), "val": list(split.speakers("val"))
        }  # fmt: skip
    write_json(base / "crossval.json", result)
    write_text(base / "crossval.md", markdown(result))
    if classes:
        save_png(confusion_figure(result["pooled"]["confusion"], classes), base / "confusion.png")
    return result


def markdown(result: dict[str, Any]) -> str:
    """The report as Markdown."""
    names = {k: CLASS_FIGURES.get(k, f"CCC {k[4:]}") for k in result["figures"]}
    pooled, seeds = result["pooled"], ", ".join(map(str, result["seeds"]))
    lines = [f"# Cross-validation on {result['corpus']}", ""]
    lines += [
        f"Folds: {', '.join(result['splits'])}; seeds: {seeds}. Speakers never cross; each run's epoch was "
        "chosen on its validation speakers; its test speakers were scored once.", "",
        "| figure | mean over folds | sd over folds | sd over seeds | pooled, 95 % over speakers |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for key, name in names.items():
        f = result["figures"][key]
        ci = pooled.get(f"{key}_ci")
        span = f"{_n(pooled.get(key))} [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else _n(pooled.get(key))
        lines.append(f"| {name} | {_n(f['mean'])} | {_n(f['sd_folds'])} | {_n(f['sd_seeds'])} | {span} |")
    if "seed_ensemble" in result:
        e = result["seed_ensemble"]
        lines += [
            "",
            f"Apart: the mean of the {len(result['seeds'])} seeds' probabilities gives UAR {_n(e['mean'])} "
            f"(sd over folds {_n(e['sd_folds'])}"
            + (f", 95 % over speakers {e['ci'][0]:.3f} to {e['ci'][1]:.3f})." if e["ci"] else ")."),
        ]
    columns = " | ".join(names.values())
    lines += ["", "## Folds", "", f"| fold | test speakers | {columns} | validation | split |",
              "|---|---|" + "---|" * (len(names) + 2)]  # fmt: skip
    first = next(iter(names))
    for fold, split in result["splits"].items():
        cells = [_n(result["figures"][k]["by_fold"][fold]) for k in names]
        val = _n(result["validation"][first]["by_fold"][fold])
        tested, digest = ", ".join(split["test"]), split["digest"][:12]
        lines.append(f"| {fold} | {tested} | {' | '.join(cells)} | {val} | `{digest}` |")
    if result["classes"]:
        lines += [
            "",
            "## Classes (all folds and seeds together)",
            "",
            "| class | recall | F1 | predictions |",
            "|---|---|---|---|",
        ]
        for name, row in pooled["per_class"].items():
            lines.append(f"| {name} | {_n(row['recall'])} | {_n(row['f1'])} | {row['clips']} |")
        lines += ["", "![Confusion matrix](confusion.png)", ""]
        lines += ["Rows are truth, columns predicted:", "", "| | " + " | ".join(result["classes"]) + " |",
                  "|---|" + "---|" * len(result["classes"])]  # fmt: skip
        for name, row in zip(result["classes"], pooled["confusion"], strict=True):
            lines.append(f"| **{name}** | " + " | ".join(map(str, row)) + " |")
    if result["without"]:
        lines += ["", "## One stream missing at test", "", "| without | " + " | ".join(names.values()) + " |",
                  "|---|" + "---|" * len(names)]  # fmt: skip
        for gone, row in result["without"].items():
            lines.append(f"| {gone} | " + " | ".join(_n(row.get(k)) for k in names) + " |")
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    lines += ["", "## Runs", "", "| fold | seed | epoch | " + " | ".join(names.values()) + " | training |",
              "|---|---|---|" + "---|" * (len(names) + 1)]  # fmt: skip
    for run in result["runs"]:
        cells = " | ".join(_n(run[k]) for k in names)
        lines.append(f"| {run['fold']} | {run['seed']} | {run['epoch']} | {cells} | {run['seconds']:.0f} s |")
    lines += [
        "",
        f"Hardware: {result['hardware']}. Revision: {', '.join(result['revisions'])}. {versions}.",
        "",
    ]
    return "\n".join(lines)


def _over_folds(
    metrics: dict, folds: Sequence[int], seeds: Sequence[int], part: str, key: str
) -> dict[str, Any]:
    """Mean of one figure over folds of means over seeds, deviations over folds and over seeds.

    A figure that a run does not have (an attribute that nobody rated) has no part; where no run has it,
    it is ``None``.
    """
    value = {run: metrics[run][part].get(key) for run in metrics}
    by_fold = {str(f): _mean(value[f, s] for s in seeds) for f in folds}
    by_seed = {str(s): _mean(value[f, s] for f in folds) for s in seeds}

    def sd(means: Iterable[float | None]) -> float | None:
        known = [m for m in means if m is not None]
        return float(np.std(known, ddof=1)) if len(known) > 1 else None

    return {
        "mean": _mean(by_fold.values()), "sd_folds": sd(by_fold.values()), "sd_seeds": sd(by_seed.values()),
        "undefined": sum(v is None for v in value.values()), "by_fold": by_fold, "by_seed": by_seed,
    }  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _pooled(
    tables: Sequence[list[dict[str, str]]], classes: list[str], attributes: list[str]
) -> dict[str, Any]:
    """Figures of all predictions together, their intervals over speakers."""
    rows = [row for table in tables for row in table]
    found: dict[str, Any] = {"clips": len(rows), "speakers": len({r["speaker"] for r in rows})}
    if classes:
        known = [r for r in rows if r["truth"]]
        truth, guess = (np.array([classes.index(r[k]) for r in known]) for k in ("truth", "predicted"))
        found |= class_report(truth, guess, classes)
        found |= class_intervals(truth, guess, [r["speaker"] for r in known], len(classes))
    for name in attributes:
        known = [r for r in rows if r[f"{name}_truth"]]
        truth, guess = (np.array([float(r[f"{name}_{k}"]) for r in known]) for k in ("truth", "predicted"))
        found[f"ccc_{name}"] = ccc(truth, guess)
        again = lambda pick, t=truth, g=guess: ccc(t[pick], g[pick])
        found[f"ccc_{name}_ci"] = bootstrap([r["speaker"] for r in known], again)
    return found


def _without(metrics: dict, figures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each missing stream's figures, averaged over all runs."""
    gone = list(next(iter(metrics.values()))["without"])
    each = lambda g, k: [m["without"][g][k] for m in metrics.values() if m["without"][g].get(k) is not None]
    return {g: {k: float(np.mean(each(g, k))) for k in figures if each(g, k)} for g in gone}


def _ensemble(tables: dict, folds: Sequence[int], seeds: Sequence[int], classes: list[str]) -> dict[str, Any]:
    """UAR where the seeds' probabilities of each fold are averaged, and its interval over speakers."""
    scores, truths, guesses, speakers = [], [], [], []
    for fold in folds:
        by_seed = [
            [[float(r[f"p_{c}"]) for c in classes] for r in tables[fold, s] if r["truth"]] for s in seeds
        ]
        truth = np.array([classes.index(r["truth"]) for r in tables[fold, seeds[0]] if r["truth"]])
        guess = np.mean(by_seed, axis=0).argmax(axis=1)
        scores.append(class_figures(truth, guess)["uar"])
        truths.append(truth)
        guesses.append(guess)
        speakers += [r["speaker"] for r in tables[fold, seeds[0]] if r["truth"]]
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    intervals = class_intervals(np.concatenate(truths), np.concatenate(guesses), speakers, len(classes))
    return {
        "mean": float(np.mean(scores)),
        "sd_folds": sd,
        "ci": intervals["uar_ci"],
        "by_fold": dict(zip(map(str, folds), scores, strict=True)),
    }


def _run(fold: int, seed: int, run: RunFolder, metrics: dict, figures: Sequence[str]) -> dict[str, Any]:
    return {
        "fold": fold, "seed": seed, "epoch": metrics["epoch"],
        **{k: metrics["test"].get(k) for k in figures},
        "seconds": round(sum(row["seconds"] or 0.0 for row in run.read_history()), 1),
        "folder": run.path.name,
    }  # fmt: skip


def _predictions(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _n(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"
