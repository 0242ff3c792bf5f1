"""The outcome that every clip ends with, once for each stage.

A stage either stores arrays for a clip (``ok``, ``ok_partial``) or records why it could not, with a reason
that a person can act on.

>>> Outcome(Status.NO_FACE, "no face in 75 frames; lower faces.min_score or check the crop").usable
False
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

# Errors of the machine: they stop the run and are never recorded as the outcome of a clip.
# EFBIG is a limit on the size of files (ulimit -f), which only writing meets.
MACHINE_TROUBLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE}
)

# Errors of the system that a disk or network can cause as well as a file: the clip is tried again.
MAYBE_MACHINE = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ENETUNREACH, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EAGAIN,
    }
)  # fmt: skip
MAY_BE_TEMPORARY = "the disk or the network may be at fault; the next run tries again"


def is_machine_trouble(error: BaseException) -> bool:
    """Return whether an error is one of the machine, which stops the run: see `MACHINE_TROUBLE`.

    >>> is_machine_trouble(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    return isinstance(error, OSError) and error.errno in MACHINE_TROUBLE


class Status(StrEnum):
    """The kinds of outcomes of a stage for one clip."""

    OK = "ok"
    OK_PARTIAL = "ok_partial"  # usable, but some rows of the clip are marked invalid
    NO_FACE = "no_face"
    NO_AUDIO = "no_audio"
    NO_VIDEO = "no_video"
    TOO_SHORT = "too_short"
    UNREADABLE = "unreadable"  # a media file that cannot be decoded
    NOT_MEDIA = "not_media"  # a Git LFS pointer, an HTML page, a zip, an empty file
    MISSING = "missing"  # the clip table names a file that does not exist
    CRASHED_DECODER = "crashed_decoder"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"  # an error that nothing explains; the next run tries the clip again


@dataclass(frozen=True)
class Outcome:
    """The outcome of one stage for one clip.

    Attributes:
        status: how it ended.
        reason: why, and what to do about it; empty for ``ok``.
        fraction: share of the clip's rows (frames or hops) that are valid, 0 to 1.
        error: kind and place of the exception behind ``failed``; empty for other outcomes. It is not stored.
    """

    status: Status
    reason: str = ""
    fraction: float = 1.0
    error: str = field(default="", compare=False)

    @property
    def usable(self) -> bool:
        """Whether arrays were stored for the clip."""
        return self.status in (Status.OK, Status.OK_PARTIAL)


@dataclass
class StageResult:
    """A clip's outcome in a stage and, if usable, its arrays.

    Attributes:
        outcome: exactly one for each clip and stage.
        arrays: arrays, keyed by field name; the first axis (frames or hops) has the same length in all of
            them. Empty if the outcome is not usable.
        notes: remarks for a person who looks at this one clip; they are not stored in caches.
    """

    outcome: Outcome
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ClipError(Exception):
    """Raised by a stage that cannot use a clip; ``outcome`` is what to record."""

    def __init__(self, status: Status, reason: str, error: str = ""):
        super().__init__(f"{status}: {reason}")
        self.outcome = Outcome(status, reason, 0.0, error)

    def __reduce__(self) -> tuple[type[ClipError], tuple[Status, str, str]]:
        """Pickle what the outcome consists of, so that it survives the way to another process."""
        return type(self), (self.outcome.status, self.outcome.reason, self.outcome.error)
