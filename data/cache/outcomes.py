"""The outcome every clip ends with, once per stage.

A clip never vanishes: a stage either produced arrays for it (``ok``, ``ok_partial``) or says
why not, in words a person can act on.

>>> Outcome(Status.NO_FACE, "no face in 75 frames; lower faces.min_score or check the crop").usable
False
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

# Errors of the machine, which stop a run; never the outcome of the clip that happened to meet them.
MACHINE_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})


class Status(StrEnum):
    """How a stage ended for one clip."""

    OK = "ok"
    OK_PARTIAL = "ok_partial"  # usable, but part of the clip is marked invalid
    NO_FACE = "no_face"
    NO_AUDIO = "no_audio"
    NO_VIDEO = "no_video"
    TOO_SHORT = "too_short"
    UNREADABLE = "unreadable"  # a media file that cannot be decoded
    NOT_MEDIA = "not_media"  # a Git LFS pointer, an HTML page, a zip, an empty file
    MISSING = "missing"  # the table names it, the disk does not have it
    CRASHED_DECODER = "crashed_decoder"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True)
class Outcome:
    """What became of one clip in one stage.

    Attributes:
        status: how it ended.
        reason: why, and what to do about it; empty for ``ok``.
        fraction: share of the clip's rows (frames, hops) that are valid, 0 to 1.
    """

    status: Status
    reason: str = ""
    fraction: float = 1.0

    @property
    def usable(self) -> bool:
        """Whether arrays were stored for the clip."""
        return self.status in (Status.OK, Status.OK_PARTIAL)


@dataclass
class StageResult:
    """A clip's outcome in a stage and, where usable, its arrays.

    Attributes:
        outcome: exactly one per clip and stage.
        arrays: by field name; the first axis (frames, hops) is the same length in all of them.
            Empty where the outcome is not usable.
    """

    outcome: Outcome
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class ClipError(Exception):
    """Raised by a stage that cannot use a clip; carries the outcome to record."""

    def __init__(self, status: Status, reason: str):
        super().__init__(f"{status}: {reason}")
        self.outcome = Outcome(status, reason, 0.0)

    def __reduce__(self):  # crosses process borders with its outcome intact
        return type(self), (self.outcome.status, self.outcome.reason)
