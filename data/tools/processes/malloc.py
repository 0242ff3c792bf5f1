"""Tune glibc malloc: keep freed memory in the process, or return it to the system."""

from __future__ import annotations

import ctypes


def keep_freed_memory(keep: bool = True) -> bool:
    """Let glibc reuse freed memory instead of returning it to the system.

    Training steps and flow batches allocate arrays of the same large sizes again and again. If freed pages
    go back to the system, it must map and clear them for every allocation, which also delays other
    threads. Dask's workers are started with a low limit (``MALLOC_TRIM_THRESHOLD_``), so they need this
    most. Source: mallopt(3).

    Args:
        keep: ``False`` restores glibc's default limits.

    Returns:
        Whether the limits were set; with other C libraries nothing is done.

    >>> done = keep_freed_memory()
    """
    trim_threshold = -1  # M_TRIM_THRESHOLD in malloc.h
    mmap_threshold = -3  # M_MMAP_THRESHOLD in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    largest = 32 << 20  # glibc accepts no higher mmap threshold on 64-bit systems
    limits = (largest, 2**31 - 1) if keep else (128 << 10, 128 << 10)
    return bool(mallopt(mmap_threshold, limits[0]) and mallopt(trim_threshold, limits[1]))


def return_freed_memory() -> bool:
    """Return memory that was freed to the system, between two parts of a program that share no arrays.

    glibc keeps freed memory in an arena of the thread that allocated it. Threads that are started later use
    other arenas and cannot reuse it: without this call the process needs the memory of both parts. Source:
    malloc_trim(3).

    Returns:
        Whether memory was returned; with other C libraries nothing is done.

    >>> done = return_freed_memory()
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    trim.argtypes = [ctypes.c_size_t]
    return bool(trim(0))
