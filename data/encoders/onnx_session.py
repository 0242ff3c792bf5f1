"""ONNX files through onnxruntime: sessions with chosen outputs on a CPU or a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deiii.data.encoders.onnx_graph import external_files, read_nodes, with_outputs
from deiii.data.tools.devices import DeviceError
from deiii.data.tools.weights import WeightsError

if TYPE_CHECKING:
    import onnxruntime

GPU_PROVIDER = "CUDAExecutionProvider"


def load_onnxruntime() -> Any:
    """Return onnxruntime, imported with its reports to Microsoft switched off.

    The packages of onnxruntime 1.32 send usage data by default on Linux and macOS, too. The variable that
    forbids it counts only if it is set before the first import. A value that is set already is kept.

    >>> load_onnxruntime().__name__, os.environ["ORT_DISABLE_TELEMETRY"]
    ('onnxruntime', '1')
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def has_gpu() -> bool:
    """Return whether this onnxruntime can use a GPU; that of the package onnxruntime-gpu can."""
    onnxruntime = load_onnxruntime()
    return GPU_PROVIDER in onnxruntime.get_available_providers()


def open_session(
    model: bytes | str, threads: int, providers: Sequence[Any] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """Open an ONNX model with onnxruntime; warnings are not shown, errors of onnxruntime are raised.

    Args:
        model: content or path of the file.
        threads: threads of each operation; one operation runs at a time.
        providers: what computes it, the first choice first.
    """
    onnxruntime = load_onnxruntime()
    onnxruntime.set_default_logger_severity(3)  # no warning where there is no GPU
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # no warning on outputs that differ from their declared sizes
    return onnxruntime.InferenceSession(model, options, providers=list(providers))


@contextmanager
def refused(path: str | Path, network: str, remedy: str) -> Iterator[None]:
    """Raise an error in the block again as a `WeightsError`: the file does not hold the network.

    Args:
        path: the file.
        network: name of the network, such as "the face detector YuNet".
        remedy: what to do.

    Raises:
        WeightsError: anything but an ImportError was raised in the block.

    >>> with refused("a.onnx", "YuNet", "download it again"):
    ...     raise ValueError("no output cls_8")
    Traceback (most recent call last):
    deiii.data.tools.weights.WeightsError: a.onnx does not hold YuNet (no output cls_8); download it again
    """
    try:
        yield
    except ImportError:  # of onnxruntime; the file may be right
        raise
    except Exception as error:  # onnxruntime raises many types, which have no common base of their own
        raise WeightsError(
            f"{path} does not hold {network} ({str(error).splitlines()[0]}); {remedy}"
        ) from None


class OnnxNetwork:
    """An ONNX file with one input and chosen outputs; load it once per process.

    Args:
        path: path of the file.
        outputs: names of values that its nodes compute; its last output if empty.
        device: ``cpu`` or a CUDA device.
        threads: threads of the network.

    Attributes:
        outputs: names of the outputs, in order.
        kinds: types of its operations.
        input_shape: sizes of the axes of its input; free axes are texts.

    Raises:
        WeightsError: the file is damaged, keeps its weights in other files, or computes no value of a name.
        DeviceError: a GPU is configured, but this onnxruntime can use none, or starts none.
    """

    def __init__(self, path: str | Path, outputs: Sequence[str], device: str = "cpu", threads: int = 1):
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu":
            if not has_gpu():
                raise DeviceError(
                    f"device={device}: this onnxruntime has no GPU; install onnxruntime-gpu in place of "
                    "onnxruntime, or use device=cpu"
                )
            number = int(device.partition(":")[2] or 0)
            # By default onnxruntime rounds float32 to TF32 on a GPU; encoders in PyTorch do not.
            options = {"device_id": number, "use_tf32": 0}
            providers = [(GPU_PROVIDER, options), *providers]
        try:
            model = Path(path).read_bytes()
            # The digest of the file would not be that of its weights. onnxruntime would look for the other
            # files in the current folder.
            if others := external_files(model):
                raise WeightsError(
                    f"{path} keeps its weights in other files ({others[0]}), which its digest does not "
                    "cover; write one file: torch.onnx.export(..., external_data=False), or "
                    "onnx.save(onnx.load(path), new_path)"
                )
            nodes = read_nodes(model)
            names = {name for node in nodes for name in node.outputs if name}
            if missing := [name for name in outputs if name not in names]:
                last = ", ".join(sorted(names)[-8:])
                raise ValueError(f"it computes no value {missing[0]!r}; it computes {last} and others")
            plain = open_session(model, threads, providers)
            given = [output.name for output in plain.get_outputs()]
            # Where CUDA's libraries are missing, onnxruntime computes on the CPU without an error.
            if device != "cpu" and GPU_PROVIDER not in plain.get_providers():
                raise DeviceError(
                    f"device={device}: onnxruntime cannot start this GPU and would compute on the CPU; "
                    "install the onnxruntime-gpu for this CUDA and cuDNN, or use device=cpu"
                )
            outputs = outputs or given[-1:]
            more = [name for name in outputs if name not in given]
            if more:
                model = with_outputs(model, more)
                plain = open_session(model, threads, providers)
        except (ImportError, DeviceError, WeightsError):  # their messages state what is wrong
            raise
        except Exception as error:  # onnxruntime raises many types, which have no common base of their own
            raise WeightsError(
                f"{path} cannot be used as an ONNX encoder ({str(error).splitlines()[0]}); "
                "give another file, or download it again"
            ) from None
        self._net = plain
        self.outputs = list(outputs)
        self._input = plain.get_inputs()[0].name
        self.kinds = {node.kind for node in nodes}
        self.input_shape = tuple(plain.get_inputs()[0].shape)

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input, in the order of ``outputs``."""
        return self._net.run(self.outputs, {self._input: values})
