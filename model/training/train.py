"""Set up a training and run it: open the features, split the clips, build loaders, network and run folder.

>>> train(load_config("configs/tiny.yaml"))                       # doctest: +SKIP
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

from deiii.data.cache.outcomes import is_machine_trouble
from deiii.data.config.checks.together import check_accumulate
from deiii.data.config.load import result_settings
from deiii.data.config.schema import Config
from deiii.data.encoders.statement import Statement, used_encoders
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.mixture import copied_clips
from deiii.data.tools.atomic_files import file_sha256
from deiii.data.tools.counts import counted
from deiii.data.tools.os_errors import STDOUT, explain
from deiii.data.tools.progress import say
from deiii.data.tools.weights import RESNET18, digest, resolve
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.distributed.devices import make_deterministic, seed_all
from deiii.model.distributed.ranks import Ranks, joined
from deiii.model.network.hide_streams import check_hidden, hide_in_scoring
from deiii.model.network.inputs.network import Network
from deiii.model.provenance import provenance
from deiii.model.training import checkpoint
from deiii.model.training.loaders import ChangedLoader, make_loader
from deiii.model.training.logs.open_logs import check_logs
from deiii.model.training.monitor import TrainingState, training_state
from deiii.model.training.origin import check_origin, record_features, save_origin
from deiii.model.training.parts import WORDS, check_without_validation, class_weights, mixture_weights
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.start.data import TrainingData, read_data
from deiii.model.training.start.fit import fit_encoders, fit_heads
from deiii.model.training.start.history import History, check_unseen, histories, save_histories
from deiii.model.training.start.weights import copy_start, starting_network
from deiii.model.training.step.accumulate import check_clips_apart
from deiii.model.training.step.launch import choose_launch, launch_note
from deiii.model.training.trained import TrainedNetwork
from deiii.model.training.trainer import Trainer, TrainingSetup

RESIDENCY = {
    "stream": "read from the cache for each batch",
    "ram": "held in memory",
    "device": "held in the memory of the GPU",
}
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
        ConfigError: the settings or the clips of the split do not allow a training, or a package that
            ``train.log`` needs is not installed.
        CacheError, SplitError, SpeakerLeak: as for `deiii.model.training.start.data.read_data`.
        Locked: another training writes to the run folder.
        RunError: the folder holds another run, or the disk is full; checkpoints written before are kept.
        RankError: the processes do not fit together, or one of them ended.
        WeightsError: the ImageNet weights of ``model.imagenet`` cannot be found or are damaged.
        CheckpointError: the checkpoint of ``train.start`` is missing or damaged, or the state of the run to
            be resumed is.
        Diverged, KeyboardInterrupt: as for `deiii.model.training.trainer.Trainer.fit`.
    """
    path = config.train.run
    check_logs(config.train.log)
    check_not_of_many(RunFolder(path))
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
        if not is_machine_trouble(error) or error.filename == STDOUT:
            raise
        # Sweeps and cross-validations resume by themselves and have no option --resume.
        how = "run the same command again" if resume else "continue with --resume"
        raise RunError(
            f"{explain(error)}. {path} must be writable and on a disk with free space; the files in it are "
            f"complete: correct this, then {how}"
        ) from error


def check_not_of_many(run: RunFolder) -> None:
    """Refuse the folder of a cross-validation or a sweep for a run.

    Raises:
        RunError: names the folder and what to do.
    """
    for name, kind in (("crossval.json", "cross-validation"), ("sweep.md", "sweep")):
        if (run.path / name).exists():
            raise RunError(
                f"{run.path} holds a {kind}; choose another folder for a run with train.run=... (with make: "
                "RUN=...)"
            )


def imagenet_weights(config: Config) -> str | None:
    """Return the path of the ImageNet weights that training starts from, ``None`` where it uses none.

    Raises:
        WeightsError: they cannot be found, downloaded or used; the message states what to do.
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
    """Run one training from the settings to the best epoch's metrics, in the order of its steps.

    Settings and data are checked before the run folder is written.
    """
    choose_launch(config.train, ranks.device, ranks)  # refuse an impossible one before anything is read
    check_accumulate(config, ranks.world)
    if ranks.first and (note := launch_note(config.train, ranks.device, ranks)):
        say(note)
    check_hidden(config)
    check_without_validation(config)
    make_deterministic(ranks.device)
    run = RunFolder(config.train.run)

    data = read_data(config, ranks, run, resume, features)
    past = histories(RunFolder(config.train.start or "")) if start else []
    check_unseen(past, data.features.corpus, data.split, config)

    seed_all(config.train.seed)
    model = data.task.network(config, imagenet)  # refuses settings that do not fit
    check_clips_apart(model, config)
    notes = list(data.notes)
    if start:
        notes.append(copy_start(model, data.task, start, config, data.features.streams))
    if ranks.first:
        for note in [*notes, *data.findings.splitlines()]:
            print(note, file=sys.stderr)
        _write_run_folder(run, config, data, imagenet, start, past, ranks, resume)
    ranks.check_same({"settings": result_settings(config), "data": data.info})

    fit_encoders(model, data.features, data.rows["train"], config)
    if (found := fit_heads(model, data.features, data.rows["train"], config)) and ranks.first:
        say(found)
    model = model.to(ranks.device)
    loader = make_loader(data.features, data.rows["train"], config, ranks.device, True, ranks)
    setup = _setup(config, ranks, run, data, loader)
    if progress:
        _print_start(model, setup, data)
        print(
            f"features are {RESIDENCY[loader.residency]} (loader.residency={loader.residency}): {loader.why}"
        )
    return trainer(model, setup).fit(resume=resume, progress=progress)


def _write_run_folder(
    run: RunFolder,
    config: Config,
    data: TrainingData,
    imagenet: str | None,
    start: TrainedNetwork | None,
    past: Sequence[History],
    ranks: Ranks,
    resume: bool,
) -> None:
    """Write the records of a run: settings, data, origin of the weights, split and labels.

    Args:
        run: the run folder.
        config: all settings.
        data: the clips of the training.
        imagenet: path of the ImageNet weights.
        start: the network of ``train.start``.
        past: the clips on which that network was trained, a record for each run before this one.
        ranks: the processes that train together.
        resume: the run may exist already; then its records must agree with these.

    Raises:
        RunError: the folder holds another run, or the run to be resumed was trained on other data.
    """
    if resume:
        check_origin(run, data.features.corpus, RESUME_REMEDY, config.cache)
    encoders = used_encoders(config, data.features.streams)
    origin = network_origin(imagenet, encoders, start, config)
    for encoder in encoders:
        say(f"{encoder.stage} from {encoder.name}; emotion corpora in its training: {encoder.emotion}")
    # A finished training uses no program and no features any more: the record of what trained it stays.
    goes_on = not (resume and run.state.exists() and trained_state(run, config).finished)
    made_by = {**provenance(ranks.device), "processes": ranks.world}
    if not goes_on:
        made_by |= {name: value for name, value in run.read_info().items() if name in made_by}
    run.create(config, {**data.info, **made_by, **origin}, resume)
    data.split.save(run.split)
    save_origin(run, data.features.corpus, config.cache)
    if goes_on and (note := record_features(run, data.features)):
        print(note, file=sys.stderr)
    if not run.state.exists():
        save_histories(run, past)


def trained_state(run: RunFolder, config: Config) -> TrainingState:
    """Return how far a training came, by the state from which it continues; ``metrics.csv`` is not read.

    Raises:
        CheckpointError: the state is missing or damaged.
    """
    return training_state(checkpoint.info_of(run.state).get("history", []), config.train)


def _setup(
    config: Config, ranks: Ranks, run: RunFolder, data: TrainingData, training: Loader
) -> TrainingSetup:
    """Build the loader of the validation clips and the weights of classes and clips."""
    features, rows = data.features, data.rows
    validation = None
    if len(rows["val"]):
        loader = make_loader(features, rows["val"], config, ranks.device, False, ranks)
        validation = ChangedLoader(loader, hide_in_scoring(config))
    of_classes = None
    if config.train.class_weights and data.task.classes:
        of_classes = class_weights(features, rows["train"])
    return TrainingSetup(
        training, validation, config, run, ranks.device, [c.id for c in features.clips], data.info,
        of_classes, ranks, mixture_weights(features, config),
    )  # fmt: skip


def _print_start(model: Network, setup: TrainingSetup, data: TrainingData) -> None:
    """Print the size of the network, the devices, the run folder, and what each part of the split holds."""
    count = sum(p.numel() for p in model.parameters())
    world = setup.ranks.world
    where = f"{setup.device}" if world == 1 else f"{world} processes, the first on {setup.device}"
    print(f"{count:,} parameters on {where}; run folder {setup.run.path}")
    copies = copied_clips(data.features.corpus, setup.config)
    print(describe_parts(data.features, data.rows, copies))


def describe_parts(features: FeatureSet, rows: Mapping[str, np.ndarray], copies: Collection[str] = ()) -> str:
    """Return a line with the number of clips, corrupted copies and speakers in each part of the split.

    Args:
        features: the features of all clips.
        rows: rows of the features, int64 [n], by part (``train``, ``val``, ``test``).
        copies: ids of the clips that are corrupted copies.

    >>> describe_parts(features, rows)                                # doctest: +SKIP
    'training: 12 clips of 3 speakers; validation: 4 clips of 1 speaker; test: 8 clips of 2 speakers'
    """
    found = []
    for part, name in WORDS.items():
        speakers = {features.clips[row].speaker for row in rows[part]}
        copied = sum(features.clips[row].id in copies for row in rows[part])
        held = counted(len(rows[part]) - copied, "clip")
        held += f" and {counted(copied, 'corrupted copy', 'corrupted copies')}" if copied else ""
        held += f" of {counted(len(speakers), 'speaker')}"
        found.append(f"{name}: {held if speakers else 'no clips'}")
    return "; ".join(found)


def network_origin(
    imagenet: str | None, encoders: Sequence[Statement], start: TrainedNetwork | None, config: Config
) -> dict[str, Any]:
    """Return the origin of a network's initial weights and of its frozen encoders, for ``run.json``.

    Args:
        imagenet: path of the ImageNet weights.
        encoders: the frozen encoders whose features the network reads.
        start: the network of ``train.start``.
        config: settings, whose ``train.start`` is the folder of that run.
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
