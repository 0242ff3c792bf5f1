"""Speaker-independent splits: no speaker is in two of the parts train, val and test.

A protocol (``data/corpora/protocols/*.yaml``) says how a corpus is divided into folds. There are three kinds:

- ``fixed``: the folds are lists of speakers;
- ``column``: the folds are the clips' own `Clip.fold`, such as a session, sorted;
- ``speakers``: the clips' own folds if they have any, otherwise whole speakers divided among ``folds`` folds.

One fold is tested. The validation part is taken from the other folds: single speakers (``validation:
speakers``) or whole folds (``validation: folds``). A split depends on names and the seed only, not on the
order of the clips, and can be saved as a file to publish with a paper.

>>> from deiii.data.corpora.clips import Clip
>>> clips = tuple(Clip(f"{s}{i}", f"{s}{i}.mp4", s, "a") for s in "abcde" for i in range(2))
>>> split = make_split(Corpus("mine", ".", ("a",), clips), SplitConfig(fold=1))
>>> [len(split.speakers(part)) for part in PARTS]
[3, 1, 1]
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deiii.data.config.schema import SplitConfig
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.canonical_json import canonical_json

PARTS = ("train", "val", "test")
PROTOCOLS = Path(__file__).parent / "protocols"
KINDS = {"fixed", "column", "speakers"}
FORMAT = "deiii-split-1"


class SplitError(ValueError):
    """A corpus cannot be split, or a split file was changed; the message says why."""


@dataclass(frozen=True)
class Protocol:
    """How a corpus is divided into folds.

    Attributes:
        name: of the file.
        about: the protocol in a few words, for reports.
        kind: ``fixed``, ``column`` or ``speakers``; see the module's text.
        validation: unit of the validation part, ``speakers`` or ``folds``.
        folds: the speakers of each fold (``fixed`` only).
        n_folds: number of folds (``speakers`` only).
    """

    name: str
    about: str
    kind: str
    validation: str = "speakers"
    folds: tuple[tuple[str, ...], ...] = ()
    n_folds: int = 0


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

    Raises:
        SplitError: for a clip in two parts, or a speaker with clips in two parts.
    """

    corpus: str
    protocol: str
    fold: int
    n_folds: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    speaker_of: Mapping[str, str]

    def __post_init__(self) -> None:
        ids = [*self.train, *self.val, *self.test]
        if len(set(ids)) != len(ids) or set(ids) != set(self.speaker_of):
            raise SplitError("every clip belongs to exactly one part and has one speaker")
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            if both := set(self.speakers(a)) & set(self.speakers(b)):
                raise SplitError(f"speakers cross between {a} and {b}: {_some(both)}")

    def speakers(self, part: str) -> tuple[str, ...]:
        """The speakers of ``train``, ``val`` or ``test``, sorted."""
        if part not in PARTS:
            raise ValueError(f"a part is one of {', '.join(PARTS)}, not {part!r}")
        return tuple(sorted({self.speaker_of[i] for i in getattr(self, part)}))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all attributes; equal digests mean equal splits."""
        return hashlib.sha256(canonical_json(self._content()).encode()).hexdigest()

    def to_json(self) -> str:
        """The split as JSON with its digest; each part is ``{speaker: [clip ids]}``."""
        return json.dumps({**self._content(), "digest": self.digest}, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write `to_json` atomically."""
        write_text(path, self.to_json())

    @classmethod
    def from_json(cls, text: str) -> Split:
        """The split in JSON that `to_json` wrote.

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
            )
            digest = tree["digest"]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
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
            raise SplitError(f"{corpus.name} lacks {len(lacking)} clips of the split: {_some(lacking)}")
        if wrong := {i for i, s in self.speaker_of.items() if speaker_of[i] != s}:
            raise SplitError(f"clips with other speakers than in the split: {_some(wrong)}")

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"format": FORMAT, "corpus": self.corpus, "protocol": self.protocol}
        content |= {"fold": self.fold, "n_folds": self.n_folds}
        for part in PARTS:
            by_speaker: dict[str, list[str]] = {s: [] for s in self.speakers(part)}
            for clip_id in getattr(self, part):
                by_speaker[self.speaker_of[clip_id]].append(clip_id)
            content[part] = by_speaker
        return content


def make_split(corpus: Corpus, config: SplitConfig) -> Split:
    """The split that tests fold ``config.fold`` of protocol ``config.protocol``.

    The validation part is empty only if a single speaker (or fold) is left to train on.

    Raises:
        SplitError: for too few speakers, a fold out of range, an unknown protocol, a speaker with clips in
            several folds, or settings out of range.
    """
    protocol = _protocol_of(corpus, config)
    folds = _folds(corpus, protocol)
    if not 0 <= config.fold < len(folds):
        raise SplitError(
            f"split.fold={config.fold}, but {protocol.name} has the folds 0 to {len(folds) - 1} here"
        )
    if not 0 < config.val_share < 1:
        raise SplitError(f"split.val_share must lie between 0 and 1, not {config.val_share}")
    test = set(folds[config.fold])
    rest = [fold for i, fold in enumerate(folds) if i != config.fold and fold]
    if not test or not rest:
        what = "test" if not test else "train"
        raise SplitError(f"{protocol.name}: no speaker of {corpus.name} to {what} with fold {config.fold}")
    units = rest if protocol.validation == "folds" and len(rest) > 1 else [(s,) for f in rest for s in f]
    n_val = min(max(1, round(config.val_share * len(units))), len(units) - 1)
    order = sorted(units, key=lambda unit: _rank(config.seed, config.fold, *sorted(unit)))
    val = {speaker for unit in order[:n_val] for speaker in unit}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for clip in corpus.clips:
        part = "test" if clip.speaker in test else "val" if clip.speaker in val else "train"
        parts[part].append(clip.id)
    return Split(
        corpus=corpus.base or corpus.name,
        protocol=protocol.name,
        fold=config.fold,
        n_folds=len(folds),
        **{part: tuple(sorted(ids)) for part, ids in parts.items()},
        speaker_of={c.id: c.speaker for c in corpus.clips},
    )


def number_of_folds(corpus: Corpus, config: SplitConfig) -> int:
    """The number of folds that the protocol has for this corpus. Raises SplitError as `make_split`."""
    return len(_folds(corpus, _protocol_of(corpus, config)))


def protocol_names() -> tuple[str, ...]:
    """The names of all protocols, sorted."""
    return tuple(sorted(p.stem for p in PROTOCOLS.glob("*.yaml")))


def load_protocol(name: str) -> Protocol:
    """Read a protocol of ``data/corpora/protocols``.

    Raises:
        SplitError: for an unknown name or a malformed file.

    >>> load_protocol("ravdess-6fold").about
    'six folds of four consecutive actors'
    """
    if name not in protocol_names():
        raise SplitError(f"no protocol {name!r}; there are {', '.join(protocol_names())}")
    tree = yaml.safe_load((PROTOCOLS / f"{name}.yaml").read_text(encoding="utf-8"))
    try:
        folds = tree.pop("folds", ())
        if isinstance(folds, int):
            protocol = Protocol(**tree, n_folds=folds)
        else:
            protocol = Protocol(**tree, folds=tuple(tuple(fold) for fold in folds))
    except (TypeError, AttributeError) as error:
        raise SplitError(f"{name}.yaml is not a protocol: {error}") from None
    if protocol.kind not in KINDS or protocol.validation not in ("speakers", "folds"):
        raise SplitError(f"{name}.yaml: unknown kind {protocol.kind!r} or validation {protocol.validation!r}")
    return protocol


def _protocol_of(corpus: Corpus, config: SplitConfig) -> Protocol:
    return load_protocol(corpus.protocol if config.protocol == "auto" else config.protocol)


def _folds(corpus: Corpus, protocol: Protocol) -> list[tuple[str, ...]]:
    """The speakers of each fold."""
    if len(corpus.speakers) < 2:
        raise SplitError(
            f"{corpus.name} has {len(corpus.speakers)} speaker(s); a speaker-independent split needs two "
            "or more, and three for a validation part"
        )
    if protocol.kind == "fixed":
        return _fixed_folds(corpus, protocol)
    if protocol.kind == "column" or any(c.fold is not None for c in corpus.clips):
        return _column_folds(corpus, protocol)
    n_folds = min(protocol.n_folds, len(corpus.speakers))
    # In a pseudo-random order: the order of names often alternates by sex or recording site.
    order = sorted(corpus.speakers, key=_rank)
    return [tuple(sorted(order[i::n_folds])) for i in range(n_folds)]


def _fixed_folds(corpus: Corpus, protocol: Protocol) -> list[tuple[str, ...]]:
    here = set(corpus.speakers)
    listed = [s for fold in protocol.folds for s in fold]
    if len(set(listed)) != len(listed):
        raise SplitError(f"protocol {protocol.name} names a speaker in two folds")
    if unknown := here - set(listed):
        raise SplitError(f"protocol {protocol.name} does not know the speakers {_some(unknown)}")
    return [tuple(s for s in fold if s in here) for fold in protocol.folds]


def _column_folds(corpus: Corpus, protocol: Protocol) -> list[tuple[str, ...]]:
    speakers: dict[str, set[str]] = {}
    folds_of: dict[str, set[str]] = {}
    for clip in corpus.clips:
        if clip.fold is None:
            raise SplitError(f"protocol {protocol.name} needs a fold for every clip; {clip.id} has none")
        speakers.setdefault(clip.fold, set()).add(clip.speaker)
        folds_of.setdefault(clip.speaker, set()).add(clip.fold)
    if spanning := {s for s, folds in folds_of.items() if len(folds) > 1}:
        raise SplitError(
            f"speakers with clips in several folds: {_some(spanning)}; give each speaker one fold"
        )
    if len(speakers) < 2:
        raise SplitError(f"{corpus.name} has one fold only, {next(iter(speakers))!r}; two or more are needed")
    return [tuple(sorted(speakers[fold])) for fold in sorted(speakers, key=_natural)]


def _rank(*parts: object) -> str:
    """Sort key of a fixed pseudo-random order, the same in every Python."""
    return hashlib.sha256("\0".join(str(p) for p in parts).encode()).hexdigest()


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key with ``session2`` before ``session10``."""
    return [(0, int(t), t) if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", text) if t]


def _some(names: Iterable[str], most: int = 5) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
