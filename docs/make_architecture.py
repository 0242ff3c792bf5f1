"""Draw docs/images/architecture.webp: python docs/make_architecture.py"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

TARGET = Path(__file__).parent / "images" / "architecture.webp"
INK = "#1f2430"
LINE = "#5b6373"
COLOURS = {"data": "#dbeafe", "pipeline": "#dcfce7", "model": "#fde8d7", "file": "#f1f2f5"}
LEGEND = {"pipeline": "pipeline/", "data": "data/", "model": "model/", "file": "files on disk"}

# key: (x, y, name and description, package, module that does it or defines its format)
BOXES = {
    "clips": (0.9, 4.1, "raw clips\nvideo and audio files", "file", ""),
    "corpora": (0.9, 3.0, "corpus adapter\nclip table, splits", "data", "data/corpora/scan.py"),
    "media": (3.1, 4.1, "media\ndecoding, one clock", "pipeline", "pipeline/media/container.py"),
    "faces": (5.4, 4.1, "faces\ntracked, aligned crops", "pipeline", "pipeline/faces/stage.py"),
    "flow": (7.7, 4.1, "flow\nRAFT, DIS or TV-L1", "pipeline", "pipeline/flow/stage.py"),
    "logmel": (5.4, 3.0, "log-mel\naudio spectrogram", "pipeline", "pipeline/logmel/stage.py"),
    "graph": (3.1, 3.0, "Dask graph\none task per shard", "pipeline", "pipeline/preprocess/graph.py"),
    "cache": (7.7, 3.0, "cache\nHDF5 shards", "file", "data/cache/shards.py"),
    "loader": (7.7, 1.9, "loader\nmapped files to batches", "data", "data/loader/loader.py"),
    "network": (5.4, 1.9, "DE-III\nthe network", "model", "model/network/deiii.py"),
    "train": (3.1, 1.9, "train\nselects on validation", "model", "model/training/train.py"),
    "run": (0.9, 1.9, "run folder\nweights, settings, split", "file", "model/training/run_folder.py"),
    "evaluate": (0.9, 0.8, "evaluate\ntest speakers, report", "model", "model/evaluation/evaluate.py"),
    "export": (3.1, 0.8, "export\nweights, model card", "model", "model/prediction/export.py"),
    "predict": (5.4, 0.8, "predict\nany media file", "model", "model/prediction/predictor.py"),
}
ARROWS = [
    ("clips", "corpora"), ("clips", "media"), ("corpora", "graph"), ("media", "faces"), ("media", "logmel"),
    ("faces", "flow"), ("flow", "cache"), ("logmel", "cache"), ("graph", "media"), ("cache", "loader"),
    ("loader", "network"), ("network", "train"), ("train", "run"), ("run", "evaluate"), ("run", "export"),
    ("export", "predict"),
]  # fmt: skip
WIDTH = 1.9
HEIGHT = 0.8


def draw() -> Figure:
    """The figure: one box per step, coloured by package, with arrows along the path of the data."""
    figure = Figure(figsize=(9.4, 5.1), dpi=150, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.25, 8.85)
    axes.set_ylim(0.2, 4.7)
    axes.set_axis_off()
    for x, y, words, package, module in BOXES.values():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        style = "round,pad=0,rounding_size=0.09"
        axes.add_patch(
            FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle=style, fc=COLOURS[package], ec=LINE, lw=0.9)
        )
        name, _, description = words.partition("\n")
        centred = {"ha": "center", "va": "center", "color": INK}
        axes.text(x, y + (0.2 if module else 0.12), name, size=10, weight="bold", **centred)
        axes.text(x, y - (0.03 if module else 0.12), description, size=7.6, **centred)
        if module:
            axes.text(x, y - 0.25, Path(module).parent.as_posix(), size=6.4, family="monospace", **centred)
    for begin, end in ARROWS:
        start, stop = _arrow_ends(BOXES[begin][:2], BOXES[end][:2])
        axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=11, color=LINE, lw=1.1))
    for i, (package, words) in enumerate(LEGEND.items()):
        y = 1.12 - 0.24 * i
        style = "round,pad=0,rounding_size=0.03"
        axes.add_patch(
            FancyBboxPatch((7.05, y), 0.2, 0.14, boxstyle=style, fc=COLOURS[package], ec=LINE, lw=0.8)
        )
        axes.text(7.35, y + 0.07, words, va="center", color=INK, size=8.5)
    return figure


def _arrow_ends(begin: tuple[float, float], end: tuple[float, float]) -> tuple[tuple, tuple]:
    """Where an arrow leaves the border of one box and meets the border of another."""
    (x0, y0), (x1, y1) = begin, end
    across = (x1 > x0) - (x1 < x0)
    down = (y1 > y0) - (y1 < y0)
    if x0 == x1:
        return (x0, y0 + down * HEIGHT / 2), (x1, y1 - down * HEIGHT / 2)
    inset = 0.0 if y0 == y1 else 0.2
    return (x0 + across * WIDTH / 2, y0 + down * inset), (x1 - across * WIDTH / 2, y1 - down * inset)


if __name__ == "__main__":
    draw().savefig(TARGET, pil_kwargs={"lossless": True, "method": 6, "quality": 100})
    print(TARGET)
