"""Read the data of a training: open the features, split the clips, and check that they can be trained on.

>>> read_data(config, Ranks(), RunFolder("runs/mine"), False, None).info["clips"]    # doctest: +SKIP
{'train': 336, 'val': 96, 'test': 144}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deiii.data.audit.copies import copies
from deiii.data.audit.run import check_foreign
from deiii.data.cache.recipes import stage_keys
from deiii.data.config.schema import Config
from deiii.data.config.streams import unread_inputs
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.feature_split import split_features
from deiii.data.loader.mixture import mixed_configs
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.task import Task
from deiii.model.training.monitor import check_monitor
from deiii.model.training.origin import digests, keys_of_training
from deiii.model.training.parts import WORDS, check_parts, in_order, not_used
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.start.checks import check_batch, check_sizes, check_streams
from deiii.model.training.start.history import MIXED, mixed_record


@dataclass(frozen=True)
class TrainingData:
    """The clips of a training, read and checked.

    Attributes:
        features: the features of all clips.
        split: the clips of each part.
        task: what the network is to predict.
        rows: rows of the features, int64 [n], by part (``train``, ``val``, ``test``).
        info: the description of the data that ``run.json`` stores, equal in all processes.
        notes: remarks for the user, one line each.
        findings: the audit's report on clips of other corpora, one finding a line; empty where it found none.
    """

    features: FeatureSet
    split: Split
    task: Task
    rows: dict[str, np.ndarray]
    info: dict[str, Any]
    notes: list[str]
    findings: str


def read_data(
    config: Config, ranks: Ranks, run: RunFolder, resume: bool, features: FeatureSet | None
) -> TrainingData:
    """Open the features, split the clips, and check that a network can be trained on them.

    Args:
        config: all settings.
        ranks: the processes that train together; each calls this function.
        run: the run folder; read only where the run is resumed.
        resume: take the features with which the run in this folder began.
        features: the features of these settings, opened and checked before; opened here if ``None``.

    Raises:
        ConfigError: the settings or the clips of the split do not allow a training.
        CacheError: the features are not in the cache, or are damaged.
        SplitError, SpeakerLeak: the clips cannot be divided, or a speaker is in two parts.
        RunError: the run to be resumed has other settings, or its features are not in the cache.
    """
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
    notes += _not_read(config)
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
    return TrainingData(features, split, task, rows, info, notes, findings)


def _open_features(config: Config, run: RunFolder, resume: bool, whole: bool) -> FeatureSet:
    """Open the features of a training; for a resumed one those with which it began."""
    keys = None
    if resume and not config.is_mixture:
        run.check_settings(config, stage_keys(config))
        keys = keys_of_training(run, config)
    return FeatureSet.open(config, keys, whole=whole)


def _not_read(config: Config) -> list[str]:
    """Return a line on each modality of which encoders are computed that the network does not read."""
    lines = []
    for names, setting in unread_inputs(config):
        are, them = ("stage {} is", "it") if len(names) == 1 else ("stages {} are", "them")
        lines.append(
            f"note: the {are.format(', '.join(names))} computed, but the network does not read {them}; "
            f"add '{setting}'"
        )
    return lines


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
