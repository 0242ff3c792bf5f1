"""The files of an exported folder, and what its manifest ``deiii.json`` states about the network.

Nothing here needs PyTorch, so that `deiii.runtime` can read an export without it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from deiii.data.cache.stages import BUILT_IN, get_stage, with_upstream
from deiii.data.config.load import config_class, parse_stored
from deiii.data.config.schema import Config
from deiii.data.sharing.licences import NOT_STATED, licence_of
from deiii.data.tools.atomic_files import atomic_path, file_sha256, writable_folder
from deiii.model.file_names import EXPORT, EXPORT_WEIGHTS
from deiii.model.intervals import kind_of_interval
from deiii.model.metrics import figure_names
from deiii.model.prediction.checks.entries import wrong_entry
from deiii.model.prediction.checks.fit import contradiction

MANIFEST = EXPORT
WEIGHTS = EXPORT_WEIGHTS
PROGRAM = "deiii.pt2"
ONNX = "model.onnx"
CARD = "README.md"
FILES = (MANIFEST, WEIGHTS, PROGRAM, ONNX, CARD)
CHECKED = (WEIGHTS, PROGRAM, ONNX)  # files whose SHA-256 the manifest records
UNFINISHED = ".deiii-unfinished"  # marks a folder that holds a part of an export
FORMAT = 1
SEVERAL = 2  # the format of the manifest of an ensemble; an earlier version refuses it
MEMBER = "member"  # begins the name of a member's folder

EMPTY_NAME = (
    "the name of the network is empty (is an environment variable not set?); name a run folder, an exported "
    "folder or hub:user/name; the current folder is ."
)
UNKNOWN_LICENCE = "not stated; ask the owner of the recordings before you pass this network on"


class ExportError(ValueError):
    """A folder holds no usable export, or an exported program differs from the network."""


def has_torch() -> bool:
    """Return whether PyTorch is installed, without importing it."""
    try:
        return importlib.util.find_spec("torch") is not None
    except (ImportError, ValueError):
        return False


def read_manifest(folder: str | Path) -> tuple[Config, dict[str, Any]]:
    """Return the settings of an export, and its manifest.

    Raises:
        ExportError: the folder holds no export, a damaged one, one of another format, or one whose entries
            are missing, of another type, or contradict its settings.

    >>> read_manifest("exported")[1]["classes"]   # doctest: +SKIP
    ['happy', 'sad']
    """
    folder = Path(folder)
    manifest = _read(folder)
    if (found := manifest["format"]) != FORMAT or isinstance(found, bool):
        remedy = "export the run again"
        if isinstance(found, int) and found > SEVERAL:
            remedy = "a newer version of deiii wrote it: update deiii, or export the run with this version"
        raise ExportError(f"{folder / MANIFEST} has format {found}, this version reads {FORMAT}; {remedy}")
    if problem := wrong_entry(manifest):
        raise unusable(folder, f"{MANIFEST}: {problem}")
    try:
        config = parse_stored(json.dumps(manifest["settings"]))
    except (ValueError, TypeError) as error:
        raise unusable(folder, error) from None
    if problem := contradiction(config, manifest):
        raise unusable(folder, f"{MANIFEST}: {problem}")
    return config, manifest


def read_ensemble_manifest(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of an exported ensemble.

    Raises:
        ExportError: the folder holds no export, or an entry is missing or of another type.
    """
    manifest = _read(Path(folder))
    if problem := wrong_entry(manifest, ensemble=True):
        raise unusable(Path(folder), f"{MANIFEST}: {problem}")
    return manifest


def _read(folder: Path) -> dict[str, Any]:
    """Return what ``deiii.json`` of a folder holds: a table with an entry ``format``."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise unusable(folder, error) from None
    except ValueError as error:  # the parser names no file
        raise unusable(folder, f"{MANIFEST} is damaged: {error}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise unusable(folder, f"{MANIFEST} has no entry format")
    return manifest


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of an export that hold its network, by name, for the manifest."""
    return {name: file_sha256(folder / name) for name in CHECKED if (folder / name).is_file()}


def check_digest(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Check that a file of an export is the one that its manifest records.

    The classes, the figures and the temperature in the manifest are those of one network. Exports of versions
    that recorded no digests, and missing files, are not checked.

    Raises:
        ExportError: the file is another one.
    """
    wanted = manifest.get("sha256", {}).get(name)
    if wanted is not None and (folder / name).is_file() and file_sha256(folder / name) != wanted:
        raise unusable(folder, f"{name} is not the file that {MANIFEST} records: its SHA-256 differs")


def check_member_digests(folder: Path) -> None:
    """Check that the members of an exported ensemble are those that its own manifest records.

    Raises:
        ExportError: a member was replaced.
    """
    manifest = read_ensemble_manifest(folder)
    for name in manifest.get("sha256", {}):
        check_digest(folder, manifest, name)


def known_licence(corpus: str) -> str:
    """Return the licence of a corpus, or of each corpus of a mixture (``ravdess+crema_d``), in words.

    >>> known_licence("mine")
    'not stated; ask the owner of the recordings before you pass this network on'
    """
    parts = corpus.split("+")
    known = {name: _known(name) for name in parts}
    return (
        known[corpus] if len(parts) == 1 else "; ".join(f"{name}: {words}" for name, words in known.items())
    )


def _known(corpus: str) -> str:
    words, _ = licence_of(corpus)
    return UNKNOWN_LICENCE if words == NOT_STATED else words


def unusable(folder: Path, reason: Exception | str) -> ExportError:
    """Return the error for a folder that holds no usable export."""
    return ExportError(f"{folder} holds no usable export ({reason}); export the run again")


def check_target(folder: Path) -> None:
    """Raise ExportError where a folder holds files, but no export that could be replaced."""
    if folder.exists() and not any((folder / name).is_file() for name in (MANIFEST, UNFINISHED)):
        if not folder.is_dir() or any(folder.iterdir()):
            raise ExportError(
                f"{folder} exists and holds no export (no {MANIFEST}), so its files are not overwritten; "
                "name a new or empty folder"
            )


def check_sources(sources: Iterable[Path], folder: Path) -> None:
    """Check that writing an export into a folder would not remove what is to be exported.

    Args:
        sources: run folders or exported folders.
        folder: the folder that is to be written; the files and members of an earlier export are removed.

    Raises:
        ExportError: one of the sources is the folder itself, or a member of the ensemble in it.
    """
    target = folder.resolve()
    for source in map(Path, sources):
        if target == source.resolve() or target == source.resolve().parent and _is_member(source.resolve()):
            raise ExportError(f"{source} would be replaced; name a folder that holds none of the members")


def _is_member(folder: Path) -> bool:
    return re.match(f"{MEMBER}[0-9]", folder.name) is not None


@contextmanager
def marked_unfinished(folder: Path) -> Iterator[None]:
    """Write an export in the block: until it is complete, its folder has a mark, and holds no earlier one.

    So the same command may write into the folder again after a full disk or a stop. The mark is removed if
    nothing was written.

    >>> with marked_unfinished(Path("exported")):  # doctest: +SKIP
    ...     write_json(Path("exported") / MANIFEST, manifest)
    """
    mark = folder / UNFINISHED
    mark.touch()
    for name in (MANIFEST, PROGRAM, ONNX):  # an export that is stopped must not look complete
        (folder / name).unlink(missing_ok=True)
    try:
        yield
    finally:
        if (folder / MANIFEST).is_file() or list(folder.iterdir()) == [mark]:
            mark.unlink(missing_ok=True)


def check_wanted(source: Path, onnx: bool = False, licence: str | None = None) -> None:
    """Raise ExportError where a copy of an exported folder would lack what is wanted.

    Args:
        source: an exported folder.
        onnx: whether it must have ``model.onnx``.
        licence: the licence of the corpus that it must state; ``None`` for any.
    """
    if onnx and not (source / ONNX).is_file():
        raise ExportError(
            f"{source} is an exported folder without {ONNX}, and exported folders are copied as they "
            "are; export its run with --onnx (in Python onnx=True)"
        )
    if licence is not None and licence != (stated := read_manifest(source)[1].get("licence")):
        raise ExportError(
            f"{source} is an exported folder that states the licence {stated!r}, and exported folders are "
            f"copied as they are; export its run with the licence {licence!r}"
        )


def copy_export(source: Path, folder: Path, onnx: bool = False, licence: str | None = None) -> Path:
    """Copy an exported folder; returns the new folder.

    Args:
        source: an exported folder.
        folder: the new folder, which is made if needed; an earlier export in it is replaced.
        onnx, licence: what the copy must have, see `check_wanted`.

    Raises:
        ExportError: the new folder holds other files or the exported folder itself, or the exported folder
            lacks what is wanted or has a file that its manifest does not record.
    """
    check_wanted(source, onnx, licence)
    if folder.exists() and folder.samefile(source):
        return folder
    check_target(folder)
    check_sources([source], folder)
    manifest = read_manifest(source)[1]
    for name in CHECKED:
        check_digest(source, manifest, name)
    writable_folder(folder)
    remove_members(folder)
    with marked_unfinished(folder):
        for name in (*(n for n in FILES if n != MANIFEST), MANIFEST):  # last: it marks a complete export
            if (source / name).is_file():
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(source / name, temporary)
            else:
                (folder / name).unlink(missing_ok=True)
    return folder


def remove_members(folder: Path) -> None:
    """Remove the members of an ensemble that was exported into a folder before."""
    for member in folder.glob(f"{MEMBER}[0-9]*"):
        if any((member / name).is_file() for name in (MANIFEST, UNFINISHED)):
            for name in (*FILES, UNFINISHED):
                (member / name).unlink(missing_ok=True)
            if not any(member.iterdir()):
                member.rmdir()


def test_scores(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the figures of a network on its test speakers, for the manifest.

    Args:
        metrics: what ``metrics.json`` holds; ``None`` where the network was not evaluated.

    Returns:
        each figure, and its interval as ``<figure>_ci``; ``interval``, the kind of the intervals; ``clips``
        and ``speakers`` that were scored; ``evaluations``, how often; ``leaks`` where test speakers or
        recordings may also be in training; ``unknown_speakers`` where clips have unknown speakers. ``None``
        without an evaluation.
    """
    if metrics is None:
        return None
    test = metrics["test"]
    names = [name for name in figure_names(test) if test[name] is not None]
    return {
        **{key: test[key] for name in names for key in (name, f"{name}_ci") if key in test},
        "interval": kind_of_interval(metrics),
        "clips": metrics["clips"]["test"]["scored"],
        "speakers": len(test["per_speaker"]),
        "evaluations": metrics.get("evaluations", 1),
        **{key: True for key in ("leaks", "unknown_speakers") if metrics.get(key)},
    }


def portable_settings(config: Config) -> dict[str, Any]:
    """Return the sections that using the network depends on; operational settings get their defaults."""
    tree = _tree(config)
    default = _tree(config_class()())
    added = [name for name in with_upstream(config.model.extra) if get_stage(name) not in BUILT_IN]
    sections = ("stages", *(stage.name for stage in BUILT_IN), *added, "loader", "model")
    settings = {name: tree[name] for name in sections}
    for name in sections:
        section = getattr(config, name)
        for f in fields(section) if is_dataclass(section) else ():
            if f.metadata["operational"]:
                settings[name][f.name] = default[name][f.name]
    return settings


def _tree(config: Config) -> dict[str, Any]:
    tree = OmegaConf.to_container(OmegaConf.structured(config))
    if not isinstance(tree, dict):
        raise TypeError(f"the settings are a {type(tree).__name__}, not a table")
    return {str(name): value for name, value in tree.items()}
