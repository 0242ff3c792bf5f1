"""Show text in a terminal although names of files and cells of tables may hold control characters.

An escape sequence in a file's name could otherwise clear the terminal, hide what was printed or change the
title of its window, and a newline could show a line that the program never wrote.

>>> printable("a\\x1b[2J.mp4: no face\\n"), printable_name("a\\n.mp4")
('a\\\\x1b[2J.mp4: no face\\n', 'a\\\\n.mp4')
"""

from __future__ import annotations

import io
import re
import sys
from typing import TextIO

# Control characters but tab and newline, among them the escape that begins commands to a terminal and, from
# \x80 to \x9f, the commands of 8-bit terminals; separators of lines; and characters that reverse the order
# of the text after them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_IN_NAME = re.compile(f"[\t\n]|{_CONTROL.pattern}")


def printable(text: str) -> str:
    """Return text with escapes in place of control characters; tabs and newlines stay.

    JSON keeps its content: it has escapes of its own for characters below the space, and gets the others in
    the form that JSON has.

    >>> printable("50 %\\rdone")
    '50 %\\\\rdone'
    """
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape, text)


def printable_name(name: object) -> str:
    """Return a name of a file, or a cell of a table, with escapes also in place of tabs and newlines.

    Use it where a name stands in text for the terminal. Files, for example CSV and JSON, get the name itself.

    >>> printable_name("anna\\t1.mp4"), printable_name("Zoë 1.mp4")
    ('anna\\\\t1.mp4', 'Zoë 1.mp4')
    """
    return _IN_NAME.sub(_escape, str(name))


def _escape(found: re.Match[str]) -> str:
    if found[0] < " ":
        return found[0].encode("unicode_escape").decode()
    return f"\\u{ord(found[0]):04x}"


class PrintableOutput(io.TextIOWrapper):
    """A stream of text that writes control characters as `printable` shows them."""

    def write(self, text: str, /) -> int:
        """Write text; returns the number of its characters."""
        super().write(printable(text))
        return len(text)


def unescaped_stderr() -> TextIO:
    """Return standard error for what commands the terminal itself: bars, and colours.

    Do not write names to it, except through `printable` or `printable_name`.
    """
    stream: TextIO | None = sys.__stderr__ if isinstance(sys.stderr, PrintableOutput) else sys.stderr
    return sys.stderr if stream is None else stream
