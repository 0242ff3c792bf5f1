"""Compute with PyTorch in the same way whatever defaults the calling program has set.

A program that uses deiii may have set another default type or device, may allow products of less precision,
or may be within ``torch.autocast`` or ``torch.inference_mode``. Networks would then fail, or their outputs
would differ from those of the evaluation.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

EXACT = "highest"  # precision of float32 products that is PyTorch's default

_lock = threading.Lock()
_cudnn_lock = threading.RLock()  # re-entrant, because blocks of one thread may be nested
_inside = 0  # number of blocks that are being executed, in all threads
_forked = False  # whether this process was forked and has not executed a block yet
_own: dict[str, Any] = {}  # the calling program's values of settings of the process, by name


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Execute a block with the defaults of a new process, and restore those of the caller afterwards.

    The type is float32, the device the CPU, products are exact, and neither autocast nor inference mode is
    on. Default type and precision belong to the process: where the caller has changed them, its other threads
    also get the usual ones until the last block ends. Without PyTorch, or with usual defaults, nothing
    changes.

    In a process that was forked after PyTorch was loaded, PyTorch gets one thread: GNU's OpenMP would wait
    there without end for threads that only the first process has.

    Do not yield from within a block, because the caller would continue with changed settings.

    >>> import torch
    >>> with torch.device("meta"), usual_defaults():
    ...     torch.zeros(1).device
    device(type='cpu')
    """
    if "torch" not in sys.modules:  # it is loaded with the usual defaults, and nobody can have changed them
        yield
        return
    import torch

    with ExitStack() as stack:
        _enter()
        stack.callback(_leave)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield


@contextmanager
def cudnn_flags(device: Any, **flags: bool) -> Iterator[None]:
    """Execute a block with flags of cuDNN, and restore those of the caller afterwards.

    The flags belong to the process, so blocks of several threads follow each other: else the first one to end
    would change the flags of the others, and the last one would leave those of its neighbour behind.

    Args:
        device: device of the block's computations, a name or a ``torch.device``. Nothing is done unless it is
            a GPU, because the CPU does not use cuDNN.
        flags: arguments of ``torch.backends.cudnn.flags``.

    Do not yield from within a block, because other threads would wait.

    >>> with cudnn_flags("cpu", enabled=True, allow_tf32=False):
    ...     pass
    """
    import torch

    if torch.device(device).type == "cpu":
        yield
        return
    with _cudnn_lock, torch.backends.cudnn.flags(**flags):
        yield


def _enter() -> None:
    """Set the process's settings to the usual values, and keep those that the caller has changed."""
    global _inside, _forked
    import torch

    with _lock:
        _inside += 1
        if _forked:
            _forked = False
            torch.set_num_threads(1)
        if (kind := torch.get_default_dtype()) is not torch.float32:
            _own["dtype"] = kind
            torch.set_default_dtype(torch.float32)
        if (precision := _precision()) != EXACT:
            _own["precision"] = precision
            torch.set_float32_matmul_precision(EXACT)


def _precision() -> str:
    """Return the precision of float32 products; the usual one if the caller set it by backend."""
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # no single value describes it, and setting it would not restore the caller's
        return EXACT


def _leave() -> None:
    """Restore the settings of the caller after the last block."""
    global _inside
    import torch

    with _lock:
        _inside -= 1
        if _inside:
            return
        if "dtype" in _own:
            torch.set_default_dtype(_own.pop("dtype"))
        if "precision" in _own:
            torch.set_float32_matmul_precision(_own.pop("precision"))


def _after_fork() -> None:
    """Begin anew in a forked process, whose other threads do not exist."""
    global _lock, _cudnn_lock, _inside, _forked
    _lock = threading.Lock()
    _cudnn_lock = threading.RLock()
    _inside = 0
    _forked = "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
