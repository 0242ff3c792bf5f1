"""Clips with everything that others need to train on them: arrays as they are stored, labels, speaker, part.

The name of an array is that of its stage and its field, such as ``faces_frames`` or ``logmel_time``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deiii.data.config.schema import Config
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.splits import Split, SplitError, make_split
from deiii.data.loader.feature_set import FeatureSet

# In one column of a table; attributes follow.
COLUMNS = ("id", "speaker", "label", "label_number", "part", "fold")
NO_PART = "other"  # the clips that a split does not use


@dataclass(frozen=True)
class SharedClip:
    """One clip with its labels and its arrays.

    Attributes:
        number: its row in the feature set.
        facts: values of `COLUMNS` and the attributes, keyed by name; ``None`` for what is not known.
        soft: distribution over the classes; empty where there is none.
        arrays: arrays as they are stored, keyed by name; empty for a stage that could not use the clip.
    """

    number: int
    facts: Mapping[str, Any]
    soft: tuple[float, ...]
    arrays: Mapping[str, np.ndarray]


def split_of(features: FeatureSet, config: Config) -> Split | None:
    """Return the split that the settings name; ``None`` where the corpus cannot be divided."""
    try:
        return make_split(features.corpus, config.split)
    except SplitError:
        return None


def part_sizes(features: FeatureSet, split: Split) -> dict[str, int]:
    """Return the number of clips with features in each part, `NO_PART` among them; without empty parts."""
    parts = _parts_of_clips(split)
    names = [name for clip in features.clips for name in parts.get(clip.id, [NO_PART])]
    return {name: names.count(name) for name in (*PARTS, NO_PART) if name in names}


def _parts_of_clips(split: Split | None) -> dict[str, list[str]]:
    """Return the parts of each clip that has one; several where a published split leaks."""
    parts: dict[str, list[str]] = {}
    for name in PARTS if split else ():
        for clip_id in getattr(split, name):
            parts.setdefault(clip_id, []).append(name)
    return parts


def shared_clips(features: FeatureSet, split: Split | None, part: str | None = None) -> Iterator[SharedClip]:
    """Yield the clips in the order of their rows; of one part of the split, or `NO_PART`, if it is named."""
    parts = _parts_of_clips(split)
    number = {name: n for n, name in enumerate(features.classes)}
    for row, clip in enumerate(features.clips):
        own = parts.get(clip.id, [])
        if part is not None and part not in (own or [NO_PART]):
            continue
        where = "+".join(own if part is None else [part] if own else []) or None
        facts = {
            "id": clip.id,
            "speaker": clip.speaker,
            "label": clip.label,
            "label_number": None if clip.label is None else number[clip.label],
            "part": where,
            "fold": clip.fold,
            **{name: clip.attributes.get(name) for name in sorted(features.ranges)},
        }
        arrays = {
            f"{stage}_{name}": array
            for stage, fields in features.arrays(row).items()
            for name, array in fields.items()
        }
        yield SharedClip(row, facts, tuple(clip.soft or ()), arrays)


def array_kinds(features: FeatureSet) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape after the first axis of each array that some clip has, by name."""
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for stage, stream in features.streams.items():
        for layouts in stream.layouts:
            for name, layout in layouts.items():
                kinds[f"{stage}_{name}"] = np.dtype(layout.dtype).name, tuple(layout.shape[1:])
    return kinds
