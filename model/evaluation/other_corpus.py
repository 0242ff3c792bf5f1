"""Score a run on another corpus, with the preprocessing and the network of its training.

The clips are all those of the other corpus that have a class, or an attribute, that the network predicts;
those of speakers on whom it was trained or validated are left out. The streams that ``split.hide`` of the run
hides from its test clips are hidden from these clips, too, and ``metrics.json`` records that. Results are
written to ``<run>/on-<corpus>/``.

>>> metrics, folder = evaluate_on("runs/ravdess", ["urdu.yaml"])      # doctest: +SKIP
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.identity import recorded_media
from deiii.data.cache.index import CacheError
from deiii.data.config.checks.effects import changed_corpus
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.spelling import spelling_key
from deiii.data.corpora.targets.classes import map_classes, winner
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import file_sha256, write_json
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.devices import use_device
from deiii.data.tools.machine import machine
from deiii.data.tools.text.figure_text import bracketed, number
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation.evaluate import check_finite, require_finished
from deiii.model.evaluation.predictions import write_predictions
from deiii.model.evaluation.results import (
    about_interval,
    full_figures,
    hidden_lines,
    prediction_table,
    unfinished_training,
)
from deiii.model.evaluation.sections.ceiling import ceiling_lines, human_ceilings
from deiii.model.intervals import INTERVAL_FORM, OVER_SPEAKERS
from deiii.model.metrics import class_intervals, class_report, figure_names
from deiii.model.network.hide_streams import hide_in_scoring
from deiii.model.network.task import Task
from deiii.model.provenance import provenance
from deiii.model.training.loaders import make_loader
from deiii.model.training.origin import digests
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.scoring import Predictions, in_full_precision, score
from deiii.model.training.start.history import histories, seen_files, seen_speakers
from deiii.model.training.trained import load_network

FIGURES = ("uar", "war", "macro_f1")


def evaluate_on(
    path: str | Path,
    words: Sequence[str],
    cache: str | None = None,
    device: str | None = None,
    again: bool = False,
    unfinished: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Score a run on another corpus; writes ``metrics.json`` and ``predictions.csv``.

    Args:
        path: a run folder that training made.
        words: a config and ``corpus.key=value`` settings that name the other corpus; only its corpus is used,
            all other settings are those of the run.
        cache: folder that holds the cache of the other corpus; the run's cache if not given.
        device: a value of ``train.device``; that of the training if not given.
        again: score a corpus again that the run was scored on before.
        unfinished: score a run whose training did not come to its end; ``metrics.json`` then states
            this.

    Returns:
        what ``metrics.json`` holds, and the folder.

    Raises:
        RunError: the training of the run is not finished, the corpus was scored before, has neither a class
            nor an attribute in common with the run, or only speakers of its training, or a prediction is NaN
            or infinite.
        CacheError: the corpus is not preprocessed with the run's settings; the message has the command.
        Locked, CheckpointError, DeviceError: as for `deiii.model.evaluation.evaluate.evaluate`.
        ConfigError: a setting is unknown, or names several corpora.
    """
    run = RunFolder(path)
    run.read_info(whole=True)  # refuses what is no run before the lock is made
    with writer_lock(run.path, wait=False):
        return _evaluate_on(run, words, cache, device, again, unfinished)


def _evaluate_on(
    run: RunFolder,
    words: Sequence[str],
    cache: str | None,
    device: str | None,
    again: bool,
    unfinished: bool,
) -> tuple[dict[str, Any], Path]:
    trained = load_network(run.path)
    state = require_finished(run, trained.config, unfinished)
    config = _with_corpus(trained.config, words, cache)
    features, rows, notes = _open(run, config, trained.config, trained.task)
    folder = run.path / f"on-{features.corpus.name}"
    if (folder / "metrics.json").exists() and not again:
        raise RunError(
            f"{run.path} was scored on {features.corpus.title} before: {folder}/metrics.json. Each corpus is "
            "scored once; --again scores it anew and records that"
        )
    target = use_device(device or config.train.device)
    batches = make_loader(features, rows, config, target, training=False)
    train = in_full_precision(config.train)
    change = hide_in_scoring(config)
    found = score(trained.network.to(target), batches.epoch(0), target, train, change)
    check_finite(found, features, features.corpus.title)
    metrics = _figures(found, features, trained.task, notes)
    metrics |= {"epoch": trained.epoch, "weights": file_sha256(run.best)}
    metrics |= {"interval": OVER_SPEAKERS, "interval_form": INTERVAL_FORM}
    metrics |= {"training": state.record(), "hidden": list(config.split.hide)}
    # run.json has the origin of the training; another version, on another machine, may score the run.
    made_by = provenance(target)
    metrics |= {"hardware": machine(), **{name: made_by[name] for name in ("gpu", "versions", "revision")}}
    entry = {
        "corpus": features.corpus.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(target),
        **notes.digests,
    }
    folder.mkdir(exist_ok=True)
    write_predictions(folder / "predictions.csv", prediction_table(found, features, trained.task))
    info = run.read_info()
    write_json(run.info, {**info, "other_corpora": [*info.get("other_corpora", []), entry]})
    write_json(folder / "metrics.json", metrics)
    return metrics, folder


def summary(metrics: dict[str, Any]) -> str:
    """Return the figures as lines for the terminal."""
    on, counts, test = metrics["corpus"], metrics["clips"], metrics["test"]
    lines = []
    for title, figures in (("", test), (" among the common classes", metrics.get("common", {}))):
        for key, label in figure_names(figures).items():
            if figures.get(key) is not None:
                span = figures.get(f"{key}_ci")
                line = f"{label}{title} {number(figures[key])}  {bracketed(span)}"
                lines.append(line.rstrip())
    if metrics["classes"]:
        lines.append(f"common classes: {', '.join(metrics['classes'])}")
    lines.append(
        f"{counts['scored']} of {counted(counts['in_corpus'], 'clip')} of {on}, "
        f"{counted(len(test['per_speaker']), 'speaker')}; "
        f"{about_interval(metrics)}"
    )
    lines += [
        f"{counted(count, 'clip')} left out: {why}" for why, count in counts["left_out"].items() if count
    ]
    lines += ceiling_lines(metrics.get("ceilings", {}))
    lines += hidden_lines(metrics)
    return "\n".join([*lines, *metrics["notes"], *filter(None, [unfinished_training(metrics)])])


@dataclass(frozen=True)
class _Notes:
    """Notes on clips of the other corpus that were left out, and on how it was read."""

    in_corpus: int
    digests: dict[str, str]
    common: tuple[str, ...]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    ceilings: dict[str, dict[str, Any]]


def _with_corpus(config: Config, words: Sequence[str], cache: str | None) -> Config:
    """Return the settings of the run with another corpus."""
    other = read_settings(words)
    if other.mix:
        raise ConfigError("--on takes one corpus; evaluate on each corpus of mix in turn")
    own = deepcopy(config)  # without copies, which are only for training
    own.corpus, own.mix, own.mix_weights, own.mix_test, own.copies = other.corpus, [], [], True, []
    own.cache = cache or own.cache
    return own


def _open(
    run: RunFolder, config: Config, before: Config, task: Task
) -> tuple[FeatureSet, np.ndarray, _Notes]:
    """Return the other corpus with the classes of the network, the rows to score, and what was left out."""
    try:
        features = FeatureSet.open(config, whole=True)
    except CacheError as error:
        words = changed_corpus(config, before)
        raise CacheError(
            f"{error}. The other corpus needs the run's own preprocessing: "
            f"`{shlex.join(['deiii', 'preprocess', str(run.config), *words])}`"
        ) from None
    keys = run.read_info(whole=True)["keys"]
    for stage, key in features.keys.items():
        if key not in keys.get(stage, "").split("+"):
            raise RunError(
                f"{features.corpus.title} has the {stage} key {key}, the run's is {keys.get(stage)}; "
                "another version or other weights computed it"
            )
    corpus, left_out, notes = _as_task(features.corpus, task)
    past = histories(run)
    seen, media = seen_files(past), recorded_media(config.cache, corpus.name)
    # The corpus may hold a recording of the training under another name; its speaker is left out, too.
    trained = {c.speaker for c in corpus.clips if c.path in media and media[c.path][2] in seen}
    trained |= seen_speakers(past, config.corpus)
    if not media or not all(history.trained_files or not history.trained for history in past):
        where = run.path if media else f"{config.cache}/{corpus.name}"
        notes += (
            f"{where} has no digests of its recordings (an earlier version made it): recordings of the "
            "training under another speaker's name could not be left out",
        )
    known = {c.id for c in corpus.clips if c.speaker in trained}
    kept = {c.id: c for c in corpus.clips if c.id not in known}
    left_out["their speakers were in its training or validation part"] = len(known)
    places = np.array([row for row, c in enumerate(features.clips) if c.id in kept], np.int64)
    if not len(places):
        why = "; ".join(
            f"{counted(count, 'clip')} left out: {reason}" for reason, count in left_out.items() if count
        )
        raise RunError(
            f"{features.corpus.title} has no clip that {run.path} can be scored on "
            f"({why or 'none is usable'}); the run predicts "
            f"{', '.join((*task.classes, *task.attributes))}. corpus.classes={{theirs: ours}} gives classes "
            "other names"
        )
    left_out["no stage is usable"] = len(kept) - len(places)
    theirs = {spelling_key(name) for name in features.corpus.classes}
    common = tuple(name for name in task.classes if spelling_key(name) in theirs)
    scored = {features.clips[place].id for place in places}
    # Raters chose among all classes of their corpus.
    ceilings = human_ceilings(
        [c for c in features.corpus.clips if c.id in scored],
        features.corpus.classes,
        features.corpus.labels,
        features.corpus.votes,
    )
    said = _Notes(len(features.corpus.clips), digests(features.corpus), common, left_out, notes, ceilings)
    clips = [
        kept.get(c.id, replace(c, label=None, soft=None, attributes={}, votes={})) for c in features.clips
    ]
    return replace(features, corpus=corpus, clips=clips), places, said


def _as_task(corpus: Corpus, task: Task) -> tuple[Corpus, dict[str, int], tuple[str, ...]]:
    """Return the corpus with the network's classes and attributes, how many clips were dropped, and notes.

    Classes that the network spells differently, such as Happy and happy, are the network's.
    """
    scale, notes = {}, []
    ours = {spelling_key(name): name for name in task.classes}
    spelled = {name: ours.get(spelling_key(name), name) for name in corpus.classes}
    if spelled := {theirs: own for theirs, own in spelled.items() if theirs != own}:
        notes += [f"its class {theirs!r} is the run's {own!r}" for theirs, own in spelled.items()]
        corpus = map_classes(corpus, spelled)
    for name, (low, high) in zip(task.attributes, task.ranges, strict=True):
        if name not in corpus.ranges:
            continue
        own_low, own_high = corpus.ranges[name]
        factor = (high - low) / (own_high - own_low)
        scale[name] = (factor, low - factor * own_low)
        if (own_low, own_high) != (low, high):
            notes.append(f"{name} from {own_low:g}..{own_high:g} is rescaled to {low:g}..{high:g}")
    notes += _unknown_labels(corpus, task)
    clips, lost = [], 0
    for clip in corpus.clips:
        own = _as_clip(clip, corpus.classes, task, scale)
        known = (task.classes and own.label is not None) or own.attributes
        lost += not known
        clips += [own] if known else []
    ranges = dict(zip(task.attributes, task.ranges, strict=True))
    changed = replace(corpus, classes=task.classes, clips=tuple(clips), ranges=ranges)
    return changed, {"they have no label or rating that the network predicts": lost}, tuple(notes)


def _unknown_labels(corpus: Corpus, task: Task) -> list[str]:
    """Return a note on labels that the network does not predict, if it predicts classes."""
    labels = Counter(clip.label for clip in corpus.clips if clip.label and clip.label not in task.classes)
    if not task.classes or not labels:
        return []
    named = examples((f"{label} ({counted(n, 'clip')})" for label, n in labels.most_common()), 8)
    first = labels.most_common(1)[0][0]
    return [
        f"labels that the network does not predict: {named}; it predicts {', '.join(task.classes)}. If some "
        f"mean the same, name them alike in corpus.classes, as in 'corpus.classes={{{first}: "
        f"{task.classes[0]}}}'"
    ]


def _as_clip(
    clip: Clip, classes: Sequence[str], task: Task, scale: Mapping[str, tuple[float, float]]
) -> Clip:
    label, soft = clip.label if clip.label in task.classes else None, None
    if clip.soft is not None:
        shares = dict(zip(classes, clip.soft, strict=True))
        inside = tuple(shares.get(name, 0.0) for name in task.classes)
        if sum(inside) > 0 and label is not None:
            soft = tuple(share / sum(inside) for share in inside)
            label = winner(task.classes, soft)
    values = {
        name: factor * clip.attributes[name] + shift
        for name, (factor, shift) in scale.items()
        if name in clip.attributes
    }
    return replace(clip, label=label, soft=soft, attributes=values, votes={})


def _figures(found: Predictions, features: FeatureSet, task: Task, notes: _Notes) -> dict[str, Any]:
    speakers = np.array([clip.speaker for clip in features.clips])
    metrics: dict[str, Any] = {
        "corpus": features.corpus.name,
        "classes": list(notes.common),
        "notes": list(notes.notes),
        "test": full_figures(found, speakers, task),
        "clips": {"in_corpus": notes.in_corpus, "scored": len(found.index), "left_out": notes.left_out},
        "ceilings": notes.ceilings,
    }
    if 1 < len(notes.common) < len(task.classes):
        columns = np.array([task.classes.index(name) for name in notes.common])
        known = np.isin(found.label, columns)
        truth = np.searchsorted(columns, found.label[known])
        predicted = found.probabilities["fused"][known][:, columns].argmax(axis=1)
        owner = speakers[found.index[known]]
        report = class_report(truth, predicted, notes.common)
        metrics["common"] = report | class_intervals(truth, predicted, owner, len(columns))
    return metrics
