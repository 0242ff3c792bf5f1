"""One exported folder that holds all members of an ensemble.

``deiii.json`` lists them, ``README.md`` is the card of the ensemble, and each ``member<i>/`` is an exported
folder that can be used alone. `deiii.load` and `deiii.runtime.load` load the ensemble.

>>> export_ensemble(["runs/cv/fold0"], "exported")                 # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deiii.data.tools.atomic_files import file_sha256, writable_folder, write_json, write_text
from deiii.model.corpus_title import corpus_title
from deiii.model.file_names import RUN
from deiii.model.members import check_members, find_members
from deiii.model.prediction.export import export, model_card
from deiii.model.prediction.manifest import (
    CARD,
    FILES,
    MANIFEST,
    MEMBER,
    SEVERAL,
    ExportError,
    check_member_digests,
    check_sources,
    check_target,
    check_wanted,
    copy_export,
    marked_unfinished,
    read_manifest,
    remove_members,
    test_scores,
)
from deiii.model.scored_weights import MEMBERS, own_members
from deiii.model.training.run_folder import RunFolder


def export_ensemble(
    names: Sequence[str | Path],
    folder: str | Path,
    program: bool = True,
    onnx: bool = False,
    licence: str | None = None,
    progress: bool = False,
) -> Path:
    """Write the networks of several runs or exports into one folder.

    Args:
        names: run folders or exported folders, or a name that stands for several (`deiii.model.members`). The
            name of an exported ensemble gives a copy of it, with its figures and its temperature.
        folder, program, onnx, licence, progress: arguments of `deiii.model.prediction.export.export`; members
            that are exported folders are copied as they are, and must have what is wanted.

    Returns:
        the folder.

    Raises:
        EnsembleError: the networks cannot be averaged.
        RunError, CheckpointError, ExportError: as for `export`.
    """
    folder = Path(folder)
    check_target(folder)
    members = find_members(names)
    for member in members:
        if (member / MANIFEST).is_file():
            check_wanted(member, onnx, licence)
    if inside := [member for member in members if member.resolve().parent == folder.resolve()]:
        if len(inside) == len(members) and find_members([folder]) == members:
            return folder  # the export itself
        raise ExportError(f"{inside[0]} would be replaced; name a folder that holds none of the members")
    check_sources(members, folder)
    _check(members)
    copied = _exported(names)
    if copied:
        check_member_digests(copied)
    metrics = _metrics(names)  # refuses figures of other weights, before anything is written
    writable_folder(folder)
    with marked_unfinished(folder):
        for name in FILES:
            (folder / name).unlink(missing_ok=True)  # may be left from an earlier export of one network
        remove_members(folder)
        for number, member in enumerate(members):
            target = folder / f"{MEMBER}{number}"
            if (member / MANIFEST).is_file():
                copy_export(member, target)
            else:
                export(member, target, program, onnx, licence, progress)
        if copied:
            manifest = json.loads((copied / MANIFEST).read_text(encoding="utf-8"))
            manifest[MEMBERS] = _member_names(len(members))
            text = (copied / CARD).read_text(encoding="utf-8") if (copied / CARD).is_file() else ""
        else:
            manifest = _manifest(folder, len(members))
            title = _title(members) or manifest["corpus"]
            manifest["temperature"] = (metrics or {}).get("calibration", {}).get("temperature")
            manifest["scores"] = test_scores(metrics)
            text = model_card(manifest, metrics, title)
        manifests = [f"{name}/{MANIFEST}" for name in _member_names(len(members))]
        manifest["sha256"] = {name: file_sha256(folder / name) for name in manifests}
        if text:
            write_text(folder / CARD, text)
        write_json(folder / MANIFEST, manifest)  # last, because it marks a complete export
    return folder


def _exported(names: Sequence[str | Path]) -> Path | None:
    """Return the folder of the exported ensemble if one is named, and nothing else."""
    folders = [Path(name) for name in names]
    if len(folders) == 1 and (folders[0] / MANIFEST).is_file() and own_members(folders[0]):
        return folders[0]
    return None


def _member_names(count: int) -> list[str]:
    """Return the names of the members' folders in an exported ensemble."""
    return [f"{MEMBER}{number}" for number in range(count)]


def _check(members: Sequence[Path]) -> None:
    """Refuse members that cannot be averaged, before anything is written."""
    configs, infos = [], []
    for member in members:
        if (member / MANIFEST).is_file():
            config, info = read_manifest(member)
        else:
            run = RunFolder(member)
            info, config = run.read_info(whole=True), run.read_config()
        configs.append(config)
        infos.append(info)
    check_members(members, configs, infos)


def _title(members: Sequence[Path]) -> str:
    """Return the name by which people know the corpus; empty where all members are exported folders."""
    runs = [RunFolder(member) for member in members if not (member / MANIFEST).is_file()]
    return corpus_title(runs[0].read_config(), runs[0].read_info()) if runs else ""


def _manifest(folder: Path, count: int) -> dict[str, Any]:
    """Return the content of the ensemble's ``deiii.json``: facts that its members share, and their names."""
    names = _member_names(count)
    each = [json.loads((folder / name / MANIFEST).read_text(encoding="utf-8")) for name in names]
    differences = ("program_difference", "onnx_difference")
    worst = {name: max(own[name] for own in each) for name in differences if all(name in own for own in each)}
    own = (*differences, "temperature", "scores", "training", "sha256")
    shared = {name: value for name, value in each[0].items() if name not in own}
    return {
        **shared, **worst, "format": SEVERAL, MEMBERS: names,
        "epoch": [own["epoch"] for own in each], "parameters": sum(own["parameters"] for own in each),
    }  # fmt: skip


def _metrics(names: Sequence[str | Path]) -> dict[str, Any] | None:
    """Return the figures of an ensemble that was evaluated, where its own folder is what is exported."""
    if len(names) != 1 or not own_members(Path(names[0])) or not (Path(names[0]) / RUN).is_file():
        return None
    run = RunFolder(names[0])
    return run.read_metrics() if run.metrics_json.is_file() else None
