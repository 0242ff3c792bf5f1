"""The device that a setting names. PyTorch is imported on the first call, not with this module."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from deiii.data.tools.counts import counted
from deiii.data.tools.machine import usable_cores

if TYPE_CHECKING:
    import torch


NO_GPU = "DEIII_NO_GPU"  # environment variable with the reason why a worker of a job was given no GPU
NAMED = re.compile(r"(cpu|cuda)(?::(\d+))?", re.ASCII)


class DeviceError(ValueError):
    """A device setting names no device, or one that this machine does not have."""


def pick_device(name: str, setting: str = "train.device") -> torch.device:
    """Return the PyTorch device of a device setting.

    Args:
        name: ``auto`` (a CUDA device where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1``.
        setting: the setting that holds the name, for messages.

    Raises:
        DeviceError: the name is none of these, or PyTorch finds no such CUDA device.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    named = NAMED.fullmatch(name)
    if named is None:
        raise DeviceError(f"{setting}={name}: choose auto, cpu, cuda or, of several GPUs, cuda:N")
    if named[1] == "cpu":
        return torch.device("cpu")
    found = usable_gpus()
    if found == 0:
        raise DeviceError(
            f"{setting}={name}, but PyTorch finds no CUDA device{_hidden()}; use {setting}=cpu, or see "
            "`deiii doctor`"
        )
    if named[2] is None:
        return torch.device("cuda")
    # Compared before PyTorch reads it: PyTorch keeps the number in 8 bits, where 128 is -128.
    if int(named[2]) >= found:
        raise DeviceError(
            f"{setting}={name}, but PyTorch finds {counted(found, 'CUDA device')}{_hidden()}, numbered from "
            f"0; use {setting}=cuda:{found - 1}"
        )
    return torch.device("cuda", int(named[2]))


def usable_gpus() -> int:
    """Return the number of CUDA devices that PyTorch can use.

    ``torch.cuda.device_count`` alone also counts the GPUs of a driver that is too old for PyTorch, because it
    asks NVIDIA's management library.

    >>> usable_gpus() >= 0
    True
    """
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def numbered(device: torch.device) -> torch.device:
    """Return a CUDA device with its number, other devices as they are.

    Without a number a device is the current one of the thread that uses it: tensors that two threads place
    on ``cuda`` may lie on two GPUs.

    >>> numbered(torch.device("cpu"))  # doctest: +SKIP
    device(type='cpu')
    """
    import torch

    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def _hidden() -> str:
    """Return the setting of the environment that can hide GPUs, for messages; empty where it is not set."""
    if reason := os.environ.get(NO_GPU):
        return f" ({reason})"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"


def visible_devices(value: str) -> list[str]:
    """Return the GPUs that a value of ``CUDA_VISIBLE_DEVICES`` names: numbers, UUIDs or MIG instances.

    As in CUDA, a name that cannot be one, such as -1, hides the names after it, and a name that stands
    twice makes no GPU visible.

    Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables

    >>> visible_devices("0, GPU-8932f937")
    ['0', 'GPU-8932f937']
    >>> visible_devices("2,-1,0"), visible_devices("")
    (['2'], [])
    """
    devices: list[str] = []
    for name in (part.strip() for part in value.split(",")):
        if not (name.isascii() and name.isdigit()) and not name.startswith(("GPU-", "MIG-")):
            break
        devices.append(name)
    return devices if len(set(devices)) == len(devices) else []


FAST_FLOAT16 = (7, 0)  # compute capability from which GPUs have tensor cores for float16


def has_fast_float16(device: int = 0) -> bool:
    """Return whether PyTorch finds a CUDA device that computes faster in float16 than in float32.

    >>> has_fast_float16() in (True, False)
    True
    """
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= FAST_FLOAT16


def working_kernels(load: Callable[[], ModuleType], what: str) -> ModuleType | None:
    """Return a module of Triton kernels, or ``None`` where Triton is missing or does not work.

    Triton comes with PyTorch's builds for CUDA; it needs a C compiler the first time that it runs. Where it
    is installed and does not work, a warning states the error.

    Args:
        load: imports the module, runs its kernels once and returns it.
        what: runs without them, for the warning: "RAFT runs".

    >>> import math
    >>> working_kernels(lambda: math, "it runs").__name__
    'math'
    """
    try:
        return load()
    except ImportError:
        return None
    except Exception as error:  # Triton raises errors of its own, of the compiler and of the driver
        reason = (str(error).splitlines() or [""])[0]
        warnings.warn(
            f"{what} without Triton's kernels, which do not work here ({type(error).__name__}: "
            f"{reason:.200}); Triton needs a C compiler such as gcc",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def make_current(device: torch.device) -> torch.device:
    """Make a CUDA device the current one of this thread; returns the device, and ignores others.

    Page-locked memory, events and streams belong to the current device: without this, a process that works
    on ``cuda:1`` keeps some 500 MB of ``cuda:0`` too.
    """
    import torch

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def limit_threads() -> None:
    """Give PyTorch no more threads than processor cores that this process may keep busy.

    PyTorch counts the cores of the machine. A container with a limit would run that many threads in its share
    of the time, and each step would wait for threads that are not scheduled.
    """
    import torch

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def use_device(name: str, setting: str = "train.device") -> torch.device:
    """Return the device of a setting, ready for use: current, and with threads for the cores that there are.

    Raises:
        DeviceError: as `pick_device`.
    """
    limit_threads()
    return make_current(pick_device(name, setting))
