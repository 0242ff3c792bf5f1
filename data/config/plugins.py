"""Find what installed packages add to deiii, through Python's entry points.

A package names in its metadata what it adds: a stage (group ``deiii.stages``), an encoder of the network
(``deiii.encoders``), a frozen encoder (``deiii.pretrained``), a whole network (``deiii.networks``) or a
corpus adapter (``deiii.corpora``). Nothing is imported before it is used.

Source: https://packaging.python.org/en/latest/specifications/entry-points/

>>> installed("deiii.no_such_group")
{}
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

STAGES, ENCODERS, CORPORA = "deiii.stages", "deiii.encoders", "deiii.corpora"
PRETRAINED = "deiii.pretrained"
NETWORKS = "deiii.networks"


class PluginError(ValueError):
    """An installed package adds something that cannot be used; the message names the package."""


@lru_cache(maxsize=8)
def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, in the order of their names; read once per process.

    Raises:
        PluginError: where two packages add something under the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: e.name):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"{_package(other)} and {_package(entry)} both add {entry.name!r} to {group}; "
                "uninstall one of them"
            )
    return found


def load_plugin(group: str, name: str) -> Any:
    """Return the object that an entry point names.

    Raises:
        KeyError: where no package adds it.
        PluginError: where its package cannot be imported or lacks the object.
    """
    entry = installed(group)[name]
    try:
        return entry.load()
    except Exception as error:
        raise PluginError(
            f"{name!r} of the package {_package(entry)} cannot be loaded from {entry.value} "
            f"({type(error).__name__}: {error}); repair the package, or uninstall it"
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value
