"""What a benchmark's figures belong to: machine and versions."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path


def describe(*modules: str) -> dict[str, object]:
    """The processor, how many cores there are, and the versions of Python and some modules."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    versions = {name: importlib.import_module(name).__version__ for name in modules}
    return {
        "machine": f"{model}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **versions},
    }
