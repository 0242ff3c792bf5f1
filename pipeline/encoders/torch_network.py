"""Common parts of PyTorch encoders: networks of transformers from safetensors, without their code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from deiii.data.encoders.record import Request
from deiii.data.encoders.transformers_shapes import own_class
from deiii.data.tools.processes.torch_defaults import cudnn_flags
from deiii.data.tools.weights import WeightsError

# Parameters that a folder may lack: those that mask the input in pretraining, pool it, or belong to a task.
NEEDLESS = ("masked_spec_embed", "mask_token", "pooler.", "projector.", "classifier.")


def load_pretrained(request: Request, needless: tuple[str, ...] = (), used: tuple[str, ...] = ()) -> Any:
    """Return the network of a folder of transformers, for inference.

    Every parameter must come from the folder's safetensors. Pickles and code of the folder are never loaded.

    Args:
        request: the folder.
        needless: beginnings of the names of further parameters that the folder may lack.
        used: those of `NEEDLESS` that the folder must have, because they are used.

    Raises:
        WeightsError: the folder is damaged, lacks parameters, or has some of other shapes.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging as own

    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # hides warnings about unused parameters, such as those of a classifier
    bars = own.is_progress_bar_enabled()
    own.disable_progress_bar()
    try:
        settings = AutoConfig.from_pretrained(request.path, trust_remote_code=False, local_files_only=True)
        network, found = (own_class(settings) or AutoModel).from_pretrained(
            request.path,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with their names
        )
    except ImportError as error:
        if error.name:  # a package cannot be imported; the folder may be right
            raise
        raise WeightsError(
            f"{request.path} needs a package that is not installed ({str(error).splitlines()[0]:.200}); "
            "install it, or choose another encoder. Weights that are not quantised need no further package"
        ) from None
    except Exception as error:  # transformers raises many types for a damaged folder
        raise WeightsError(
            f"{request.path} cannot be loaded by transformers ({str(error).splitlines()[0]:.200}); "
            "download it again, or, if its files are complete, write a load function for this kind of network"
        ) from None
    finally:
        logger.setLevel(level)
        if bars:
            own.enable_progress_bar()
    if others := sorted(found["mismatched_keys"]):
        name, stored, wanted = others[0]
        raise WeightsError(
            f"{request.path} has {len(others)} parameters of other shapes than config.json says, among them "
            f"{name} of {list(stored)} in place of {list(wanted)}: the files belong to different networks; "
            "download both again from one place"
        )
    maybe = [word for word in NEEDLESS if word not in used]
    lacking = [
        key
        for key in found["missing_keys"]
        if not key.startswith(needless) and not any(word in key for word in maybe)
    ]
    if lacking:
        raise WeightsError(
            f"{request.path} lacks {len(lacking)} parameters of its network, {sorted(lacking)[0]} among "
            "them: it is damaged, or config.json belongs to another network"
        )
    return network.eval().requires_grad_(False)


@contextmanager
def tried(folder: str, given: str, remedy: str = "write a load function for it") -> Iterator[None]:
    """Raise an error in the block again as a `WeightsError`: the network does not run.

    Without it, a worker would record the error for each clip.

    Args:
        folder: folder of the network.
        given: what it was given, in words.
        remedy: what to do.

    Raises:
        WeightsError: an error of another kind than a missing package, memory or the device.
    """
    try:
        yield
    except (ImportError, MemoryError, WeightsError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # networks raise many types for an input that they do not read
        raise WeightsError(
            f"{folder} holds a network that does not run on {given} ({str(error).splitlines()[0]:.200}); "
            f"{remedy}"
        ) from None


def exact(device: torch.device | str) -> AbstractContextManager[None]:
    """Return a context in which convolutions on a GPU are deterministic and do not round to TF32.

    Args:
        device: where the network is; on the CPU nothing is changed.
    """
    return cudnn_flags(device, enabled=True, deterministic=True, allow_tf32=False)


def to_device(values: np.ndarray | torch.Tensor, device: torch.device | str, dtype: Any) -> torch.Tensor:
    """Return an input of a network on its device; a GPU copies it while the host goes on.

    Args:
        values: floating-point values of any shape.
        device: the device of the network.
        dtype: the type of the network, to which the values are rounded on the CPU.
    """
    there = torch.as_tensor(values).to(dtype)
    if torch.device(device).type != "cuda":
        return there.to(device)
    return there.pin_memory().to(device, non_blocking=True)


def to_host(values: torch.Tensor) -> np.ndarray:
    """Return an output of a network as float32; on a GPU, this thread waits until it is computed and copied.

    Other threads may start work on the GPU meanwhile.
    """
    values = values.float()
    if values.device.type != "cuda":
        return values.cpu().numpy()
    back = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    back.copy_(values, non_blocking=True)
    done = torch.cuda.Event(blocking=True)
    done.record(torch.cuda.current_stream(values.device))
    done.synchronize()
    return back.numpy()


def placed(network: torch.nn.Module, request: Request) -> Any:
    """Return the network on the device and in the type of a request."""
    return network.to(request.device, getattr(torch, request.precision))
