"""Upsampling of RAFT's flow from the feature map to the image, a batch at a time.

Source: Teed & Deng 2020, section 3.3 (convex upsampling); the results are those of torchvision's
`upsample_flow`, which starts a kernel for each pair on a GPU (`torch.nn.functional.unfold`).
Axes: N pairs, h and w feature map, H=8h and W=8w image.
"""

from __future__ import annotations

from types import ModuleType

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow._utils import upsample_flow

FACTOR = 8  # px of the image per point of the feature map


def upsample(flow: Tensor, mask: Tensor | None, kernels: ModuleType | None = None) -> Tensor:
    """Return the flow of eight times the size.

    Args:
        flow: float32 [N,2,h,w], in px of the feature map.
        mask: [N,576,h,w], logits of the weights of a convex combination; ``None`` interpolates.
        kernels: `deiii.pipeline.flow.raft.kernels` where it runs.

    Returns:
        float32 [N,2,H,W], in px of the image.

    >>> upsample(torch.zeros(1, 2, 16, 16), None).shape  # doctest: +SKIP
    torch.Size([1, 2, 128, 128])
    """
    if mask is not None and kernels is not None:
        return kernels.upsample(flow, mask).permute(0, 3, 1, 2)
    if mask is None or flow.device.type == "cpu":
        return upsample_flow(flow, None if mask is None else mask.float())
    return convex(flow, mask.float())


def convex(flow: Tensor, mask: Tensor) -> Tensor:
    """Upsample with a mask as `upsample` does, in operations of whole batches: float32 [N,2,H,W]."""
    n, _, h, w = flow.shape
    weights = mask.view(n, 1, 9, FACTOR, FACTOR, h, w).softmax(2)
    around = F.pad(FACTOR * flow, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)  # [N,2,h,w,3,3]
    around = around.permute(0, 1, 4, 5, 2, 3).reshape(n, 2, 9, 1, 1, h, w)
    large = (weights * around).sum(2)  # [N,2,8,8,h,w]
    return large.permute(0, 1, 4, 2, 5, 3).reshape(n, 2, FACTOR * h, FACTOR * w)
