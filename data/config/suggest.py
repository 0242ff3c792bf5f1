"""Hints for misspelt names in error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word most similar to ``word``, or ``None`` if none is similar.

    Args:
        word: what was typed.
        known: the words that exist.
        cutoff: lowest similarity that counts, 0 to 1 (`difflib.get_close_matches`).

    >>> nearest("tarin", ["train", "verify"])
    'train'
    """
    by_case = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(word.casefold(), list(by_case), n=1, cutoff=cutoff)
    return by_case[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message that names the nearest known word; empty if none is similar.

    >>> did_you_mean("tarin", ["train", "verify"])
    "; did you mean 'train'?"
    """
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
