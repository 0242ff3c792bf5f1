"""The most memory that this process has held, in MB (Linux).

``getrusage`` would not do: its peak is inherited from the process that started this one.
"""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """VmHWM of proc(5)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def new_peak_mb() -> float:
    """Begin a new peak at what is held now, and return it: an older one would hide what is taken next."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()
