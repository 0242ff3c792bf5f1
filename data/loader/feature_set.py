"""The finished features of a corpus: its clips, and where the arrays of each clip are.

>>> features = FeatureSet.open(config)                           # doctest: +SKIP
>>> features.clips[0].id, features.usable(0)                     # doctest: +SKIP
('s1/a', {'faces': True, 'flow': True, 'logmel': False})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deiii.data.cache.identity import find_corpus
from deiii.data.cache.index import (
    CacheError,
    StageIndex,
    corpus_folder,
    read_index,
    stage_folder,
)
from deiii.data.cache.integrity import require_whole
from deiii.data.cache.outcomes import Outcome
from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import get_stage, network_stages
from deiii.data.config.schema import Config
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.loader.mixture import join_corpora, mixed_configs, mixed_people, namings
from deiii.data.loader.stage_arrays import Stream
from deiii.data.tools.counts import counted

V = TypeVar("V")


@dataclass
class FeatureSet:
    """Clips with their features.

    Attributes:
        corpus: the clip table; of a mixture, the joined one.
        clips: clips that are usable in at least one stage, in a fixed order; a clip's place is its row.
        keys: each opened stage's key.
        streams: each opened stage's arrays.
        outcomes: outcomes of all clips, also of those that are left out, keyed by stage.
        left_out: reason by id, for clips that are usable in no stage.
        resident: large fields of all clips in memory, by stage, which the loaders of this feature set share;
            ``None`` where each loader has copies of its own clips. See `deiii.data.loader.residency`.
        part: int64 [N], for a mixture the number of each clip's corpus; ``None`` for a single corpus.
        digests: SHA-256 of the content of each opened stage
            (`deiii.data.cache.index.StageIndex.content_digest`); of a mixture, those of its corpora in a row.
    """

    corpus: Corpus
    clips: list[Clip]
    keys: Mapping[str, str]
    streams: Mapping[str, Stream]
    outcomes: Mapping[str, Mapping[str, Outcome]]
    left_out: Mapping[str, str]
    resident: dict[str, Any] | None = field(default=None, repr=False)
    part: np.ndarray | None = field(default=None, repr=False)
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)
    _row: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._row = {clip.id: row for row, clip in enumerate(self.clips)}

    def __repr__(self) -> str:
        """Return the feature set in a line, whatever the number of its clips."""
        size = f"{counted(len(self), 'clip')}, {len(self.left_out)} left out"
        return f"FeatureSet({self.corpus.name!r}: {size}; {', '.join(map(repr, self.streams.values()))})"

    @classmethod
    def open(
        cls,
        config: Config,
        keys: Mapping[str, str] | None = None,
        *,
        whole: bool = False,
        folder: str | None = None,
    ) -> FeatureSet:
        """Open the stages that the network needs, from their indices and the sizes of their files alone.

        Args:
            config: names the corpus, the cache, the stages and which inputs the network uses; with
                ``mix``, the other corpora's files, from which their corpus and stage settings are taken;
                with ``copies``, the corrupted copies of its clips, too.
            keys: each stage's key; computed from the settings where not given. Not used for a mixture.
            whole: check every byte of the files first, as training and evaluation do, unless ``config.check``
                limits the check to their sizes.
            folder: the corpus's folder in the cache, if it is known. Not used for a mixture.

        Raises:
            CacheError: where a stage is missing, unfinished or damaged; says what to run and what is there.
        """
        if config.is_mixture:
            parts = mixed_configs(config)
            sets = [cls.open(part, whole=whole) for part in parts]
            return cls.mix(sets, mixed_people(parts), test=config.mix_test and not config.copies)
        corpus = find_corpus(config, folder)
        if corpus.labels and corpus.labels != config.corpus.labels:
            raise CacheError(
                f"{corpus.title} was last preprocessed with corpus.labels={corpus.labels}; run "
                f"`deiii preprocess` with corpus.labels={config.corpus.labels} first: "
                "it takes seconds, the features are kept"
            )
        keys = stage_keys(config) if keys is None else keys
        needed = network_stages(config.model)
        wanted = [s for s in needed if s in keys]
        if not wanted:
            raise CacheError(
                f"the network reads {', '.join(needed) or 'nothing'}, of which none is in stages="
                f"[{','.join(config.stages)}]; add it to stages, or switch on in model.* what stages names"
            )
        indices, folders = {}, {}
        for stage in wanted:
            folders[stage] = stage_folder(config.cache, corpus.name, stage, keys[stage])
            indices[stage] = _index(folders[stage], corpus_folder(config.cache, corpus.name), stage, config)
        shards = [(folders[s], r) for s in wanted for r in indices[s].shards]
        require_whole(shards, every_byte=whole and config.check == "bytes")
        return cls._join(corpus, {s: keys[s] for s in wanted}, indices, folders)

    @classmethod
    def _join(
        cls,
        corpus: Corpus,
        keys: Mapping[str, str],
        indices: Mapping[str, StageIndex],
        folders: Mapping[str, Path],
    ) -> FeatureSet:
        outcomes = {s: {i: row.outcome for i, row in index.clips.items()} for s, index in indices.items()}
        kept, left_out = [], {}
        for clip in corpus.clips:
            found = {s: outcomes[s].get(clip.id) for s in outcomes}
            if any(o is not None and o.usable for o in found.values()):
                kept.append(clip)
            else:
                reasons = [f"{s}: {o.reason if o else 'not in the cache'}" for s, o in found.items()]
                left_out[clip.id] = "; ".join(reasons)
        ids = [c.id for c in kept]
        streams = {s: Stream.of(indices[s], folders[s], ids) for s in indices}
        for stage, stream in streams.items():
            above = streams.get(stream.spec.upstream or "")
            if above is None or stream.spec.modality != "video":
                continue
            odd = np.flatnonzero((stream.length > 0) & (stream.length != above.length))
            if odd.size:
                raise CacheError(
                    f"{ids[odd[0]]}: {stream.length[odd[0]]} rows of {stage} for {above.length[odd[0]]} "
                    f"{above.field}; run `deiii preprocess` to rebuild the {stage}"
                )
        digests = {stage: index.content_digest for stage, index in indices.items()}
        return cls(corpus, kept, keys, streams, outcomes, left_out, digests=digests)

    @classmethod
    def mix(
        cls, sets: Sequence[FeatureSet], people: Sequence[int] | None = None, test: bool = True
    ) -> FeatureSet:
        """Return several corpora as one; ids and speakers get the corpus's name in front.

        Where ``test`` is false, the clips and speakers of the first corpus keep their names. Classes are
        joined by name; soft labels and votes follow.

        Args:
            sets: the corpora.
            people: for each corpus, the number of the first one with the same people. Their speakers get the
                names of that one, so that a split does not divide a person. If it is not given, all people
                are different.
            test: whether a split divides all corpora; if false, it divides the first, and the others are only
                trained on.

        Raises:
            CacheError: the corpora's stored arrays differ in size or type, an attribute's range differs, or a
                corpus is named twice.
            CorpusError: two corpora spell one class differently.
            ValueError: ``sets`` is empty.
        """
        if not sets:
            raise ValueError("a mixture needs at least one feature set")
        corpora = [s.corpus for s in sets]
        names = namings(corpora, range(len(sets)) if people is None else people, first_keeps_names=not test)
        corpus = join_corpora(corpora, names)
        if not test:
            first = sets[0].corpus  # all clips that are validated and tested are of it
            corpus = replace(corpus, divided=first, labels=first.labels, votes=first.votes)
        stages = dict.fromkeys(stage for s in sets for stage in s.streams)
        front = [own.clips for own in names]
        return cls(
            corpus,
            clips=[own.clip(c, s.corpus) for s, own in zip(sets, names, strict=True) for c in s.clips],
            keys={stage: "+".join(s.keys.get(stage, "-") for s in sets) for stage in stages},
            streams={stage: Stream.concat([s.stream(stage) for s in sets]) for stage in stages},
            outcomes={stage: _merged(front, [s.outcomes.get(stage, {}) for s in sets]) for stage in stages},
            left_out=_merged(front, [s.left_out for s in sets]),
            part=np.repeat(np.arange(len(sets)), [len(s.clips) for s in sets]),
            digests={stage: "+".join(s.digests.get(stage, "-") for s in sets) for stage in stages},
        )

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the corpus; their order gives the class numbers of labels and outputs."""
        return self.corpus.classes

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The lowest and the highest value of each attribute, by its name."""
        return self.corpus.ranges

    def stream(self, stage: str) -> Stream:
        """Return a stage's arrays; if the stage is not opened, a stream without arrays for any clip."""
        return self.streams.get(stage) or Stream.empty(stage, len(self.clips))

    def usable(self, row: int) -> dict[str, bool]:
        """Return the opened stages that have arrays for a clip."""
        return {stage: bool(s.length[row]) for stage, s in self.streams.items()}

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Return the row numbers of clips, int64, in the order given; ids that were left out are skipped.

        Raises:
            KeyError: for an id that the corpus does not have.
        """
        known = []
        for i in ids:
            if i in self._row:
                known.append(self._row[i])
            elif i not in self.left_out:
                raise KeyError(f"{self.corpus.name} has no clip {i!r}")
        return np.array(known, np.int64)

    def clip(self, clip_id: str) -> dict[str, dict[str, np.ndarray]]:
        """Return a clip's stored arrays by stage and field; nothing for a clip that was left out.

        Raises:
            KeyError: for an id that the corpus does not have.
        """
        return {stage: arrays for row in self.rows([clip_id]) for stage, arrays in self.arrays(row).items()}

    def arrays(self, row: int) -> dict[str, dict[str, np.ndarray]]:
        """Return a clip's stored arrays by stage and field, as read-only views of the files."""
        return {stage: s.clip(row) for stage, s in self.streams.items() if s.length[row]}


@dataclass
class Labels:
    """Labels of N clips; C classes, A attributes.

    Attributes:
        label: int64 [N], class number; -1 where unknown.
        soft: float32 [N,C], target distribution: one-hot where the corpus has none, zeros if unknown.
        attributes: float32 [N,A], NaN where missing.
    """

    label: np.ndarray
    soft: np.ndarray
    attributes: np.ndarray

    @classmethod
    def of(cls, features: FeatureSet, attributes: Sequence[str]) -> Labels:
        """Return the labels of all clips of a feature set, with these attributes in this order."""
        number = {name: n for n, name in enumerate(features.classes)}
        count, classes = len(features.clips), len(features.classes)
        label = np.array([number.get(c.label or "", -1) for c in features.clips], np.int64).reshape(count)
        soft = np.zeros((count, classes), np.float32)
        known = label >= 0
        soft[np.flatnonzero(known), label[known]] = 1
        for row, clip in enumerate(features.clips):
            if clip.soft is not None:
                soft[row] = clip.soft
        values = np.full((count, len(attributes)), np.nan, np.float32)
        for row, clip in enumerate(features.clips):
            for column, name in enumerate(attributes):
                values[row, column] = clip.attributes.get(name, np.nan)
        return cls(label, soft, values)


def open_features(*words: str) -> FeatureSet:
    """Return the finished features that a command with the same words would train on.

    Args:
        words: YAML files, names of configs that come with deiii, and ``key=value``, in order.

    Raises:
        ConfigError: for a word that is not a setting.
        CacheError: where a stage is not preprocessed with these settings.

    >>> features = open_features("ravdess", "cache=/data/cache")         # doctest: +SKIP
    >>> len(features)                                                   # doctest: +SKIP
    1440
    >>> features.clip(features.clips[0].id)["logmel"]["logmel"].shape   # doctest: +SKIP
    (329, 80)
    """
    return FeatureSet.open(read_settings(words))


def _index(folder: Path, around: Path, stage: str, config: Config) -> StageIndex:
    try:
        return read_index(folder)
    except CacheError as error:
        asked = get_stage(stage).result_params(config)
        there = [
            f"{path.parent.name}{_differences(path.parent, asked)}"
            for path in sorted(around.glob(f"{stage}-*/index.json"))
        ]
        raise CacheError(
            f"{error} (settings ask for {folder.name}; finished: {', '.join(there) or 'none'})"
        ) from None


def _differences(folder: Path, asked: Mapping[str, Any]) -> str:
    """Return the settings with which a finished cache was made, where they differ from the configured ones.

    One of them may be ``auto``, which stands for another value on another machine: naming it is the remedy.
    """
    try:
        made = read_index(folder).provenance
    except CacheError:
        return ""
    stage, found = folder.name.partition("-")[0], made.get("params", {})
    if made.get("version", get_stage(stage).version) != get_stage(stage).version:
        return " by another version of the stage"
    differ = [name for name in sorted(asked) if found.get(name, asked[name]) != asked[name]]
    return f" with {' '.join(f'{stage}.{name}={found[name]}' for name in differ)}" if differ else ""


def _merged(front: Sequence[str], tables: Sequence[Mapping[str, V]]) -> dict[str, V]:
    """Return the entries of all tables by clip id, with what stands in front of the ids in the mixture."""
    pairs = zip(front, tables, strict=True)
    return {head + clip_id: value for head, table in pairs for clip_id, value in table.items()}
