"""Load a trained network: from a run folder, an exported folder or the Hugging Face Hub."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from deiii.model.calibration import CalibrationError, stored_temperature
from deiii.model.file_names import EXPORT, RUN
from deiii.model.members import check_members, find_members
from deiii.model.prediction.ensemble.average import AverageScorer, TemperedScorer
from deiii.model.prediction.hub import NAME, PREFIX, download
from deiii.model.prediction.manifest import (
    EMPTY_NAME,
    ExportError,
    check_member_digests,
    has_torch,
    read_ensemble_manifest,
    test_scores,
)
from deiii.model.prediction.predictor import Predictor
from deiii.model.scored_weights import is_untested, own_members
from deiii.model.training.run_folder import RunError, RunFolder

BACKENDS = ("auto", "torch", "onnx")


def load(
    path: str | Path | Sequence[str | Path],
    device: str = "auto",
    overrides: Iterable[str] = (),
    change_preprocessing: bool = False,
    backend: str = "auto",
    calibrated: bool = False,
) -> Predictor:
    """Load a trained network from a run folder, from a folder that `deiii export` wrote, or from the Hub.

    Args:
        path: the folder, or ``hub:user/name`` or ``hub:user/name@revision`` of the Hugging Face Hub. Several
            paths, or a folder that holds several networks, are one ensemble, which predicts the mean of their
            outputs.
        device: a value of ``train.device``: auto, cpu, cuda or, of several GPUs, cuda:N.
        overrides: ``key=value`` settings for this machine, such as ``faces.weights=/w/yunet.onnx``.
        change_preprocessing: allow ``overrides`` that change what a stage computes; predictions carry a note.
        backend: ``torch``, ``onnx`` for onnxruntime with the folder's ``model.onnx``, or ``auto`` for PyTorch
            where it is installed.
        calibrated: divide the logits by the temperature that evaluation fitted on validation speakers;
            without it, probabilities are those of the evaluation.

    Raises:
        TypeError: ``path`` is neither a path nor a sequence of paths.
        RunError, CheckpointError, ExportError: the folder holds no usable run or export, a name is empty, or
            ``backend`` or ``device`` is not possible.
        CalibrationError: ``calibrated`` is true, but no temperature is stored.
        EnsembleError: the networks cannot be averaged (`deiii.model.members.check_members`).
        ConfigError: a setting is unknown, or belongs to the trained network.
        DeviceError: the device does not exist.
        HubError: the files cannot be downloaded from the Hub.

    >>> network = load("runs/latest", device="cpu")   # doctest: +SKIP
    >>> network.classes                               # doctest: +SKIP
    ('happy', 'sad')
    >>> network.predict("clip.mp4").tree()["label"]   # doctest: +SKIP
    'happy'
    """
    if backend not in BACKENDS:
        raise ExportError(f"backend={backend!r}: it is one of {', '.join(BACKENDS)}")
    names = _names(path)
    if not names:
        raise ExportError("name at least one run folder or exported folder")
    folders = [_local(str(name)) for name in names]
    whole = folders[0] if len(folders) == 1 and own_members(folders[0]) else None
    if whole is not None and (whole / EXPORT).is_file():
        check_member_digests(whole)
    members = find_members(folders)
    options = (device, tuple(overrides), change_preprocessing, backend)
    found = [_load_one(member, *options) for member in members]
    network = found[0] if len(found) == 1 else ensemble_of(found, members, whole)
    return _calibrated(network, names) if calibrated else network


def _names(path: object) -> list[str | Path]:
    """Return the names of folders or of the Hub in an argument of `load`."""
    names = [path] if isinstance(path, (str, PathLike)) else path
    if not isinstance(names, Iterable) or not all(isinstance(name, (str, PathLike)) for name in names):
        raise TypeError(
            "load() takes a run folder, an exported folder, hub:user/name, or a list of them, not "
            f"{path!r:.80}"
        )
    found = [name if isinstance(name, str) else Path(name) for name in names]
    if not all(name.strip() for name in found if isinstance(name, str)):
        raise ExportError(EMPTY_NAME)  # Path("") is the current folder
    return found


def _calibrated(network: Predictor, names: Sequence[str | Path]) -> Predictor:
    """Return the network with the temperature that is stored in its folder."""
    temperature = stored_temperature(_local(str(names[0]))) if len(names) == 1 else None
    if temperature is None:
        if len(names) == 1 and is_untested(_local(str(names[0]))):
            raise CalibrationError(
                f"{names[0]} has no temperature: an evaluation fits it, and a network whose split has no "
                "test speakers is not evaluated. Predict without --calibrated (in Python calibrated=True)"
            )
        is_run = len(names) == 1 and (_local(str(names[0])) / RUN).is_file()
        how = ["--out", "FOLDER"] if is_run and own_members(_local(str(names[0]))) else ["--again"]
        words = shlex.join([str(names[0]) if is_run else "RUN", *how])
        raise CalibrationError(
            f"no temperature is stored with {', '.join(map(str, names))}: `deiii evaluate` fits one on "
            "validation speakers and stores it in the run, or in the folder of an ensemble; an export has it "
            "if the run was evaluated before. A run without labelled validation clips has none; one that was "
            f"evaluated before the end of its training gets one by `deiii evaluate {words}`"
        )
    network.scorer = TemperedScorer(network.scorer, temperature)
    network.notes = (*network.notes, f"probabilities with the temperature {temperature:.3f}")
    return network


def _local(name: str) -> Path:
    """Return the folder that a name stands for; a repository on the Hub is downloaded into one."""
    return download(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else Path(name)


def _load_one(
    folder: Path, device: str, overrides: Sequence[str], change_preprocessing: bool, backend: str
) -> Predictor:
    """Load one network."""
    if backend == "onnx" or (backend == "auto" and not has_torch()):
        from deiii.model.prediction.with_onnx import load_folder as load_onnx

        if device not in ("auto", "cpu"):
            raise ExportError(f"device={device}: onnxruntime computes on the CPU here; leave it out")
        return load_onnx(folder, overrides, change_preprocessing)
    from deiii.model.prediction.with_torch import load_folder

    return load_folder(folder, device, overrides, change_preprocessing)


def ensemble_of(
    members: Sequence[Predictor], names: Sequence[str | Path], whole: Path | None = None
) -> Predictor:
    """Return the predictor that averages the outputs of others.

    Args:
        members: two or more, loaded with the same settings of this machine.
        names: names of their folders.
        whole: the folder that evaluation or export wrote for the ensemble, if it was loaded from one.

    Raises:
        EnsembleError: they cannot be averaged.
    """
    check_members(names, [m.config for m in members], [m.info for m in members])
    first = members[0]
    notes = dict.fromkeys(note for member in members for note in member.notes)
    lengths = (float(np.median([m.median_s for m in members])), max(m.longest_s for m in members))
    scorer = AverageScorer(tuple(member.scorer for member in members))
    return Predictor(
        scorer, first.config, first.task, lengths, tuple(notes), names[0],
        info={**first.info, "scores": _scores_of(whole)}, members=tuple(map(Path, names)), ensemble=whole,
    )  # fmt: skip


def _scores_of(whole: Path | None) -> dict[str, Any] | None:
    """Return the scores of an ensemble from its own folder; ``None`` where it was not evaluated."""
    if whole is None:
        return None
    if (whole / EXPORT).is_file():
        return read_ensemble_manifest(whole).get("scores")
    try:
        return test_scores(RunFolder(whole).read_metrics())
    except RunError:  # it was not evaluated to the end
        return None


def from_pretrained(name: str | Path, revision: str | None = None, **options) -> Predictor:
    """Load a network from a folder, or from the Hugging Face Hub if there is no folder of this name.

    Args:
        name: a folder, or ``user/name`` or ``user/name@revision``.
        revision: a branch, a tag or a commit of a repository on the Hub; the same as ``@revision``.
        options: options of `load`.

    Raises:
        ExportError: there is no such folder and the name cannot be one of the Hub, or ``revision`` was given
            for a folder or twice; also the errors of `load`.

    >>> from_pretrained("user/name", revision="v1").predict("clip.mp4").label   # doctest: +SKIP
    'happy'
    """
    words = str(name)
    if not words.strip():
        raise ExportError(EMPTY_NAME)
    if not words.startswith(PREFIX):
        if Path(name).exists():
            if revision is not None:
                raise ExportError(f"{name} is a folder, which has no revision={revision!r}; leave it out")
            return load(name, **options)
        if not NAME.fullmatch(words):
            raise ExportError(
                f"there is no folder {words!r}, and a network on the Hugging Face Hub is named user/name or "
                "user/name@revision; check the path"
            )
        words = f"{PREFIX}{words}"
    if revision is not None:
        if "@" in words:
            raise ExportError(f"{name} names a revision already; leave revision={revision!r} or @... out")
        words = f"{words}@{revision}"
    return load(words, **options)
