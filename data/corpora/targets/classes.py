"""Join or drop classes of a corpus, as the setting ``corpus.classes`` states.

The clip table of a cache keeps the classes of the corpus; they are mapped when the table is read. So another
mapping needs no preprocessing, and no key of a stage depends on it. A run records the digest of the mapped
labels.

>>> from deiii.data.corpora.clips import Clip
>>> clips = tuple(Clip(name, f"{name}.mp4", "s", name) for name in ("calm", "surprised", "sad"))
>>> corpus = Corpus("mine", ".", ("neutral", "calm", "sad", "surprised"), clips)
>>> mapped = map_classes(corpus, {"calm": "neutral", "surprised": None})
>>> mapped.classes, [clip.label for clip in mapped.clips]
(('neutral', 'sad'), ['neutral', 'sad'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deiii.data.config.suggest import did_you_mean
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.spelling import refuse_spellings
from deiii.data.tools.counts import counted


def map_classes(corpus: Corpus, mapping: Mapping[str, str | None]) -> Corpus:
    """Return the corpus with other classes; the same corpus for an empty mapping.

    Soft labels are added up. Votes for a dropped class are left out and the others scaled to sum to 1; the
    label is then the class with the most votes, and none where two have the same number. A clip of a dropped
    class is left out, unless it has attributes: then it stays without a label.

    Args:
        corpus: corpus with the classes of its adapter.
        mapping: a class and its new name; ``None`` drops it. Classes that are not named stay.

    Raises:
        CorpusError: for a class that the corpus does not have, or if none is left.
    """
    if not mapping:
        return corpus
    if unknown := [name for name in mapping if name not in corpus.classes]:
        raise CorpusError(
            f"corpus.classes names {unknown[0]!r}, which is not a class of {corpus.title} "
            f"({', '.join(corpus.classes) or 'it has none'}){did_you_mean(unknown[0], corpus.classes)}"
        )
    new_names = {name: mapping.get(name, name) for name in corpus.classes}
    classes = tuple(dict.fromkeys(name for name in new_names.values() if name))
    if not classes:
        raise CorpusError(f"corpus.classes drops all classes of {corpus.title}; keep two or more")
    refuse_spellings("classes", classes, "write one of them in corpus.classes")
    mapped = (_mapped(clip, corpus.classes, new_names, classes) for clip in corpus.clips)
    kept = tuple(clip for clip in mapped if clip is not None)
    dropped = len(corpus.clips) - len(kept)
    before = {clip.id for clip in corpus.clips if clip.label is not None}
    without = sum(clip.label is None and clip.id in before for clip in kept)
    notes = []
    ties_before, ties = (_ties(some) for some in (corpus.clips, kept))
    if ties != ties_before:
        notes.append(f"with corpus.classes, raters tie in {ties} instead of {counted(ties_before, 'clip')}")
    if dropped:
        notes.append(f"corpus.classes leaves out {dropped} of {counted(len(corpus.clips), 'clip')}")
    if without:
        kept_clips = counted(without, "clip")
        notes.append(f"corpus.classes leaves {kept_clips} without a label, kept because of their attributes")
    return replace(corpus, classes=classes, clips=kept, notes=(*corpus.notes, *notes))


def _ties(clips: Sequence[Clip]) -> int:
    return sum(clip.soft is not None and clip.label is None for clip in clips)


def _mapped(
    clip: Clip, before: tuple[str, ...], new_names: Mapping[str, str | None], classes: tuple[str, ...]
) -> Clip | None:
    """Return the clip with its new label; ``None`` if nothing is left to learn from it."""
    votes = {channel: _added(shares, before, new_names, classes) for channel, shares in clip.votes.items()}
    clip = replace(clip, votes=votes)
    if clip.soft is None:
        if clip.label is None:
            return clip  # it had none before
        label = new_names[clip.label] or None
        return replace(clip, label=label) if label or clip.attributes else None
    shares = _added(clip.soft, before, new_names, classes)
    total = sum(shares)
    if not total:
        return replace(clip, label=None, soft=None) if clip.attributes else None
    soft = tuple(share / total for share in shares)
    return replace(clip, soft=soft, label=winner(classes, soft))


def _added(
    shares: tuple[float, ...],
    before: tuple[str, ...],
    new_names: Mapping[str, str | None],
    classes: tuple[str, ...],
) -> tuple[float, ...]:
    pairs = list(zip(before, shares, strict=True))
    return tuple(sum(share for name, share in pairs if new_names[name] == new) for new in classes)


def winner(classes: tuple[str, ...], shares: tuple[float, ...]) -> str | None:
    """Return the class with the largest share; ``None`` for a tie, or if all shares are 0.

    >>> winner(("happy", "sad"), (0.5, 0.5)) is None
    True
    """
    if not shares or max(shares) <= 0:
        return None
    top = [name for name, share in zip(classes, shares, strict=True) if share > max(shares) - 1e-9]
    return top[0] if len(top) == 1 else None
