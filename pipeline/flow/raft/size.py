"""Sizes of picture that RAFT works on. Without PyTorch, so that a run can tell them before it loads that."""

from __future__ import annotations

from deiii.data.config.schema import Config

SMALLEST = 128  # px; below it the coarsest correlations have no two points


def note_on_size(config: Config) -> str:
    """`size_note` for the configured crops where RAFT is the configured method."""
    return size_note(config.faces.size) if config.flow.method == "raft" else ""


def working_size(size: int) -> int:
    """The height or width at which RAFT runs on crops of ``size`` px: a multiple of 8, 128 at least.

    >>> working_size(112), working_size(130)
    (128, 136)
    """
    return max(SMALLEST, -(-size // 8) * 8)


def size_note(size: int) -> str:
    """What a person should know about RAFT on crops of ``size`` px; empty where nothing is to be said."""
    if working_size(size) == size:
        return ""
    return (
        f"RAFT needs at least {SMALLEST} px and multiples of 8: crops of {size} px are enlarged to "
        f"{working_size(size)} px for it, and the flow is brought back to px of the crop"
    )
