"""Contact sheets: one image of a clip's video frames, crops, flow and log-mel, to check preprocessing."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.pictures import colour_wheel, figure_text, flow_colours, flow_saturation
from deiii.data.tools.row_times import row_step
from deiii.pipeline.extract import Features
from deiii.pipeline.inspect.source_frames import chosen_frames, spread

COLUMNS = 8  # frames of a clip that are shown
SHOWN = 24  # features of a layer that are shown


def draw_contact_sheet(
    features: Features, path: str | Path, fps: float | None = None, quality: str = ""
) -> None:
    """Write a PNG with evenly spaced source frames, their crops, the flow to the next crop, and the log-mel.

    Below them is a row for each frozen encoder: its features over time, by layer. Box and landmarks are drawn
    on the source frames.

    Args:
        features: the features of the clip.
        path: path of the PNG.
        fps: ``faces.fps``, the grid of the rows; ``None`` for the frames' own times.
        quality: text on the face, for the title.

    >>> draw_contact_sheet(extract("a.mp4"), "a.png")  # doctest: +SKIP
    """
    sources = chosen_frames(features, fps, 320, COLUMNS)
    encoders = {name: more for name, more in features.more.items() if "states" in more}
    heights = [1.0, 1.0, 1.0, 1.3, *[1.3] * len(encoders)]
    if sources:
        first, _ = next(iter(sources.values()))
        heights[0] = first.shape[0] / first.shape[1]
    figure = Figure(figsize=(1.5 * COLUMNS + 1.2, 1.6 * sum(heights) + 1.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), COLUMNS + 1, height_ratios=heights)
    title = f"{Path(features.path).name}\n{features.describe()}" + (f"\n{quality}" if quality else "")
    lines = textwrap.wrap(figure_text(title), 150, replace_whitespace=False, break_on_hyphens=False)
    figure.suptitle("\n".join(lines), fontsize=9)
    for column, (row, (rgb, time)) in enumerate(sources.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(rgb)
        invalid = features.valid is None or not features.valid[row]
        axes.set_title(
            f"{time:.2f} s{' no face' if invalid else ''}", fontsize=8, color="red" if invalid else "black"
        )
        axes.set_axis_off()
    if features.frames is not None:
        _draw_crops(figure, grid, features.frames)
    if features.flow is not None and features.flow_valid is not None:
        _draw_flow(figure, grid, features.flow, features.flow_valid)
    audio = figure.add_subplot(grid[3, :])
    if features.logmel is not None and features.audio_time is not None:
        _draw_logmel(audio, features.logmel, features.audio_time, [time for _, time in sources.values()])
    else:
        audio.set_axis_off()
        audio.text(0.5, 0.5, "no audio", ha="center", va="center", color="0.4")
    for row, (name, arrays) in enumerate(encoders.items(), 4):
        _draw_states(figure.add_subplot(grid[row, :]), name, arrays["states"], arrays["time"])
    with atomic_path(path) as temporary:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # names in scripts that the font does not have
            figure.savefig(temporary, format="png")


def _draw_crops(figure: Figure, grid: GridSpec, frames: np.ndarray) -> None:
    for column, row in enumerate(spread(len(frames), COLUMNS)):
        axes = figure.add_subplot(grid[1, column])
        axes.imshow(frames[row])
        axes.set_axis_off()


def _draw_flow(figure: Figure, grid: GridSpec, flow: np.ndarray, valid: np.ndarray) -> None:
    """Draw flow float32 [n,S,S,2] as colours, with the legend on the right."""
    largest = flow_saturation(flow[valid])
    for column, row in enumerate(spread(len(flow), COLUMNS)):
        axes = figure.add_subplot(grid[2, column])
        axes.imshow(flow_colours(flow[row], largest))
        axes.set_axis_off()
    axes = figure.add_subplot(grid[2, COLUMNS])
    axes.imshow(colour_wheel(64))
    axes.set_title(f"edge: {largest:.1f} px", fontsize=8)
    axes.set_axis_off()


def _draw_states(axes: Axes, name: str, states: np.ndarray, time: np.ndarray) -> None:
    """Draw the first `SHOWN` features of each layer of [n,L,D], each in units of its deviation over time."""
    values = states[:, :, :SHOWN].astype(np.float32)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    rows = values.reshape(len(values), -1).T
    extent = (*_span(time), float(len(rows)), 0.0)
    image = axes.imshow(rows, aspect="auto", extent=extent, cmap="coolwarm", vmin=-3, vmax=3)
    names = [str(number + 1) for number in range(values.shape[1])]
    axes.set_yticks(np.arange(values.shape[1]) * values.shape[2], names)
    axes.set_xlabel("time in s")
    axes.set_ylabel(f"{name}, layer")
    axes.figure.colorbar(image, ax=axes, label="deviations", pad=0.01)


def _draw_logmel(axes: Axes, logmel: np.ndarray, time: np.ndarray, frames: Sequence[float]) -> None:
    """Draw a log-mel spectrogram [m,n_mels] over its time in s, with a bar of colours in dB.

    ``frames`` are the times in s of the video frames above, which are marked.
    """
    extent = (*_span(time), 0.0, float(logmel.shape[1]))
    image = axes.imshow(
        logmel.astype(np.float32).T, origin="lower", aspect="auto", extent=extent, cmap="magma"
    )
    if frames:
        marks = axes.secondary_xaxis("top")
        marks.set_xticks(frames, [f"{second:.2f}" for second in frames], fontsize=8)
        for second in frames:
            axes.axvline(second, color="white", lw=0.8, ls=(0, (1, 3)))
        axes.set_xlim(min(extent[0], *frames), max(extent[1], *frames))
        axes.set_facecolor("black")
    axes.set_xlabel("time in s (above: the video frames)" if frames else "time in s")
    axes.set_ylabel("mel band")
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.01)


def _span(time: np.ndarray) -> tuple[float, float]:
    """Return begin and end in s of what is drawn of rows at these times; a single row has a width, too."""
    room = row_step(time) / 2 if len(time) == 1 else 0.0
    return float(time[0]) - room, float(time[-1]) + room
