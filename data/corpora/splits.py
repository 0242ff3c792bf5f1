"""Speaker-independent splits: no speaker is in two of the parts train, val and test.

A protocol (`deiii.data.corpora.protocol`) says how a corpus is divided into folds. One fold is tested. The
validation part is listed by the protocol, or taken from the other folds: single speakers (``validation:
speakers``) or whole folds (``validation: folds``). Lists of clips that somebody else published may share
speakers; such a split is refused unless ``split.leaks=allow``. A split depends on names and the seed only,
not on the order of the clips, and can be saved as a file to publish with a paper.

>>> from deiii.data.corpora.clips import Clip
>>> clips = tuple(Clip(f"{s}{i}", f"{s}{i}.mp4", s, "a") for s in "abcde" for i in range(2))
>>> split = make_split(Corpus("mine", ".", ("a",), clips), SplitConfig(fold=1))
>>> [len(split.speakers(part)) for part in PARTS]
[3, 1, 1]
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deiii.data.config.schema import SplitConfig
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import (
    PARTS,
    Protocol,
    SplitError,
    as_spelled,
    check_speakers,
    count_folds,
    folds_of,
    load_protocol,
    match_clips,
    rank_key,
    some,
)
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.text.canonical_json import canonical_json

FORMAT = "deiii-split-1"
UNKNOWN_SPEAKERS = "some clips have unknown speakers, so one person may be in training and in test"
LEAKS = "speakers or recordings of the test part may also be in training (split.leaks=allow)"


@dataclass(frozen=True)
class Split:
    """The clip ids of the three parts of one split.

    Attributes:
        corpus: the corpus's name.
        protocol: the protocol's name.
        fold: the fold that is tested, counted from 0.
        n_folds: number of folds.
        train, val, test: clip ids, sorted.
        speaker_of: the speaker of every clip id.
        leaks: whether clips and speakers may be in two parts; true with ``split.leaks=allow``.

    Raises:
        SplitError: for a clip in two parts, or a speaker with clips in two parts, unless ``leaks``.
    """

    corpus: str
    protocol: str
    fold: int
    n_folds: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    speaker_of: Mapping[str, str]
    leaks: bool = False

    def __post_init__(self) -> None:
        ids = [*self.train, *self.val, *self.test]
        if set(ids) != set(self.speaker_of):
            raise SplitError("every clip of a split has one speaker")
        if self.leaks:
            return
        if len(set(ids)) != len(ids):
            twice = {i for i, n in Counter(ids).items() if n > 1}
            raise SplitError(
                f"{counted(len(twice), 'clip is', 'clips are')} in two parts of the split: {some(twice)}"
            )
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            if both := set(self.speakers(a)) & set(self.speakers(b)):
                raise SplitError(f"speakers cross between {a} and {b}: {some(both)}")

    def __repr__(self) -> str:
        sizes = [f"{p} {len(getattr(self, p))} ({len(self.speakers(p))})" for p in PARTS]
        head = f"{self.corpus!r}, {self.protocol}, fold {self.fold} of {self.n_folds}"
        return f"Split({head}: clips (speakers) {', '.join(sizes)})"

    def speakers(self, part: str) -> tuple[str, ...]:
        """Return the speakers of ``train``, ``val`` or ``test``, sorted. Raises ValueError for others."""
        if part not in PARTS:
            raise ValueError(f"a part is one of {', '.join(PARTS)}, not {part!r}")
        return tuple(sorted({self.speaker_of[i] for i in getattr(self, part)}))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all attributes; equal digests mean equal splits."""
        return hashlib.sha256(canonical_json(self._content()).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the split as JSON with its digest; each part is ``{speaker: [clip ids]}``."""
        return json.dumps({**self._content(), "digest": self.digest}, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write `to_json` atomically."""
        write_text(path, self.to_json())

    @classmethod
    def from_json(cls, text: str) -> Split:
        """Return the split in JSON that `to_json` wrote.

        Raises:
            SplitError: for other JSON, a speaker in two parts, or a wrong digest (an edited file).
        """
        try:
            tree = json.loads(text)
            if tree["format"] != FORMAT:
                raise SplitError(f"a split file has the format {FORMAT}, not {tree['format']!r}")
            parts = {part: tuple(sorted(i for ids in tree[part].values() for i in ids)) for part in PARTS}
            speaker_of = {i: s for part in PARTS for s, ids in tree[part].items() for i in ids}
            split = cls(
                corpus=str(tree["corpus"]),
                protocol=str(tree["protocol"]),
                fold=int(tree["fold"]),
                n_folds=int(tree["n_folds"]),
                **parts,
                speaker_of=speaker_of,
                leaks=bool(tree.get("leaks", False)),
            )
            digest = tree["digest"]
        except SplitError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise SplitError(f"not a split file: {error!r}") from None
        if split.digest != digest:
            raise SplitError("the split file's digest does not fit its content; it was changed after saving")
        return split

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Read a file that `save` wrote. Raises SplitError as `from_json`, with the file's name."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (SplitError, UnicodeDecodeError) as error:
            raise SplitError(f"{path}: {error}") from None

    def check(self, corpus: Corpus) -> None:
        """Raise SplitError if the corpus lacks clips of the split, or gives them other speakers."""
        speaker_of = {c.id: c.speaker for c in corpus.clips}
        if lacking := self.speaker_of.keys() - speaker_of.keys():
            raise SplitError(
                f"{corpus.title} lacks {counted(len(lacking), 'clip')} of the split: {some(lacking)}"
            )
        if wrong := {i for i, s in self.speaker_of.items() if speaker_of[i] != s}:
            raise SplitError(f"clips with other speakers than in the split: {some(wrong)}")

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"format": FORMAT, "corpus": self.corpus, "protocol": self.protocol}
        content |= {"fold": self.fold, "n_folds": self.n_folds}
        if self.leaks:  # only then, so that the digests of published splits do not change
            content["leaks"] = True
        for part in PARTS:
            by_speaker: dict[str, list[str]] = {s: [] for s in self.speakers(part)}
            for clip_id in getattr(self, part):
                by_speaker[self.speaker_of[clip_id]].append(clip_id)
            content[part] = by_speaker
        return content


def make_split(corpus: Corpus, config: SplitConfig) -> Split:
    """Return the split that tests fold ``config.fold`` of protocol ``config.protocol``.

    The validation part is empty if a single speaker (or fold) is left to train on, or if ``config.val_share``
    is 0 and the protocol lists no validation speakers. The test part is empty for protocols of the kind
    ``all``, and for no others.

    Raises:
        SplitError: for too few speakers, a fold out of range, an unknown protocol, a speaker with clips in
            several folds, settings out of range, or a list of clips that shares speakers or clips between
            parts while ``config.leaks`` is ``refuse``.
    """
    if corpus.divided is not None:
        return _add_training(make_split(corpus.divided, config), corpus, corpus.divided)
    protocol = load_protocol(_name_of(corpus, config))
    n_folds = count_folds(corpus, protocol)
    if not 0 <= config.fold < n_folds:
        raise SplitError(
            f"split.fold={config.fold}, but {protocol.name} has the folds 0 to {n_folds - 1} here"
        )
    if not 0 <= config.val_share < 1:
        raise SplitError(f"split.val_share must be at least 0 and less than 1, not {config.val_share}")
    if protocol.kind == "clips":
        parts = _listed_clips(corpus, protocol, config)
    else:
        part_of = _speaker_parts(corpus, protocol, config)
        parts = {part: [c.id for c in corpus.clips if part_of.get(c.speaker) == part] for part in PARTS}
    inside = {i for ids in parts.values() for i in ids}
    try:
        return Split(
            corpus=corpus.base or corpus.name,
            protocol=protocol.name,
            fold=config.fold,
            n_folds=n_folds,
            train=tuple(sorted(parts["train"])),
            val=tuple(sorted(parts["val"])),
            test=tuple(sorted(parts["test"])),
            speaker_of={c.id: c.speaker for c in corpus.clips if c.id in inside},
            leaks=protocol.foreign and config.leaks == "allow",
        )
    except SplitError as error:
        remedy = "; `deiii audit` lists what is shared. To train on it as it is, set split.leaks=allow"
        raise SplitError(f"{protocol.name}: {error}{remedy if protocol.foreign else ''}") from None


def _add_training(own: Split, corpus: Corpus, divided: Corpus) -> Split:
    """Return the split of one corpus of a mixture, with the other corpora's clips in its training part.

    Of the people of the divided corpus, the clips of its training speakers are added, and no other copies
    of its own clips than those of its training clips.
    """
    clips = {clip.id for clip in divided.clips}
    people, trained = set(divided.speakers), set(own.train)
    speakers = {own.speaker_of[clip_id] for clip_id in trained}

    def is_added(clip: Clip) -> bool:
        if clip.id in clips:
            return False
        if clip.speaker not in people:
            return True
        _, _, original = clip.id.partition(":")  # the id in its corpus, which a copy and its clip share
        return clip.speaker in speakers and (original in trained or original not in clips)

    added = [clip.id for clip in corpus.clips if is_added(clip)]
    inside = {*own.speaker_of, *added}
    return replace(
        own,
        corpus=corpus.base or corpus.name,
        train=tuple(sorted([*own.train, *added])),
        speaker_of={clip.id: clip.speaker for clip in corpus.clips if clip.id in inside},
    )


def _speaker_parts(corpus: Corpus, protocol: Protocol, config: SplitConfig) -> dict[str, str]:
    """Return the part of every speaker."""
    rest: list[tuple[str, ...]]
    if not protocol.tested:
        test, val = set(), set()
        rest = [(speaker,) for speaker in sorted(corpus.speakers)]
    elif protocol.kind == "parts":
        check_speakers(corpus)
        given = {part: as_spelled(names, corpus) for part, names in protocol.parts[config.fold].items()}
        here = set(corpus.speakers)
        lacking = {s for names in given.values() for s in names} - here
        own = _name_of(corpus, config).endswith((".yaml", ".yml"))
        if lacking and own and "train" not in given:
            # A test speaker whose name is misspelt would become a training speaker.
            raise SplitError(
                f"{protocol.name}: fold {config.fold} names speakers that {corpus.title} lacks: "
                f"{some(lacking)}; correct the names, or list the speakers of train, too"
            )
        listed = [(part, speaker) for part, names in given.items() for speaker in set(names)]
        if twice := {s for _, s in listed if sum(s == other for _, other in listed) > 1}:
            raise SplitError(
                f"{protocol.name}: fold {config.fold} names speakers in two parts: {some(twice)}; "
                "name each once"
            )
        test = set(given["test"]) & here
        val = set(given.get("val", ())) & here
        others = set(given.get("train", here)) & here
        rest = [(s,) for s in sorted(others - test - val)]
    else:
        folds = folds_of(corpus, protocol)
        test, val = set(folds[config.fold]), set()
        rest = [fold for i, fold in enumerate(folds) if i != config.fold and fold]
    if protocol.tested and (not test or not rest):
        cause = "train with" if test else "test"
        where = "all of them are in its test part" if test else "none of them is in its test part"
        raise SplitError(
            f"{protocol.name}: no speaker of {corpus.title} to {cause} in fold {config.fold}: the corpus has "
            f"{some(set(corpus.speakers))}, and {where}. Add the other recordings, choose another "
            "split.fold, or set split.protocol=speakers, which divides the speakers that are there"
        )
    if not val and not (protocol.kind == "parts" and "val" in given):
        val = _draw(rest, protocol, config)
    trained = {speaker for fold in rest for speaker in fold}
    return dict.fromkeys(trained, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")


def _draw(rest: Sequence[tuple[str, ...]], protocol: Protocol, config: SplitConfig) -> set[str]:
    """Return validation speakers from the folds not tested; none if one unit is left or the share is 0."""
    if config.val_share == 0:
        return set()
    whole = protocol.validation == "folds" and len(rest) > 1
    units = list(rest) if whole else [(speaker,) for fold in rest for speaker in fold]
    n_val = min(max(1, round(config.val_share * len(units))), len(units) - 1)
    order = sorted(units, key=lambda unit: rank_key(config.seed, config.fold, *sorted(unit)))
    return {speaker for unit in order[:n_val] for speaker in unit}


def _listed_clips(corpus: Corpus, protocol: Protocol, config: SplitConfig) -> dict[str, list[str]]:
    """Return the clip ids of each part of a list; without validation, training speakers are drawn for it."""
    clips = match_clips(corpus, protocol, config.fold)
    parts = {part: [c.id for c in clips.get(part, ())] for part in PARTS}
    for part in ("train", "test"):
        if not parts[part]:
            names = protocol.parts[config.fold].get(part, ())
            raise SplitError(
                f"{protocol.name}: {corpus.title} has no clip that the list {part} of fold {config.fold} "
                f"names ({some(names) or 'the list is empty'}); its clips are "
                f"{some(c.id for c in corpus.clips)}. "
                "Set split.protocol to a protocol for this corpus, or let `deiii splits import FOLDER` write "
                "one from lists of its clips"
            )
    if "val" not in protocol.parts[config.fold]:
        speakers = [(s,) for s in sorted({c.speaker for c in clips["train"]})]
        drawn = _draw(speakers, protocol, config)
        parts["val"] = [c.id for c in clips["train"] if c.speaker in drawn]
        parts["train"] = [c.id for c in clips["train"] if c.speaker not in drawn]
    return parts


def number_of_folds(corpus: Corpus, config: SplitConfig) -> int:
    """Return the number of folds that the protocol has for this corpus. Raises SplitError as `make_split`."""
    own = corpus.divided or corpus
    return count_folds(own, load_protocol(_name_of(own, config)))


def is_tested(corpus: Corpus, config: SplitConfig) -> bool:
    """Return whether the protocol has a test part. Raises SplitError if there is no such protocol."""
    return load_protocol(_name_of(corpus.divided or corpus, config)).tested


def _name_of(corpus: Corpus, config: SplitConfig) -> str:
    return corpus.protocol if config.protocol == "auto" else config.protocol
