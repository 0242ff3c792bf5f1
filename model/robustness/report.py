"""Figures of corrupted test clips beside those of the clean ones: a table and a picture.

A clip without a prediction, because no face or no audio was found any more, counts as wrong. A CCC cannot
count it: it is over the other clips, and so are the clean predictions with which it is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.text.columns import padded, width_of
from deiii.data.tools.text.csv_text import csv_text
from deiii.data.tools.text.figure_text import bracketed, number
from deiii.model.evaluation.figures import FIRST, GRID, INK, save_png, show_spines
from deiii.model.evaluation.predictions import PredictionTable
from deiii.model.intervals import (
    CCC_LIMITS,
    FEWEST,
    estimate,
    interval_kind,
    kind_of_interval,
    no_intervals,
    speaker_interval,
)
from deiii.model.metrics import ccc, figure_names, uar
from deiii.pipeline.corrupt.kinds import KINDS, Corruption

Figure_ = Callable[[np.ndarray], float | None]


def condition_figures(
    corruption: Corruption, table: PredictionTable, clean: PredictionTable
) -> dict[str, Any]:
    """Return the figures under a corruption, with intervals, and their differences from the clean ones.

    Args:
        corruption: what was done.
        table: the predictions for the corrupted clips.
        clean: predictions for the same clips without corruption, in the same order.
    """
    found: dict[str, Any] = {"kind": corruption.kind, "value": corruption.value, "clips": len(table)}
    found["lost"] = int(np.isnan(table.probabilities if table.classes else table.attribute_predicted)
                        .any(axis=1).sum())  # fmt: skip
    base = figures_of(clean, among=table)
    for name, figure in figures_of(table).items():
        found |= with_interval(name, figure, table)
        own = base[name]

        def gap(rows: np.ndarray, figure: Figure_ = figure, own: Figure_ = own) -> list[float] | None:
            pair = figure(rows), own(rows)
            return None if pair[0] is None or pair[1] is None else [pair[0] - pair[1]]

        whole = gap(np.arange(len(table)))
        paired = estimate(table.speakers, gap, None, known=_known(name, table))
        found[f"{name}_difference"] = whole[0] if whole else None
        found[f"{name}_difference_ci"] = paired.interval if paired else None
    return found


def with_interval(name: str, figure: Figure_, table: PredictionTable) -> dict[str, Any]:
    """Return a figure of all clips and its 95 % interval over speakers."""
    limits = CCC_LIMITS if name.startswith("ccc_") else (0.0, 1.0)
    value = figure(np.arange(len(table)))
    interval = speaker_interval(table.speakers, figure, limits, known=_known(name, table))
    return {name: value, f"{name}_ci": interval}


def _known(name: str, table: PredictionTable) -> np.ndarray:
    """Return the clips that a figure is over, bool [N]: for a CCC they also have a prediction."""
    if name.startswith("ccc_"):
        truth, predicted = table.attribute_pair(name.removeprefix("ccc_"))
        return ~np.isnan(truth) & ~np.isnan(predicted)
    return np.array([label != "" for label in table.truth], bool)


def figures_of(table: PredictionTable, among: PredictionTable | None = None) -> dict[str, Figure_]:
    """Return UAR and WAR where classes are predicted, and each attribute's CCC, as functions of rows.

    Args:
        table: the predictions.
        among: others for the same clips; a CCC is over the clips that both have a prediction for.
    """
    found: dict[str, Figure_] = {}
    if table.classes:
        truth, predicted = table.class_numbers(table.classes)
        known = truth >= 0

        def war(rows: np.ndarray) -> float | None:
            rows = rows[known[rows]]
            return float((truth[rows] == predicted[rows]).mean()) if len(rows) else None

        found = {"uar": lambda rows: uar(truth[rows], predicted[rows]), "war": war}
    for name in table.attributes:
        target, values = table.attribute_pair(name)
        usable = ~np.isnan(values)
        if among is not None:
            usable &= ~np.isnan(among.attribute_pair(name)[1])

        def agreement(
            rows: np.ndarray, target: np.ndarray = target, values: np.ndarray = values,
            usable: np.ndarray = usable,
        ) -> float | None:  # fmt: skip
            rows = rows[usable[rows]]
            return ccc(target[rows], values[rows])

        found[f"ccc_{name}"] = agreement
    return found


def write_report(folder: Path, result: dict[str, Any], clean: PredictionTable) -> None:
    """Complete the result with the clean figures, and write ``robustness.csv`` and ``robustness.png``."""
    result["interval"] = interval_kind(1, list(clean.clips_of_speakers().values()))
    result["clean"] = {}
    for name, figure in figures_of(clean).items():
        result["clean"] |= with_interval(name, figure, clean)
    write_text(folder / "robustness.csv", _csv(result))
    save_png(draw(result), folder / "robustness.png")


def summary(result: Mapping[str, Any]) -> str:
    """Return the table as text for the terminal."""
    names = figure_names(result["clean"])
    lines = []
    rows = {"clean": result["clean"], **result["conditions"]}
    width = width_of([*(f"  {what}" for what in rows), *names.values()], least=16)
    for name, label in names.items():
        lines.append(f"{padded(label, width)} value  95 % interval     difference, paired        lost")
        for what, row in rows.items():
            value, ci = row.get(name), row.get(f"{name}_ci")
            gap, paired = row.get(f"{name}_difference"), row.get(f"{name}_difference_ci")
            line = f"{padded(f'  {what}', width)} {number(value):>5s}"
            line += f"  {bracketed(ci):14s}"
            line += "" if gap is None else f"  {number(gap, '+')} {bracketed(paired, sign='+')}".rstrip()
            line += f"   {row['lost']}" if row.get("lost") else ""
            lines.append(line.rstrip())
    clips = counted(max((c["clips"] for c in result["conditions"].values()), default=0), "test clip")
    some = any(value for row in rows.values() for key, value in row.items() if key.endswith("_ci"))
    about = f"95 % {kind_of_interval(result)}" if some else no_intervals(FEWEST)
    lines.append(
        f"{clips}; {about}; a lost clip has no prediction and counts as wrong; a CCC is over the other clips"
    )
    return "\n".join([*lines, *(f"note: {note}" for note in result.get("notes", ()))])


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the first figure against the severity of each kind, with the value of clean clips and a legend."""
    names = figure_names(result["clean"])
    name, label = next(iter(names.items()))
    kinds = [kind for kind in KINDS if any(c["kind"] == kind for c in result["conditions"].values())]
    figure = Figure(figsize=(1.2 + 3.2 * len(kinds), 3.2), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        about = KINDS[kind]
        rows = sorted(
            (c for c in result["conditions"].values() if c["kind"] == kind and c[name] is not None),
            key=lambda c: c["value"],
        )
        clean, ci = result["clean"][name], result["clean"][f"{name}_ci"]
        if clean is not None:
            axes.axhline(clean, color=INK, lw=0.8, ls=":", label="clean clips")
        if ci:
            axes.axhspan(*ci, color=GRID, alpha=0.35, lw=0, label="clean clips, 95 % interval")
        x, y = [c["value"] for c in rows], [c[name] for c in rows]
        axes.plot(x, y, "o-", color=FIRST, lw=1.8, ms=5, label="corrupted clips")
        for c in rows:
            if c[f"{name}_ci"]:
                spans = axes.plot([c["value"]] * 2, c[f"{name}_ci"], color=FIRST, lw=2, alpha=0.5)
                spans[0].set_label("corrupted clips, 95 % interval")
        if not about.rising:
            axes.invert_xaxis()
        axes.set_xlabel(f"{about.words}\n{about.unit}", color=INK, fontsize=10)
        axes.grid(color=GRID, lw=0.6)
        axes.tick_params(colors=INK, labelsize=10)
        show_spines(axes, "left", "bottom")
    panels[0].set_ylabel(f"{label}, test speakers", color=INK, fontsize=10)
    if not name.startswith("ccc_"):
        panels[0].set_ylim(0, 1.02)
    shown = {
        label: mark for axes in panels for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if shown:
        figure.legend(
            list(shown.values()), list(shown), loc="outside lower center", frameon=False, fontsize=9,
            labelcolor=INK, ncols=2 if len(kinds) > 1 else 1,
        )  # fmt: skip
    return figure


def _csv(result: Mapping[str, Any]) -> str:
    header = ["corruption", "clips", "lost"]
    for name in figure_names(result["clean"]):
        header += [name, f"{name}_low", f"{name}_high", f"{name}_difference", f"{name}_difference_low",
                   f"{name}_difference_high"]  # fmt: skip
    table: list[list[Any]] = [header]
    for what, row in {"clean": result["clean"], **result["conditions"]}.items():
        cells: list[Any] = [row.get("clips", ""), row.get("lost", "")]
        for name in figure_names(result["clean"]):
            values = [row.get(name), *(row.get(f"{name}_ci") or (None, None))]
            values += [row.get(f"{name}_difference"), *(row.get(f"{name}_difference_ci") or (None, None))]
            cells += ["" if v is None else f"{v:.6f}" for v in values]
        table.append([what, *cells])
    return csv_text(table)
