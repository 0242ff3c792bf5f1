"""The calibration of a run: its figures on test speakers, two pictures, and what the page shows of them."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deiii.data.tools.counts import counted
from deiii.data.tools.text.figure_text import number
from deiii.model.calibration import LIMITS, calibration, find_temperature
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, show_spines
from deiii.model.training.scoring import Predictions

Values = dict[str, Any]

VERSIONS = {"raw": "as predicted", "tempered": "with the temperature"}
COLOURS = {"raw": FIRST, "tempered": SECOND}
FIGURES = {
    "ece": "ECE, bins of equal width",
    "ece_chance": "ECE by chance, if perfectly calibrated",
    "ece_equal_mass": "ECE, bins of equal numbers",
    "brier": "Brier score",
    "nll": "negative log-likelihood",
    "aurc": "AURC",
}
FEW = 30  # clips; a temperature that was fitted on fewer of them is reported as uncertain
NEAR_LIMIT = 1.01  # a temperature within this factor of a limit counts as being at the limit


def calibration_of(test: Predictions, validation: Predictions | None) -> Values:
    """Return the calibration of the fused head on test speakers, for ``metrics.json``.

    The temperature is fitted on validation speakers alone; there is none without them.

    Returns:
        see `deiii.model.calibration.calibration`, and ``temperature_clips``, the number of validation clips
        on which the temperature was fitted; empty where no labelled test clip has probabilities.
    """
    if "fused" not in test.probabilities:
        return {}
    known = (test.label >= 0) & test.present["fused"]
    if not known.any():
        return {}
    temperature, clips = None, 0
    if validation is not None and "fused" in validation.probabilities:
        chosen = (validation.label >= 0) & validation.present["fused"]
        temperature = find_temperature(validation.probabilities["fused"][chosen], validation.label[chosen])
        clips = int(chosen.sum())
    found = calibration(test.probabilities["fused"][known], test.label[known], temperature)
    return found | {"temperature_clips": clips}


def calibration_lines(found: Values) -> list[str]:
    """Return lines for the terminal; none where nothing is known.

    >>> calibration_lines({})
    []
    """
    if not found:
        return []
    error = f"calibration error (ECE) {found['raw']['ece']:.3f}"
    last: Values = found["tempered" if "tempered" in found else "raw"]
    chance: list[str] = []
    if "ece_chance" in last:  # earlier versions stored none
        clips = counted(found["clips"], "clip")
        chance = [
            f"{'with the temperature, ' if 'tempered' in found else ''}perfectly calibrated probabilities "
            f"would have an ECE of about {last['ece_chance']:.3f} on {clips}, by chance"
        ]
    if "tempered" not in found:
        return [f"{error}; no temperature: there are no labelled validation clips", *chance]
    lines = [
        f"{error} ({found['tempered']['ece']:.3f} with the temperature {found['temperature']:.2f}, fitted on "
        f"{_validation(found)}); area under the abstention curve (AURC) {found['raw']['aurc']:.3f}",
        *chance,
    ]
    return [*lines, *(f"the temperature {note}" for note in _notes(found))]


def _validation(found: Values) -> str:
    """Return on what the temperature was fitted; earlier versions stored no number of clips."""
    clips = found.get("temperature_clips")
    return f"{counted(clips, 'clip')} of validation speakers" if clips else "validation speakers"


def _notes(found: Values) -> list[str]:
    """Return the ends of sentences on the temperature that a user should read."""
    few = "is uncertain, because it was fitted on so few clips"
    return [
        *([few] if 0 < found.get("temperature_clips", 0) < FEW else []),
        *filter(None, [limit_note(found["temperature"])]),
    ]


def limit_note(temperature: float) -> str:
    """Return the end of a sentence on a temperature at a limit of the search; empty for other temperatures.

    >>> limit_note(1.5)
    ''
    """
    if temperature < LIMITS[0] * NEAR_LIMIT:
        return "lies at the lower limit of the search, because nearly all validation clips are right"
    if temperature > LIMITS[1] / NEAR_LIMIT:
        return (
            "lies at the upper limit of the search, because the network is right on validation clips no more "
            "often where it is confident"
        )
    return ""


def calibration_values(found: Values) -> Values:
    """Return what the template shows: rows of a table and a sentence on the temperature."""
    versions = [name for name in VERSIONS if name in found]
    rows = [
        (label, *(number(found[name][key]) for name in versions))
        for key, label in FIGURES.items()
        if key in found["raw"]  # earlier versions stored no ECE of chance
    ]
    t = found["temperature"]
    about = "There are no labelled validation clips, so no temperature was fitted."
    if t is not None:
        about = f"The temperature {t:.3f} was fitted on {_validation(found)}."
        about += "".join(f" It {note}." for note in _notes(found))
    header = ("", *(VERSIONS[name] for name in versions))
    return {"header": header, "rows": rows, "about": about, "bins": found["bins"]}


def calibration_figures(found: Values) -> dict[str, Figure]:
    """Return the reliability picture and the abstention curve by file name."""
    return {"reliability": _reliability(found), "abstention": _abstention(found)}


def _reliability(found: Values) -> Figure:
    figure = Figure(figsize=(4.4, 3.4), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    for name, label in VERSIONS.items():
        if name in found:
            bins = found[name]["bins"]
            most = max(b["clips"] for b in bins)
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axes.plot(x, y, color=COLOURS[name], lw=1.2, alpha=0.6)
            sizes = [6 + 60 * b["clips"] / most for b in bins]
            axes.scatter(x, y, s=sizes, color=COLOURS[name], label=label, zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    _style(axes, "reliability", "confidence (larger dot: more clips)", "accuracy")
    return figure


def _abstention(found: Values) -> Figure:
    figure = Figure(figsize=(4.4, 3.4), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for name, label in VERSIONS.items():
        if name in found:
            coverage, risk = zip(*found[name]["risk"], strict=True)
            style = "-" if name == "raw" else "--"
            axes.plot(coverage, risk, style, color=COLOURS[name], lw=1.8, label=label)
    axes.set_xlim(0, 1)
    _, top = axes.get_ylim()
    axes.set_ylim(-0.03 * top, top)  # a curve at 0 is not hidden by the axis
    _style(axes, "abstention", "share of clips decided, most confident first", "share of wrong predictions")
    return figure


def _style(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.set_xlabel(x, color=INK, fontsize=10)
    axes.set_ylabel(y, color=INK, fontsize=10)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(color=GRID, lw=0.6)
    show_spines(axes, "left", "bottom")
    axes.legend(frameon=False, labelcolor=INK, fontsize=10)
