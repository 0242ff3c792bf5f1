"""Several corpora as one: their settings, their clip tables and the names in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deiii.data.cache.index import CacheError
from deiii.data.config.schema import Config
from deiii.data.config.words import load_mixed
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.scan import same_people
from deiii.data.corpora.spelling import refuse_spellings


def mixed_configs(config: Config) -> list[Config]:
    """Return one configuration per corpus of a mixture; cache and network are those of the first.

    The corpora come first, then the corrupted copies of each of them.
    """
    corpora = _corpora(config)
    copies = [copy for part in corpora for copy in copies_of(part)]
    return [*(replace(part, copies=[]) for part in corpora), *copies]


def _corpora(config: Config) -> list[Config]:
    """Return the corpus itself and those of ``mix``; these have copies where they are only trained on."""
    others = load_mixed(config.mix)
    if config.mix_test:
        others = [replace(other, copies=[]) for other in others]
    same = [replace(other, mix=[], cache=config.cache, model=config.model) for other in others]
    return [replace(config, mix=[]), *same]


def copies_of(config: Config) -> list[Config]:
    """Return the configuration of each corrupted copy of the corpus that ``copies`` names.

    >>> [part.corpus.corrupt for part in copies_of(Config(copies=["speed=0.9", "noise=10"]))]
    ['speed=0.9', 'noise=10']
    """
    corpora = [replace(config.corpus, corrupt=corruption) for corruption in config.copies]
    return [replace(config, mix=[], copies=[], corpus=corpus) for corpus in corpora]


def copied_clips(corpus: Corpus, config: Config) -> set[str]:
    """Return the ids of the clips of a corpus that are corrupted copies of other clips in it.

    Args:
        corpus: the corpus of `mixed_configs`.
        config: settings, whose ``mix`` names further corpora.
    """
    names = {f"{name}:" for name in corpus.parts[1 + len(config.mix) :]}
    return {clip_id for clip_id, front in corpus.fronts().items() if front in names}


def mixed_weights(config: Config) -> list[float]:
    """Return the weight of each corpus of `mixed_configs` but the first; copies have that of their corpus.

    >>> mixed_weights(Config(copies=["speed=0.9"]))
    [1.0]
    """
    corpora = _corpora(config)
    weights = [1.0, *(config.mix_weights or [1.0] * len(config.mix))]
    copies = [weight for part, weight in zip(corpora, weights, strict=True) for _ in part.copies]
    return [*weights[1:], *copies]


def clip_weights(part_N: np.ndarray, weights: Sequence[float]) -> np.ndarray | None:
    """Return the weight of each clip of a mixture, float32 [N]; ``None`` where all weigh the same.

    Args:
        part_N: the number of each clip's corpus (`FeatureSet.part`).
        weights: weights of every corpus but the first, which has 1 (`mixed_weights`).

    >>> clip_weights(np.array([0, 0, 1]), [0.25])
    array([1.  , 1.  , 0.25], dtype=float32)
    """
    if all(weight == 1 for weight in weights):
        return None
    return np.array([1.0, *weights], np.float32)[part_N]


def mixed_people(parts: Sequence[Config]) -> list[int]:
    """Return, for each corpus of a mixture, the number of the first one with the same people."""
    corpora = [part.corpus for part in parts]
    return [next(i for i, first in enumerate(corpora) if same_people(first, own)) for own in corpora]


@dataclass(frozen=True)
class Naming:
    """The names that the clips and speakers of a corpus have in a mixture.

    Where several corpora are divided into parts, the name of its corpus stands in front of each clip and
    speaker. Where the first one alone is divided, its clips and speakers keep their names, so that results
    with and without the other corpora can be compared clip by clip.

    Attributes:
        clips, speakers: stands in front of the names of clips and speakers.
        classes: classes of the mixture.
    """

    clips: str
    speakers: str
    classes: tuple[str, ...]

    def clip(self, clip: Clip, corpus: Corpus) -> Clip:
        """Return a clip with these names, and with soft label and votes over the classes of the mixture."""
        soft = None if clip.soft is None else self._spread(clip.soft, corpus)
        votes = {channel: self._spread(counts, corpus) for channel, counts in clip.votes.items()}
        name, speaker = self.clips + clip.id, self.speakers + clip.speaker
        return replace(clip, id=name, speaker=speaker, soft=soft, votes=votes)

    def _spread(self, values: Sequence[float], corpus: Corpus) -> tuple[float, ...]:
        share = dict(zip(corpus.classes, values, strict=True))
        return tuple(share.get(name, 0.0) for name in self.classes)


def namings(corpora: Sequence[Corpus], people: Sequence[int], first_keeps_names: bool) -> list[Naming]:
    """Return the names in a mixture.

    Args:
        corpora: the clip tables.
        people: for each corpus, the number of the first one with the same people.
        first_keeps_names: whether the first corpus alone is divided into parts.

    Raises:
        CacheError: where a corpus is named twice.
        CorpusError: where two corpora spell one class differently.
    """
    classes = tuple(dict.fromkeys(name for corpus in corpora for name in corpus.classes))
    refuse_spellings("classes", classes, "give them one name with corpus.classes in a config of mix")
    names = [corpus.name for corpus in corpora]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CacheError(f"mix names the corpus {twice[0]} twice; name each corpus once")
    front = [f"{name}:" for name in names]
    if first_keeps_names:
        front[0] = ""
    return [Naming(own, front[first], classes) for own, first in zip(front, people, strict=True)]


def join_corpora(corpora: Sequence[Corpus], names: Sequence[Naming]) -> Corpus:
    """Return one clip table of several corpora.

    The protocol of a single corpus is kept; several corpora have the protocol ``speakers``.

    Raises:
        CacheError: where an attribute's range differs.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for corpus in corpora:
        for name, limits in corpus.ranges.items():
            if ranges.setdefault(name, limits) != limits:
                raise CacheError(
                    f"{name!r} has the range {limits} in {corpus.title}, elsewhere {ranges[name]}; give the "
                    "corpora one range, or leave one of them out of mix"
                )
    pairs = zip(corpora, names, strict=True)
    clips = tuple(own.clip(clip, corpus) for corpus, own in pairs for clip in corpus.clips)
    protocol = corpora[0].protocol if len(corpora) == 1 else "speakers"
    return Corpus(
        "+".join(c.name for c in corpora),
        _common([corpus.root for corpus in corpora]),  # the same where they are copies or selections of one
        names[0].classes,
        clips,
        ranges,
        protocol,
        labels=_common([corpus.labels for corpus in corpora]),
        votes=_common([corpus.votes for corpus in corpora]),
    )


def _common(values: Sequence[str]) -> str:
    """Return the value that all have in common; empty where they differ."""
    return values[0] if len(set(values)) == 1 else ""
