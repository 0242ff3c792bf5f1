"""Training curves and the confusion matrix, as PNG files and as SVG with the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.pictures import figure_text

# In SVG the CSS variables of the page replace these colours, so a figure is legible on light and dark pages.
INK = "#1f2430"
GRID = "#d0d4dd"
FIRST = "#2563eb"
SECOND = "#d97706"
LONGEST = 32  # characters of a class name in a figure
ROOMY = 12  # characters of a class name for which the confusion matrix has room beside its cells
CHARACTER = 0.09  # inches of a character of a class name
DOTTED = (0, (1, 3))  # dots that stay apart at the size of the report
VARIABLES = {INK: "var(--ink)", GRID: "var(--line)", FIRST: "var(--first)", SECOND: "var(--second)"}

History = list[dict[str, float | None]]


def loss_curves(history: History, best: int) -> Figure:
    """Draw the training and validation loss over epochs; the epoch ``best`` is marked."""
    return _curves(history, {"train_loss": "training", "val_loss": "validation"}, "loss", best)


def figure_curves(history: History, best: int) -> Figure:
    """Draw the validation figures over epochs: UAR where classes are predicted, and each attribute's CCC."""
    names = {"val_uar": "UAR"} if any(row.get("val_uar") is not None for row in history) else {}
    names |= {k: f"CCC {k[8:]}" for k in history[-1] if k.startswith("val_ccc_")}
    figure = _curves(history, names, "validation", best)
    values = [value for row in history for k in names if (value := row.get(k)) is not None]
    low = min(values, default=0.0)
    figure.axes[0].set_ylim(min(0.0, low), 1.02)
    return figure


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix, int [C,C].

    Rows are the true classes. A cell shows its number of clips; its shade is their share of the row.
    """
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_short(figure_text(name)) for name in classes]
    longest = max(map(len, names))
    side = max(3.5, 0.62 * len(classes) + 1.5) + CHARACTER * max(0, longest - ROOMY)
    figure = Figure(figsize=(side, side), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    for (i, j), n in np.ndenumerate(counts):
        if n:
            colour = "white" if share[i, j] > 0.55 else INK
            axes.text(j, i, str(n), ha="center", va="center", color=colour)
    return figure


def _short(name: str) -> str:
    """Return a name of at most `LONGEST` characters.

    >>> _short("a" * 50)[-3:], len(_short("a" * 50))
    ('aa…', 32)
    """
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def layer_bars(weights: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Figure:
    """Draw the weight of each layer of each frozen encoder, with its deviation over runs where there is one.

    Args:
        weights: ``mean`` and ``sd`` of each layer's weight, keyed by stage and layer.
    """
    figure = Figure(figsize=(2.2 + 2.4 * len(weights), 2.9), layout="constrained", facecolor="white")
    for n, (stage, layers) in enumerate(weights.items(), 1):
        axes = figure.add_subplot(1, len(weights), n)
        means = [layer["mean"] or 0.0 for layer in layers.values()]
        spread = [layer["sd"] or 0.0 for layer in layers.values()]
        axes.bar(
            list(layers), means, yerr=spread if any(spread) else None, color=FIRST, ecolor=INK, capsize=3
        )
        axes.axhline(1 / len(layers), color=INK, lw=1.2, ls=DOTTED)
        axes.set_title(stage, color=INK, fontsize=11, loc="left")
        axes.set_xlabel("layer (dotted: equal weights)", color=INK, fontsize=10)
        axes.set_ylim(0, None)
        axes.tick_params(colors=INK, labelsize=10)
        show_spines(axes, "left", "bottom")
    return figure


def show_spines(axes: Axes, *sides: str) -> None:
    """Show the named sides of a panel's frame, such as ``left``, in the colour of the grid; hide others."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(GRID)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=144)


def inline_svg(figure: Figure, label: str) -> str:
    """Return a figure as an ``<svg>`` element for a page, with CSS variables as colours."""
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
            dot = "o" if len(points) == 1 else ""  # a line of one point would be invisible
            axes.plot(*zip(*points, strict=True), marker=dot, label=label, lw=1.8, **styles[i % len(styles)])
    axes.axvline(best, color=INK, lw=1.2, ls=DOTTED)
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.set_xlabel("epoch (dotted: the one that counts)", color=INK, fontsize=10)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(color=GRID, lw=0.6)
    show_spines(axes, "left", "bottom")
    low, high = axes.get_xlim()
    if high - low < 1:  # one epoch: matplotlib would put fractions of it on the axis
        axes.set_xlim(best - 1, best + 1)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    if axes.lines[:-1]:  # beside the line of the chosen epoch
        axes.legend(frameon=False, labelcolor=INK, fontsize=10)
    else:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color=INK, fontsize=10)
    return figure
