"""Training curves and the confusion matrix, as PNG files and as SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deiii.data.tools.atomic_files import atomic_path

# In SVG these stand for the page's CSS variables, so that a figure is legible on light and dark.
INK, GRID, FIRST, SECOND = "#1f2430", "#d0d4dd", "#2563eb", "#d97706"
VARIABLES = {INK: "var(--ink)", GRID: "var(--line)", FIRST: "var(--first)", SECOND: "var(--second)"}

History = list[dict[str, float | None]]


def loss_curves(history: History, best: int) -> Figure:
    """Training and validation loss over epochs; the chosen epoch is marked."""
    return _curves(history, {"train_loss": "training", "val_loss": "validation"}, "loss", best)


def figure_curves(history: History, best: int) -> Figure:
    """The validation figures over epochs: UAR where there are classes, each attribute's CCC."""
    names = {"val_uar": "UAR"} if any(row.get("val_uar") is not None for row in history) else {}
    names |= {k: f"CCC {k[8:]}" for k in history[-1] if k.startswith("val_ccc_")}
    figure = _curves(history, names, "validation", best)
    low = min((row[k] for row in history for k in names if row.get(k) is not None), default=0.0)
    figure.axes[0].set_ylim(min(0.0, low), 1.02)
    return figure


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Rows are truth, shaded by the share of the row; numbers are clips."""
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.5, 0.62 * len(classes) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    for (i, j), n in np.ndenumerate(counts):
        if n:
            colour = "white" if share[i, j] > 0.55 else INK
            axes.text(j, i, str(n), ha="center", va="center", color=colour)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=144)


def inline_svg(figure: Figure, label: str) -> str:
    """A figure as an ``<svg>`` element to be placed in a page, its colours as CSS variables."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{label}"', text, count=1)


def _curves(history: History, names: dict[str, str], title: str, best: int) -> Figure:
    figure = Figure(figsize=(4.4, 2.9), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    styles: list[dict[str, Any]] = [
        {"color": FIRST},
        {"color": SECOND},
        {"color": FIRST, "ls": "--"},
        {"color": SECOND, "ls": "--"},
    ]
    for i, (name, label) in enumerate(names.items()):
        points = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, lw=1.8, **styles[i % len(styles)])
    axes.axvline(best, color=INK, lw=0.8, ls=":")
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.set_xlabel("epoch (dotted: the chosen one)", color=INK, fontsize=10)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(color=GRID, lw=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, labelcolor=INK, fontsize=10)
    return figure
