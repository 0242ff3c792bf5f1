"""Compile functions of batches with torch.compile, once for all sizes of a batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Compiled:
    """A function of tensors [N,...] that torch.compile fuses, once for all N.

    A single row is computed without compilation, because torch.compile would compile once more for it.

    Args:
        function: takes tensors; those whose first axis is as long as that of the first one are batches.

    >>> encode = Compiled(network.feature_encoder)  # doctest: +SKIP
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        with _quiet():
            self.compiled = torch.compile(function)

    def __call__(self, *inputs: Tensor) -> Any:
        n = len(inputs[0])
        if n == 1:
            return self.function(*inputs)
        with _quiet():
            for x in inputs:
                if len(x) == n:
                    torch._dynamo.maybe_mark_dynamic(x, 0)
            return self.compiled(*inputs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide messages of torch.compile for PyTorch's developers, and its advice to use TF32.

    TF32 rounds the products of float32 to fewer bits. Version 2.11 uses functions that it deprecates itself.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
        yield
