"""What a benchmark's figures belong to: machine and versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> dict[str, object]:
    """The processor, how many cores there are, and the versions of Python and some packages."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    versions = {name: version(name) for name in packages}
    return {
        "machine": f"{model}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **versions},
    }
