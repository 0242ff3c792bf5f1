"""Describe the machine and the versions with which a benchmark was run."""

from __future__ import annotations

from typing import Any

from deiii.data.tools.machine import machine, package_versions, source_revision

# The packages on which figures of trained networks and of simple models depend.
PACKAGES = (
    "deiii", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "librosa", "av", "h5py", "dask",
    "opencv-contrib-python",
)  # fmt: skip


def describe(*packages: str) -> dict[str, object]:
    """Return the processor with its cores, and the versions of Python and of some packages."""
    return {"machine": machine(), "versions": package_versions(*packages)}


def made_by() -> dict[str, Any]:
    """Return what each stored file of figures states of its origin: processor, versions, source revision.

    >>> sorted(made_by())
    ['machine', 'revision', 'versions']
    """
    return {**describe(*PACKAGES), "revision": source_revision()}
