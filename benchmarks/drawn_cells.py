"""Compare attention between frames and flow (OV) with concatenation, on images of random cells.

An image has 4 x 4 cells; a fair coin gives each the first or the second of two textures. The cells of one
texture move, each in its own direction, and the label is this texture. Frames show the textures and flow
shows the moving cells, so either alone is right in half the cases. Every training step draws new cells, and
the trained network is scored once on 4,000 others:

- ``coin``: drawn in the same way. If the textures have different numbers of cells, two numbers (of cells with
  the first texture, and of moving cells) determine the label, whatever the places of the cells: in 0.90 of
  the cases.
- ``equal``: eight cells of each texture. The numbers contain no information; only the places do.

With ``--training equal`` the training images also have eight cells of each texture. ``--out`` writes
the figures as JSON, and a table as Markdown beside them.

    python -m benchmarks.drawn_cells [--seeds 0,1,2,3,4] [--steps 2500] [--out cells.json]
    python -m benchmarks.drawn_cells --head hidden --training equal --variants full,concatenation

The encoders and the fusion are those of the network (`ImageEncoder`, `VisualFusion`). A linear layer reads
the fused feature; with ``--head hidden`` two layers do, which can also compare the pooled frames with the
pooled flow. No setting was chosen by the scores of the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import made_by
from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.text.figure_text import number, span
from deiii.model.intervals import mean_interval
from deiii.model.network.fusion import VisualFusion
from deiii.model.network.visual_encoders import ImageEncoder

GRID, CELL = 4, 4  # cells in a row; px in a cell
WIDTH, HEADS = 32, 4
BATCH, TESTED = 64, 4000  # images
RATE, WARMUP = 1e-3, 100  # peak learning rate; steps until it is reached
NOISE = 0.3
VARIANTS = {  # frames, flow, attention
    "full": (True, True, True),
    "concatenation": (True, True, False),
    "frames": (True, False, False),
    "flow": (False, True, False),
}
ABOUT = {
    "full": "frames and flow, attention (OV)",
    "concatenation": "frames and flow, concatenation",
    "frames": "frames alone",
    "flow": "flow alone",
}


def draw(images: int, rng: torch.Generator, equal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Draw frames [N,1,S,S], flow [N,2,S,S], both float32, and the moving texture, int64 [N]."""
    cells = GRID * GRID
    if equal:
        texture = torch.rand(images, cells, generator=rng).argsort(1) % 2
    else:
        texture = torch.randint(0, 2, (images, cells), generator=rng)
    moving = torch.randint(0, 2, (images,), generator=rng)
    stripes = torch.tensor([1.0, -1.0]).repeat(CELL // 2)
    kinds = torch.stack([stripes.expand(CELL, CELL), stripes.expand(CELL, CELL).T])
    sign = 1.0 - 2.0 * torch.randint(0, 2, (images, cells, 1, 1), generator=rng)
    frames = _tiled((kinds[texture] * sign)[:, :, None])
    angle = 2 * math.pi * torch.rand(images, cells, generator=rng)
    vector = torch.stack([angle.cos(), angle.sin()], 2) * (texture == moving[:, None])[..., None]
    flow = _tiled(vector[..., None, None].expand(-1, -1, -1, CELL, CELL))
    frames = frames + NOISE * torch.randn(frames.shape, generator=rng)
    return frames, flow + NOISE * torch.randn(flow.shape, generator=rng), moving


def _tiled(cells_NKCSS: Tensor) -> Tensor:
    """Put cells, row by row, beside each other: [N,C,GRID*CELL,GRID*CELL]."""
    rows = cells_NKCSS.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 4, 2, 5)
    return rows.flatten(4).flatten(2, 3)


class Network(nn.Module):
    """Two image encoders, the fusion of one step, and a head; a variant leaves parts out."""

    def __init__(self, frames: bool, flow: bool, attention: bool, hidden: bool = False):
        super().__init__()
        self.frames = ImageEncoder(1, [16], WIDTH, GRID) if frames else None
        self.flow = ImageEncoder(2, [16], WIDTH, GRID) if flow else None
        self.fusion = VisualFusion(WIDTH, HEADS, 0.0, frames, flow, attention)
        layers = (nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, 2))
        self.head = nn.Sequential(*layers) if hidden else nn.Linear(WIDTH, 2)

    def forward(self, frames: Tensor, flow: Tensor) -> Tensor:
        """Return scores [N,2] of frames [N,1,S,S] and flow [N,2,S,S]."""
        v = None if self.frames is None else self.frames(frames)[:, None]
        o = None if self.flow is None else self.flow(flow)[:, None]
        there = torch.ones(len(frames), 1, dtype=torch.bool)
        return self.head(self.fusion(v, o, there, there)[:, 0])


def train(variant: str, seed: int, steps: int, equal: bool, hidden: bool) -> dict[str, float]:
    """Train a variant and return its accuracy on cells drawn by coins and on equal numbers of cells."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(1000 + seed)
    network = Network(*VARIANTS[variant], hidden)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    network.train()
    for step in progress_bar(range(steps), desc=f"{variant}, seed {seed}", unit="step", leave=False):
        rate = RATE * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        frames, flow, moving = draw(BATCH, rng, equal)
        loss = F.cross_entropy(network(frames, flow), moving)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    test = torch.Generator().manual_seed(2000 + seed)
    found = {}
    for name, same in (("coin", False), ("equal", True)):
        frames, flow, moving = draw(TESTED, test, same)
        with torch.no_grad():
            found[name] = float((network(frames, flow).argmax(1) == moving).float().mean())
    return found


def markdown(result: dict[str, Any]) -> str:
    """Return the table of a result: mean over seeds, smallest and largest, on both kinds of images."""
    numbers = "drawn by coins" if result["training"] == "coin" else "equal"
    head = result.get("head", "linear")  # the first results were stored before there was a choice
    lines = [
        f"Training: {result['steps']} steps, numbers of cells {numbers}, {head} head. Accuracy on",
        f"{TESTED} images: mean of {len(result['seeds'])} seeds (smallest to largest). The ceiling of one",
        "input alone is 0.5.",
        "",
        "| network | numbers drawn by coins | equal numbers |",
        "|---|---|---|",
    ]
    for variant, found in result["accuracy"].items():
        cells = [f"{np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (found["coin"], found["equal"])]
        lines.append(f"| {ABOUT[variant]} | {' | '.join(cells)} |")
    gaps = result["full_minus_concatenation"]
    if gaps:
        cells = []
        for kind in ("coin", "equal"):
            interval = span(gaps[kind]["interval"], "no interval with fewer than three seeds", "+")
            cells.append(f"{number(gaps[kind]['mean'], '+')} ({interval})")
        lines.append(f"| *attention minus concatenation, 95 % t interval over seeds* | {' | '.join(cells)} |")
    if "revision" in result:  # the first results were stored without it
        versions = result["versions"]
        made = f"{result['machine']}; revision {result['revision']}; torch {versions['torch']}."
        lines += ["", made]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2,3,4", metavar="0,1,2")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--variants", default=",".join(VARIANTS), metavar="full,concatenation")
    parser.add_argument("--training", choices=("coin", "equal"), default="coin", help="numbers of cells")
    parser.add_argument("--head", choices=("linear", "hidden"), default="linear", help="layers of the head")
    parser.add_argument("--out", metavar="FILE", help="write the figures as JSON, the table as Markdown")
    options = parser.parse_args()
    seeds = [int(word) for word in options.seeds.split(",")]
    started = time.perf_counter()
    runs: dict[str, list[dict[str, float]]] = {}
    for variant in options.variants.split(","):
        runs[variant] = []
        for seed in seeds:
            runs[variant].append(
                train(variant, seed, options.steps, options.training == "equal", options.head == "hidden")
            )
            last = runs[variant][-1]
            print(
                f"{variant:14s} seed {seed}: coin {last['coin']:.3f}, equal {last['equal']:.3f}", flush=True
            )
    table: dict[str, Any] = {
        variant: {kind: [run[kind] for run in found] for kind in ("coin", "equal")}
        for variant, found in runs.items()
    }
    gaps = {}
    if {"full", "concatenation"} <= set(table):
        for kind in ("coin", "equal"):
            values = [a - b for a, b in zip(table["full"][kind], table["concatenation"][kind], strict=True)]
            gaps[kind] = {"mean": float(np.mean(values)), "interval": mean_interval(values)}
    result = {
        "bench": "drawn_cells", "training": options.training, "head": options.head,
        "steps": options.steps, "seeds": seeds,
        "accuracy": table, "full_minus_concatenation": gaps, "seconds": round(time.perf_counter() - started),
        **made_by(),
    }  # fmt: skip
    if options.out:
        write_json(Path(options.out), result)
        Path(options.out).with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
