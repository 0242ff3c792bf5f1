"""One picture to see in a minute whether preprocessing is right: crops, flow, log-mel, one clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data.atomic import atomic_path
from data.flow_colours import colour_wheel, flow_colours
from pipeline.clip_features import Features

COLUMNS = 8


def draw_contact_sheet(features: Features, path: str | Path) -> None:
    """Write a PNG: evenly spaced crops with their time, the flow that leaves them, the log-mel."""
    figure = Figure(figsize=(1.5 * COLUMNS + 1.2, 5.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, COLUMNS + 1, height_ratios=[1, 1, 1.3])
    figure.suptitle(f"{Path(features.path).name}\n{features.describe()}", fontsize=9, wrap=True)
    if features.frames is not None:
        _pictures(figure, grid, features)
    sound = figure.add_subplot(grid[2, :])
    if features.logmel is not None and features.audio_time is not None:
        _spectrogram(sound, features)
    else:
        sound.set_axis_off()
        sound.text(0.5, 0.5, "no sound", ha="center", va="center", color="0.4")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _pictures(figure: Figure, grid, features: Features) -> None:
    count = len(features.frames)
    shown = np.unique(np.linspace(0, max(0, count - 2), COLUMNS).round().astype(int))
    lengths = np.linalg.norm(features.flow, axis=3) if features.flow is not None else np.zeros(1)
    largest = max(0.5, float(np.percentile(lengths[features.flow_valid], 99))) if lengths.any() else 1.0
    for column, i in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(features.frames[i])
        mark, colour = ("", "black") if features.valid[i] else (" invalid", "red")
        axes.set_title(f"{features.video_time[i]:.2f} s{mark}", fontsize=8, color=colour)
        axes.set_axis_off()
        if features.flow is not None:
            axes = figure.add_subplot(grid[1, column])
            axes.imshow(flow_colours(features.flow[i], largest))
            axes.set_axis_off()
    if features.flow is not None:
        axes = figure.add_subplot(grid[1, COLUMNS])
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
