"""Write ``report.html``: a page about one run, in a single file.

This module collects what the page shows; the templates ``data/pages/templates/report.html.j2`` and
``page.css`` lay it out. The page runs no scripts and loads no outside files. It is readable on a phone and
follows the light or dark colour scheme of the reader's system.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from deiii.data.config.load import parse_stored
from deiii.data.config.networks import described
from deiii.data.config.schema import Config
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.mixture import copied_clips
from deiii.data.pages.rendering import render
from deiii.data.pages.strips import strip_parts
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted, listed
from deiii.data.tools.text.figure_text import number, span
from deiii.model.corpus_title import corpus_title
from deiii.model.evaluation.figures import (
    confusion_figure,
    figure_curves,
    inline_svg,
    layer_bars,
    loss_curves,
    save_png,
)
from deiii.model.evaluation.results import speaker_doubts
from deiii.model.evaluation.sections.calibration import calibration_figures, calibration_values
from deiii.model.evaluation.sections.ceiling import ceiling_lines
from deiii.model.evaluation.sections.gaps import gap_values
from deiii.model.evaluation.sections.layers import mean_weights
from deiii.model.evaluation.sections.mistakes import Mistake
from deiii.model.intervals import kind_of_interval, no_intervals
from deiii.model.metrics import figure_names
from deiii.model.training.logs.cost import cost_text
from deiii.model.training.run_folder import RunFolder

MOST_FAILURES = 25  # clips without features that are listed
DARKEST = 70  # % of the accent colour in a confusion cell that holds its whole row; text stays legible

Values = dict[str, Any]


def write_report(
    run: RunFolder,
    metrics: Values,
    info: Values,
    features: FeatureSet,
    mistakes: Sequence[Mistake] = (),
    settings: str | None = None,
) -> Path:
    """Write the figures and the page of an evaluated run.

    Args:
        run: run folder with ``config.yaml``, and with ``metrics.csv`` where its history is known; for an
            ensemble, a folder without them.
        metrics: what ``metrics.json`` holds.
        info: what ``run.json`` holds.
        features: the corpus with its preprocessing outcomes.
        mistakes: what `worst_mistakes` found.
        settings: settings as YAML; those in ``config.yaml`` if not given.

    Returns:
        the page's path.
    """
    test = metrics["test"]
    config = run.read_config() if settings is None else parse_stored(settings)
    values = {
        "network": described(config.model.name)[0],
        "corpus": corpus_title(config, info),
        "run": run.path.resolve().name,
        "epoch": metrics["epoch"],
        "members": metrics.get("members", ()),
        "member_rows": [(m["run"], m["seed"], m["epoch"]) for m in metrics.get("members", ())],
        "evaluations": metrics.get("evaluations", 1),
        "leaks": speaker_doubts(metrics),
        "training": metrics.get("training", {"finished": True}),
        "classes": info["classes"],
        "clips": {"unlabelled": 0, **metrics["clips"]["test"]},
        "interval": kind_of_interval(metrics),
        "no_intervals": no_intervals(len(test["per_speaker"])),
        "ceilings": ceiling_lines(metrics.get("ceilings", {})),
        "n_speakers": len(test["per_speaker"]),
        "tiles": [
            {"label": label, "value": test[key], "interval": test.get(f"{key}_ci")}
            for key, label in figure_names(test).items()
        ],
        "curves": _save_figures(run, metrics, info["classes"]),
        "calibration": _calibration(run, metrics.get("calibration", {})),
        "layers": _save_layers(run, metrics),
        "chosen": config.train.monitor != "last",
        "validated": metrics["clips"].get("val", {"in_split": 1})["in_split"] > 0,
        "confusion": _confusion(test, info["classes"]),
        "per_class": _per_class(test) if info["classes"] else None,
        "per_speaker": _per_speaker(test, metrics.get("gaps", {}).get("speaker_sex", {})),
        "gaps": gap_values(metrics["gaps"]) if "gaps" in metrics else None,
        "mistakes": [_mistake(m) for m in mistakes],
        "shown": listed(strip_parts(info["keys"])),
        "ablation": _ablation(metrics),
        "settings": run.config.read_text(encoding="utf-8") if settings is None else settings,
        "provenance": _provenance(info),
        **_preprocessing(features, config),
    }
    write_text(run.report, render("report.html.j2", **values))
    return run.report


def _save_figures(run: RunFolder, metrics: Values, classes: Sequence[str]) -> list[Markup]:
    """Save the figures as PNG files; returns the training curves of a run as SVG for the page."""
    curves = {}
    if "members" not in metrics and run.metrics_csv.exists():
        history, best = run.read_history(), metrics["epoch"]
        curves = {"loss": loss_curves(history, best)}
        if any(row.get("val_loss") is not None for row in history):
            curves["validation"] = figure_curves(history, best)
    for name, figure in curves.items():
        save_png(figure, run.figures / f"{name}.png")
    if classes:
        save_png(confusion_figure(metrics["test"]["confusion"], classes), run.figures / "confusion.png")
    return [Markup(inline_svg(figure, name)) for name, figure in curves.items()]


def _calibration(run: RunFolder, found: Values) -> Values | None:
    """Save the pictures of the calibration as PNG files; returns what the page shows."""
    if not found:
        return None
    curves = []
    for name, figure in calibration_figures(found).items():
        save_png(figure, run.figures / f"{name}.png")
        curves.append(Markup(inline_svg(figure, name)))
    return {**calibration_values(found), "curves": curves}


def _save_layers(run: RunFolder, metrics: Values) -> Markup | None:
    """Save the weights of the frozen encoders' layers as PNG; returns them as SVG, or ``None``."""
    weights = mean_weights([metrics])
    if not weights:
        return None
    figure = layer_bars(weights)
    save_png(figure, run.figures / "layers.png")
    return Markup(inline_svg(figure, "layers"))


def _confusion(test: Values, classes: Sequence[str]) -> list[Values]:
    rows = []
    for name, counts in zip(classes, test.get("confusion", ()), strict=bool(classes)):
        total = max(1, sum(counts))
        cells = [{"clips": n, "shade": round(DARKEST * n / total)} for n in counts]
        rows.append({"name": name, "cells": cells})
    return rows


def _per_class(test: Values) -> Values:
    found = test["per_class"]
    return {
        "rows": [(name, r["clips"], number(r["recall"]), number(r["f1"])) for name, r in found.items()],
        "bars": [r["recall"] for r in found.values()],
    }


def _per_speaker(test: Values, sexes: Values) -> Values:
    found = test["per_speaker"]
    some: Values = {key: value for own in found.values() for key, value in own.items()}
    names = {key: label for key, label in figure_names(some).items() if key != "macro_f1"}
    first = next(iter(names), "")
    return {
        "header": ("speaker", *(["sex"] if sexes else []), "clips", *names.values()),
        "rows": [
            (s, *([sexes.get(s, "–")] if sexes else []), r["clips"], *(number(r.get(key)) for key in names))
            for s, r in found.items()
        ],
        "bars": [r.get(first) for r in found.values()],
        "shown": names.get(first, ""),
    }


def _mistake(mistake: Mistake) -> Values:
    image = b64encode(mistake.picture).decode() if mistake.picture else None
    return {"clip": mistake.clip, "speaker": mistake.speaker, "text": mistake.what, "image": image}


def _ablation(metrics: Values) -> Values:
    test = metrics["test"]
    names = {key: name for key, name in figure_names(test).items() if key not in ("war", "macro_f1")}
    inputs = f"{' and '.join(hidden)} hidden" if (hidden := metrics.get("hidden")) else "all inputs"
    found = {f"fused head, {inputs}": test}
    found |= {f"{head} head alone": r for head, r in metrics["heads"].items()}
    found |= {f"fused head without {gone.replace('+', ' and ')}": r for gone, r in metrics["without"].items()}
    with_intervals = any(r.get("uar_ci") for r in found.values())
    rows = [
        (what, *(number(r.get(key)) for key in names), *([span(r.get("uar_ci"))] if with_intervals else []))
        for what, r in found.items()
    ]
    first = next(iter(names), "")
    return {
        "header": ("", *names.values(), *(["95 % interval"] if with_intervals else [])),
        "rows": rows,
        "bars": [r.get(first) for r in found.values()],
        "shown": names.get(first, ""),
    }


def _preprocessing(features: FeatureSet, config: Config) -> Values:
    """Count the outcomes of each stage and list the clips that lack features of some stage."""
    statuses = sorted({str(o.status) for by_id in features.outcomes.values() for o in by_id.values()})
    statuses.sort(key=lambda s: (s != "ok", s != "ok_partial"))  # as in the overview
    rows = []
    failures = []
    for stage, by_id in features.outcomes.items():
        count = Counter(str(o.status) for o in by_id.values())
        rows.append((stage, *(count[status] for status in statuses), features.keys[stage]))
        failures += [(stage, clip, str(o.status), o.reason) for clip, o in by_id.items() if not o.usable]
    copies = len(copied_clips(features.corpus, config))
    return {
        "n_clips": len(features.corpus.clips) - copies,
        "copies": counted(copies, "corrupted copy", "corrupted copies") if copies else "",
        "outcomes": {"header": ("stage", *statuses, "cache key"), "rows": rows},
        "failures": failures[:MOST_FAILURES],
        "n_failures": len(failures),
        "failed_clips": counted(len({clip for _, clip, *_ in failures}), "clip"),
    }


def _provenance(info: Values) -> dict[str, str]:
    return {
        "source revision": info["revision"] or "unknown: not a git checkout",
        "split": info["split"],
        "cache keys": ", ".join(f"{stage} {key}" for stage, key in info["keys"].items()),
        "clips": ", ".join(f"{n} {part}" for part, n in info["clips"].items()),
        "versions": ", ".join(f"{name} {version}" for name, version in info["versions"].items()),
        "trained on": f"{info['platform']}, {info['gpu'] or 'no GPU'}",
        **({"training took": cost_text(info["cost"])} if "cost" in info else {}),
        **({"started from": start_text(info["start"])} if "start" in info else {}),
        "command": info["command"],
        **{f"frozen encoder of {e['stage']}": encoder_text(e) for e in info.get("encoders", ())},
    }


def start_text(start: Values) -> str:
    """Return what ``run.json`` records of the network that a training started from."""
    return f"{start['run']}, trained on {start['corpus']}; weights with SHA-256 {start['sha256']}"


def encoder_text(encoder: Values) -> str:
    """Return the facts on a frozen encoder of ``run.json`` that a paper must state."""
    size = f"{encoder['parameters']:,} parameters, " if encoder["parameters"] else ""
    layers = ", ".join(map(str, encoder["layers"]))
    return (
        f"{encoder['name']} (layers {layers}; {size}licence {encoder['licence']}; SHA-256 "
        f"{encoder['sha256']}); trained on {encoder['trained_on']}; "
        f"emotion corpora in its training: {encoder['emotion']}"
    )
