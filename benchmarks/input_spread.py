"""Measure the spread of frames, flow and log-mel at the input of the network, over the clips of a corpus.

Flow in px is multiplied by ``model.flow_scale`` before its encoder. If its spread is far below that of
frames, it has little effect on the first layers. Validation speakers show whether another factor is better:

    python -m benchmarks.input_spread configs/emotional_av_scratch.yaml corpus.root=/clips
    deiii sweep emotional_av_scratch corpus.root=/clips model.video=false model.audio=false \\
        model.flow_scale=[0.5,5]
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from benchmarks.encoder_tuning import arguments
from benchmarks.machine import made_by
from deiii.data.config.words import read_settings
from deiii.data.loader.batch import Batch
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json
from deiii.model.training.loaders import make_loader


def spread(batches: Iterable[Batch]) -> dict[str, dict[str, float]]:
    """Return the standard deviation of each stream's valid values, and the median over clips of each clip's.

    Args:
        batches: batches of all clips, as the network reads them; flow in px, before ``model.flow_scale``.
    """
    sums: dict[str, np.ndarray] = {}
    of_clips: dict[str, list[float]] = {}
    for batch in batches:
        streams = {
            "frames": (batch.frames, batch.video_mask),
            "flow": (batch.flow, batch.flow_mask),
            "logmel": (batch.logmel, batch.audio_mask),
        }
        for name, (values, mask) in streams.items():
            for clip in torch.nonzero(batch.real).flatten().tolist():
                own = values[clip][mask[clip]].double()
                if own.numel() > 1:
                    found = np.array([own.numel(), float(own.sum()), float((own**2).sum())])
                    sums[name] = sums.get(name, np.zeros(3)) + found
                    of_clips.setdefault(name, []).append(float(own.std(unbiased=False)))
    return {
        name: {
            "sd": float(np.sqrt(squares / count - (total / count) ** 2)),
            "median_of_clips": float(np.median(of_clips[name])),
        }
        for name, (count, total, squares) in sums.items()
    }


def main() -> None:
    args = arguments(__doc__, trials=False)
    config = read_settings(args.settings)
    features = FeatureSet.open(config)
    every = np.arange(len(features))
    found: dict[str, Any] = dict(
        spread(make_loader(features, every, config, torch.device("cpu"), training=False).epoch(0))
    )
    if "flow" in found:
        found["flow_times_scale"] = {k: config.model.flow_scale * v for k, v in found["flow"].items()}
    for name, row in found.items():
        print(f"{name}: sd {row['sd']:.3f}, median over clips {row['median_of_clips']:.3f}")
    result = {
        "bench": "input_spread", "clips": len(features), "crop": config.loader.crop,
        "faces_size": config.faces.size, "flow_scale": config.model.flow_scale, **found,
        **made_by(),
    }  # fmt: skip
    if args.out:
        write_json(args.out, result)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
