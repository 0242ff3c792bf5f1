"""Run folders like a trained one with other weights, as other seeds would give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from deiii.model.training import checkpoint

OF_EVALUATION = ("metrics.json", "predictions.csv", "report.html")


def sibling_run(run: Path, target: Path, seed: int, **info) -> Path:
    """Copy a run that was not evaluated, with random weights whose predictions differ from clip to clip.

    Args:
        run: a trained run folder.
        target: the new folder.
        seed: seed of the weights.
        info: entries of ``run.json`` to change.
    """
    target.mkdir(parents=True)
    for path in run.iterdir():
        if path.is_file() and path.name not in (*OF_EVALUATION, ".lock"):
            shutil.copy(path, target / path.name)
    weights, saved = checkpoint.load(target / "best.safetensors")
    g = torch.Generator().manual_seed(seed)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and "norm" not in name:
            tensor += 0.3 * tensor.std(correction=0) * torch.randn(tensor.shape, generator=g)
        if name == "fused_head.classes.weight":
            tensor += torch.randn(tensor.shape, generator=g)
    checkpoint.save(target / "best.safetensors", weights, {"epoch": saved["epoch"]})
    recorded = json.loads((target / "run.json").read_text())
    recorded.pop("evaluations", None)
    (target / "run.json").write_text(json.dumps({**recorded, **info}))
    return target
