"""Numbers with their nouns, for messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, in the singular for 1.

    Args:
        number: how many there are.
        noun: one of them.
        plural: several of them; the noun with an ``s`` where not given.

    >>> counted(1, "clip"), counted(0, "clip"), counted(1200, "process", "processes")
    ('1 clip', '0 clips', '1200 processes')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
