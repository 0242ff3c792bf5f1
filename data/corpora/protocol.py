"""Split protocols: how a corpus is divided into folds, as data.

A protocol is a YAML file: one of ``data/corpora/protocols/``, or a file of yours, such as one that
`deiii splits import` wrote. There are six kinds:

- ``fixed``: the folds are lists of speakers;
- ``parts``: each fold lists the speakers of ``test``, and optionally of ``val`` and ``train``;
- ``clips``: each fold lists the clips of ``train``, ``test`` and optionally ``val`` by file name;
- ``column``: the folds are the clips' own `Clip.fold`, such as a session, sorted;
- ``speakers``: the clips' own folds if they have any, otherwise whole speakers divided among ``folds`` folds;
- ``all``: one fold without a test part, for a final network that is trained on all speakers.

``source`` states where the lists come from (repository, commit, files and the SHA-256 of those files one
after the other), ``known_for`` what a reader of its figures should know.

>>> load_protocol("ravdess-6fold").about
'six folds of four consecutive actors'
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from deiii.data.config.suggest import did_you_mean
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.files import clip_key
from deiii.data.corpora.spelling import name_key
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.text.part_names import WORDS, part_of_folders

PROTOCOLS = Path(__file__).parent / "protocols"
KINDS = ("fixed", "parts", "clips", "column", "speakers", "all")
VALIDATION = ("speakers", "folds", "given")
PARTS = ("train", "val", "test")
MAX_BYTES = 64_000_000  # no protocol is as large; five folds that list a million clips each would be


class SplitError(ValueError):
    """A corpus cannot be split, or a split file was changed; the message says why."""


@dataclass(frozen=True)
class Protocol:
    """How a corpus is divided into folds.

    Attributes:
        name: name of the protocol, as its file states it.
        about: the protocol in a few words, for reports.
        kind: one of `KINDS`; see the module's text.
        validation: what the validation part is made of: drawn ``speakers``, drawn ``folds``, or ``given``.
        folds: the speakers of each fold (``fixed`` only).
        n_folds: number of folds (``speakers`` only).
        parts: for each fold, speakers (``parts``) or names of clips (``clips``), keyed by part.
        source: source of the lists.
        known_for: what a reader of its figures should know.
    """

    name: str
    about: str
    kind: str
    validation: str = "speakers"
    folds: tuple[tuple[str, ...], ...] = ()
    n_folds: int = 0
    parts: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)
    known_for: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it divides clips, so that nothing but an audit keeps speakers apart."""
        return self.kind == "clips"

    @property
    def tested(self) -> bool:
        """Whether its folds have a test part."""
        return self.kind != "all"


def protocol_names() -> tuple[str, ...]:
    """Return the names of the protocols that come with deiii, sorted."""
    return tuple(sorted(p.stem for p in PROTOCOLS.glob("*.yaml")))


def load_protocol(name: str) -> Protocol:
    """Read a protocol: one that comes with deiii by its name, or a YAML file by its path.

    Raises:
        SplitError: for an unknown name, a missing or a malformed file.
    """
    if name in protocol_names():
        path = PROTOCOLS / f"{name}.yaml"
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise SplitError(f"no protocol file {name}; `deiii splits import` writes one from lists of clips")
    else:
        hint = did_you_mean(name, protocol_names())
        raise SplitError(
            f"no protocol {name!r}{hint or ';'} there are {', '.join(protocol_names())}, and the paths of "
            "YAML files"
        )
    if path.stat().st_size > MAX_BYTES:
        raise SplitError(f"{path} is larger than {MAX_BYTES} bytes, which no protocol is")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _loader())  # noqa: S506  strings, lists and dicts alone
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SplitError(f"{path} is not a protocol: {error}") from None
    return _protocol(tree, path)


def _loader() -> Any:
    """PyYAML's loader that reads all values as text: the speakers 07, 010 and no stay names.

    It is the one in C where PyYAML was built with it; lists of 7,000 clips take seconds in Python.
    """
    return getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def _check_keys(tree: Any, path: Path) -> None:
    """Raise SplitError for a file that has not the keys of a protocol."""
    needed = ("name", "about", "kind")
    known = ({f.name for f in fields(Protocol)} | {"folds"}) - {"n_folds", "parts"}
    found = {str(key) for key in tree} if isinstance(tree, dict) else set()
    if unknown := sorted(found - known):
        config = {"corpus", "split"} & found
        remedy = "; it is a config, which names a corpus and not a split" if config else ""
        raise SplitError(f"{path} is not a protocol: it has the unknown keys {', '.join(unknown)}{remedy}")
    if missing := [key for key in needed if key not in found]:
        raise SplitError(f"{path} is not a protocol: it needs the keys {', '.join(missing)}")


def _protocol(tree: Any, path: Path) -> Protocol:
    _check_keys(tree, path)
    try:
        kind = tree.get("kind")
        folds = tree.pop("folds", ())
        if isinstance(folds, str):
            found = Protocol(**tree, n_folds=int(folds))
        elif kind in ("parts", "clips"):
            found = Protocol(**tree, parts=tuple(_parts(fold) for fold in folds))
        else:
            found = Protocol(**tree, folds=tuple(_names(fold) for fold in folds))
        if not all(isinstance(text, str) for text in (found.name, found.about, found.known_for)):
            raise TypeError("name, about and known_for are text")
        found = Protocol(**{**vars(found), "source": {str(k): str(v) for k, v in found.source.items()}})
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise SplitError(f"{path} is not a protocol: {error}") from None
    if found.kind not in KINDS or found.validation not in VALIDATION:
        raise SplitError(f"{path}: unknown kind {found.kind!r} or validation {found.validation!r}")
    if found.kind in ("parts", "clips") and not found.parts or found.kind == "fixed" and not found.folds:
        raise SplitError(f"{path}: a protocol of the kind {found.kind} needs a list of folds")
    if found.kind == "all" and (found.folds or found.n_folds):
        raise SplitError(f"{path}: a protocol of the kind all has no folds, because nothing is tested")
    if found.kind == "speakers" and found.n_folds < 2:
        raise SplitError(f"{path}: folds is the number of folds, 2 or more")
    unlisted = [n for n, parts in enumerate(found.parts) if "val" not in parts]
    if found.validation == "given" and (unlisted or not found.parts):
        where = f"fold {unlisted[0]} has" if unlisted else f"a protocol of the kind {found.kind} has"
        raise SplitError(
            f"{path}: it has validation: given, but {where} no list val. Add the list, or write "
            "validation: speakers, which draws some of the training speakers (none with split.val_share=0)"
        )
    return found


def _parts(fold: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if unknown := sorted(map(str, set(fold) - set(PARTS))):
        raise ValueError(f"a fold has the parts {', '.join(PARTS)}, not {', '.join(unknown)}")
    if not fold.get("test"):
        raise ValueError("a fold has no test part")
    return {part: _names(fold[part]) for part in PARTS if fold.get(part)}


def _names(items: Any) -> tuple[str, ...]:
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise TypeError("a fold is a list of names")
    return tuple(items)


def match_clips(corpus: Corpus, protocol: Protocol, fold: int) -> dict[str, list[Clip]]:
    """Return the clips of a corpus that each part of a fold names; names without a clip are left out.

    Raises:
        SplitError: for a name that fits several clips.
    """
    known: dict[str, dict[str, Clip]] = defaultdict(dict)
    for clip in corpus.clips:
        for name in (clip.id, clip.path):
            known[clip_key(name)][clip.id] = clip
    found: dict[str, list[Clip]] = {}
    for part, names in protocol.parts[fold].items():
        clips: dict[str, Clip] = {}
        for name in names:
            fitting = list(known.get(clip_key(name), {}).values())
            if len(fitting) > 1:
                fitting = _closest(name, fitting)
            if len(fitting) > 1:  # train/a.mp4 and test/a.mp4 are other clips
                fitting = [c for c in fitting if part_of_folders(c.path) == part] or fitting
            if len(fitting) > 1:
                raise SplitError(
                    f"{protocol.name}: {name!r} fits several clips of {corpus.title}: "
                    f"{some(c.id for c in fitting)}; name them with their folders"
                )
            clips |= {c.id: c for c in fitting}
        found[part] = list(clips.values())
    return found


def _closest(name: str, clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips whose paths share the most folders at their end with a name."""
    wanted = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")[-2::-1]

    def shared(clip: Clip) -> int:
        pairs = zip(wanted, unicodedata.normalize("NFC", clip.path).split("/")[-2::-1], strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(wanted), clip.path.count("/")))

    best = max(shared(clip) for clip in clips)
    return [clip for clip in clips if shared(clip) == best]


def count_folds(corpus: Corpus, protocol: Protocol) -> int:
    """Return the number of folds of a protocol for this corpus. Raises SplitError as `folds_of`."""
    if not protocol.tested:
        return 1
    return len(protocol.parts) or len(folds_of(corpus, protocol))


def check_speakers(corpus: Corpus) -> None:
    """Raise SplitError for a corpus with fewer than two speakers."""
    if len(corpus.speakers) < 2:
        raise SplitError(
            f"{corpus.title} has {counted(len(corpus.speakers), 'speaker')}; a speaker-independent split "
            "needs two or more, and three for a validation part. Add recordings of other people"
        )


def folds_of(corpus: Corpus, protocol: Protocol) -> list[tuple[str, ...]]:
    """Return the speakers of each fold.

    Raises:
        SplitError: the corpus has fewer than two speakers, or does not fit the protocol.
    """
    check_speakers(corpus)
    if protocol.kind == "fixed":
        return _fixed_folds(corpus, protocol)
    if protocol.kind == "column" or any(c.fold is not None for c in corpus.clips):
        return _column_folds(corpus, protocol)
    n_folds = min(protocol.n_folds, len(corpus.speakers))
    # In a pseudo-random order: the order of names often alternates by sex or recording site.
    order = sorted(corpus.speakers, key=rank_key)
    return [tuple(sorted(order[i::n_folds])) for i in range(n_folds)]


def _fixed_folds(corpus: Corpus, protocol: Protocol) -> list[tuple[str, ...]]:
    here = set(corpus.speakers)
    folds = [as_spelled(fold, corpus) for fold in protocol.folds]
    listed = [s for fold in folds for s in fold]
    if twice := {speaker for speaker, count in Counter(listed).items() if count > 1}:
        raise SplitError(
            f"protocol {protocol.name} names speakers in two folds: {some(twice)}; name each once"
        )
    if unknown := here - set(listed):
        raise SplitError(
            f"protocol {protocol.name} lists {counted(len(set(listed)), 'speaker')} ({some(listed)}), but "
            f"not {counted(len(unknown), 'speaker')} of {corpus.title}: {some(unknown)}. If these are other "
            f"people, set split.protocol={_other_protocol(corpus, protocol)}; if the corpus spells the names "
            "differently, rename its speakers; for lists of your own, let `deiii splits import FOLDER` write "
            "a protocol and set split.protocol to its file"
        )
    return [tuple(s for s in fold if s in here) for fold in folds]


def _other_protocol(corpus: Corpus, protocol: Protocol) -> str:
    """Return the name of a protocol for a corpus that a protocol does not fit: its own, or ``speakers``."""
    return corpus.protocol if corpus.protocol != protocol.name else "speakers"


def as_spelled(names: Sequence[str], corpus: Corpus) -> tuple[str, ...]:
    """Return speakers of a protocol as the corpus spells them: 1 and 01, anna and Anna are one speaker."""
    here = set(corpus.speakers)
    if here.issuperset(names):
        return tuple(names)
    count = Counter(map(name_key, here))
    by_key = {name_key(s): s for s in here if count[name_key(s)] == 1}
    return tuple(name if name in here else by_key.get(name_key(name), name) for name in names)


def _column_folds(corpus: Corpus, protocol: Protocol) -> list[tuple[str, ...]]:
    speakers: dict[str, set[str]] = {}
    folds_of: dict[str, set[str]] = {}
    for clip in corpus.clips:
        if clip.fold is None:
            lacking = [c.id for c in corpus.clips if c.fold is None]
            number = f"{len(lacking)} of {counted(len(corpus.clips), 'clip')}"
            if len(lacking) == len(corpus.clips):
                remedy = f"set split.protocol={_other_protocol(corpus, protocol)}"
            else:
                remedy = "fill in the column fold for these, or leave the column out for all clips"
            raise SplitError(
                f"protocol {protocol.name} needs a fold for every clip, and {number} of {corpus.title} have "
                f"none: {some(lacking)}; {remedy}"
            )
        speakers.setdefault(clip.fold, set()).add(clip.speaker)
        folds_of.setdefault(clip.speaker, set()).add(clip.fold)
    if spanning := {s for s, folds in folds_of.items() if len(folds) > 1}:
        raise SplitError(
            f"speakers with clips in several folds: {some(spanning)}; give each speaker one fold"
        )
    _refuse_parts(corpus.title, speakers)
    if len(speakers) < 2:
        only = next(iter(speakers))
        raise SplitError(f"{corpus.title} has one fold only, {only!r}; two or more are needed")
    return [tuple(sorted(speakers[fold])) for fold in sorted(speakers, key=_natural)]


def _refuse_parts(corpus: str, folds: Iterable[str]) -> None:
    """Refuse a column ``fold`` that names parts; each of them would be tested in turn."""
    names = sorted(folds)
    if {name.casefold() for name in names} <= WORDS.keys():
        raise SplitError(
            f"the column fold of {corpus} names parts ({', '.join(names)}); it is for the folds of a "
            "cross-validation. Rename it to split, let `deiii splits import TABLE --out parts.yaml` read it, "
            "and set split.protocol=parts.yaml"
        )


def rank_key(*parts: object) -> str:
    """Return the sort key of a fixed pseudo-random order, the same in every version of Python."""
    return hashlib.sha256("\0".join(str(p) for p in parts).encode()).hexdigest()


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts ``session2`` before ``session10``."""
    return [(0, int(t), t) if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", text) if t]


def some(names: Iterable[str], most: int = 5) -> str:
    """Return the first names in alphabetical order, for a message."""
    return examples(sorted(names), most)
