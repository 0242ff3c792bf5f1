"""Write a network as an ONNX file for onnxruntime, and compare the two.

PyTorch's exporter needs the packages onnx and onnxscript (``pip install 'deiii[onnx]'``). Predicting with
the file needs onnxruntime alone.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deiii.data.encoders.onnx_session import load_onnxruntime
from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.packages.requirements import install_command
from deiii.model.prediction.manifest import ExportError

NEEDED = ("onnx", "onnxscript")


def check_packages() -> None:
    """Raise ExportError where a package that the exporter needs is missing; the message has the command."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        packages = "packages" if len(missing) > 1 else "package"
        remedy = install_command("onnx")
        raise ExportError(f"writing ONNX needs the {packages} {' and '.join(missing)}: {remedy}")


def write_onnx(
    program: nn.Module,
    inputs: Mapping[str, Tensor],
    lengths: Mapping[str, str],
    trials: Iterable[Mapping[str, Tensor]],
    path: Path,
) -> float:
    """Write a program whose first two axes of every input are free; return the largest difference.

    Args:
        program: takes a dictionary of tensors and returns one; in evaluation mode, on the CPU.
        inputs: an example by name, [B,R,...].
        lengths: name of the second axis of each input, keyed by input; inputs with one name have one length.
        trials: inputs for which the outputs of onnxruntime are compared with those of the program.
        path: path of the file, which also holds the weights.

    Raises:
        ExportError: a package is missing or does not fit PyTorch, or PyTorch cannot write such a network.
    """
    check_packages()
    with torch.no_grad():
        outputs = list(program(dict(inputs)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hides warnings of the exporter about its own parts
            try:
                written = torch.onnx.export(
                    program,
                    kwargs={"inputs": dict(inputs)},
                    dynamo=True,
                    verbose=False,
                    input_names=list(inputs),
                    output_names=outputs,
                    dynamic_shapes={"inputs": {name: {0: "batch", 1: lengths[name]} for name in inputs}},
                    external_data=False,
                    custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                )
            except ModuleNotFoundError as error:
                # PyTorch imports a module of onnxscript that is named after a version of PyTorch. Neither
                # package declares which versions fit: onnxscript 0.5 lacks the one that PyTorch 2.11 imports.
                package = (error.name or "").split(".")[0]
                if package not in NEEDED:
                    raise
                raise ExportError(
                    f"{package} {metadata.version(package)} does not fit PyTorch {torch.__version__}, "
                    f"which asks for its module {error.name}: pip install --upgrade {package}"
                ) from error
            except torch.onnx.OnnxExporterError as error:
                raise ExportError(
                    f"PyTorch cannot write this network for onnxruntime ({_reason(error)}); "
                    "export it without --onnx"
                ) from error
        if written is None:
            raise ExportError("PyTorch returned no ONNX program")
        with atomic_path(path) as temporary:
            written.save(temporary, external_data=False)
            session = load_onnxruntime().InferenceSession(temporary, providers=["CPUExecutionProvider"])
            worst = 0.0
            for trial in trials:
                wanted = program(dict(trial))
                found = session.run(list(wanted), {name: tensor.numpy() for name, tensor in trial.items()})
                for values, tensor in zip(found, wanted.values(), strict=True):
                    apart = np.abs(values - tensor.float().numpy()).max(initial=0)
                    worst = float(np.maximum(worst, apart))  # NaN if either is; max() may drop it
    return worst


def _stable_sort(values: Any, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """Translate PyTorch's stable sort, for which its exporter has no translation.

    ONNX's TopK is stable: of equal values, that of the lower index comes first.
    """
    from onnxscript import opset18 as op

    length = op.Shape(values, start=dim, end=dim + 1 or None)
    return op.TopK(values, length, axis=dim, largest=int(descending), sorted=1)


def _reason(error: Exception) -> str:
    """Return the line of the exporter's error that names what it cannot write, else the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if line.startswith("<class "):
            return line
    return lines[-1] if lines else type(error).__name__
