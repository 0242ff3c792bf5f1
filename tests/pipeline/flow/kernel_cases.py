"""Compare Triton's kernels with PyTorch's operations; run by `test_kernels` in Triton's interpreter."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torchvision.models.optical_flow._utils import upsample_flow
from torchvision.models.optical_flow.raft import CorrBlock

from deiii.pipeline.flow.raft import correlation, kernels
from deiii.pipeline.flow.raft.correlation import CorrelationPyramid
from deiii.pipeline.flow.raft.upsampling import convex

FAR = 1e6  # px
# Triton's interpreter takes about as long for a program with a large block as for one with a small block.
# One case of each kernel has the blocks of GPUs, the others these.
LARGE_BLOCK = 8192


def points_of(n: int, h: int, w: int, reach: float, generator: torch.Generator) -> torch.Tensor:
    """Points around the grid, some on its borders, some far outside, some without a value."""
    grid = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy")).float()
    at = grid + reach * torch.randn(n, 2, h, w, generator=generator)
    at[0, :, 0, 0] = torch.tensor([0.0, h - 1.0])
    at[0, :, 0, 1] = torch.tensor([-1.0, float(h)])
    at[0, :, 0, 2] = torch.tensor([w - 1.0, -0.5])
    at[0, :, 0, 3] = torch.tensor([FAR, -FAR])
    at[0, :, 0, 4] = torch.tensor([float("inf"), 0.0])
    return at


def lookup() -> None:
    correlation.on_cpu = lambda x: False  # the code for GPUs, on the CPU
    generator = torch.Generator().manual_seed(0)
    cases = (
        (2, 16, 16, 4, 1.0, LARGE_BLOCK),
        (1, 16, 28, 3, 20.0, LARGE_BLOCK),
        (1, 19, 17, 3, 5.0, kernels.LOOKUP_BLOCK),
    )
    for n, h, w, radius, reach, block in cases:
        kernels.LOOKUP_BLOCK = block
        first, second = (torch.randn(n, 8, h, w, generator=generator) for _ in range(2))
        at = points_of(n, h, w, reach, generator)
        fused = CorrelationPyramid(first, second, 4, radius, kernels)
        plain = CorrelationPyramid(first, second, 4, radius)
        exact = plain.lookup(at)
        last = at.contiguous(memory_format=torch.channels_last)
        kinds = [(at, torch.float32, 1e-4), (last, torch.float16, 1e-2)]
        if n == 2:  # the interpreter is slow: both layouts in both types for one size alone
            kinds += [(last, torch.float32, 1e-4), (at, torch.float16, 1e-2)]
        for layout, dtype, tolerance in kinds:
            found = fused.lookup(layout, dtype)
            assert found.dtype == dtype and found.shape == exact.shape
            usable = torch.isfinite(at).all(1)  # a point without a value has no samples to compare
            np.testing.assert_allclose(found[usable], exact[usable], atol=tolerance, rtol=tolerance)
        theirs = CorrBlock(num_levels=4, radius=radius)
        theirs.build_pyramid(first, second)
        at[~torch.isfinite(at)] = 0
        side = 2 * radius + 1
        reference = theirs.index_pyramid(at).view(n, 4, side, side, h, w).transpose(2, 3)
        reference = reference.reshape(n, -1, h, w).permute(0, 2, 3, 1)
        np.testing.assert_allclose(fused.lookup(at), reference, atol=1e-3, rtol=1e-3)


def upsample() -> None:
    generator = torch.Generator().manual_seed(0)
    for n, h, w, block in ((2, 8, 16, LARGE_BLOCK), (1, 11, 19, kernels.UPSAMPLE_BLOCK)):
        kernels.UPSAMPLE_BLOCK = block
        flow = 10 * torch.randn(n, 2, h, w, generator=generator)
        mask = 3 * torch.randn(n, 576, h, w, generator=generator)
        mask[0, :, 0, 0] = 200 * torch.randn(
            576, generator=generator
        )  # a softmax that overflows if done badly
        exact = upsample_flow(flow, mask)
        for layout in (torch.contiguous_format, torch.channels_last):
            found = kernels.upsample(
                flow.contiguous(memory_format=layout), mask.contiguous(memory_format=layout)
            )
            np.testing.assert_allclose(found.permute(0, 3, 1, 2), exact, atol=1e-4, rtol=1e-4)
        half = kernels.upsample(flow, mask.half()).permute(0, 3, 1, 2)
        np.testing.assert_allclose(half, upsample_flow(flow, mask.half().float()), atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(convex(flow, mask), exact, atol=1e-5, rtol=1e-5)


CASES = {"lookup": lookup, "upsample": upsample}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
