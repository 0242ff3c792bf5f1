"""Set up a training and run it: open the features, split the clips, build loaders, network and run folder.

>>> train(load_config("configs/tiny.yaml"))                       # doctest: +SKIP
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from deiii.data.audit.copies import copies
from deiii.data.audit.run import check_foreign
from deiii.data.cache.outcomes import is_machine_trouble
from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import get_stage, stages, with_upstream
from deiii.data.config.load import load_config, result_settings
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.statement import Statement, used_encoders
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.feature_split import split_features
from deiii.data.loader.mixture import clip_weights, mixed_configs, mixed_weights
from deiii.data.loader.stage_arrays import valid_rows
from deiii.data.tools.atomic_files import file_sha256
from deiii.data.tools.counts import counted
from deiii.data.tools.os_errors import explain
from deiii.data.tools.progress import say
from deiii.data.tools.weights import RESNET18, digest, resolve
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.distributed.devices import make_deterministic, seed_all
from deiii.model.distributed.ranks import Ranks, joined
from deiii.model.network.extra_encoders import PooledEncoder, RowEncoder, row_moments
from deiii.model.network.hide_streams import check_hidden, hide_in_scoring
from deiii.model.network.inputs.build import check_grid
from deiii.model.network.inputs.network import Network
from deiii.model.network.task import Task
from deiii.model.training.loaders import ChangedLoader, make_loader
from deiii.model.training.logs.open_logs import check_logs
from deiii.model.training.monitor import check_monitor
from deiii.model.training.origin import check_origin, digests, keys_of_training, save_origin
from deiii.model.training.parts import (
    WORDS,
    check_parts,
    check_without_validation,
    class_weights,
    in_order,
    not_used,
)
from deiii.model.training.run_folder import RunError, RunFolder, provenance
from deiii.model.training.start.history import MIXED, check_unseen, histories, mixed_record, save_histories
from deiii.model.training.start.weights import copy_start, starting_network
from deiii.model.training.step.launch import choose_launch, launch_note
from deiii.model.training.trained import TrainedNetwork
from deiii.model.training.trainer import Trainer, TrainingSetup

LARGE_BATCH = 1024  # clips; the empty places of smaller batches cost little
PRESETS = ("tiny", "base", "large")  # configs that come with deiii and describe a network
RESUME_REMEDY = (
    "To go on with this run, put back what it was trained on and run `deiii preprocess`; "
    "to use the new ones, train a new run with train.run=..."
)


def train(
    config: Config,
    resume: bool = False,
    progress: bool = True,
    features: FeatureSet | None = None,
    trainer: Callable[[Network, TrainingSetup], Trainer] = Trainer,
) -> dict[str, Any]:
    """Train on the training speakers of the split and select the epoch on its validation speakers, if any.

    Under `torchrun` every process calls this function: they train one network together, and rank 0 writes the
    run.

    Args:
        config: all settings; ``train.run`` is the run folder.
        resume: continue the run in this folder, where there is one.
        progress: show bars and one line an epoch.
        features: the features of these settings, opened and checked before; opened here where not given.
        trainer: makes the trainer; for experiments that record more than `Trainer` does.

    Returns:
        the best epoch's metrics; everything else is in the run folder (`deiii.model.training.run_folder`).

    Raises:
        ConfigError: the settings, the caches and the split do not allow a training, or a package that
            ``train.log`` needs is not installed.
        Locked: another training writes to the run folder.
        RunError: the folder holds another run, or the disk is full; checkpoints written before are kept.
        RankError: the processes do not fit together, or one of them ended.
        WeightsError: the ImageNet weights of ``model.imagenet`` cannot be found or are damaged.
        CheckpointError: the checkpoint of ``train.start`` is missing or damaged.
    """
    path = config.train.run
    check_logs(config.train.log)
    try:
        with joined(config.loader.batch, config.train.device) as ranks:
            # Before the run folder is made. The other ranks get the weights of rank 0, and a resumed run
            # has a checkpoint.
            starts = ranks.first and not RunFolder(path).state.exists()
            imagenet = imagenet_weights(config) if starts else None
            start = starting_network(config) if starts else None
            with writer_lock(path, wait=False) if ranks.first else nullcontext():
                return _train(
                    config, ranks, imagenet, start, resume, progress and ranks.first, features, trainer
                )
    except OSError as error:
        if not is_machine_trouble(error):
            raise
        raise RunError(
            f"{explain(error)}. {path} must be writable and on a disk with free space; the files in it are "
            "complete: correct this, then continue with --resume"
        ) from error


def imagenet_weights(config: Config) -> str | None:
    """Return the path of the ImageNet weights that training starts from, ``None`` where it uses none.

    Raises:
        WeightsError: they cannot be found, downloaded or used; the message says what to do.
    """
    if not (config.model.video and config.model.imagenet):
        return None
    return resolve(config.model.imagenet_weights, RESNET18)[0]


def _train(
    config: Config,
    ranks: Ranks,
    imagenet: str | None,
    start: TrainedNetwork | None,
    resume: bool,
    progress: bool,
    features: FeatureSet | None,
    trainer: Callable[[Network, TrainingSetup], Trainer],
) -> dict[str, Any]:
    device = ranks.device
    choose_launch(config.train, device, ranks)  # refuse an impossible one before anything is read
    if ranks.first and (note := launch_note(config.train, device, ranks)):
        say(note)
    check_hidden(config)
    check_without_validation(config)
    make_deterministic(device)
    run = RunFolder(config.train.run)
    if ranks.local:  # one process of each machine checks every byte, the others wait for it
        ranks.wait()
    if features is None:
        features = _open_features(config, run, resume, whole=not ranks.local)
    if not ranks.local:
        ranks.wait()
    split, unseen = split_features(features.corpus, config)
    findings = check_foreign(split, features, config)
    task = Task.of(features, config)
    parts = {part: in_order(features.corpus, getattr(split, part)) for part in ("train", "val", "test")}
    rows = {part: features.rows(ids) for part, ids in parts.items()}
    notes = [*check_parts(features, split, rows, config), *unseen, *not_used(features.corpus, split)]
    if ranks.first:
        notes += copies(features, {WORDS[part]: found for part, found in rows.items()})
    check_streams(features, rows["train"])
    check_monitor(config, features, rows["val"])
    check_sizes(config)
    check_batch(config, len(rows["train"]))
    info: dict[str, Any] = {
        "keys": dict(features.keys), "split": split.digest, "corpus": features.corpus.name,
        "classes": list(task.classes), "attributes": list(task.attributes),
        "ranges": [list(r) for r in task.ranges],
        "clips": {part: len(r) for part, r in rows.items()},
        "seconds": clip_seconds(features, rows["train"]), **digests(features.corpus),
    }  # fmt: skip
    if config.is_mixture:
        info[MIXED] = mixed_record(features.corpus, [part.corpus for part in mixed_configs(config)])
    past = histories(RunFolder(config.train.start or "")) if start else []
    check_unseen(past, features.corpus, split, config)
    seed_all(config.train.seed)
    model = task.network(config, imagenet)  # before the run folder: it refuses settings that do not fit
    if start:
        notes.append(copy_start(model, task, start, config, features.streams))
    if ranks.first:
        for note in [*notes, *findings.splitlines()]:
            print(note, file=sys.stderr)
        if resume:
            check_origin(run, features.corpus, RESUME_REMEDY, config.cache)
        encoders = used_encoders(config, features.streams)
        origin = network_origin(imagenet, encoders, start, config)
        for encoder in encoders:
            say(f"{encoder.stage} from {encoder.name}; emotion corpora in its training: {encoder.emotion}")
        run.create(config, {**info, **provenance(), **origin, "processes": ranks.world}, resume)
        split.save(run.split)
        save_origin(run, features.corpus, config.cache)
        if not run.state.exists():
            save_histories(run, past)
    ranks.check_same({"settings": result_settings(config), "data": info})

    fit_encoders(model, features, rows["train"], config)
    model = model.to(device)
    training = make_loader(features, rows["train"], config, device, True, ranks)
    validation = None
    if len(rows["val"]):
        loader = make_loader(features, rows["val"], config, device, False, ranks)
        validation = ChangedLoader(loader, hide_in_scoring(config))
    weights = class_weights(features, rows["train"]) if config.train.class_weights and task.classes else None
    each = None
    if features.part is not None:
        each = clip_weights(features.part, mixed_weights(config))
    setup = TrainingSetup(
        training, validation, config, run, device, [c.id for c in features.clips], info, weights,
        ranks, None if each is None else torch.from_numpy(each),
    )  # fmt: skip
    if progress:
        count = sum(p.numel() for p in model.parameters())
        where = f"{device}" if ranks.world == 1 else f"{ranks.world} processes, the first on {device}"
        held = counted(len(rows["val"]), "validation clip") if validation else "no validation clips"
        clips = counted(len(rows["train"]), "training clip"), held
        print(f"{count:,} parameters on {where}; {' and '.join(clips)}; run folder {run.path}")
        print(f"loader.residency={training.residency}: {training.why}")
    return trainer(model, setup).fit(resume=resume, progress=progress)


def _open_features(config: Config, run: RunFolder, resume: bool, whole: bool) -> FeatureSet:
    """Open the features of a training; for a resumed one those with which it began."""
    keys = None
    if resume and not config.is_mixture:
        run.check_settings(config, stage_keys(config))
        keys = keys_of_training(run, config)
    return FeatureSet.open(config, keys, whole=whole)


def network_origin(
    imagenet: str | None, encoders: Sequence[Statement], start: TrainedNetwork | None, config: Config
) -> dict[str, Any]:
    """Return what a network begins with, for ``run.json``; what it does not use is left out.

    Args:
        imagenet: path of the ImageNet weights.
        encoders: the frozen encoders whose features it reads.
        start: the network of ``train.start``.
        config: names that run.
    """
    origin: dict[str, Any] = {"imagenet": digest(imagenet)} if imagenet else {}
    if encoders:
        origin["encoders"] = [asdict(encoder) for encoder in encoders]
    if start:
        origin["start"] = {
            "run": str(config.train.start), "corpus": start.info["corpus"], "epoch": start.epoch,
            "sha256": file_sha256(RunFolder(str(config.train.start)).best),
        }  # fmt: skip
    return origin


def fit_encoders(model: Network, features: FeatureSet, rows: np.ndarray, config: Config) -> None:
    """Give the encoders of extra streams mean and deviation of the features of the training clips."""
    encoders = {name: e for name, e in model.extra_encoders.items() if name in features.streams}
    for name, encoder in encoders.items():
        # With normalise=speaker the loader standardises the rows already.
        if isinstance(encoder, RowEncoder) and config.loader.normalise != "speaker":
            encoder.fit(valid_rows(features.streams[name], rows))
    pooled = {name: e for name, e in encoders.items() if isinstance(e, PooledEncoder) and e.standardise}
    if not pooled:
        return
    # From the rows that the network reads in validation, after the loader left out silence, for example.
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in pooled}
    for batch in make_loader(features, rows, config, torch.device("cpu"), training=False).epoch(0):
        for name in pooled:
            extra = batch.extra[name]
            some = batch.real & extra.mask.any(dim=1)
            found[name].append(row_moments(extra.values[some], extra.mask[some]))
    for name, moments in found.items():
        means, variances = (torch.cat(parts) for parts in zip(*moments, strict=True))
        pooled[name].fit(means, variances)


def check_sizes(config: Config) -> None:
    """Refuse sizes that do not go together, before anything is loaded or written.

    Raises:
        ConfigError: names both settings.
    """
    m = config.model
    if (m.video or m.flow) and config.loader.crop > config.faces.size:
        raise ConfigError(
            f"loader.crop={config.loader.crop} is larger than the crops, faces.size={config.faces.size}; "
            f"{_fitting_preset(config.faces.size)}use a smaller loader.crop, or preprocess with a larger "
            "faces.size"
        )
    check_grid(m, config.loader.crop)
    if m.conformer and m.conv_kernel % 2 == 0:
        raise ConfigError(f"model.conv_kernel must be odd, not {m.conv_kernel}")


def check_batch(config: Config, clips: int) -> None:
    """Refuse a batch that is mostly empty: all its places take memory and time, also those without a clip.

    Raises:
        ConfigError: names a size that fits.
    """
    batch = config.loader.batch
    if batch > LARGE_BATCH and batch >= 2 * clips:
        raise ConfigError(
            f"loader.batch={batch} is larger than the {counted(clips, 'training clip')}, and the empty "
            f"places also take memory and time; use loader.batch={clips} for one step an epoch"
        )


def _fitting_preset(size: int) -> str:
    """Return the advice to name a preset that fits crops of a size in px; empty where none does."""
    fitting = [name for name in PRESETS if load_config(name).loader.crop <= size]
    return f"name a preset of the network that fits, {' or '.join(fitting)}, or " if fitting else ""


def clip_seconds(features: FeatureSet, rows: np.ndarray) -> dict[str, float]:
    """Return the median and the longest length of some clips in s.

    Prediction cuts longer recordings into windows of the median length.
    """
    seconds = np.zeros(len(rows))
    for stream in features.streams.values():
        time, first, length = stream.small("time"), stream.first[rows], stream.length[rows]
        some = length > 1
        if time is None or not len(time) or not some.any():  # flow shares the times of the faces stage
            continue
        span = time[(first + length - 1)[some]] - time[first[some]]
        seconds[some] = np.maximum(seconds[some], span * length[some] / (length[some] - 1))
    return {"median": round(float(np.median(seconds)), 3), "longest": round(float(seconds.max()), 3)}


def check_streams(features: FeatureSet, rows: np.ndarray) -> None:
    """Raise ConfigError where no training clip has an input that the network reads."""
    for name, stream in features.streams.items():
        if not stream.length[rows].any():
            below = [s for s in features.streams if name in with_upstream([s])]
            remedy = " ".join(_without(s, features) for s in stages() if s in below)
            what = get_stage(name).product
            raise ConfigError(f"no training clip of {features.corpus.name} has any {what}; add {remedy}")


def _without(stage: str, features: FeatureSet) -> str:
    """Return the setting that keeps a stage out of the network."""
    if get_stage(stage).switch:
        return f"model.{get_stage(stage).switch}=false"
    others = [name for name in features.streams if not get_stage(name).switch and name != stage]
    return f"model.extra=[{','.join(others)}]"
