"""What happens to memory that was freed."""

from __future__ import annotations

import ctypes


def keep_freed_memory(keep: bool = True) -> bool:
    """Let glibc hand freed memory out again instead of returning it to the system after every use.

    Training steps and flow batches allocate the same large arrays again and again; each time the system
    would clear and map their pages anew, which also holds up other threads. Dask asks for such returning
    in its workers (``MALLOC_TRIM_THRESHOLD_``). ``False`` gives glibc's own limits back.
    Source: mallopt(3). Returns whether it was done; other C libraries are left alone.

    >>> done = keep_freed_memory()
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    largest = 32 << 20  # glibc refuses a higher border between its heap and separate mappings
    borders = (largest, 2**31 - 1) if keep else (128 << 10, 128 << 10)
    return bool(mallopt(mmap_threshold, borders[0]) and mallopt(trim_threshold, borders[1]))
