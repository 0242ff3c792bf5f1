"""The machine and the software that a result belongs to: processor, versions, source revision."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")  # Linux; elsewhere Python's own words are used
SOURCE = Path(__file__).resolve().parents[2]  # holds data/, model/ and pipeline/


def processor() -> str:
    """Return the processor's model name, or its architecture where the system does not tell."""
    try:
        lines = CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Return the processor and the number of its logical cores as text."""
    return f"{processor()}, {os.cpu_count()} cores"


def package_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of installed packages, by name.

    Raises:
        importlib.metadata.PackageNotFoundError: a package is not installed.

    >>> sorted(package_versions("numpy"))
    ['numpy', 'python']
    """
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def source_revision(source: Path = SOURCE) -> str | None:
    """Return the git revision of deiii's own checkout, with ``+changes`` where files differ from it.

    Returns ``None`` where deiii runs from no checkout. A package that is installed inside another
    project's repository, for example in its ``.venv``, gets ``None`` and not that project's revision.

    Args:
        source: the folder that holds ``data/``, ``model/`` and ``pipeline/``.
    """
    try:
        if Path(_git(source, "rev-parse", "--show-toplevel")).resolve() != source.resolve():
            return None
        # The top folder alone is no proof: a foreign repository may begin in this very folder.
        if not _git(source, "ls-files", "--", "data/tools/machine.py"):
            return None
        changes = _git(source, "status", "--porcelain", "-uno")
        return _git(source, "rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or no commit yet
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )  # fmt: skip
    return done.stdout.strip()
