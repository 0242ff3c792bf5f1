"""Divide a corpus into shards: one speaker in a shard, at most N clips."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from deiii.data.corpora.clips import Clip, Corpus


@dataclass(frozen=True)
class ShardPlan:
    """The clips of one shard, all of one speaker, in order.

    Attributes:
        name: name of the shard's file, without ``.h5``. It carries a digest of the clips' ids and paths, so a
            file of this name holds these clips and no others.
        clips: the clips.
    """

    name: str
    clips: tuple[Clip, ...]


def plan_shards(corpus: Corpus, clips_per_shard: int = 16) -> tuple[ShardPlan, ...]:
    """Divide a corpus into shards of one speaker and at most ``clips_per_shard`` clips.

    Every stage uses the same plan, so each part of a speaker-independent split is a set of whole shards.

    Raises:
        ValueError: for ``clips_per_shard`` below 1.

    >>> clips = tuple(Clip(i, f"{i}.mp4", i[0]) for i in ("a1", "a2", "a3", "b1"))
    >>> [len(plan.clips) for plan in plan_shards(Corpus("mine", ".", (), clips), clips_per_shard=2)]
    [2, 1, 1]
    """
    if clips_per_shard < 1:
        raise ValueError(f"clips_per_shard must be at least 1, not {clips_per_shard}")
    by_speaker: dict[str, list[Clip]] = {}
    for clip in corpus.clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    plans = []
    for speaker, clips in sorted(by_speaker.items()):
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", speaker)[:40] or "speaker"
        for n, start in enumerate(range(0, len(clips), clips_per_shard)):
            part = tuple(clips[start : start + clips_per_shard])
            text = "\n".join(f"{c.speaker!r} {c.id!r} {c.path!r}" for c in part)
            digest = hashlib.sha256(text.encode()).hexdigest()[:10]
            plans.append(ShardPlan(f"{safe}-{n:03d}-{digest}", part))
    return tuple(plans)
