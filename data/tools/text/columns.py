"""Columns of text for the terminal, also where names are long or their characters are wide."""

from __future__ import annotations

from collections.abc import Iterable

from tqdm.utils import disp_len


def width_of(texts: Iterable[str], least: int = 0) -> int:
    """Return the width of a column that holds all the texts, in characters of a terminal.

    >>> width_of(["happy", "pleasantly surprised"], least=12), width_of([], least=12)
    (20, 12)
    """
    return max([least, *map(disp_len, texts)])


def padded(text: str, width: int) -> str:
    """Return a text with blanks up to a width; a Chinese, Japanese or Korean character is two wide.

    >>> padded("happy", 7) + "|", padded("高兴", 7) + "|"
    ('happy  |', '高兴   |')
    """
    return text + " " * (width - disp_len(text))
