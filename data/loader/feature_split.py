"""The split of a corpus's features: the clips that a training uses, validates and tests on.

>>> open_split("ravdess", "cache=/data/cache").speakers("test")      # doctest: +SKIP
('actor-01', 'actor-02', 'actor-03', 'actor-04')
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deiii.data.cache.identity import recorded_media
from deiii.data.config.schema import Config, SplitConfig
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.splits import Split, make_split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.counts import counted


def open_split(*words: str) -> Split:
    """Return the split that a command with the same words would train on and score by.

    Args:
        words: as for `deiii.data.loader.feature_set.open_features`.

    Raises:
        SplitError: the corpus cannot be divided by ``split.protocol``.

    >>> split = open_split("ravdess", "cache=/data/cache")              # doctest: +SKIP
    >>> split.speakers("test")                                          # doctest: +SKIP
    ('actor-01', 'actor-02', 'actor-03', 'actor-04')
    """
    config = read_settings(words)
    return split_features(FeatureSet.open(config).corpus, config)[0]


def split_features(
    corpus: Corpus, config: Config, settings: SplitConfig | None = None
) -> tuple[Split, list[str]]:
    """Return the split of preprocessed clips, and a line on what a training part leaves out, if anything.

    In a mixture of which one corpus is tested, the training part leaves out people of the other corpora who
    are validated or tested under other names. Such a person is recognised by a media file that is also in the
    validation or test part. All the person's clips are left out.

    Args:
        corpus: the clip table of the features.
        config: names the cache, which has the digests of the media files.
        settings: settings of the split; those of ``config`` if not given.

    Raises:
        SplitError: as `deiii.data.corpora.splits.make_split`.
    """
    split = make_split(corpus, settings or config.split)
    if corpus.divided is None:
        return split, []
    names, media = media_names(corpus), media_digests(config.cache, corpus)
    digests = {clip.id: media[names[clip.id]] for clip in corpus.clips if names[clip.id] in media}
    held = {digests[i] for i in (*split.val, *split.test) if i in digests}
    people = {split.speaker_of[i] for i in split.train if digests.get(i) in held} - {*corpus.divided.speakers}
    out = {i for i in split.train if split.speaker_of[i] in people}
    if not out:
        return split, []
    kept = {i: s for i, s in split.speaker_of.items() if i not in out}
    note = (
        f"not trained on: {counted(len(out), 'clip')} of {counted(len(people), 'speaker')} of mix, of whom "
        "the validation or test part has recordings under another name"
    )
    return replace(split, train=tuple(i for i in split.train if i not in out), speaker_of=kept), [note]


def media_digests(cache: str | Path, corpus: Corpus) -> dict[str, str]:
    """Return the SHA-256 of each media file by its name (`media_names`), as preprocessing recorded it."""
    recorded = {name: recorded_media(cache, name) for name in corpus.parts or (corpus.name,)}
    first = corpus.parts[0] if corpus.parts else corpus.name
    found = {}
    for clip, front in zip(corpus.clips, corpus.fronts().values(), strict=True):
        media = recorded[front.rstrip(":") or first]
        if clip.path in media:
            found[front + clip.path] = media[clip.path][2]
    return found


def media_names(corpus: Corpus) -> dict[str, str]:
    """Return the path of each clip's media file by its id, with the corpus's name in front if the id has it.

    >>> from deiii.data.corpora.clips import Clip
    >>> clips = Clip("a", "a.mp4", "anna"), Clip("crema_d:b", "b.mp4", "crema_d:ben")
    >>> media_names(Corpus("ravdess+crema_d", "", (), clips))
    {'a': 'a.mp4', 'crema_d:b': 'crema_d:b.mp4'}
    """
    fronts = corpus.fronts()
    return {clip.id: fronts[clip.id] + clip.path for clip in corpus.clips}
