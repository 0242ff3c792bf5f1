"""Checkpoints as safetensors files: weights with what is needed to use them, and the state to resume.

These files hold numbers and JSON, never code. A file is complete or absent (`deiii.data.tools.atomic_files`).
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deiii.data.tools.atomic_files import atomic_path


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another configuration; the message names the file."""


def save(path: str | Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write tensors and a JSON-able ``info`` atomically.

    Raises:
        OSError: the disk is full, for example; an earlier file of this name stays.
    """
    save_tensors(path, on_cpu(tensors), {"info": json.dumps(info, allow_nan=False)})


def save_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors on the CPU, and texts by name, atomically.

    Raises:
        OSError: the disk is full, for example; an earlier file of this name stays.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, str(temporary), metadata=metadata)
        except SafetensorError as error:  # the error number of the system is only in its text
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU; those from a GPU take one transfer per data type, not one per tensor."""
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items() if not t.is_cuda}
    kinds = {t.dtype for t in tensors.values() if t.is_cuda}
    for kind in kinds:
        there = {name: t.detach() for name, t in tensors.items() if t.is_cuda and t.dtype == kind}
        flat = torch.cat([t.reshape(-1) for t in there.values()]).cpu()
        parts = flat.split([t.numel() for t in there.values()])
        copies |= {n: p.view(t.shape).clone() for (n, t), p in zip(there.items(), parts, strict=True)}
    return {name: copies[name] for name in tensors}


def load(path: str | Path, entries: Iterable[str] = ()) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and ``info``.

    Args:
        path: the file.
        entries: what ``info`` must hold; that of weights and that of a state differ.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint of this project and this kind.
    """
    with _opened(path) as (file, info):
        if lacking := [name for name in entries if name not in info]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        return {name: file.get_tensor(name) for name in file.keys()}, info


def info_of(path: str | Path) -> dict[str, Any]:
    """Return ``info`` alone, without reading the tensors. Raises CheckpointError as `load` does."""
    with _opened(path) as (_, info):
        return info


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a checkpoint for the block.

    Raises:
        CheckpointError: the file is missing, or an error in the block shows that it is damaged.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint {path}; `deiii train` writes it")
    try:
        with safe_open(str(path), framework="pt") as file:
            info = json.loads((file.metadata() or {})["info"])
            if not isinstance(info, dict):
                raise ValueError("its info is not a table")
            yield file, info
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint of this project ({error}); train the run again, in a new "
            "folder (train.run=...)"
        ) from None


def epoch_of(path: str | Path) -> int | None:
    """Return the epoch whose weights a checkpoint holds; ``None`` if it is missing or damaged."""
    try:
        epoch = load(path)[1].get("epoch")
    except CheckpointError:
        return None
    return epoch if isinstance(epoch, int) else None


def restore(best: str | Path, last: str | Path, epoch: int) -> None:
    """Write a missing or damaged checkpoint of the best epoch again, if the last one is of that epoch.

    Raises:
        CheckpointError: it is missing or damaged, and so is the last one, or that is of another epoch.
    """
    try:
        load(best)
    except CheckpointError:
        try:
            weights, info = load(last)
        except CheckpointError:
            weights, info = {}, {}
        if info.get("epoch") != epoch:
            raise CheckpointError(
                f"{best} is missing or damaged, and {last} is not of the same epoch, {epoch}; train the run "
                "again, in a new folder (train.run=...)"
            ) from None
        save(best, weights, info)


def load_into(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Load weights whose names and shapes must be those of the model.

    Raises:
        CheckpointError: names or shapes differ, as after a change of the model's settings.
    """
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise CheckpointError(
            f"{source} does not fit the settings of the model: {' '.join(first).strip()}"
        ) from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors named ``<parameter number>.<entry>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, entries in state.items() for k, v in entries.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned, for the same parameters in the same order.

    State in the shape of its parameter gets the parameter's layout in memory, which fused optimisers expect.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, entry = name.split(".", 1)
        state.setdefault(int(number), {})[entry] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, entries in optimizer.state.items():
        for entry, tensor in entries.items():
            if tensor.shape == parameter.shape and tensor.stride() != parameter.stride():
                entries[entry] = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with ``prefix/`` before their names."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix/``, without it; the inverse of `prefixed`."""
    return {n.removeprefix(prefix + "/"): t for n, t in tensors.items() if n.startswith(prefix + "/")}
