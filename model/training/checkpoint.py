"""Checkpoints as safetensors: weights with what is needed to use them, and the state to resume.

Nothing in these files can execute. Each is whole or absent (`deiii.data.tools.atomic_files`).
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deiii.data.tools.atomic_files import atomic_path


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another configuration; the message says which."""


def save(path: str | Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write tensors and a JSON-able ``info`` atomically.

    Raises:
        OSError: where there is no room; what was there under this name stays.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(plain, str(temporary), metadata={"info": json.dumps(info, allow_nan=False)})
        except SafetensorError as error:  # it tells the disk's troubles in words alone
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and ``info``.

    Raises:
        CheckpointError: the file is missing, not safetensors, or not one of ours.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            info = json.loads((file.metadata() or {})["info"])
            if not isinstance(info, dict):
                raise KeyError("info is no table")
            return {name: file.get_tensor(name) for name in file.keys()}, info
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint of this project: {error}") from None


def load_into(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Load weights that must fit exactly.

    Raises:
        CheckpointError: names or shapes differ, as after a change of the model's settings.
    """
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise CheckpointError(
            f"{source} does not fit this model's settings: {' '.join(first).strip()}"
        ) from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors named ``<parameter number>.<entry>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, entries in state.items() for k, v in entries.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take over what `optimizer_tensors` gave, for the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, entry = name.split(".", 1)
        state.setdefault(int(number), {})[entry] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix/``."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors that `prefixed` put under ``prefix/``."""
    return {n.removeprefix(prefix + "/"): t for n, t in tensors.items() if n.startswith(prefix + "/")}
