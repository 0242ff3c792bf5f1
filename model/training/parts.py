"""The clips of each part of a split: their checks before a training, their order, and class weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.mixture import clip_weights, mixed_weights
from deiii.data.tools.counts import counted
from deiii.model.training.losses import inverse_frequency

WORDS = {"train": "training", "val": "validation", "test": "test"}
CURES = {
    "train": "add speakers, or choose another split.fold",
    "val": "add speakers (three or more are needed), or choose another split.fold, split.seed or "
    "split.val_share; split.val_share=0 train.monitor=last trains without validation",
    "test": "choose another split.fold, or remove the speakers without usable clips",
}
FAILED = "failures.csv in the cache says why its clips cannot be used"
RATE = (
    "rate clips of every part with different values, choose another split.fold, or leave the attribute out "
    "of model.attributes"
)
MOST_NAMED = 5


class SpeakerLeak(ValueError):
    """A speaker is in two parts of a split; a score on the test part would mean nothing."""


def check_parts(
    features: FeatureSet, split: Split, rows: Mapping[str, np.ndarray], config: Config
) -> list[str]:
    """Refuse parts with which a training cannot succeed or be scored.

    Args:
        features: the corpus.
        split: training, validation and test.
        rows: the usable clips of each part, int64 rows of the features.
        config: which outputs are predicted.

    Returns:
        notes on classes, ratings and speakers that some part of the split lacks.

    Raises:
        ConfigError: a part is empty, has no label or no ratings to learn from or to score, or there is one
            class only; the message states what to do.
        SpeakerLeak: names the speakers that are in two parts.
    """
    check_without_validation(config)
    needed = needed_parts(split, config)
    for part in needed:
        if not len(rows[part]):
            count = len(getattr(split, part))
            none = "its only clip is not" if count == 1 else f"none of its {counted(count, 'clip')} is"
            why = f"{none} usable; {FAILED}" if count else "it has no clips"
            cure = CURES[part] if split.test else CURES[part].replace("three", "two")
            raise ConfigError(
                f"the {WORDS[part]} part of fold {split.fold} of {split.protocol} is empty: {why}. "
                f"To go on, {cure}"
            )
    if not split.leaks:
        _check_speakers(features, rows)
    people = {features.clips[row].speaker for row in rows["train"]}
    alone = []
    if len(people) == 1:
        alone.append(
            f"note: only one speaker is trained on, {people.pop()!r}: add speakers, or choose another "
            "split.fold"
        )
    classified = bool(config.model.classes and features.classes)
    rating_faults, rated = _rating_faults(features, split, {part: rows[part] for part in needed}, config)
    if rating_faults and not rated and not classified:
        raise ConfigError(f"{'; '.join(rating_faults)}. To go on, {RATE}")
    warned = alone
    if rating_faults:
        warned.append(f"warning: {'; '.join(rating_faults)}. To change that, {RATE}")
    if not classified:
        return warned
    counts = {part: Counter(features.clips[i].label for i in rows[part]) for part in PARTS}
    for labels in counts.values():
        del labels[None]
    notes = warned + _check_classes(
        features, split, rows["train"], {part: counts[part] for part in needed}, rated
    )
    for part in ("val", "test"):
        if missing := sorted(counts[part].keys() - _trained(features, rows["train"])):
            notes.append(
                f"warning: fold {split.fold}: {_some(missing)} in the {WORDS[part]} part only, so the "
                f"network cannot learn {'it' if len(missing) == 1 else 'them'} and every such clip counts as "
                "wrong. To change that, add speakers with such clips, choose another split.fold, or leave "
                "these clips out"
            )
    return notes


def mixture_weights(features: FeatureSet, config: Config) -> torch.Tensor | None:
    """Return the weight of each clip of a mixture, float32 [N]; ``None`` where all clips weigh the same.

    >>> mixture_weights(features, load_config(["mixture.yaml"], ["mix_weights=[0.5]"]))  # doctest: +SKIP
    """
    found = None if features.part is None else clip_weights(features.part, mixed_weights(config))
    return None if found is None else torch.from_numpy(found)


def in_order(corpus: Corpus, ids: Iterable[str]) -> list[str]:
    """Return clips in the order in which a training numbers them, from which its batches are drawn.

    They are sorted by id. In a mixture, an id without the name of its corpus is sorted as if that name stood
    before it.
    """
    if not corpus.parts:
        return sorted(ids)
    first, fronts = f"{corpus.parts[0]}:", corpus.fronts()
    return sorted(ids, key=lambda clip_id: clip_id if fronts[clip_id] else first + clip_id)


def not_used(corpus: Corpus, split: Split) -> list[str]:
    """Return a line on the clips of ``mix`` or ``copies`` that are left out of the training part.

    Their speakers are validated or tested. The list is empty if there are no such clips.
    """
    if corpus.divided is None:
        return []
    held = {*split.speakers("val"), *split.speakers("test")}
    own = {clip.id for clip in corpus.divided.clips}
    others = sum(clip.speaker in held and clip.id not in own for clip in corpus.clips)
    if not others:
        return []
    return [f"not trained on: {counted(others, 'clip')} of validation and test speakers in mix or copies"]


def check_without_validation(config: Config) -> None:
    """Refuse settings that keep no speaker for validation and choose the epoch by validation.

    Raises:
        ConfigError: names both settings.
    """
    if config.split.val_share == 0 and config.train.monitor != "last":
        raise ConfigError(
            "split.val_share=0 keeps no speaker for validation, but "
            f"train.monitor={config.train.monitor} chooses the epoch by validation clips; set "
            "train.monitor=last to train all epochs without a choice, or a split.val_share of more than 0"
        )


def needed_parts(split: Split, config: Config) -> tuple[str, ...]:
    """Return the parts that must have clips.

    They are all parts; without validation if ``split.val_share=0`` leaves none, and without test if the
    protocol has none.
    """
    absent = set()
    if not split.val and not config.split.val_share:
        absent.add("val")
    if not split.test:
        absent.add("test")
    return tuple(part for part in PARTS if part not in absent)


def _check_speakers(features: FeatureSet, rows: Mapping[str, np.ndarray]) -> None:
    speakers = {part: {features.clips[i].speaker for i in rows[part]} for part in PARTS}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted(speakers[one] & speakers[other]):
            raise SpeakerLeak(
                f"speakers are in both the {WORDS[one]} and the {WORDS[other]} part of the split: "
                f"{', '.join(both[:MOST_NAMED])}; nothing was trained. Check the corpus's speakers and the "
                "protocol that split.protocol names"
            )


def _check_classes(
    features: FeatureSet,
    split: Split,
    train: np.ndarray,
    counts: Mapping[str, Counter],
    rated: bool,
) -> list[str]:
    """Refuse a training with fewer than two classes; if ``rated`` attributes are predicted, return a note."""
    trained = sorted(_trained(features, train))
    faults = []
    if len(features.classes) == 1:
        faults.append(f"{features.corpus.title} has one class only, {features.classes[0]!r}")
    elif len(trained) < 2:
        named = f"the class {trained[0]!r} only" if trained else "no label"
        faults.append(f"the training part of fold {split.fold} has {named}")
    faults += [
        f"the {WORDS[part]} part of fold {split.fold} has no clip with a label"
        for part in ("val", "test")
        if part in counts and not counts[part]
    ]
    if not faults:
        return []
    remedy = "label clips of two classes or more for speakers of every part, choose another split.fold"
    if not rated:
        others = ",".join(features.ranges)
        only = f", or predict attributes only (model.classes=false model.attributes=[{others}])"
        raise ConfigError(f"{'; '.join(faults)}. To go on, {remedy}{only if others else ''}")
    return [f"warning: {'; '.join(faults)}. To change that, {remedy}, or set model.classes=false"]


def _rating_faults(
    features: FeatureSet, split: Split, rows: Mapping[str, np.ndarray], config: Config
) -> tuple[list[str], bool]:
    """Return what the ratings of the predicted attributes lack, and whether one can be learned and scored.

    Nothing can be learned from ratings that are all equal. Of such validation or test clips the CCC is zero
    or undefined, which is a fault, but the clips can be scored.

    Args:
        features, split, config: arguments of `check_parts`.
        rows: rows of the clips of each part that must have clips.
    """
    faults: list[str] = []
    usable = False
    for name in config.model.attributes:
        possible = True
        for part, found in rows.items():
            ratings = [features.clips[row].attributes.get(name) for row in found]
            known = [rating for rating in ratings if rating is not None]
            if len(set(known)) > 1:
                continue
            possible = possible and bool(known) and part != "train"
            lack = f"no clip with a rating of {name}"
            if len(known) == 1:
                lack = f"only one clip with a rating of {name}"
            elif known:
                lack = f"the same rating of {name}, {known[0]:g}, for all rated clips"
            faults.append(f"the {WORDS[part]} part of fold {split.fold} has {lack}")
        usable = usable or possible
    return faults, usable


def _trained(features: FeatureSet, rows: np.ndarray) -> set[str]:
    """Return the classes that the training clips show, also as a share of a soft label."""
    found: set[str] = set()
    for row in rows:
        clip = features.clips[row]
        if clip.soft is not None:
            found |= {name for name, share in zip(features.classes, clip.soft, strict=True) if share > 0}
        elif clip.label is not None:
            found.add(clip.label)
    return found


def _some(classes: list[str]) -> str:
    named = ", ".join(map(repr, classes[:MOST_NAMED]))
    more = f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else ""
    return f"the class {named} is" if len(classes) == 1 else f"the classes {named}{more} are"


def class_weights(features: FeatureSet, rows: Sequence[int] | np.ndarray) -> torch.Tensor:
    """Return inverse-frequency weights, float32 [C], from the targets of the training clips."""
    soft = torch.zeros(len(rows), len(features.classes))
    for i, row in enumerate(rows):
        clip = features.clips[row]
        if clip.soft is not None:
            soft[i] = torch.tensor(clip.soft)
        elif clip.label is not None:
            soft[i, features.classes.index(clip.label)] = 1.0
    return inverse_frequency(soft)
