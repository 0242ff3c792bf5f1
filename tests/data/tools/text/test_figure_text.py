"""Rounded figures state nothing that is not so: no p-value of 0, no sign of a zero, no nan."""

from __future__ import annotations

import math

import pytest

from deiii.data.tools.text.figure_text import bracketed, number, p_value, span


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (0.25, "0.250", "+0.250"),
        (-0.25, "-0.250", "-0.250"),
        (0.0, "0.000", "0.000"),
        (-0.0, "0.000", "0.000"),
        (-2.2e-16, "0.000", "0.000"),
        (0.0004, "0.000", "+0.0004"),
        (-0.00049999, "0.000", "-0.0005"),
        (-0.0005, "-0.001", "-0.001"),
        (-0.00001, "0.000", "-0.00001"),
        (-0.0000001, "0.000", "0.000"),
        (1.0, "1.000", "+1.000"),
        (None, "–", "–"),
        (math.nan, "–", "–"),
    ],
)
def test_numbers(value, plain, signed):
    assert number(value) == plain and number(value, "+") == signed


def test_an_interval_shows_on_which_side_of_zero_its_ends_are():
    assert span([-0.0003, 0.012], sign="+") == "-0.0003 to +0.012"
    assert bracketed([0.0003, 0.012], sign="+") == "[+0.0003, +0.012]"
    assert span([-1e-17, 0.5]) == "0.000 to 0.500"
    assert span(None) == "" and bracketed(None, "–") == "–" and span([], "–") == "–"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "< 0.001"),
        (0.00099, "< 0.001"),
        (0.001, "0.001"),
        (0.9994, "0.999"),
        (0.9996, "> 0.999"),
        (1.0, "1.000"),
        (None, ""),
    ],
)
def test_p_values(p, text):
    assert p_value(p) == text
