"""Draw docs/images/architecture.png: python docs/make_architecture.py"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

TARGET = Path(__file__).parent / "images" / "architecture.png"
INK, LINE = "#1f2430", "#5b6373"
ROOMS = {"data": "#dbeafe", "pipeline": "#dcfce7", "model": "#fde8d7", "file": "#f1f2f5"}

# what: (x, y, words, room, module whose docstring tells more)
BOXES = {
    "clips": (0.9, 4.1, "raw clips", "file", ""),
    "corpora": (0.9, 3.0, "corpus adapter\nclip table, splits", "data", "data/corpora/__init__.py"),
    "media": (3.1, 4.1, "media\nframes, samples, one clock", "pipeline", "pipeline/media/container.py"),
    "faces": (5.4, 4.1, "faces\ntracked, aligned crops", "pipeline", "pipeline/faces/stage.py"),
    "flow": (7.7, 4.1, "flow\nRAFT, DIS, TV-L1", "pipeline", "pipeline/flow/stage.py"),
    "logmel": (5.4, 3.0, "log-mel", "pipeline", "pipeline/logmel/stage.py"),
    "graph": (3.1, 3.0, "Dask graph\na task a shard and stage", "pipeline", "pipeline/preprocess/graph.py"),
    "cache": (7.7, 3.0, "cache\nshards of one speaker, keyed", "file", "data/cache/shards.py"),
    "loader": (7.7, 1.9, "loader\nmapped files to batches", "data", "data/loader/loader.py"),
    "network": (5.4, 1.9, "DE-III", "model", "model/network/deiii.py"),
    "train": (3.1, 1.9, "train\nepoch by validation speakers", "model", "model/training/train.py"),
    "run": (0.9, 1.9, "run folder", "file", "model/training/run_folder.py"),
    "evaluate": (0.9, 0.8, "evaluate, report\ntest speakers, once", "model", "model/evaluation/evaluate.py"),
    "export": (3.1, 0.8, "export\nmodel card", "model", "model/prediction/export.py"),
    "predict": (5.4, 0.8, "predict\nany file, one process", "model", "model/prediction/predictor.py"),
}
ARROWS = [
    ("clips", "corpora"), ("clips", "media"), ("corpora", "graph"), ("media", "faces"), ("media", "logmel"),
    ("faces", "flow"), ("flow", "cache"), ("logmel", "cache"), ("graph", "media"), ("cache", "loader"),
    ("loader", "network"), ("network", "train"), ("train", "run"), ("run", "evaluate"), ("run", "export"),
    ("export", "predict"),
]  # fmt: skip
WIDE, HIGH = 1.9, 0.72


def draw() -> Figure:
    """The picture."""
    figure = Figure(figsize=(9.4, 5.1), dpi=150, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.25, 8.85)
    axes.set_ylim(-0.05, 4.75)
    axes.set_axis_off()
    for x, y, words, room, _ in BOXES.values():
        corner = (x - WIDE / 2, y - HIGH / 2)
        style = "round,pad=0,rounding_size=0.09"
        axes.add_patch(FancyBboxPatch(corner, WIDE, HIGH, boxstyle=style, fc=ROOMS[room], ec=LINE, lw=0.9))
        name, _, rest = words.partition("\n")
        axes.text(
            x, y + (0.12 if rest else 0), name, ha="center", va="center", color=INK, size=10, weight="bold"
        )
        axes.text(x, y - 0.14, rest, ha="center", va="center", color=INK, size=7.6)
    for begin, end in ARROWS:
        (x0, y0), (x1, y1) = BOXES[begin][:2], BOXES[end][:2]
        across, down = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        if y0 == y1:
            start, stop = (x0 + across * WIDE / 2, y0), (x1 - across * WIDE / 2, y1)
        elif x0 == x1:
            start, stop = (x0, y0 + down * HIGH / 2), (x1, y1 - down * HIGH / 2)
        else:
            start, stop = (x0 + across * WIDE / 2, y0 + down * 0.2), (x1 - across * WIDE / 2, y1 - down * 0.2)
        axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=11, color=LINE, lw=1.1))
    for i, (room, words) in enumerate(
        {"pipeline": "pipeline/", "data": "data/", "model": "model/", "file": "on disk"}.items()
    ):
        y = 1.12 - 0.24 * i
        axes.add_patch(FancyBboxPatch((7.05, y), 0.2, 0.14, boxstyle="round,pad=0,rounding_size=0.03",
                                      fc=ROOMS[room], ec=LINE, lw=0.8))  # fmt: skip
        axes.text(7.35, y + 0.07, words, va="center", color=INK, size=8.5)
    return figure


if __name__ == "__main__":
    draw().savefig(TARGET, metadata={"Software": None})
    print(TARGET)
