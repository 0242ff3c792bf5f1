"""Numbers with their nouns, names in a row, and the first of many names, for messages."""

from __future__ import annotations

from collections.abc import Iterable

from deiii.data.tools.text.printable import printable_name


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


def listed(names: Iterable[str], last: str = "and") -> str:
    """Return names with commas between them, and a word before the last one; empty without names.

    >>> listed(["json"]), listed(["json", "vtt"]), listed(["json", "vtt", "tsv"], "or")
    ('json', 'json and vtt', 'json, vtt or tsv')
    >>> listed([])
    ''
    """
    found = list(names)
    *others, final = found or [""]
    return f"{', '.join(others)} {last} {final}" if others else final


def examples(items: Iterable[object], most: int = 3) -> str:
    """Return the first items as text, and how many more there are.

    Args:
        items: paths, names or numbers; control characters of names are shown as escapes.
        most: how many to name.

    >>> examples("abcde"), examples([7, 9])
    ('a, b, c and 2 more', '7, 9')
    """
    names = [printable_name(item) for item in items]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
