"""Find clips, recordings and speakers that the parts of a split share, and state the effect on a result.

A leak is a clip, a recording or a speaker in two parts; with it, the score on the test part is not one of
new people alone. A note states a property that a reader should know: sentences in two parts, or
shares of classes or sexes that differ between the parts.

>>> a = Facts("1", "1", "anna", label="sad")
>>> b = Facts("2", "2", "anna", label="sad")
>>> [finding.text for finding in audit_parts({"train": [a], "test": [b]}).leaks]
['1 of 1 speaker of test are in train too: anna']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deiii.data.audit.fingerprints import (
    SHORTEST_S,
    AudioPrint,
    audio_print,
    face_print,
    same_audio,
    same_face,
)
from deiii.data.audit.names import Facts, facts_of_clip
from deiii.data.cache.stages import FACES, LOGMEL
from deiii.data.corpora.clips import is_placeholder
from deiii.data.corpora.protocol import PARTS, some
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.counts import counted

PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))
UNLIKE = 0.1  # total variation of two distributions of classes, or difference of the shares of women
TRAINED = {  # effects of what train and test share
    "equal": "the network is scored on the clips that it was trained on",
    "clips": "the network was trained on clips that it is scored on",
    "speakers": "the network can recognise voices and faces that it was trained on; the score says little "
    "about other people",
    "takes": "one recording is trained on and scored, in another file",
    "sound": "one recording is trained on and scored under another name",
    "face": "one video is trained on and scored under another name",
}
CHOSEN = "the epoch and the temperature are chosen on {} of the test part, so the score is too high"
MEMORISED = (
    "validation has {} of the training part, so the epoch and the temperature are chosen by what the network "
    "has memorised"
)
SHARED = {
    "equal": "the clips", "clips": "clips", "speakers": "speakers", "takes": "recordings",
    "sound": "recordings", "face": "videos",
}  # fmt: skip
EFFECTS = {
    **TRAINED,
    "tested again": "figures over all folds count these clips more than once; the folds are no "
    "cross-validation",
    "sentences": "the parts share these words; the score says nothing about other sentences. This is "
    "usual where actors read a few sentences",
    "classes": "accuracy (WAR) depends on these shares; UAR does not",
    "unseen": "the network cannot learn these classes; every such clip counts as wrong",
    "sex": "a difference between women and men changes the score",
    "one sex": "the score is of one sex only",
}


@dataclass(frozen=True)
class Finding:
    """One finding of an audit: a leak or a note.

    Attributes:
        kind: a key of `EFFECTS`.
        count: number of the clips, takes, speakers, pairs, sentences or classes that it is about.
        text: a sentence with names.
        leak: whether parts share what they may not share.
        parts: the two parts that share something; train and test for other findings.
    """

    kind: str
    count: int
    text: str
    leak: bool
    parts: tuple[str, str] = ("train", "test")

    @property
    def effect(self) -> str:
        """Its effect on a result.

        >>> Finding("clips", 1, "", True, ("val", "test")).effect
        'the epoch and the temperature are chosen on clips of the test part, so the score is too high'
        """
        if self.parts == ("val", "test"):
            return CHOSEN.format(SHARED[self.kind])
        if self.parts == ("train", "val"):
            return MEMORISED.format(SHARED[self.kind])
        return EFFECTS[self.kind]


@dataclass(frozen=True)
class Audit:
    """The findings of an audit, and what was compared.

    Attributes:
        findings: leaks and notes.
        looked: sentences on what was compared.
    """

    findings: tuple[Finding, ...]
    looked: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings on what parts share and may not share."""
        return tuple(finding for finding in self.findings if finding.leak)

    def text(self) -> str:
        """Return all findings as lines, leaks first."""
        lines = []
        for finding in sorted(self.findings, key=lambda finding: not finding.leak):
            lines.append(f"{'LEAK' if finding.leak else 'note'}: {finding.text}")
            lines.append(f"      effect: {finding.effect}")
        if not self.leaks:
            lines.append("no leak found")
        return "\n".join([*lines, *self.looked])


@dataclass(frozen=True)
class Prints:
    """Fingerprints by clip id.

    Attributes:
        audio: fingerprints of recordings with audio.
        face: fingerprints of the movement of faces.
    """

    audio: Mapping[str, AudioPrint] = field(default_factory=dict)
    face: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, features: FeatureSet, ids: Sequence[str] | None = None) -> Prints:
        """Return the fingerprints of cached clips: of those with the given ids, or of all."""
        wanted = None if ids is None else set(ids)
        audio: dict[str, AudioPrint] = {}
        face: dict[str, np.ndarray] = {}
        for row, clip in enumerate(features.clips):
            if wanted is not None and clip.id not in wanted:
                continue
            arrays = features.arrays(row)
            if LOGMEL.name in arrays:
                of_audio = audio_print(arrays[LOGMEL.name][LOGMEL.large], arrays[LOGMEL.name]["time"])
                if of_audio is not None:
                    audio[clip.id] = of_audio
            if FACES.name in arrays:
                of_face = face_print(arrays[FACES.name]["frames"], arrays[FACES.name]["valid"])
                if of_face is not None:
                    face[clip.id] = of_face
        return cls(audio, face)


def audit_split(split: Split, features: FeatureSet, corpus: str) -> Audit:
    """Audit a split of a cached corpus by names, audio and faces.

    Args:
        split: split of the corpus.
        features: the opened caches.
        corpus: the adapter's name, which determines the meaning of file names.
    """
    by_id = {clip.id: clip for clip in features.corpus.clips}
    parts = {part: [facts_of_clip(by_id[i], corpus) for i in getattr(split, part)] for part in PARTS}
    return audit_parts(parts, Prints.of(features, [i for part in PARTS for i in getattr(split, part)]))


def audit_parts(parts: Mapping[str, Sequence[Facts]], prints: Prints | None = None) -> Audit:
    """Audit the clips of the parts of one fold.

    Args:
        parts: the clips of ``train``, ``test`` and optionally ``val``.
        prints: fingerprints of some of these clips, and of others, which are ignored; without them,
            recordings are compared by name only.
    """
    findings: list[Finding] = []
    for one, other in PAIRS:
        if parts.get(one) and parts.get(other):
            findings += _shared(one, parts[one], other, parts[other], prints or Prints())
    findings += _balance(parts)
    looked = [", ".join(f"{part}: {counted(len(parts[part]), 'clip')}" for part in PARTS if parts.get(part))]
    nameless = sum(not f.speaker or is_placeholder(f.speaker) for clips in parts.values() for f in clips)
    if nameless:
        looked.append(f"the speaker of {counted(nameless, 'clip')} is not known and was not compared")
    if prints is None:
        looked.append(
            "names were compared; audio and faces were not, because there are no features for these "
            "settings: give the configs and KEY=VALUE settings of `deiii preprocess` (such as tiny), or "
            "preprocess first"
        )
    else:
        held = {facts.id for clips in parts.values() for facts in clips}
        by_audio, by_face = len(held & prints.audio.keys()), len(held & prints.face.keys())
        looked.append(f"compared by audio: {counted(by_audio, 'clip')}; by the face's movement: {by_face}")
        if lacking := len(held - prints.audio.keys()):
            looked.append(
                f"not compared by audio: {counted(lacking, 'clip')}, whose audio is missing, silent, or "
                f"shorter than {SHORTEST_S:g} s without the silence around it"
            )
    return Audit(tuple(findings), tuple(looked))


def _shared(
    one: str, these: Sequence[Facts], other: str, those: Sequence[Facts], prints: Prints
) -> list[Finding]:
    """Return findings on what two parts share."""
    found: list[Finding] = []
    here, there = {f.id: f for f in these}, {f.id: f for f in those}
    both = here.keys() & there.keys()
    if here.keys() == there.keys():
        return [
            Finding(
                "equal",
                len(both),
                f"{one} and {other} are the same: {counted(len(both), 'clip')}",
                True,
                (one, other),
            )
        ]
    if both:
        found.append(
            Finding(
                "clips",
                len(both),
                f"{counted(len(both), 'clip is', 'clips are')} in {one} and {other}: {some(both)}",
                True,
                (one, other),
            )
        )
    takes = {f.take for f in these if f.take} & {f.take for f in those if f.take}
    takes -= {here[i].take for i in both}
    if takes:
        number = counted(len(takes), "take has files", "takes have files")
        text = f"{number} in {one} and {other}: {some(takes)}"
        found.append(Finding("takes", len(takes), text, True, (one, other)))
    speakers = {f.speaker for f in these if f.speaker} & {f.speaker for f in those if f.speaker}
    if speakers:
        total = len({f.speaker for f in those if f.speaker})
        text = f"{len(speakers)} of {counted(total, 'speaker')} of {other} are in {one} too: {some(speakers)}"
        found.append(Finding("speakers", len(speakers), text, True, (one, other)))
    kinds = (
        ("sound", "audio", list(same_audio(_of(prints.audio, here), _of(prints.audio, there)))),
        ("face", "movement of the face", list(same_face(_of(prints.face, here), _of(prints.face, there)))),
    )
    for kind, what, pairs in kinds:
        new = [(a, b, like) for a, b, like in pairs if not here[a].take or here[a].take != there[b].take]
        if new:
            named = some(f"{a} = {b} ({like:.3f})" for a, b, like in new)
            text = f"{counted(len(new), 'pair')} of clips in {one} and {other} have the same {what}: {named}"
            found.append(Finding(kind, len(new), text, True, (one, other)))
    sentences = {f.sentence for f in these if f.sentence} & {f.sentence for f in those if f.sentence}
    if sentences and other == "test":
        number = counted(len(sentences), "sentence is", "sentences are")
        text = f"{number} in {one} and {other}: {some(sentences)}"
        found.append(Finding("sentences", len(sentences), text, False))
    return found


def _of(prints: Mapping[str, object], clips: Mapping[str, Facts]) -> dict:
    return {i: prints[i] for i in clips if i in prints}


def _balance(parts: Mapping[str, Sequence[Facts]]) -> list[Finding]:
    """Return findings on classes and sexes whose shares differ between training and test."""
    train, test = parts.get("train", ()), parts.get("test", ())
    found: list[Finding] = []
    before, after = (Counter(f.label for f in clips if f.label) for clips in (train, test))
    if before and after:
        if unseen := sorted(after.keys() - before.keys()):
            number = counted(len(unseen), "class is", "classes are")
            text = f"{number} in test and not in train: {some(unseen)}"
            found.append(Finding("unseen", len(unseen), text, False))
        names = sorted(before.keys() | after.keys())  # of classes as far apart, the first is named
        apart = {n: after[n] / after.total() - before[n] / before.total() for n in names}
        if sum(map(abs, apart.values())) / 2 > UNLIKE:
            most = max(apart, key=lambda name: abs(apart[name]))
            text = (
                f"the classes have other shares in test than in train: {most} has "
                f"{after[most] / after.total():.0%}, in train {before[most] / before.total():.0%}"
            )
            found.append(Finding("classes", len(names), text, False))
    women = {}
    for part, clips in (("train", train), ("test", test)):
        sexes = dict({f.speaker: f.sex for f in clips if f.sex})
        if sexes:
            women[part] = sum(sex == "female" for sex in sexes.values()) / len(sexes)
    if len(women) == 2:
        unknown = {f.speaker for f in test} - {f.speaker for f in test if f.sex}
        known = " whose sex is known" if unknown else ""
        if women["test"] in (0, 1):
            text = f"all test speakers{known} are {'women' if women['test'] else 'men'}"
            found.append(Finding("one sex", 1, text, False))
        elif abs(women["test"] - women["train"]) > UNLIKE:
            text = (
                f"{women['test']:.0%} of the test speakers{known} are women, "
                f"{women['train']:.0%} of those of train"
            )
            found.append(Finding("sex", 1, text, False))
    return found
