"""The weights of the networks in a folder, and whether it has figures, and about these weights.

A run folder holds its weights. The folder of an ensemble holds none: its ``run.json`` lists the folders of
its members, and ``metrics.json`` has the SHA-256 of the weights of each. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
import os
import shlex
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


def is_untested(folder: Path) -> bool:
    """Return whether a run folder holds a network whose split has no test part, so that it is not evaluated.

    Every other training is refused without test clips. False for a folder of another kind.
    """
    try:
        return json.loads((folder / RUN).read_text(encoding="utf-8"))["clips"]["test"] == 0
    except (OSError, ValueError, KeyError, TypeError):
        return False


def not_evaluated(folder: Path) -> str:
    """Return the message for a run folder without figures: what to do first, or why it can have none."""
    if is_untested(folder):
        return (
            f"{folder} has no figures, because its split has no test speakers. The figure that describes it "
            "is that of a cross-validation with the same settings and another split.protocol"
        )
    return f"{folder} has not been evaluated; run `deiii evaluate {shlex.quote(str(folder))}` first"


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
