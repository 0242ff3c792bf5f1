"""Figures, intervals and p-values as text with three decimals, in reports, tables and the terminal.

Rounding must not state what is not so: a p-value is never 0, and a difference that rounds to zero has either
as many decimals as its first digit needs, or no sign where it is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

UNDEFINED = "–"
NOISE = 1e-9  # smaller values come from the rounding of sums and are zero
SMALLEST_P = 0.001  # smaller p-values are shown as < 0.001
MOST_DECIMALS = 6


def number(value: float | None, sign: str = "") -> str:
    """Return a figure with three decimals, or a dash where it is undefined.

    Args:
        value: the figure.
        sign: ``+`` to show the sign of a positive value, as in a difference.

    >>> number(0.12345), number(None), number(math.nan), number(-0.0), number(-0.0004)
    ('0.123', '–', '–', '0.000', '0.000')
    >>> number(0.12345, "+"), number(-0.0004, "+"), number(-1e-17, "+")
    ('+0.123', '-0.0004', '0.000')
    """
    if value is None or math.isnan(value):
        return UNDEFINED
    text = f"{value:{sign}.3f}"
    if float(text):
        return text
    if sign and abs(value) > NOISE:
        text = f"{value:+.{min(MOST_DECIMALS, -math.floor(math.log10(abs(value))))}f}"
        if float(text):
            return text
    return "0.000"


def ends(interval: Sequence[float], sign: str = "") -> tuple[str, str]:
    """Return the two limits of an interval as text, each as `number` does.

    >>> ends((-0.1, 0.25), "+")
    ('-0.100', '+0.250')
    """
    low, high = interval
    return number(low, sign), number(high, sign)


def span(interval: Sequence[float] | None, undefined: str = "", sign: str = "") -> str:
    """Return an interval as text, or ``undefined`` where there is none.

    >>> span([0.25, 0.75]), span([-0.1, 0.25], sign="+"), span(None, "–")
    ('0.250 to 0.750', '-0.100 to +0.250', '–')
    """
    return " to ".join(ends(interval, sign)) if interval else undefined


def bracketed(interval: Sequence[float] | None, undefined: str = "", sign: str = "") -> str:
    """Return an interval in brackets, or ``undefined`` where there is none.

    >>> bracketed([0.25, 0.75])
    '[0.250, 0.750]'
    """
    return f"[{', '.join(ends(interval, sign))}]" if interval else undefined


def p_value(p: float | None) -> str:
    """Return a p-value as text; empty where there is none. ``1.000`` means exactly 1, as after a correction.

    >>> p_value(0.0004), p_value(0.0321), p_value(0.9997), p_value(1.0), p_value(None)
    ('< 0.001', '0.032', '> 0.999', '1.000', '')
    """
    if p is None:
        return ""
    if p < SMALLEST_P:
        return f"< {SMALLEST_P}"
    return "> 0.999" if 0.9995 <= p < 1 else number(p)
