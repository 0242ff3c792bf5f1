"""Numba's compilation as this project uses it: without the GIL, kept on disk where that is possible."""

from __future__ import annotations

import numba


def compiled(function):
    """A loop over arrays as machine code; compiled on its first call and then read from disk.

    >>> compiled(lambda a, b: a + b)(1, 2)
    3
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)
