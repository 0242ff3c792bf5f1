"""Measure the contribution of each part of DE-III, on tasks whose best possible accuracy is known.

Every variant is trained with every seed (five) on the tasks of the synthetic corpus (`ablation_tasks`) and
scored once on unseen speakers. Each is compared with the full network, paired by seed and clip; intervals are
t intervals over seeds and speakers (`deiii.model.intervals`), p-values are corrected for the number of
variants (Holm). Finished runs are kept: run the command again to continue. Tables, a picture and every
prediction (``predictions.tar.xz``) are written into runs/ablation.

    python -m benchmarks.ablation
    python -m benchmarks.ablation --seeds 0,1,2 --jobs 2 --only cues train.epochs=30
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.ablation_tasks import FILES, SETTINGS, TASKS
from benchmarks.run_tables import (
    arguments,
    column_kind,
    fewer_seeds,
    origin,
    pack_predictions,
    seeds_of,
)
from deiii.data.command_line.entry import Command, run
from deiii.data.config.schema import Config
from deiii.data.config.words import read_settings
from deiii.data.corpora.scan import scan_corpus
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.machine import machine
from deiii.data.tools.text.figure_text import number, p_value, span
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, save_png
from deiii.model.evaluation.many_runs import finished, run_all
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.intervals import estimate, holm
from deiii.model.training.run_folder import RunFolder
from deiii.pipeline.preprocess.graph import preprocess

HEAD = (
    "| variant | accuracy | sd over seeds | ceiling | against full | sd over seeds | "
    "{kind} | p, Holm | with a stream hidden at test |"
)
Key = tuple[str, str, int]  # task, variant, seed


def variant_config(folder: Path, key: Key, extra: Sequence[str]) -> Config:
    """Return the settings of one run; ``extra`` overrides everything except the changes of the variant."""
    task, variant, seed = key
    changes = TASKS[task][variant].changes
    own = [f"train.seed={seed}", f"train.run={folder / f'{task}-{variant}-seed{seed}'}"]
    return read_settings([*FILES, *SETTINGS[task], *extra, *changes, *own])


def collect(folder: Path, task: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the figures of the finished variants, and their differences from a finished full network."""
    rows: dict[str, Any] = {}
    right_by_variant = {v: _right(folder, task, v, seeds) for v in TASKS[task]}
    right_by_variant = {v: found for v, found in right_by_variant.items() if found}
    for variant, found in right_by_variant.items():
        scores = [float(np.mean(list(f.values()))) for f in found.values()]
        rows[variant] = {
            "about": TASKS[task][variant].about, "ceiling": TASKS[task][variant].ceiling,
            "accuracy": float(np.mean(scores)), "sd": _sd(scores),
            "by_seed": dict(zip(found, scores, strict=True)),
            "without": _without(folder, task, variant, found),
        }  # fmt: skip
        both = sorted(set(found) & set(right_by_variant.get("full", {})))
        if variant != "full" and both:
            rows[variant] |= _paired(found, right_by_variant["full"], both)
    tested = [row for row in rows.values() if row.get("against_full_p") is not None]
    for row, p in zip(tested, holm([row["against_full_p"] for row in tested]), strict=True):
        row["against_full_p_holm"] = p
    return rows


def _right(
    folder: Path, task: str, variant: str, seeds: Sequence[int]
) -> dict[int, dict[tuple[str, str], bool]]:
    """Return whether each test clip (speaker, id) was classified correctly, keyed by finished seed."""
    found = {}
    for seed in seeds:
        run_folder = RunFolder(folder / f"{task}-{variant}-seed{seed}")
        if run_folder.metrics_json.exists():
            table = read_predictions(run_folder.predictions)
            columns = zip(table.speakers, table.clips, table.truth, table.predicted, strict=True)
            found[seed] = {(speaker, clip): truth == guess for speaker, clip, truth, guess in columns}
    return found


def _paired(found: dict, full: dict, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the difference in accuracy from the full network, its sd over seeds, and its interval.

    The interval is over seeds and speakers. The p-value is of the hypothesis that there is no difference;
    `collect` corrects it for the number of variants.
    """
    clips = list(full[seeds[0]])
    gaps = np.array([[found[s][k] - float(full[s][k]) for k in clips] for s in seeds])
    found_gap = estimate([speaker for speaker, _ in clips], lambda rows: gaps[:, rows].mean(axis=1).tolist())
    by_seed = [float(g) for g in gaps.mean(axis=1)]
    return {
        "against_full": float(gaps.mean()), "against_full_sd": _sd(by_seed),
        "against_full_ci": found_gap and found_gap.interval, "against_full_p": found_gap and found_gap.p,
    }  # fmt: skip


def _without(folder: Path, task: str, variant: str, seeds: Sequence[int]) -> dict[str, float]:
    """Return the mean accuracy with a stream hidden at test time only."""
    runs = [RunFolder(folder / f"{task}-{variant}-seed{s}") for s in seeds]
    tables = [run.read_metrics()["without"] for run in runs]
    return {gone: float(np.mean([t[gone]["war"] for t in tables])) for gone in tables[0]}


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def markdown(tables: Mapping[str, Any], notes: str) -> str:
    """Return the tables of all tasks as Markdown."""
    lines = ["# Ablation", "", notes, ""]
    for task, rows in tables.items():
        lines += [f"## {task}", ""]
        if fewer := fewer_seeds(rows):
            lines += [fewer.strip(), ""]
        head = HEAD.format(kind=column_kind(len(seeds_of(rows))))
        lines += [head, "|---" * HEAD.count(" | ") + "|---|"]
        for variant, row in rows.items():
            interval = span(row.get("against_full_ci"), sign="+")
            gap = number(row["against_full"], "+") if "against_full" in row else ""
            hidden = ", ".join(f"{k} {v:.3f}" for k, v in row["without"].items())
            sd = "–" if row["sd"] is None else f"{row['sd']:.3f}"
            gap_sd = "" if row.get("against_full_sd") is None else f"{row['against_full_sd']:.3f}"
            p = row.get("against_full_p_holm")
            cells = [f"`{variant}`: {row['about']}", f"{row['accuracy']:.3f}", sd, f"{row['ceiling']:.2f}"]
            lines.append(f"| {' | '.join([*cells, gap, gap_sd, interval, p_value(p), hidden])} |")
        lines.append("")
    return "\n".join(lines)


def draw_figure(tables: Mapping[str, Any]) -> Figure:
    """Draw a panel per task: mean accuracy of each variant, every seed as a dot, the ceiling as a line."""
    heights = [len(rows) for rows in tables.values()]
    figure = Figure(
        figsize=(7.5, 0.34 * sum(heights) + 1.1 * len(heights)), layout="constrained", facecolor="white"
    )
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    for axes, (task, rows) in zip(panels, tables.items(), strict=True):
        for y, row in enumerate(rows.values()):
            axes.barh(y, row["accuracy"], color=FIRST, height=0.62, alpha=0.85)
            axes.plot(list(row["by_seed"].values()), [y] * len(row["by_seed"]), "o", color=INK, ms=3.5)
            axes.plot([row["ceiling"]] * 2, [y - 0.42, y + 0.42], color=SECOND, lw=2.5)
        axes.set_yticks(range(len(rows)), [row["about"] for row in rows.values()])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.03)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{task}: accuracy on unseen speakers", loc="left", fontsize=11, color=INK)
    panels[-1].set_xlabel("bar: mean over seeds; dots: seeds; orange: best possible")
    return figure


def write_tables(folder: Path, tables: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Write ``table.md``, ``table.json``, ``ablation.png`` and ``predictions.tar.xz``."""
    runs = [
        folder / f"{task}-{variant}-seed{seed}"
        for task, rows in tables.items() for variant, row in rows.items() for seed in row["by_seed"]
    ]  # fmt: skip
    about, notes = origin(runs, seeds)
    write_json(folder / "table.json", about | {"tasks": tables})
    write_text(folder / "table.md", markdown(tables, notes))
    save_png(draw_figure(tables), folder / "ablation.png")
    pack_predictions(folder / "predictions.tar.xz", runs)


def main() -> int:
    parser = arguments("ablation", __doc__)
    parser.add_argument(
        "--only",
        type=lambda t: t.split(","),
        default=list(TASKS),
        metavar="TASK",
        help=f"some of {', '.join(TASKS)}",
    )
    parser.add_argument("--variants", type=lambda t: t.split(","), metavar="full,no_ife", help="default: all")
    parser.add_argument(
        "--tables", action="store_true", help="train nothing; write the tables of the finished runs"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    keys = [
        (t, v, s)
        for s in args.seeds
        for t in args.only
        for v in TASKS[t]
        if not args.variants or v in args.variants
    ]
    configs = {key: variant_config(args.folder, key, args.settings) for key in keys}
    if not args.tables:
        for task in args.only:
            config = read_settings([*FILES, *SETTINGS[task], *args.settings])
            preprocess(config, scan_corpus(config))
        done = sum(finished(c) for c in configs.values())
        for count, (key, seconds) in enumerate(run_all(configs, args.jobs), done + 1):
            row = collect(args.folder, key[0], [key[2]])[key[1]]
            print(f"[{count}/{len(keys)}] {key[0]} {key[1]} seed {key[2]}: {row['accuracy']:.3f}, "
                  f"ceiling {row['ceiling']:.2f}; {seconds:.0f} s", flush=True)  # fmt: skip
    tables = {task: collect(args.folder, task, args.seeds) for task in args.only}
    tables = {task: rows for task, rows in tables.items() if rows}
    if not tables:
        print("nothing has been trained yet")
        return 1
    write_tables(args.folder, tables, args.seeds)
    print(markdown(tables, ""))
    result: dict[str, Any] = {"bench": "ablation", "seeds": args.seeds, "hardware": machine()}
    result |= {t: {v: round(row["accuracy"], 4) for v, row in rows.items()} for t, rows in tables.items()}
    result["effects"] = {
        f"{t}/{v}": [round(x, 4) for x in (row["against_full"], *row["against_full_ci"])]
        for t, rows in tables.items() for v, row in rows.items() if row.get("against_full_ci")
    }  # fmt: skip
    result["seconds"] = round(time.perf_counter() - started)
    print("RESULT " + json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
