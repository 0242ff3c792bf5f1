"""Load a trained network: from a run folder, an exported folder or the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deiii.model.prediction.hub import PREFIX, download
from deiii.model.prediction.manifest import ExportError, has_torch
from deiii.model.prediction.predictor import Predictor

BACKENDS = ("auto", "torch", "onnx")


def load(
    path: str | Path,
    device: str = "auto",
    overrides: Iterable[str] = (),
    change_preprocessing: bool = False,
    backend: str = "auto",
) -> Predictor:
    """Load a trained network from a run folder, from a folder that `deiii export` wrote, or from the Hub.

    Args:
        path: the folder, or ``hub:user/name`` or ``hub:user/name@revision`` of the Hugging Face Hub.
        device: auto, cpu or cuda.
        overrides: ``key=value`` settings for this machine, such as ``faces.weights=/w/yunet.onnx``.
        change_preprocessing: allow ``overrides`` that change what a stage computes; predictions carry a note.
        backend: ``torch``, ``onnx`` for onnxruntime with the folder's ``model.onnx``, or ``auto`` for PyTorch
            where it is installed.

    Raises:
        RunError, CheckpointError, ExportError: the folder holds no usable run or export.
        ConfigError: a setting is unknown, or belongs to the trained network.
        DeviceError: the device is not there.
        HubError: the Hub does not give the files.

    >>> load("runs/latest", device="cpu").classes   # doctest: +SKIP
    ('happy', 'sad')
    """
    if backend not in BACKENDS:
        raise ExportError(f"backend={backend!r}: it is one of {', '.join(BACKENDS)}")
    name = str(path)
    folder = download(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else Path(path)
    if backend == "onnx" or (backend == "auto" and not has_torch()):
        from deiii.model.prediction.with_onnx import load_folder as load_onnx

        if device not in ("auto", "cpu"):
            raise ExportError(f"device={device}: onnxruntime computes on the CPU here; leave it out")
        return load_onnx(folder, overrides, change_preprocessing)
    from deiii.model.prediction.with_torch import load_folder

    return load_folder(folder, device, overrides, change_preprocessing)


def from_pretrained(name: str | Path, **options) -> Predictor:
    """Load a network from a folder where there is one of this name, else from the Hugging Face Hub.

    Args:
        name: a folder, or ``user/name`` or ``user/name@revision``.
        options: of `load`.

    >>> from_pretrained("user/name").predict("clip.mp4").label   # doctest: +SKIP
    'happy'
    """
    known = str(name).startswith(PREFIX) or Path(name).exists()
    return load(name if known else f"{PREFIX}{name}", **options)
