"""The peak memory of this process in MB (Linux).

``getrusage`` cannot be used: its peak is inherited from the process that started this one.
"""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """Peak resident memory in MB: VmHWM of proc(5)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def new_peak_mb() -> float:
    """Reset the peak to the memory in use and return it; the old peak would hide later growth."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()
