"""Every combination of the network's switches, and how tests build and compare networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from deiii.data.loader.batch import ExtraStream
from deiii.model.network.task import network_class
from tests.helpers.extra_stages import EXTRA
from tests.helpers.model_helpers import CLASSES, MELS, random_batch, small_config

SWITCHES = {
    "everything": {},
    "no flow": {"flow": False},
    "no frames": {"video": False},
    "concatenation": {"ov": "concat"},
    "no conformer": {"conformer": False},
    "no IFE": {"ife": False},
    "no conformer, no IFE": {"conformer": False, "ife": False},
    "fused head alone": {"modality_heads": False},
    "audio alone": {"video": False, "flow": False},
    "picture alone": {"audio": False},
    "flow alone": {"audio": False, "video": False},
    "attributes alone": {"classes": False},
    "ImageNet trunk": {"imagenet": True},
    "time match": {"time_match": True},
    "residual audio encoder": {"audio_channels": [8, 8, 12], "audio_deltas": True},
    "extra streams": {"extra": ["speech", "appearance"]},
    "extra streams alone": {
        "extra": ["speech", "appearance"], "video": False, "flow": False, "audio": False,
    },
    "extra audio instead of log-mel": {"extra": ["speech"], "audio": False},
    "extra video beside audio, no conformer": {
        "extra": ["appearance"], "video": False, "flow": False, "conformer": False,
    },
    "statistics pooling": {"pool": "statistics", "extra": ["speech"], "standardise": True},
    "statistics pooling, linear head": {"pool": "statistics", "head": "linear"},
    "linear head of one modality": {"head": "linear", "head_dropout": 0.5, "video": False, "flow": False},
}  # fmt: skip
# Encoders beside the trained ones, instead of them, and alone, at each place where they can enter.
INPUTS = {
    "beside": {},
    "instead of log-mel": {"audio": False},
    "instead of frames": {"video": False},
    "instead of frames and flow": {"video": False, "flow": False},
    "instead of all": {"video": False, "flow": False, "audio": False},
}
BOTH = ["speech", "appearance"]
SWITCHES |= {
    f"{name}, {join}{'' if conformer else ', no conformer'}": {
        **inputs, "extra": BOTH, "join": join, "conformer": conformer
    }
    for name, inputs in INPUTS.items()
    for join in ("conformer", "fusion")
    for conformer in (True, False)
} | {
    f"{name}, pooled": {**inputs, "extra": BOTH, "join": "pooled"} for name, inputs in INPUTS.items()
} | {
    "pooled speech alone, linear head": {
        "extra": ["speech"], "join": "pooled", "head": "linear", "standardise": True,
        "video": False, "flow": False, "audio": False,
    },
    "pooled and balanced": {"extra": BOTH, "join": "pooled", "standardise": True, "balance": 0.75},
    "fusion by concatenation": {"extra": BOTH, "join": "fusion", "ov": "concat", "pool": "statistics"},
    "speech in the Conformer of audio alone": {
        "extra": ["speech"], "join": "conformer", "video": False, "flow": False,
    },
    "appearance tokens alone": {
        "extra": ["appearance"], "join": "fusion", "video": False, "flow": False, "audio": False,
    },
}  # fmt: skip


def make(attributes: int = 2, seed: int = 0, **changes) -> Any:
    """Return the network of ``model.name``, DE-III where it is not given, in evaluation mode."""
    torch.manual_seed(seed)
    extra = [EXTRA[name] for name in changes.get("extra", [])]
    network = network_class(changes.get("name", "deiii"))
    return network(small_config(**changes), CLASSES, attributes, MELS, extra=extra).eval()


def batch_for(changes, clips: int = 4, seed: int = 0):
    """Return a random batch; frames are larger for ResNet-18, which divides resolution by 16, not 8."""
    size = 32 if changes.get("imagenet") else 16
    return random_batch(clips, size=size, seed=seed, extra=bool(changes.get("extra")))


def values(outputs) -> dict[str, torch.Tensor]:
    """Return every head's logits and attributes by name."""
    found = {}
    for head, scores in outputs.heads().items():
        for kind in ("logits", "attributes"):
            if (value := getattr(scores, kind)) is not None:
                found[f"{head}/{kind}"] = value
    return found


def assert_same(a, b, tolerance=1e-5):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def pad(batch, steps: int, hops: int, junk: float):
    """Return the batch with masked steps and hops appended that hold random values."""

    def grow(x, count, value):
        return torch.cat([x, torch.full((len(x), count, *x.shape[2:]), value, dtype=x.dtype)], dim=1)

    video = {n: grow(getattr(batch, n), steps, junk) for n in ("frames", "flow", "video_time")}
    audio = {n: grow(getattr(batch, n), hops, junk) for n in ("logmel", "audio_time")}
    masks = {n: grow(getattr(batch, n), steps, False) for n in ("video_mask", "flow_mask")}
    extra = {}
    for name, x in batch.extra.items():
        rows = EXTRA[name].rows(steps, hops)
        extra[name] = ExtraStream(
            values=grow(x.values, rows, junk), time=grow(x.time, rows, junk), mask=grow(x.mask, rows, False)
        )
    masks["audio_mask"] = grow(batch.audio_mask, hops, False)
    return replace(batch, **video, **audio, **masks, extra=extra)
