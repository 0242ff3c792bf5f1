"""Find the members of an ensemble, and check that they can be averaged.

An ensemble is named by its members, or by one folder: one that holds runs, one that `deiii evaluate RUN RUN`
or `deiii export RUN RUN` wrote, or the common beginning of the seeds of a cross-validation's fold
(``runs/cv/fold0`` for ``runs/cv/fold0-seed0``, ``runs/cv/fold0-seed1``, ...). Nothing here needs PyTorch.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.cache.stages import network_stages
from deiii.data.config.schema import Config
from deiii.data.tools.os_errors import is_file
from deiii.model.file_names import EXPORT, EXPORT_WEIGHTS, RUN, RUN_WEIGHTS
from deiii.model.network.streams import enabled_streams
from deiii.model.scored_weights import own_members

DIGEST = re.compile("[0-9a-f]{64}")  # SHA-256


class EnsembleError(ValueError):
    """Networks that are named together cannot be averaged; the message states why and what to do."""


def is_network(folder: str | Path) -> bool:
    """Return whether a folder holds a run, an export, or an ensemble."""
    return any(is_file(Path(folder) / name) for name in (RUN, EXPORT))


def names_network(word: str | Path) -> bool:
    """Return whether a word of a command names a network or an ensemble, and not a folder of media files."""
    return any(is_network(folder) for folder in _members_of(Path(word)))


def weights_digest(folder: str | Path) -> str:
    """Return the SHA-256 of a network's tensors, which is equal for a run and its export.

    The result is empty if the file is missing or damaged: loading the file later raises the error.
    """
    folder = Path(folder)
    file = next((folder / name for name in (RUN_WEIGHTS, EXPORT_WEIGHTS) if (folder / name).is_file()), None)
    if file is None:
        return ""
    with open(file, "rb") as content:
        length = int.from_bytes(content.read(8), "little")
        try:
            header = json.loads(content.read(min(length, file.stat().st_size)))
        except ValueError:
            return ""
        if not isinstance(header, dict):
            return ""
        header.pop("__metadata__", None)  # what a run records beside its tensors
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_members(names: Sequence[str | Path]) -> list[Path]:
    """Return the folders of the networks that some names stand for, each once, in the order of the names.

    A name that stands for no network is returned as it is; opening it later raises an error that states why.

    Raises:
        EnsembleError: a network is named twice, or two networks have the same weights.
    """
    found: dict[str, Path] = {}
    for name in names:
        for folder in _members_of(Path(name)):
            real = os.path.realpath(folder)
            if real in found:
                raise EnsembleError(
                    f"{folder} is named twice, also as {found[real]}; name each member of an ensemble once"
                )
            found[real] = folder
    members = list(found.values())
    by_weights: dict[str, Path] = {}
    for folder, digest in zip(members, map(weights_digest, members), strict=True) if len(members) > 1 else ():
        if digest and digest in by_weights:
            raise EnsembleError(
                f"{folder} has the same weights as {by_weights[digest]} and would count twice; leave one out"
            )
        by_weights[digest] = folder
    return members


def check_members(names: Sequence[str | Path], configs: Sequence[Config], infos: Sequence[Mapping]) -> None:
    """Refuse networks whose predictions cannot be averaged, or whose test speakers differ.

    Args:
        names: names of the members, for messages.
        configs: their settings.
        infos: what their ``run.json`` or ``deiii.json`` hold.

    Raises:
        EnsembleError: classes, attributes, inputs, stages, normalisation, labels or splits differ.
    """
    first, *others = [_facts(config, info) for config, info in zip(configs, infos, strict=True)]
    for name, facts in zip(names[1:], others, strict=True):
        for what, value in facts.items():
            if value != first[what] and None not in (value, first[what]):
                raise EnsembleError(
                    f"{name} cannot be averaged with {names[0]}: their {what} differ ({_brief(value)} and "
                    f"{_brief(first[what])}). The members of an ensemble are runs of one corpus, one "
                    "preprocessing and one split, such as the seeds of one fold: runs/cv/fold0-seed0 "
                    "runs/cv/fold0-seed1"
                )


def _facts(config: Config, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that the members must share; ``None`` if an earlier version did not record one."""
    keys = info.get("keys", {})
    return {
        "classes": list(info["classes"]),
        "attributes": list(info["attributes"]),
        "ranges of attributes": [list(limits) for limits in info["ranges"]],
        "inputs": list(enabled_streams(config.model)),
        "stages": {name: keys[name] for name in network_stages(config.model) if name in keys},
        "splits": info.get("split"),
        "clips": info.get("clip_digest"),
        "labels": info.get("label_digest"),
        "settings loader.normalise": config.loader.normalise,
    }


def _members_of(name: Path) -> list[Path]:
    """Return the networks that one path names."""
    if listed := own_members(name):
        return listed
    if is_network(name):
        return [name]
    if name.is_dir():
        inside = [folder for folder in sorted(name.iterdir(), key=_by_number) if _holds_network(folder)]
        return [folder for folder in inside if not own_members(folder)] or [name]
    if not name.exists():
        seeds = sorted(map(Path, glob.glob(f"{glob.escape(str(name))}-seed*")), key=_by_number)
        return [folder for folder in seeds if is_network(folder)] or [name]
    return [name]


def _holds_network(folder: Path) -> bool:
    """Return whether a folder that nobody named is a network; false for one that may not be read."""
    try:
        return is_network(folder)
    except PermissionError:  # such as lost+found in a folder of media files
        return False


def _by_number(folder: Path) -> tuple[int, str]:
    """Return a key that sorts seed2 before seed10."""
    return len(folder.name), folder.name


def _brief(value: Any) -> str:
    """Return a value in a message, not longer than a line."""
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value)) or "none"
    elif isinstance(value, Mapping):
        value = ", ".join(f"{name} {key}" for name, key in value.items())
    text = str(value)
    if DIGEST.fullmatch(text):
        return text[:12]  # as reports show it
    return text if len(text) <= 120 else text[:117] + "..."
