"""Measure size, operations and speed of the presets, for the table in docs/presets.md.

python -m benchmarks.presets                      # prints the table and RESULT
python -m benchmarks.presets --write docs/presets.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.data.loader.sampling import flow_channels
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.devices import pick_device
from deiii.data.tools.machine import machine
from deiii.model.network.deiii import DEIII
from deiii.model.training.losses import total_loss

PRESETS = ("tiny", "base", "large", "ravdess_audio")
CLASSES = 8


def blank_batch(config: Config, clips: int, device: torch.device) -> Batch:
    """Return random input of the preset's size; everything is valid."""
    t, l, s, m = config.loader.steps, config.loader.audio_steps, config.loader.crop, config.logmel.n_mels
    video, flow = config.model.video or config.model.flow, config.model.flow
    g = torch.Generator().manual_seed(0)
    size = s if video else 0
    label = torch.randint(CLASSES, (clips,), generator=g)

    def yes(*shape):
        return torch.ones(shape, dtype=torch.bool)

    batch = Batch(
        frames=torch.randn(clips, t, 3, size, size, generator=g),
        flow=torch.randn(clips, t, flow_channels(config.loader), size, size, generator=g),
        logmel=torch.randn(clips, l, m, generator=g),
        video_time=(0.08 * torch.arange(t)).expand(clips, t).clone(),
        audio_time=(0.01 * torch.arange(l)).expand(clips, l).clone(),
        video_mask=yes(clips, t) & video, flow_mask=yes(clips, t) & flow, audio_mask=yes(clips, l),
        label=label, soft=torch.nn.functional.one_hot(label, CLASSES).float(),
        attributes=torch.zeros(clips, 0), index=torch.arange(clips), real=yes(clips),
    )  # fmt: skip
    return batch.to(device)


def network_of(config: Config) -> DEIII:
    """Return a new network of these settings."""
    channels = flow_channels(config.loader)
    return DEIII(config.model, CLASSES, 0, config.logmel.n_mels, flow_channels=channels)


def flops(config: Config) -> int:
    """Return the floating-point operations of one clip's forward pass, a multiply-add counted as two."""
    meta = torch.device("meta")  # shapes only; nothing is computed
    with meta:
        model = network_of(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(blank_batch(config, 1, meta))
    return counter.get_total_flops()


def speed(step, clips: int, device: torch.device, runs: int) -> float:
    """Return clips per second, median of ``runs`` after one warm-up."""
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return clips / statistics.median(seconds[1:])


def measure(name: str, device: torch.device, clips: int, runs: int) -> dict:
    """Return the row of one preset, without speeds if ``runs`` is 0."""
    config = load_config(f"configs/{name}.yaml")
    model = network_of(config).to(device)
    batch = blank_batch(config, clips, device) if runs else None

    def forward() -> None:
        with torch.no_grad():
            model(batch)

    def train() -> None:
        loss, _ = total_loss(model(batch), batch)
        loss.backward()
        model.zero_grad(set_to_none=True)

    speeds = {}
    if runs:
        model.eval()
        speeds["clips_per_s"] = round(speed(forward, clips, device, runs), 1)
        model.train()
        speeds["clips_per_s_training"] = round(speed(train, clips, device, runs), 1)
    return {
        "preset": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflops_clip": round(flops(config) / 1e9, 3),
        **speeds,
        "width": config.model.width, "steps": config.loader.steps, "crop": config.loader.crop,
        "audio_steps": config.loader.audio_steps, "video": config.model.video,
    }  # fmt: skip


def markdown(rows: list[dict], where: str, clips: int) -> str:
    """Return the page as Markdown."""
    timed = all("clips_per_s" in r for r in rows)
    heads = [
        "preset",
        "parameters",
        "GFLOPs per clip",
        *(["clips/s", "clips/s in training"] if timed else []),
    ]
    heads.append("input of one clip")
    lines = [
        "# Presets", "",
        "A preset is a configuration of the network; this page gives the size and the speed of each.", "",
        "Written by `python -m benchmarks.presets --write docs/presets.md`; do not edit by hand.", "",
        f"| {' | '.join(heads)} |", "|" + "---|" * len(heads),
    ]  # fmt: skip
    for r in rows:
        seen = f"{r['steps']} video frames and flow of {r['crop']} px, " if r["video"] else ""
        cells = [f"`{r['preset']}`", f"{r['parameters']:,}", f"{r['gflops_clip']:.2f}"]
        cells += [f"{r['clips_per_s']:.0f}", f"{r['clips_per_s_training']:.1f}"] if timed else []
        lines.append(f"| {' | '.join([*cells, seen + str(r['audio_steps']) + ' log-mel rows'])} |")
    about = "GFLOPs (10^9 floating-point operations) are those of one forward pass; "
    about += "a multiply-add counts as two. Training takes about three times as many."
    lines += ["", about]
    if timed:
        lines += ["", "The speeds (clips/s in prediction and in training) are those of the network only, "
                      f"without loader and optimiser, in float32, with batches of {clips}.",
                      f"They are medians of several runs on this machine: {where}, "
                      f"torch {torch.__version__.split('+')[0]}."]  # fmt: skip
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", type=lambda t: t.split(","), default=list(PRESETS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=int, default=8, help="batch size")
    parser.add_argument("--runs", type=int, default=5, help="timed runs; 0 omits the speeds")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    device = pick_device(args.device)
    rows = [measure(name, device, args.clips, args.runs) for name in args.presets]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
    page = markdown(rows, where, args.clips)
    print(page)
    if args.write:
        write_text(args.write, page)
    print("RESULT " + json.dumps({"bench": "presets", "hardware": where, "presets": rows}))


if __name__ == "__main__":
    main()
