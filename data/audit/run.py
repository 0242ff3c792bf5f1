"""Audit a protocol or a split file against a corpus, and stop a training on a split that leaks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deiii.data.audit.audit import Audit, Finding, Prints, audit_parts, audit_split
from deiii.data.audit.lists import SUFFIXES, read_lists
from deiii.data.audit.names import Facts, corpus_of_names, facts_of_clip
from deiii.data.cache.identity import find_corpus
from deiii.data.cache.index import CacheError
from deiii.data.config.schema import Config, SplitConfig
from deiii.data.corpora.clips import Corpus, CorpusError, CorpusSettingError
from deiii.data.corpora.protocol import (
    PARTS,
    Protocol,
    SplitError,
    clip_key,
    load_protocol,
    match_clips,
    some,
)
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import Split, number_of_folds
from deiii.data.corpora.targets.classes import map_classes
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.feature_split import split_features
from deiii.data.tools.counts import counted

MOST_FOLDS = 10_000


def audit(source: str, config: Config, fold: int | None = None) -> Iterator[tuple[int, Audit]]:
    """Audit every fold of a split.

    Args:
        source: the name of a protocol that comes with deiii, a protocol's YAML, a ``split.json`` of a run, or
            a folder or table of lists as `deiii splits import` reads it.
        config: names the corpus; clips are compared by audio and face if it is preprocessed with these
            settings, and by name otherwise.
        fold: one fold, counted from 0; all where not given.

    Yields:
        The fold and what was found.

    Raises:
        SplitError: the split cannot be read, does not fit the corpus, or has no such fold.
        CorpusError: the corpus cannot be read, and the names in the lists do not contain the speaker; or
            ``corpus.classes`` does not fit the corpus.
    """
    split = Split.load(source) if source.endswith("split.json") else None
    protocol = None if split is not None else _load(source)
    corpus, features = _corpus(config, protocol)
    prints = Prints.of(features) if features is not None else None
    name = config.corpus.name
    if split is not None:
        split.check(corpus)
        by_id = {clip.id: clip for clip in corpus.clips}
        parts = {part: [facts_of_clip(by_id[i], name) for i in getattr(split, part)] for part in PARTS}
        found = audit_parts(parts, prints)
        yield split.fold, Audit(found.findings, (*found.looked, *_in_no_part(corpus, parts)))
        return
    if protocol is None:
        raise SplitError(f"{source} is not a protocol")
    settings = replace(config.split, protocol=source, leaks="allow")
    count = len(protocol.parts) or number_of_folds(corpus, settings)
    if fold is not None and not 0 <= fold < count:
        raise SplitError(f"--fold {fold}: {protocol.name} has the folds 0 to {count - 1}")
    numbers = range(min(count, MOST_FOLDS)) if fold is None else [fold]
    tested: dict[str, int] = {}  # the first fold that tests a clip, by the clip's id
    for number in numbers:
        own = _parts(protocol, corpus, config, replace(settings, fold=number))
        found = audit_parts(own, prints)
        again = _tested_again(own["test"], number, tested)
        looked = [*found.looked, *_missing(protocol, number, corpus), *_in_no_part(corpus, own)]
        if not protocol.tested:
            looked.append("the protocol has no test part: nothing is scored")
        if len(numbers) > 1 and number == numbers[-1]:
            looked += _never_tested(corpus, tested)
        yield number, Audit((*found.findings, *again), tuple(looked))


def check_foreign(split: Split, features: FeatureSet, config: Config) -> str:
    """Audit a split before a training; returns the findings as text, empty for deiii's own protocols.

    Raises:
        SplitError: it leaks, and ``split.leaks`` is ``refuse``.
    """
    name = features.corpus.protocol if config.split.protocol == "auto" else config.split.protocol
    protocol = load_protocol(name)
    if not protocol.foreign:
        return ""
    found = audit_split(split, features, config.corpus.name)
    held = {clip_id for part in PARTS for clip_id in getattr(split, part)}
    own = features.corpus.divided or features.corpus
    more = [*_missing(protocol, split.fold, own), *_without_place(own, held, "in no part")]
    found = replace(found, looked=(*found.looked, *more))
    if found.leaks and config.split.leaks != "allow":
        raise SplitError(
            f"the split {split.protocol} leaks, so nothing was trained:\n{found.text()}\n"
            "To train on it as it is, set split.leaks=allow"
        )
    return found.text()


def _load(source: str) -> Protocol:
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in SUFFIXES and path.is_file():
        return read_lists(path)
    return load_protocol(source)


def _parts(
    protocol: Protocol, corpus: Corpus, config: Config, settings: SplitConfig
) -> Mapping[str, Sequence[Facts]]:
    """Return the clips of the parts; of lists as they are, before any validation speakers are drawn."""
    name = config.corpus.name
    if protocol.foreign:
        listed = match_clips(corpus, protocol, settings.fold)
        return {part: [facts_of_clip(clip, name) for clip in clips] for part, clips in listed.items()}
    split, _ = split_features(corpus, config, settings)
    by_id = {clip.id: clip for clip in corpus.clips}
    return {part: [facts_of_clip(by_id[i], name) for i in getattr(split, part)] for part in PARTS}


def _missing(protocol: Protocol, fold: int, corpus: Corpus) -> list[str]:
    """Return a sentence on the names in lists that no clip of the corpus has."""
    if not protocol.foreign:
        return []
    known = {clip_key(name) for clip in corpus.clips for name in (clip.id, clip.path)}
    listed = [name for names in protocol.parts[fold].values() for name in names]
    lacking = [name for name in listed if clip_key(name) not in known]
    if not lacking:
        return []
    return [f"{len(lacking)} of {len(listed)} listed names have no clip in the corpus: {some(lacking)}"]


def _tested_again(test: Sequence[Facts], fold: int, tested: dict[str, int]) -> list[Finding]:
    """Return a note on the clips that an earlier fold tests, too, and record those of this fold."""
    again = [facts.id for facts in test if tested.setdefault(facts.id, fold) != fold]
    if not again:
        return []
    folds = ", ".join(map(str, sorted({tested[clip_id] for clip_id in again})))
    number = counted(len(again), "clip of test is", "clips of test are")
    text = f"{number} tested in an earlier fold, too ({folds}): {some(again)}"
    return [Finding("tested again", len(again), text, False)]


def _in_no_part(corpus: Corpus, parts: Mapping[str, Sequence[Facts]]) -> list[str]:
    """Return a sentence on the clips that no part holds."""
    held = {facts.id for clips in parts.values() for facts in clips}
    return _without_place(corpus, held, "in no part")


def _never_tested(corpus: Corpus, tested: Mapping[str, int]) -> list[str]:
    """Return a sentence on the clips that no fold tests."""
    return _without_place(corpus, tested.keys(), "tested in no fold")


def _without_place(corpus: Corpus, held: Collection[str], where: str) -> list[str]:
    others = [clip.id for clip in corpus.clips if clip.id not in held]
    if not others:
        return []
    verb = "is" if len(others) == 1 else "are"
    return [f"{len(others)} of {counted(len(corpus.clips), 'clip')} {verb} {where}: {some(others)}"]


def _corpus(config: Config, protocol: Protocol | None) -> tuple[Corpus, FeatureSet | None]:
    """Return the corpus with its features, the corpus alone, or one made of the names in the lists."""
    config = replace(config, copies=[])  # copies are in the part of their originals
    try:
        features = FeatureSet.open(config)
        return features.corpus, features
    except (CacheError, CorpusError):
        pass
    try:
        return find_corpus(config), None
    except (CacheError, CorpusError):
        pass
    try:
        corpus = scan(config.corpus)
    except CorpusSettingError:
        raise
    except CorpusError as error:
        if config.corpus.labels != "acted":
            raise CorpusError(f"{error}. File names tell acted labels only: corpus.labels=acted") from None
        if config.corpus.name in ("table", "pattern"):  # the corpus is named, and no list can replace it
            raise
        made = corpus_of_names(protocol, config.corpus.name) if protocol is not None else None
        if made is None:
            raise CorpusError(
                f"{error}. Without the corpus, an audit needs lists of clips whose names tell the speaker "
                "(crema_d, ravdess, msp_improv, iemocap)"
            ) from None
        corpus = made
    return map_classes(corpus, config.corpus.classes), None
