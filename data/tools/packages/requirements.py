"""Which packages deiii and its extras need, which are missing, and the command that installs an extra.

>>> install_command("archive")                                    # doctest: +SKIP
"pip install 'deiii[archive]'"
"""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

EXTRA = re.compile(r"""\bextra\s*==\s*['"]([^'"]+)['"]""")
SOURCE_TREE = Path(__file__).resolve().parents[3]  # in an installation it has no pyproject.toml


def requirements(extra: str = "") -> list[str]:
    """Return the dependencies of deiii, or those that an extra adds, as `pip` takes them.

    They are read from the installed distribution, or from ``pyproject.toml`` where a source tree is used
    without an installation. The list is empty for an unknown extra.

    >>> [need for need in requirements("sweep") if not need.startswith("optuna")]
    []
    """
    try:
        every = metadata.requires("deiii") or []
    except metadata.PackageNotFoundError:
        return _of_source_tree(extra)
    found = []
    for need in every:
        package, _, condition = need.partition(";")
        wanted = EXTRA.search(condition)
        if (wanted[1] if wanted else "") == extra:
            found.append(package.strip())
    return found


def missing_dependencies() -> list[str]:
    """Return the dependencies of deiii that are not installed, as `pip` takes them; extras do not count."""
    return [need for need in requirements() if not is_installed(name_of(need))]


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra.

    Where deiii is installed without its dependencies, or not installed at all, the command names the
    packages: ``deiii[extra]`` would install PyTorch, too, or another project of this name.
    """
    if is_installed("deiii") and not missing_dependencies():
        return f"pip install 'deiii[{extra}]'"
    return f"pip install {' '.join(map(shlex.quote, requirements(extra)))}"


def name_of(requirement: str) -> str:
    """Return the name of the package in a requirement, in small letters.

    >>> name_of("librosa>=0.11,<0.12")
    'librosa'
    """
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def is_installed(package: str) -> bool:
    """Return whether a package of this name is installed."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _of_source_tree(extra: str) -> list[str]:
    try:
        project = tomllib.loads((SOURCE_TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return []
    found = project["optional-dependencies"].get(extra, []) if extra else project["dependencies"]
    return [str(need) for need in found]
