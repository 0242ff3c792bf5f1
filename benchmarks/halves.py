"""Train networks to predict the order of two halves of a recording, which needs the Conformer.

Of each RAVDESS recording, two stretches of `HALF` hops of log-mel are taken, with `GAP` hops between them
whose input is masked. The stretches are in their order or swapped, and the network predicts which of the two.
Without the Conformer it pools windows that are shorter than the gap, and both orders have the same windows:
its scores for both are equal, and it is right in half the cases. All networks are trained on the speakers of
five folds for a fixed number of steps and scored once on those of the sixth; no setting is chosen by a score.

    deiii preprocess ravdess_audio corpus.root=/data/ravdess_speech
    python -m benchmarks.halves corpus.root=/data/ravdess_speech
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import lzma
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import made_by
from deiii.data.command_line.entry import Command, run
from deiii.data.config.schema import ModelConfig, SplitConfig, TrainConfig
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.loader.batch import Batch
from deiii.data.loader.feature_set import FeatureSet, open_features
from deiii.data.tools.atomic_files import atomic_path, write_json
from deiii.data.tools.progress import progress_bar
from deiii.model.distributed.devices import seed_all
from deiii.model.intervals import estimate
from deiii.model.network.deiii import DEIII
from deiii.model.training.optim import learning_rate, make_optimizer, set_learning_rate

HALF, GAP = 48, 28  # hops of 10 ms; multiples of the audio encoder's stride of 4
HOPS = 2 * HALF + GAP
BATCH = 32
NETWORK = ModelConfig(
    video=False, flow=False, width=64, blocks=2, dropout=0.1,
    audio_channels=[16, 32], audio_deltas=True,  # its receptive field of 21 hops is shorter than the gap
)  # fmt: skip
VARIANTS = {"full": NETWORK, "no_conformer": replace(NETWORK, conformer=False)}
TRAINING = TrainConfig(lr=1e-3, warmup=0.1)


def stretch(logmel: np.ndarray, start: int, swap: bool) -> np.ndarray:
    """Return two halves around the gap, float32 [HOPS,M], in their order or swapped; the gap holds zeros.

    Each band has the mean 0 over both halves, which does not depend on their order.
    """
    first = logmel[start : start + HALF]
    second = logmel[start + HALF + GAP : start + HOPS]
    gap = np.zeros((GAP, logmel.shape[1]), np.float32)
    mean = (first.mean(0) + second.mean(0)) / 2
    halves = [(half - mean).astype(np.float32) / 10 for half in (first, second)]
    if swap:
        halves.reverse()
    return np.concatenate([halves[0], gap, halves[1]])


def as_batch(stretches: list[np.ndarray], swapped: np.ndarray) -> Batch:
    """Return stretches with their answers as a batch without video."""
    clips = len(stretches)
    mask = torch.ones(clips, HOPS, dtype=torch.bool)
    mask[:, HALF : HALF + GAP] = False
    label = torch.from_numpy(swapped.astype(np.int64))
    none = torch.zeros(clips, 1, dtype=torch.bool)
    return Batch(
        frames=torch.zeros(clips, 1, 3, 8, 8), flow=torch.zeros(clips, 1, 2, 8, 8),
        logmel=torch.from_numpy(np.stack(stretches)), video_time=torch.zeros(clips, 1),
        audio_time=(0.01 * torch.arange(HOPS)).expand(clips, HOPS).clone(),
        video_mask=none, flow_mask=none, audio_mask=mask, label=label,
        soft=F.one_hot(label, 2).float(), attributes=torch.zeros(clips, 0),
        index=torch.arange(clips), real=torch.ones(clips, dtype=torch.bool),
    )  # fmt: skip


def fit(config: ModelConfig, recordings: list[np.ndarray], seed: int, steps: int, bar: Any) -> DEIII:
    """Train a network on random stretches in random order."""
    seed_all(seed)
    rng = np.random.default_rng([seed, 5])
    network = DEIII(config, 2, 0, recordings[0].shape[1])
    optimizer = make_optimizer(network, TRAINING, torch.device("cpu"))
    network.train()
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate(step, steps, TRAINING))
        chosen = rng.integers(len(recordings), size=BATCH)
        swapped = rng.integers(2, size=BATCH)
        starts = [rng.integers(len(recordings[n]) - HOPS + 1) for n in chosen]
        some = [stretch(recordings[n], s, bool(w)) for n, s, w in zip(chosen, starts, swapped, strict=True)]
        loss = F.cross_entropy(network(as_batch(some, swapped)).fused.logits, torch.from_numpy(swapped))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        bar.update()
    return network.eval()


@torch.no_grad()
def swapped_probability(network: DEIII, recordings: list[np.ndarray]) -> np.ndarray:
    """Return the probability of "swapped" for the middle of each recording in both orders, float64 [N,2]."""
    both: list[Tensor] = []
    for swap in (False, True):
        some = [stretch(x, (len(x) - HOPS) // 2, swap) for x in recordings]
        logits = [
            network(as_batch(some[i : i + BATCH], np.full(len(some[i : i + BATCH]), int(swap)))).fused.logits
            for i in range(0, len(some), BATCH)
        ]
        both.append(torch.cat(logits).softmax(1)[:, 1])
    return torch.stack(both, 1).double().numpy()


def long_enough(features: FeatureSet) -> dict[str, np.ndarray]:
    """Return log-mel of the recordings that have `HOPS` hops, float32 [L,M], by clip id."""
    found = {}
    for row, clip in enumerate(features.clips):
        logmel = features.arrays(row).get("logmel", {}).get("logmel")
        if logmel is not None and len(logmel) >= HOPS:
            found[clip.id] = logmel.astype(np.float32)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m benchmarks.halves", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="beside those of ravdess_audio")
    parser.add_argument("--seeds", type=lambda t: [int(w) for w in t.split(",")], default=[0], metavar="0,1")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of a network (default: 1000)")
    parser.add_argument(
        "--folds", type=lambda t: [int(w) for w in t.split(",")], metavar="0,1", help="default: all"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/halves"))
    args = parser.parse_args()
    started = time.perf_counter()
    features = open_features("ravdess_audio", *args.settings)
    recordings = long_enough(features)
    speaker = {clip.id: clip.speaker for clip in features.clips}
    protocol = SplitConfig(protocol="ravdess-6fold")
    folds = [
        make_split(features.corpus, replace(protocol, fold=f))
        for f in args.folds or range(number_of_folds(features.corpus, protocol))
    ]
    clips = [c for split in folds for c in split.test if c in recordings]
    found: dict[str, list[np.ndarray]] = {variant: [] for variant in VARIANTS}
    total = len(folds) * len(VARIANTS) * len(args.seeds) * args.steps
    with progress_bar(desc="halves", unit="step", total=total, shown=True) as bar:
        for variant, config in VARIANTS.items():
            for seed in args.seeds:
                parts = []
                for split in folds:
                    own = [recordings[c] for c in (*split.train, *split.val) if c in recordings]
                    network = fit(config, own, seed, args.steps, bar)
                    test = [recordings[c] for c in split.test if c in recordings]
                    parts.append(swapped_probability(network, test))
                found[variant].append(np.concatenate(parts))
    args.folder.mkdir(parents=True, exist_ok=True)
    write_predictions(args.folder / "predictions.csv.xz", clips, speaker, found, args.seeds)
    result = figures(clips, speaker, found)
    result |= {"recordings": len(clips), "left_out": len(features) - len(recordings), "seeds": args.seeds}
    result |= {"steps": args.steps, "seconds": round(time.perf_counter() - started)}
    result |= made_by()
    write_json(args.folder / "halves.json", {"bench": "halves", **result})
    print("RESULT " + json.dumps({"bench": "halves", **result}))
    return 0


def figures(clips: list[str], speaker: dict[str, str], found: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Return accuracy of each variant, their difference, and the largest difference between the orders."""
    owner = [speaker[c] for c in clips]
    right = {v: np.array([[(p[:, 0] < 0.5), (p[:, 1] >= 0.5)] for p in of]) for v, of in found.items()}
    scores = {v: x.mean(axis=1) for v, x in right.items()}  # [seeds,N]
    scores["full - no_conformer"] = scores["full"] - scores["no_conformer"]
    result: dict[str, Any] = {}
    for name, values in scores.items():
        known = estimate(owner, lambda rows, values=values: values[:, rows].mean(axis=1).tolist())
        result[name] = {"accuracy": round(float(values.mean()), 4)}
        result[name]["ci"] = [round(x, 4) for x in known.interval] if known else None
    for name, of in found.items():
        result[name]["largest_difference_of_orders"] = float(np.abs(np.diff(of, axis=2)).max())
    return result


def write_predictions(
    path: Path,
    clips: list[str],
    speaker: dict[str, str],
    found: dict[str, list[np.ndarray]],
    seeds: list[int],
) -> None:
    """Write the probability of "swapped" of every recording in both orders, as compressed CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["clip", "speaker", "variant", "seed", "p_swapped_in_order", "p_swapped_when_swapped"])
    for variant, by_seed in found.items():
        for seed, values in zip(seeds, by_seed, strict=True):
            for clip, pair in zip(clips, values, strict=True):
                table.writerow([clip, speaker[clip], variant, seed, *(f"{p:.6f}" for p in pair)])
    with atomic_path(path) as temporary:
        temporary.write_bytes(lzma.compress(text.getvalue().encode()))


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
