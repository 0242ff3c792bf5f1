"""Several corpora as one: their settings, their clip tables and the names in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deiii.data.cache.index import CacheError
from deiii.data.config.schema import Config
from deiii.data.config.words import load_mixed
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.scan import same_people
from deiii.data.corpora.spelling import refuse_spellings


def mixed_configs(config: Config) -> list[Config]:
    """Return one configuration per corpus of a mixture; cache and network are those of the first."""
    others = load_mixed(config.mix)
    same = [replace(other, mix=[], cache=config.cache, model=config.model) for other in others]
    return [replace(config, mix=[], copies=[]), *same, *copies_of(config)]


def copies_of(config: Config) -> list[Config]:
    """Return the configuration of each corrupted copy of the corpus that ``copies`` names.

    >>> [part.corpus.corrupt for part in copies_of(Config(copies=["speed=0.9", "noise=10"]))]
    ['speed=0.9', 'noise=10']
    """
    corpora = [replace(config.corpus, corrupt=corruption) for corruption in config.copies]
    return [replace(config, mix=[], copies=[], corpus=corpus) for corpus in corpora]


def clip_weights(corpus: Corpus, clips: Sequence[Clip], weights: Sequence[float]) -> np.ndarray | None:
    """Return the weight of each clip of a mixture, float32 [N]; ``None`` where all weigh the same.

    Args:
        corpus: the mixture.
        clips: its clips, N of them.
        weights: of every corpus but the first, which has 1; empty for 1.
    """
    if all(weight == 1 for weight in weights):
        return None
    by_name = dict(zip(corpus.parts, (1.0, *weights), strict=True))
    return np.array([by_name[clip.id.partition(":")[0]] for clip in clips], np.float32)


def mixed_people(parts: Sequence[Config]) -> list[int]:
    """Return, for each corpus of a mixture, the number of the first one with the same people."""
    corpora = [part.corpus for part in parts]
    return [next(i for i, first in enumerate(corpora) if same_people(first, own)) for own in corpora]


def join_corpora(corpora: Sequence[Corpus], owners: Mapping[str, str]) -> Corpus:
    """Return one clip table of several; a protocol of its own has only a single corpus.

    Args:
        corpora: the clip tables.
        owners: for each corpus, the name of the one whose name its speakers get in front.

    Raises:
        CacheError: where an attribute's range differs, or a corpus is there twice.
        CorpusError: where two corpora spell one class differently.
    """
    classes = tuple(dict.fromkeys(name for corpus in corpora for name in corpus.classes))
    refuse_spellings("classes", classes, "give them one name with corpus.classes in a config of mix")
    names = [corpus.name for corpus in corpora]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CacheError(f"mix names the corpus {twice[0]} twice; name each corpus once")
    ranges: dict[str, tuple[float, float]] = {}
    for corpus in corpora:
        for name, limits in corpus.ranges.items():
            if ranges.setdefault(name, limits) != limits:
                raise CacheError(
                    f"{name!r} has the range {limits} in {corpus.name}, elsewhere {ranges[name]}; give the "
                    "corpora one range, or leave one of them out of mix"
                )
    clips = tuple(renamed(clip, corpus, classes, owners) for corpus in corpora for clip in corpus.clips)
    protocol = corpora[0].protocol if len(corpora) == 1 else "speakers"
    roots = {corpus.root for corpus in corpora}  # one where they are copies, or selections, of one corpus
    root = roots.pop() if len(roots) == 1 else ""
    return Corpus("+".join(c.name for c in corpora), root, classes, clips, ranges, protocol)


def mixed_id(corpus: Corpus, clip_id: str) -> str:
    """Return the id that a clip of a corpus has in a mixture."""
    return f"{corpus.name}:{clip_id}"


def renamed(clip: Clip, corpus: Corpus, classes: tuple[str, ...], owners: Mapping[str, str]) -> Clip:
    """Return a clip of a corpus as it is in a mixture, with other names and a soft label over all classes."""
    soft = clip.soft
    if soft is not None:
        share = dict(zip(corpus.classes, soft, strict=True))
        soft = tuple(share.get(c, 0.0) for c in classes)
    speaker = f"{owners[corpus.name]}:{clip.speaker}"
    return replace(clip, id=mixed_id(corpus, clip.id), speaker=speaker, soft=soft)
