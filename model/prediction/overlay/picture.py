"""A still picture of the course of a prediction: probabilities and attributes over the time of a recording.

Each person has a panel of areas, one for each class, that are stacked to 1, and a panel for each attribute.
Places without a prediction stay grey: silence with ``--segments speech``, and times without a face or audio.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.pictures import figure_text
from deiii.model.prediction.overlay.panel import COLOURS
from deiii.model.prediction.result import Prediction
from deiii.model.prediction.windows.timelines import Row, rows_of

MOST_STEPS = 600  # steps of a panel; more could hardly be distinguished
MOST_TICKS = 10
TICKS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
EMPTY = "#e6e9ef"  # where there is no prediction
INK = "#1f2430"
# Inches: the picture, the thumbnail, the height of the panels, and the space around them.
WIDTH, THUMBNAIL, PANEL, LINE = 12.0, 0.95, 1.25, 0.7
ABOVE, BELOW, LEFT, RIGHT, GAP = 0.75, 0.4, 0.6, 0.4, 0.15
KEYS = 0.2  # inches: a further line of the legend
KEY, LETTER = 0.6, 0.08  # inches: an entry of the legend without its name, a letter of the name
NO_PREDICTION = "no prediction"


def write_picture(own: Sequence[Prediction], ranges: Sequence[tuple[float, float]], path: str | Path) -> None:
    """Write `course_figure` as PNG.

    Args:
        own: predictions with their timelines; those without one get an empty panel.
        ranges: lowest and highest value of each attribute.
        path: the file; it is replaced.

    Raises:
        OSError: the file cannot be written.

    >>> write_picture(network.predict_people("talk.mp4"), network.task.ranges, "talk.png")  # doctest: +SKIP
    """
    with atomic_path(Path(path)) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names in scripts that the font does not have
        course_figure(own, ranges).savefig(temporary, format="png", dpi=144)


def course_figure(own: Sequence[Prediction], ranges: Sequence[tuple[float, float]]) -> Figure:
    """Draw the course of the prediction for a file, or of the predictions for all people in it.

    Args:
        own: predictions with their timelines; those without one get an empty panel.
        ranges: lowest and highest value of each attribute.
    """
    classes = next((list(p.probabilities) for p in own if p.probabilities), [])
    attributes = next((list(p.attributes) for p in own if p.attributes), [])
    heights = [PANEL] * bool(classes) + [LINE] * len(attributes) or [PANEL]
    people = any(p.person is not None for p in own)
    page = _Page(own[0].seconds, classes, len(own) * (sum(heights) + GAP * len(heights)), people)
    step_s = 0.0
    for prediction in own:
        panels = [page.panel(height) for height in heights]
        page.person(prediction, sum(heights) + GAP * (len(heights) - 1))
        rows = rows_of(prediction)
        if len(rows) > MOST_STEPS:
            step_s = page.seconds / MOST_STEPS
        x, values = _points(*_steps(rows, len(classes) + len(attributes), page.seconds))
        if classes:
            _areas(panels[0], x, values[:, : len(classes)])
        for k, name in enumerate(attributes):
            _line(panels[k - len(attributes)], x, values[:, len(classes) + k], name, ranges[k])
        panels[-1].tick_params(labelbottom=prediction is own[-1])
    panels[-1].set_xlabel(
        f"time (each step is the mean of {step_s:.1f} s)" if step_s else "time", color=INK, fontsize=9
    )
    page.headline(f"{figure_text(Path(own[0].path).name)} ({_clock(page.seconds)})")
    return page.figure


class _Page:
    """A figure whose panels are placed from top to bottom, in inches.

    Args:
        seconds: length of the recording in s.
        classes: names of the legend.
        height: height of all panels.
        people: whether the panels need room for people on their left.
    """

    def __init__(self, seconds: float, classes: Sequence[str], height: float, people: bool):
        self.seconds = seconds
        self.left = LEFT + (THUMBNAIL + GAP) * people
        self.names = [*map(figure_text, classes), NO_PREDICTION]
        room = (WIDTH - self.left) / (KEY + LETTER * max(map(len, self.names)))
        self.columns = min(max(1, int(room)), len(self.names))
        above = ABOVE + KEYS * ((len(self.names) - 1) // self.columns)
        self.height = above + height + BELOW
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor="white")
        self.at = self.height - above  # the upper edge of the next panel

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))

    def panel(self, height: float) -> Axes:
        """Return the next panel over the time of the recording."""
        axes = self._axes(self.left, self.at - height, WIDTH - self.left - RIGHT, height)
        self.at -= height + GAP
        axes.set_facecolor(EMPTY)
        axes.set_xlim(0, max(self.seconds, 1e-3))
        step = next((s for s in TICKS_S if self.seconds <= MOST_TICKS * s), TICKS_S[-1])
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _clock(at)))
        axes.tick_params(colors=INK, labelsize=8, labelbottom=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def person(self, prediction: Prediction, height: float) -> None:
        """Show number and thumbnail of the person on the left of the last panels, which have this height."""
        person = prediction.person
        if person is None:
            return
        middle = self.at + GAP + height / 2
        axes = self._axes(GAP, middle - THUMBNAIL / 2, THUMBNAIL, THUMBNAIL)
        axes.axis("off")
        if person.thumbnail is not None:
            axes.imshow(person.thumbnail)
        axes.set_title(f"person {person.number}", color=INK, fontsize=9, pad=3)

    def headline(self, title: str) -> None:
        """Write the title, and the colours of the classes below it."""
        keys = [Patch(color=_colour(k), label=name) for k, name in enumerate(self.names)]
        keys[-1].set_color(EMPTY)
        at = self.left / WIDTH
        self.figure.text(at, 1 - 0.12 / self.height, title, color=INK, fontsize=11, va="top")
        self.figure.legend(
            handles=keys, loc="upper left", bbox_to_anchor=(at, 1 - 0.38 / self.height), borderaxespad=0,
            borderpad=0, ncols=self.columns, frameon=False, fontsize=9, labelcolor=INK,
            handlelength=1.2, columnspacing=1.4,
        )  # fmt: skip


def _steps(rows: Sequence[Row], outputs: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the course as steps: begin and end in s, float64 [N,2], and their values, float64 [N,outputs].

    More than `MOST_STEPS` rows are averaged, weighted by their length, over steps of equal length; a step
    without a row is left out.
    """
    times = np.array([(row.begin_s, row.end_s) for row in rows]).reshape(len(rows), 2)
    values = np.array([(*row.probabilities, *row.attributes) for row in rows]).reshape(len(rows), outputs)
    if len(rows) <= MOST_STEPS:
        return times, values
    edges = np.linspace(0, seconds, MOST_STEPS + 1)
    step = np.clip(np.searchsorted(edges, times.mean(axis=1), side="right") - 1, 0, MOST_STEPS - 1)
    length = times[:, 1] - times[:, 0]
    total = np.bincount(step, length, MOST_STEPS)
    sums = np.stack([np.bincount(step, length * v, MOST_STEPS) for v in values.T], axis=1)
    some = total > 0
    return np.stack((edges[:-1], edges[1:]), axis=1)[some], sums[some] / total[some, None]


def _points(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return steps as points of a line: begin and end of each step, with NaN where the course has a gap."""
    x, y = times.reshape(-1), values.repeat(2, axis=0)
    gaps = 2 * np.flatnonzero(times[1:, 0] > times[:-1, 1]) + 2
    return np.insert(x, gaps, np.nan), np.insert(y, gaps, np.nan, axis=0)


def _areas(axes: Axes, x: np.ndarray, values: np.ndarray) -> None:
    """Stack the probabilities of the classes at the points ``x``, float [N,C], to 1."""
    tops = np.cumsum(values, axis=1)
    low = np.zeros(len(x))
    for k, top in enumerate(tops.T):
        axes.fill_between(x, low, top, color=_colour(k), linewidth=0)
        low = top
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("probability", color=INK, fontsize=8)


def _line(axes: Axes, x: np.ndarray, course: np.ndarray, name: str, limits: tuple[float, float]) -> None:
    """Draw an attribute at the points ``x`` within its range."""
    axes.plot(x, course, color=INK, linewidth=1)
    axes.set_ylim(*limits)
    axes.set_ylabel(figure_text(name), color=INK, fontsize=8)


def _colour(number: int) -> tuple[float, float, float]:
    red, green, blue = COLOURS[number % len(COLOURS)]
    return red / 255, green / 255, blue / 255


def _clock(seconds: float) -> str:
    """Return a time as text.

    >>> _clock(7.5), _clock(75), _clock(4000)
    ('0:07.5', '1:15', '1:06:40')
    """
    tenths = round(10 * seconds)
    whole, tenth = divmod(tenths, 10)
    minutes, rest = divmod(whole, 60)
    text = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else str(minutes)
    return f"{text}:{rest:02d}" + (f".{tenth}" if tenth else "")
