"""One picture to see in a minute whether preprocessing is right: crops, flow, log-mel, one clock."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.pictures import colour_wheel, flow_colours
from deiii.pipeline.extract import Features
from deiii.pipeline.inspect.source_frames import chosen_frames, spread

COLUMNS = 8


def flow_reach(features: Features) -> float:
    """The length in px that gets full saturation: nearly the longest of the clip's valid flow."""
    if features.flow is None or not features.flow_valid.any():
        return 1.0
    lengths = np.linalg.norm(features.flow[features.flow_valid], axis=3)
    return max(0.5, float(np.percentile(lengths, 99)))


def draw_contact_sheet(features: Features, path: str | Path, fps: float | None = None) -> None:
    """Write a PNG: evenly spaced source frames with box and landmarks, the crops, the flow that
    leaves them, the log-mel.

    Args:
        features: of the clip.
        path: of the PNG.
        fps: the grid that the rows lie on, ``faces.fps``.
    """
    sources = chosen_frames(features, fps, 320, COLUMNS)
    heights = [1.0, 1.0, 1.0, 1.3]
    if sources:
        heights[0] = next(iter(sources.values()))[0].shape[0] / next(iter(sources.values()))[0].shape[1]
    figure = Figure(figsize=(1.5 * COLUMNS + 1.2, 1.6 * sum(heights) + 1.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(4, COLUMNS + 1, height_ratios=heights)
    title = f"{Path(features.path).name}\n{features.describe()}"
    figure.suptitle("\n".join(textwrap.wrap(title, 150, replace_whitespace=False)), fontsize=9)
    for column, (row, (rgb, time)) in enumerate(sources.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(rgb)
        invalid = features.valid is None or not features.valid[row]
        axes.set_title(
            f"{time:.2f} s{' no face' if invalid else ''}", fontsize=8, color="red" if invalid else "black"
        )
        axes.set_axis_off()
    if features.frames is not None:
        _pictures(figure, grid, features)
    sound = figure.add_subplot(grid[3, :])
    if features.logmel is not None and features.audio_time is not None:
        _spectrogram(sound, features)
    else:
        sound.set_axis_off()
        sound.text(0.5, 0.5, "no sound", ha="center", va="center", color="0.4")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _pictures(figure: Figure, grid, features: Features) -> None:
    largest = flow_reach(features)
    for column, i in enumerate(spread(len(features.frames), COLUMNS)):
        axes = figure.add_subplot(grid[1, column])
        axes.imshow(features.frames[i])
        axes.set_axis_off()
        if features.flow is not None:
            axes = figure.add_subplot(grid[2, column])
            axes.imshow(flow_colours(features.flow[i], largest))
            axes.set_axis_off()
    if features.flow is not None:
        axes = figure.add_subplot(grid[2, COLUMNS])
        axes.imshow(colour_wheel(64))
        axes.set_title(f"edge = {largest:.1f} px", fontsize=8)
        axes.set_axis_off()


def _spectrogram(axes, features: Features) -> None:
    time = features.audio_time
    extent = (time[0], time[-1], 0, features.logmel.shape[1])
    image = axes.imshow(
        features.logmel.astype(np.float32).T, origin="lower", aspect="auto", extent=extent, cmap="magma"
    )
    axes.set_xlabel("s")
    axes.set_ylabel("mel band")
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.01)
    if features.video_time is not None:
        axes.set_xlim(min(time[0], features.video_time[0]), max(time[-1], features.video_time[-1]))
