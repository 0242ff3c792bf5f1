"""Describe the machine and the versions with which a benchmark was run."""

from __future__ import annotations

from deiii.data.tools.machine import machine, package_versions


def describe(*packages: str) -> dict[str, object]:
    """Return the processor with its cores, and the versions of Python and of some packages."""
    return {"machine": machine(), "versions": package_versions(*packages)}
