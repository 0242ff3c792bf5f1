"""Common parts of PyTorch encoders: networks of transformers from safetensors, without their code."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch

from deiii.data.encoders.record import Request
from deiii.data.tools.processes.torch_defaults import cudnn_flags
from deiii.data.tools.weights import WeightsError

# Parameters that a folder may lack: those that mask the input in pretraining, pool it, or belong to a task.
NEEDLESS = ("masked_spec_embed", "mask_token", "pooler.", "projector.", "classifier.")


def load_pretrained(request: Request) -> Any:
    """Return the network of a folder of transformers, for inference.

    Every parameter must come from the folder's safetensors. Pickles and code of the folder are never loaded.

    Raises:
        WeightsError: the folder is damaged, or lacks parameters.
    """
    from transformers import AutoModel

    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # hides warnings about unused parameters, such as those of a classifier
    try:
        network, found = AutoModel.from_pretrained(
            request.path,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except ImportError:  # of a package that transformers needs; the folder may be right
        raise
    except Exception as error:  # transformers raises many types for a damaged folder
        raise WeightsError(
            f"{request.path} cannot be loaded by transformers ({str(error).splitlines()[0]:.200}); "
            "download it again"
        ) from None
    finally:
        logger.setLevel(level)
    lacking = [key for key in found["missing_keys"] if not any(word in key for word in NEEDLESS)]
    if lacking:
        raise WeightsError(
            f"{request.path} lacks {len(lacking)} parameters of its network, {sorted(lacking)[0]} among "
            "them: it is damaged, or config.json belongs to another network"
        )
    return network.eval().requires_grad_(False)


def exact(device: torch.device | str) -> AbstractContextManager[None]:
    """Return a context in which convolutions on a GPU are deterministic and do not round to TF32.

    Args:
        device: where the network is; on the CPU nothing is changed.
    """
    return cudnn_flags(device, enabled=True, deterministic=True, allow_tf32=False)


def placed(network: torch.nn.Module, request: Request) -> Any:
    """Return the network on the device and in the type of a request."""
    return network.to(request.device, getattr(torch, request.precision))
