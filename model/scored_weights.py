"""The weights of the networks in a folder, and whether its figures are about these weights.

A run folder holds its weights. The folder of an ensemble holds none: its ``run.json`` lists the folders of
its members, and ``metrics.json`` has the SHA-256 of the weights of each. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deiii.data.tools.atomic_files import file_sha256
from deiii.model.file_names import EXPORT, RUN, RUN_WEIGHTS

MEMBERS = "members"  # key in run.json or deiii.json of an ensemble: folders of its members, relative to it


def own_members(folder: Path) -> list[Path]:
    """Return the members that an ensemble's own folder lists; empty for a folder of another kind."""
    for name in (RUN, EXPORT):
        try:
            listed = json.loads((folder / name).read_text(encoding="utf-8"))[MEMBERS]
            return [Path(os.path.normpath(folder / member)) for member in listed]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no such file, or one of another kind; opening it later raises the error
    return []


def changed_weights(folder: Path, metrics: Mapping[str, Any]) -> list[Path]:
    """Return the files of weights that are not those which the figures of a folder are about.

    Weights that are not there, and figures of earlier versions, which do not name their weights, are not
    compared.

    Args:
        folder: a run folder, or the folder of an ensemble that was evaluated.
        metrics: what its ``metrics.json`` holds.
    """
    scored = {entry.get("weights") for entry in (metrics, *metrics.get(MEMBERS, ()))} - {None}
    files = [network / RUN_WEIGHTS for network in (folder, *own_members(folder))]
    return [file for file in files if scored and file.is_file() and file_sha256(file) not in scored]
