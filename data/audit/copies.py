"""Find one recording under two speakers or labels by its stored features, whatever its file format.

The same recording as WAV and as FLAC, or in two containers, has other bytes in every file but decodes to
the same samples and frames, so that its stored features are equal. Copies that lost something, such as MP3,
are found by `deiii audit`, which takes longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.stage_arrays import Stream
from deiii.data.tools.counts import counted

MOST_NAMED = 4  # most clips that a line names, and most lines


def copies(features: FeatureSet, parts: Mapping[str, np.ndarray]) -> list[str]:
    """Return a line for each recording that the parts of a split hold under several speakers or labels.

    Those that several parts hold come first, with a line on their number.

    One row of each clip is read; whole clips are compared where these rows are equal.

    Args:
        features: the clips.
        parts: the rows of each part, int64, by the part's name in words.
    """
    part_of = {int(row): name for name, rows in parts.items() for row in rows}
    across: list[str] = []
    within: list[str] = []
    told: set[int] = set()
    for stream in sorted(features.streams.values(), key=lambda stream: stream.row_bytes):
        for rows in _equal(stream, [row for row in part_of if stream.length[row] and row not in told]):
            told |= set(rows)
            clips = [features.clips[row] for row in rows]
            what = "speakers" if len({c.speaker for c in clips}) > 1 else "labels"
            if what == "labels" and len({c.label for c in clips}) < 2:
                continue
            named = " = ".join(
                f"{clip.path} ({part_of[row]} part, speaker {clip.speaker}, label {clip.label})"
                for row, clip in zip(rows[:MOST_NAMED], clips, strict=False)
            )
            more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
            lines = across if len({part_of[row] for row in rows}) > 1 else within
            lines.append(f"warning: one recording under several {what}: {named}{more}; keep one of them")
    lines = across + within
    if len(lines) > MOST_NAMED:
        lines[MOST_NAMED:] = [
            f"warning: {len(lines) - MOST_NAMED} more recordings are under several speakers or labels, too"
        ]
    if across:
        held = f"{counted(len(across), 'recording')} {'is' if len(across) == 1 else 'are'}"
        lines.insert(0, f"warning: {held} in several parts, so figures of this split are too good")
    return lines


def _equal(stream: Stream, rows: Sequence[int]) -> list[list[int]]:
    """Return the groups of two or more clips whose bytes in a stage are equal and not constant."""
    alike: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for row in rows:
        values = stream.main(row)
        alike[len(values), values[len(values) // 2].tobytes()].append(row)
    found = []
    for group in alike.values():
        if len(group) < 2:
            continue
        same: dict[bytes, list[int]] = defaultdict(list)
        for row in group:
            same[stream.main(row).tobytes()].append(row)
        # Constant features, such as those of black video, are equal for different recordings, too.
        for rows_of_one in same.values():
            values = stream.main(rows_of_one[0])
            if len(rows_of_one) > 1 and np.any(values != values[0]):
                found.append(rows_of_one)
    return found
