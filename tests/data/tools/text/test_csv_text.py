"""CSV text that every reader divides into the same rows, whatever its cells hold."""

from __future__ import annotations

import csv
import io

import pytest

from deiii.data.tools.text.csv_text import csv_text

ODD = ["a,b", 'a"b', "a\nb", "a\rb", "a\r\nb", "a\r\n", "", " a ", "=1+1", "ä"]


@pytest.mark.parametrize("cell", ODD)
def test_every_cell_is_read_back(cell):
    text = csv_text([["file", "label"], [cell, 1.5], ["next", None]])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["file", "label"], [cell, "1.5"], ["next", ""]]


def test_plain_rows_end_with_a_line_feed():
    assert csv_text([["a", "b"], [1, "c d"]]) == "a,b\n1,c d\n"
