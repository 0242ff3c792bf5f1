"""Read the tables of a page."""

from __future__ import annotations

import re


def table_rows(text: str, number: int = 0) -> list[list[str]]:
    """Return the cells of a Markdown table of a text without its head, and without blanks and stars around.

    >>> table_rows("| a | b |\\n|---|---|\\n| 1 | **2** |\\n")
    [['1', '2']]
    """
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    lines = [line.strip("|") for line in tables[number].splitlines()][2:]
    return [[cell.strip(" *") for cell in line.split("|")] for line in lines]
