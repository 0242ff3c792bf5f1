"""Image sizes that RAFT works on. This module does not import PyTorch, so it can be used before a run."""

from __future__ import annotations

from deiii.data.config.schema import Config

SMALLEST = 128  # px; in smaller images the coarsest correlation map has fewer than two points a side


def note_on_size(config: Config) -> str:
    """Return `size_note` for the configured size of crops; empty if the configured method is not RAFT."""
    return size_note(config.faces.size) if config.flow.method == "raft" else ""


def working_size(size: int) -> int:
    """Return the height or width at which RAFT runs on crops of ``size`` px: a multiple of 8, 128 at least.

    >>> working_size(112), working_size(130)
    (128, 136)
    """
    return max(SMALLEST, -(-size // 8) * 8)


def size_note(size: int) -> str:
    """Return a note for users that RAFT enlarges crops of ``size`` px; empty if it does not.

    >>> size_note(128)
    ''
    """
    if working_size(size) == size:
        return ""
    return (
        f"RAFT needs at least {SMALLEST} px and multiples of 8: crops of {size} px are enlarged to "
        f"{working_size(size)} px for RAFT, and the flow is converted back to px of the crop"
    )
