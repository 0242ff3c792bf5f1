"""ONNX files through onnxruntime: sessions with chosen outputs on a CPU or a GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deiii.data.encoders.onnx_graph import external_files, read_nodes, with_outputs
from deiii.data.encoders.record import SAMPLE_RATE
from deiii.data.tools.devices import DeviceError
from deiii.data.tools.weights import WeightsError

if TYPE_CHECKING:
    import onnxruntime

GPU_PROVIDER = "CUDAExecutionProvider"
# Types of inputs by their names in onnxruntime. Bytes are values of images.
NUMBERS: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}  # fmt: skip
WHOLE: dict[str, Any] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
LENGTH_WORDS, RATE_WORDS = ("len", "lens", "length", "lengths"), ("sr", "fs", "rate")
CHANNEL_AXES, IMAGE_AXES = 3, 4


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


def _explained(message: str) -> tuple[str, str]:
    """Return the reason why onnxruntime refuses a file, in one line, and what to do.

    >>> _explained("... Unsupported model IR version: 99, max supported IR version: 14")[0]
    'it has version 99 of the format, and this onnxruntime reads up to 14'
    """
    line = message.splitlines()[0] if message else "no reason is given"
    newer = "update onnxruntime, or export the file for an older version: "
    if found := re.search(r"IR version: (\d+), max supported IR version: (\d+)", line):
        why = f"it has version {found[1]} of the format, and this onnxruntime reads up to {found[2]}"
        return why, f"{newer}set model.ir_version={found[2]} with the package onnx, and save it again"
    if found := re.search(r"Opset (\d+) is under development.* is till opset (\d+)", line):
        why = f"it has operator set {found[1]}, and this onnxruntime reads up to {found[2]}"
        return why, f"{newer}torch.onnx.export(..., opset_version=17)"
    if "is not a registered function/op" in line or "No Op registered for" in line:
        return line, "it needs operations that onnxruntime lacks: export it with operations of ONNX alone"
    return line, "give another file, or download it again"


def fed(name: str) -> str:
    """Return what an input beside audio holds, by its name: mask, length, rate, or an empty text if unknown.

    >>> fed("attention_mask"), fed("input_lengths"), fed("sr"), fed("input_ids")
    ('mask', 'length', 'rate', '')
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    if any(word.endswith("mask") for word in words):
        return "mask"
    if words[-1] in LENGTH_WORDS:
        return "length"
    return "rate" if words[-1] in RATE_WORDS else ""


class OnnxNetwork:
    """An ONNX file with one input of audio or images and chosen outputs; load it once per process.

    A file of audio may have further inputs (`fed`): a mask, which is 1 for all of a window, the length of the
    window, and the sampling rate.

    Args:
        path: path of the file.
        outputs: names of values that its nodes compute; its last output if empty.
        device: ``cpu`` or a CUDA device.
        threads: threads of the network.

    Attributes:
        outputs: names of the outputs, in order.
        kinds: types of its operations.
        given: names of the file's own outputs.
        input_shape: sizes of the axes of its input, without an axis of one channel; free axes are texts.
        type: type of its input, to which values are rounded.
        counted: whether ``counts`` of a call matter.

    Raises:
        WeightsError: the file is damaged, keeps its weights in other files, computes no value of a name, or
            needs an input that is none of the above.
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
            why, remedy = _explained(str(error))
            raise WeightsError(f"{path} cannot be used as an ONNX encoder ({why}); {remedy}") from None
        self._net = plain
        self.outputs = list(outputs)
        self.given = given
        inputs = plain.get_inputs()
        main = next((one for one in inputs if one.type in NUMBERS and not fed(one.name)), inputs[0])
        further = [one for one in inputs if one is not main]
        shape = tuple(main.shape)
        if main.type not in NUMBERS:
            raise WeightsError(
                f"{path} reads {main.name!r} of the type {main.type}: an encoder reads audio or images as "
                f"{', '.join(NUMBERS)}; whole numbers are those of texts or codes. Export it with another "
                "input"
            )
        known = () if len(shape) == IMAGE_AXES else (*NUMBERS, *WHOLE)
        unknown = [one.name for one in further if not fed(one.name) or one.type not in known]
        if unknown:
            raise WeightsError(
                f"{path} needs {', '.join(unknown)} beside {main.name}: an encoder gets one input, and for "
                "audio a mask, the lengths and the rate; export only the part that reads audio or images"
            )
        self._input, self.type = main.name, NUMBERS[main.type]
        self._further = [
            _Further(one.name, fed(one.name), (NUMBERS | WHOLE)[one.type], len(one.shape)) for one in further
        ]
        self.counted = bool(further)
        self.kinds = {node.kind for node in nodes}
        self._channel = len(shape) == CHANNEL_AXES and shape[1] == 1  # samples [B,1,n]
        self.input_shape = (shape[0], shape[2]) if self._channel else shape

    def __call__(self, values: np.ndarray, counts: Sequence[int] = ()) -> list[np.ndarray]:
        """Return the outputs for an input float32, in the order of their names.

        ``counts`` are the values along the last axis that are no padding; empty if none is padding.
        """
        given = np.rint(values) if self.type is np.uint8 else values
        feed = {self._input: (given[:, None] if self._channel else given).astype(self.type, copy=False)}
        lengths = np.array(counts or [values.shape[-1]] * len(values))
        for other in self._further:
            feed[other.name] = other.value(lengths, values.shape[-1])
        found = self._net.run(self.outputs, feed)
        return found if self.type is np.float32 else [values.astype(np.float32) for values in found]


class _Further(NamedTuple):
    """An input beside the audio: name, what it holds (`fed`), type and number of axes."""

    name: str
    holds: str
    kind: Any
    axes: int

    def value(self, lengths: np.ndarray, longest: int) -> np.ndarray:
        """Return it for windows of lengths [B], padded to the longest."""
        if self.holds == "mask":
            return (np.arange(longest) < lengths[:, None]).astype(self.kind)
        if self.holds == "length":
            return lengths.astype(self.kind)
        return np.full((1,) * self.axes, SAMPLE_RATE, self.kind)
