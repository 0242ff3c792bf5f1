"""Numbers of bytes as text, in the largest unit of which they have at least one.

Disks, files and downloads are counted in powers of 1000 (MB, GB), memory in powers of 1024 (MiB, GiB).
"""

from __future__ import annotations


def disk_size(count: float) -> str:
    """Return the size of files or of a disk, with one decimal.

    Args:
        count: in bytes.

    >>> disk_size(12), disk_size(4_100), disk_size(1_234_567), disk_size(2.5e9)
    ('12 bytes', '4.1 kB', '1.2 MB', '2.5 GB')
    """
    return _size(count, 1000, ("kB", "MB", "GB", "TB"), 1)


def memory_size(count: float, decimals: int = 1) -> str:
    """Return the size of memory.

    Args:
        count: in bytes.
        decimals: number of decimals.

    >>> memory_size(3 * 2**30), memory_size(2**28), memory_size(1.5 * 2**30, decimals=2)
    ('3.0 GiB', '256.0 MiB', '1.50 GiB')
    """
    return _size(count, 1024, ("KiB", "MiB", "GiB", "TiB"), decimals)


def _size(count: float, step: int, units: tuple[str, ...], decimals: int) -> str:
    if count < step:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    value = count / step
    for unit in units[:-1]:
        if round(value, decimals) < step:  # 999.96 MB is 1.0 GB
            return f"{value:.{decimals}f} {unit}"
        value /= step
    return f"{value:.{decimals}f} {units[-1]}"
