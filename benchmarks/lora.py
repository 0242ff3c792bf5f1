"""Fine-tune a real pretrained encoder with LoRA inside the network, and compare it with the frozen encoder.

The encoder is smart-turn, an encoder of Whisper tiny's size, in float32 (`benchmarks.lora_encoder`). It reads
the log-mel of RAVDESS voices in place of the network's own audio encoder. Both networks have the same
settings, seeds and batches; the weights that both have are equal before the first step. Each fold is trained
on its training actors, and its two validation actors are scored after the last epoch. No test speaker is
scored, and all settings were fixed before the first score. As a reference, logistic regression reads mean and
deviation over time of the states of the frozen encoder.

    deiii preprocess corpus.name=ravdess corpus.modality=audio-only corpus.channel=speech \\
        corpus.root=/data/ravdess_speech 'stages=[logmel]' logmel.fmin=0 logmel.fmax=8000 logmel.trim_db=40
    python -m benchmarks.lora corpus.root=/data/ravdess_speech --out lora.json

Each training runs in a process of its own, on one thread. Finished ones are kept in ``--folder``: run the
command again to continue. The result also has a check of the float32 weights (`benchmarks.lora_check`).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import lora_encoder
from benchmarks.encoder_tuning import principal, standardised
from benchmarks.lora_check import check
from benchmarks.machine import made_by
from benchmarks.ravdess_svm import uar
from benchmarks.tuning_models import logistic
from deiii.data.config.load import result_settings
from deiii.data.config.schema import Config
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import make_split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.machine import package_versions
from deiii.data.tools.weights import SMART_TURN, resolve
from deiii.model.intervals import estimate, interval_kind
from deiii.model.network.extra_encoders import row_moments
from deiii.model.training.loaders import make_loader
from deiii.model.training.scoring import score
from deiii.model.training.train import train
from deiii.model.training.trainer import Trainer

SETTINGS = [
    "corpus.name=ravdess", "corpus.modality=audio-only", "corpus.channel=speech",
    "split.val_share=0.1", "split.protocol=ravdess-6fold", "stages=[logmel]",
    "logmel.n_mels=80", "logmel.fmin=0", "logmel.fmax=8000", "logmel.trim_db=40",
    "loader.audio_steps=300", f"loader.eval_audio_steps={lora_encoder.WINDOW}", "loader.batch=16",
    "loader.residency=ram", "model.video=[]", "model.audio=[logmel]", "model.conformer=false",
    "model.pool=statistics", "model.width=128", "model.dropout=0.2", "train.epochs=4", "train.lr=1e-3",
    "train.patience=0", "train.monitor=last", "train.label_smoothing=0.1", "train.modality_dropout=0",
    "train.amp=off", "train.device=cpu", "train.log=[]",
]  # fmt: skip
VARIANTS = ("frozen", "lora")
STRENGTH = 0.003  # of logistic regression, as in docs/science-ravdess.md
NOT_DONE = [
    "no test actor was scored, the other folds were not trained, and one seed alone was",
    "rank, learning rate, number of epochs and layers were not varied, so no setting is the best one",
    "the number of epochs is too small for the networks: their loss still fell in the last one",
    "copies at other speeds, augmentation and a second encoder were not used",
]


def add_package(folder: Path) -> None:
    """Make both encoders visible as those of an installed package, in this process.

    Args:
        folder: the package's metadata are written into it.
    """
    info = folder / "deiii_lora-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    lines = [f"smart_turn_{name} = benchmarks.lora_encoder:{name}" for name in VARIANTS]
    write_text(info / "METADATA", "Metadata-Version: 2.1\nName: deiii-lora\nVersion: 1.0\n")
    write_text(info / "entry_points.txt", "\n".join(["[deiii.encoders]", *lines, ""]))
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def run_config(settings: Sequence[str], variant: str, fold: int, seed: int, folder: Path) -> Config:
    """Return the settings of one training; the package must have been added."""
    own = [f"model.encoders=[logmel:smart_turn_{variant}]", f"split.fold={fold}", f"train.seed={seed}"]
    return read_settings(
        [*SETTINGS, *settings, *own, f"train.run={folder / f'{variant}-fold{fold}-seed{seed}'}"]
    )


def train_one(words: Sequence[str], variant: str, fold: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train one network and return its figures, with the predicted class of each validation clip."""
    torch.set_num_threads(1)
    add_package(folder / "package")
    config = run_config(words, variant, fold, seed, folder)
    features = FeatureSet.open(config)
    made: list[Trainer] = []

    def trainer(model: Any, setup: Any) -> Trainer:
        made.append(Trainer(model, setup))
        return made[-1]

    train(config, progress=False, features=features, trainer=trainer)
    (own,) = made
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = score(own.model, own.val.epoch(0), own.device, config.train)
    labels, guess = found.label, found.probabilities["fused"].argmax(axis=1)
    parts = [(p.numel(), p.requires_grad) for p in own.model.parameters()]
    return {
        "variant": variant, "fold": fold, "seed": seed, "uar": round(uar(labels, guess), 4),
        "uar_by_epoch": [round(row["val_uar"], 4) for row in own.history],
        "train_loss_by_epoch": [round(row["train_loss"], 4) for row in own.history],
        "train_seconds_by_epoch": [round(row["train_seconds"], 1) for row in own.history],
        "peak_memory_mib": round(memory),
        "trained_parameters": sum(n for n, trained in parts if trained),
        "frozen_parameters": sum(n for n, trained in parts if not trained),
        "layers": [round(x, 3) for x in own.model.audio_encoder.rows.layers.detach().softmax(0).tolist()],
        "speakers": [features.clips[row].speaker for row in found.index],
        "labels": labels.tolist(), "predicted": guess.tolist(),
    }  # fmt: skip


def reference_one(words: Sequence[str], fold: int, folder: Path) -> dict[str, Any]:
    """Fit logistic regression on the pooled states of the frozen encoder; returns what `train_one` does."""
    torch.set_num_threads(1)
    add_package(folder / "package")
    config = run_config(words, "frozen", fold, 0, folder)
    features = FeatureSet.open(config)
    encoder = lora_encoder.frozen((lora_encoder.LOGMEL.n_mels,), config.model).eval()
    split = make_split(features.corpus, config.split)
    rows = np.concatenate([features.rows(split.train), features.rows(split.val)])
    loader = make_loader(features, rows, config, torch.device("cpu"), training=False)
    vectors, index, labels = [], [], []
    with torch.no_grad():
        for batch in loader.epoch(0):
            mean, variance = row_moments(*encoder.states(batch.logmel, batch.audio_mask))
            vectors.append(torch.cat((mean, variance.sqrt()), dim=1)[batch.real])
            index.append(batch.index[batch.real])
            labels.append(batch.label[batch.real])
    order = torch.cat(index).numpy()
    x, label = torch.cat(vectors).double().numpy(), torch.cat(labels).numpy()
    train = np.flatnonzero(np.isin(order, features.rows(split.train)))
    val = np.flatnonzero(np.isin(order, features.rows(split.val)))
    a, b = principal(standardised(x, train), train, val)
    guess = logistic(STRENGTH)((a, label[train], b)).argmax(axis=1)
    return {
        "variant": "logistic regression", "fold": fold, "seed": 0, "uar": round(uar(label[val], guess), 4),
        "speakers": [features.clips[row].speaker for row in order[val]],
        "labels": label[val].tolist(), "predicted": guess.tolist(),
    }  # fmt: skip


def compare(runs: Sequence[Mapping[str, Any]], one: str, other: str) -> dict[str, Any]:
    """Return the mean UAR of a variant over seeds minus that of another, paired by clip, with its interval.

    The UAR of a seed is that of the clips of all folds together.

    Args:
        runs: what `train_one` returned, for each variant, fold and seed.
        one, other: variants. A variant with a single seed, such as logistic regression, counts for each seed.
    """
    seeds = sorted({run["seed"] for run in runs})
    columns: dict[str, list[np.ndarray]] = {}
    for name in (one, other):
        own = [run for run in runs if run["variant"] == name]
        for seed in seeds:
            some = [run for run in own if run["seed"] == seed] or own
            folds = sorted(some, key=lambda run: run["fold"])
            columns.setdefault(name, []).append(np.concatenate([run["predicted"] for run in folds]))
    speakers = np.concatenate([run["speakers"] for run in folds])
    labels = np.concatenate([run["labels"] for run in folds])

    def gaps(rows: np.ndarray) -> list[float]:
        pairs = zip(columns[one], columns[other], strict=True)
        return [uar(labels[rows], a[rows]) - uar(labels[rows], b[rows]) for a, b in pairs]

    found = estimate(speakers, gaps)
    every = np.arange(len(labels))
    result = {"difference": f"{one} minus {other}", "uar": round(float(np.mean(gaps(every))), 4)}
    if found is not None:
        result |= {"ci": [round(x, 4) for x in found.interval], "interval": interval_kind(len(seeds))}
    return result


def summary(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of each variant: means over seeds of the UAR of each fold, cost of training."""
    rows = []
    for name in dict.fromkeys(run["variant"] for run in runs):
        own = [run for run in runs if run["variant"] == name]
        folds = sorted({run["fold"] for run in own})
        by_fold = [float(np.mean([run["uar"] for run in own if run["fold"] == fold])) for fold in folds]
        row = {"variant": name, "uar": round(float(np.mean(by_fold)), 4), "folds": folds}
        row |= {"uar_by_fold": [round(value, 4) for value in by_fold]}
        if "trained_parameters" in own[0]:
            seconds = [value for run in own for value in run["train_seconds_by_epoch"]]
            row |= {name: own[0][name] for name in ("trained_parameters", "frozen_parameters")}
            row |= {"train_seconds_of_an_epoch": [min(seconds), max(seconds)]}
            row |= {"peak_memory_mib": max(run["peak_memory_mib"] for run in own)}
        rows.append(row)
    return rows


def in_a_process(function: Any, *words: Any) -> dict[str, Any]:
    """Return the result of a function that runs in a new process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *words).result()


def work(args: argparse.Namespace) -> None:
    """Train the networks that are not finished, and write the result; ``args`` are those of `main`."""
    folds, seeds = ([int(word) for word in text.split(",")] for text in (args.folds, args.seeds))
    add_package(args.folder / "package")
    config = run_config(args.settings, "frozen", folds[0], seeds[0], args.folder)
    features = FeatureSet.open(config)
    path, sha256 = resolve(SMART_TURN, SMART_TURN)
    own = set(make_split(features.corpus, config.split).train)
    recordings = [Path(features.corpus.root) / clip.path for clip in features.clips if clip.id in own]
    origin = {
        "bench": "lora", **made_by(),
        "optional_packages": package_versions("transformers", "peft", "onnx", "onnxruntime"),
        "weights": {"file": SMART_TURN, "sha256": sha256}, "settings": result_settings(config),
        "window_hops": lora_encoder.WINDOW, "rank": lora_encoder.RANK, "alpha": lora_encoder.ALPHA,
        "matrices": lora_encoder.TARGETS, "threads": 1, "load": "loaded machine, one run",
        "not_done": NOT_DONE,
    }  # fmt: skip
    kept = args.folder / "runs.json"
    stored = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    done = {(run["variant"], run["fold"], run["seed"]): run for run in stored}
    tasks = [(name, fold, seed) for seed in seeds for fold in folds for name in VARIANTS]
    tasks += [("logistic regression", fold, 0) for fold in folds]
    for task in tasks:
        if task not in done:
            name, fold, seed = task
            if name in VARIANTS:
                done[task] = in_a_process(train_one, args.settings, name, fold, seed, args.folder)
            else:
                done[task] = in_a_process(reference_one, args.settings, fold, args.folder)
            write_json(kept, list(done.values()))
        print(f"{task[0]}, fold {task[1]}, seed {task[2]}: {done[task]['uar']:.3f}", flush=True)
    runs = [done[task] for task in tasks]
    pairs = [("lora", "frozen"), ("lora", "logistic regression"), ("frozen", "logistic regression")]
    result = {
        **origin, "check": check(path, recordings[:: len(recordings) // 12][:12]),
        "validation_speakers": {str(run["fold"]): sorted(set(run["speakers"])) for run in runs},
        "summary": summary(runs), "differences": [compare(runs, *pair) for pair in pairs], "runs": runs,
    }  # fmt: skip
    for row in (*result["summary"], *result["differences"]):
        print(json.dumps(row))
    if args.out:
        write_json(args.out, result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="corpus.root, and others")
    parser.add_argument("--folds", default="1,2", help="folds, separated by commas")
    parser.add_argument("--seeds", default="0", help="values of train.seed, separated by commas")
    parser.add_argument("--folder", type=Path, default=Path("runs/lora"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    work(parser.parse_args())


if __name__ == "__main__":
    main()
