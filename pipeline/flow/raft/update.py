"""RAFT's update block; what is equal in all updates is computed once, before the loop.

It computes the same as torchvision's `UpdateBlock`, with its weights. The convolutions of the GRU are linear,
so the channels of the context are convolved once for all updates, and z and r share one convolution. The 1x1
convolution over correlations is a matrix product on the layout that the lookup returns. All maps are
channels-last.
Source: Teed & Deng, "RAFT", ECCV 2020; torchvision.models.optical_flow.raft.
Axes: N pairs, C channels, h and w feature map (an eighth of the image), k hidden channels.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow.raft import ConvGRU, UpdateBlock

from deiii.pipeline.flow.raft.winograd import KERNELS, NARROW, WinogradConv


class DirectConv(nn.Module):
    """PyTorch's convolution with the interface of `WinogradConv`, for any kernel, device and type."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None, relu: bool = False):
        super().__init__()
        self.padding = (weight.shape[2] // 2, weight.shape[3] // 2)
        self.relu = relu
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, *parts: Tensor, add: Tensor | None = None, fresh: int | None = None) -> Tensor:
        """See `WinogradConv.forward`; ``fresh`` has no effect."""
        x = parts[0]
        if len(parts) > 1:
            # Along the last axis: torch.compile would choose another layout and copy once more.
            x = torch.cat([part.permute(0, 2, 3, 1) for part in parts], 3).permute(0, 3, 1, 2)
        y = F.conv2d(x, self.weight, self.bias if add is None else None, padding=self.padding)
        y = y if add is None else y.add_(add)
        return y.relu_() if self.relu else y


class NarrowConv(nn.Module):
    """A 3x3 convolution to few channels: one matrix product, whose nine taps are then shifted and summed."""

    taps: Tensor  # [O*9,C]
    bias: Tensor  # [O,1,1]

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        taps = weight.detach().flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        self.register_buffer("taps", taps.contiguous())
        self.register_buffer("bias", bias.detach().clone()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N,C,h,w] to [N,O,h,w]."""
        taps = F.linear(x.permute(0, 2, 3, 1), self.taps).flatten(1, 2)
        return F.fold(taps.transpose(1, 2), x.shape[2:], 3, padding=1).add_(self.bias)


def convolution(weight: Tensor, bias: Tensor | None, relu: bool, winograd: bool) -> nn.Module:
    """Return a `WinogradConv` where that is allowed and faster, else a `DirectConv`."""
    narrow = min(weight.shape[:2]) < NARROW
    if winograd and tuple(weight.shape[2:]) in KERNELS and not narrow:
        return WinogradConv(weight, bias, relu)
    return DirectConv(weight, bias, relu)


class SplitGRU(nn.Module):
    """A `ConvGRU` whose convolutions are split by the channels of its input.

    Args:
        gru: torchvision's; the channels of its input are those of the context, then those of the motion.
        context: number of context channels.
        winograd: use `WinogradConv`.
    """

    def __init__(self, gru: ConvGRU, context: int, winograd: bool):
        super().__init__()
        k = self.hidden = gru.convz.out_channels
        z, r, q = (gate.weight for gate in (gru.convz, gru.convr, gru.convq))
        own = [torch.cat([g[:, :k], g[:, k + context :]], 1) for g in (z, r, q)]
        bias = torch.cat([gate.bias for gate in (gru.convz, gru.convr, gru.convq)])
        fixed = torch.cat([g[:, k : k + context] for g in (z, r, q)])
        self.fixed = convolution(fixed, bias, False, winograd)
        self.gates = convolution(torch.cat(own[:2]), None, False, winograd)
        self.candidate = convolution(own[2], None, False, winograd)

    def forward(self, h: Tensor, motion: Tensor, fixed: Tensor) -> Tensor:
        """Return the next hidden state [N,k,h,w]; ``fixed`` [N,3k,h,w] is ``self.fixed(context)``."""
        gates = self.gates(h, motion, add=fixed[:, : 2 * self.hidden])
        z, r = gates.sigmoid_().chunk(2, dim=1)
        q = self.candidate(r * h, motion, add=fixed[:, 2 * self.hidden :], fresh=1).tanh_()
        return torch.lerp(h, q, z)


class Update(nn.Module):
    """One refinement step of the flow.

    Args:
        block: torchvision's update block.
        context: number of context channels.
        levels: number of levels of the correlation pyramid.
        winograd: use `WinogradConv`, which computes in float32 on the CPU.
    """

    corr1: Tensor  # [O,levels*D*D]
    corr1_bias: Tensor  # [O]

    def __init__(self, block: UpdateBlock, context: int, levels: int, winograd: bool):
        super().__init__()
        self.context = context

        def convert(conv: nn.Conv2d, relu: bool = True) -> nn.Module:
            return convolution(conv.weight, conv.bias, relu, winograd)

        motion, recurrent, head = block.motion_encoder, block.recurrent_block, block.flow_head
        self.register_buffer("corr1", by_rows(motion.convcorr1[0].weight, levels))
        self.register_buffer("corr1_bias", motion.convcorr1[0].bias.detach().clone())
        deep = not isinstance(motion.convcorr2, nn.Identity)
        self.corr2 = convert(motion.convcorr2[0]) if deep else nn.Identity()
        self.flow1 = convert(motion.convflow1[0])
        self.flow2 = convert(motion.convflow2[0])
        # Two more outputs, which are zero, reserve channels for the flow behind the motion features.
        merge = motion.conv[0]
        weight = F.pad(merge.weight, (0, 0, 0, 0, 0, 0, 0, 2))
        bias = F.pad(merge.bias, (0, 2))
        self.merge = convolution(weight, bias, True, winograd)
        grus = [recurrent.convgru1, recurrent.convgru2]
        self.grus = nn.ModuleList(SplitGRU(g, context, winograd) for g in grus if isinstance(g, ConvGRU))
        self.head1 = convert(head.conv1)
        if winograd:
            self.head2: nn.Module = NarrowConv(head.conv2.weight, head.conv2.bias)
        else:
            self.head2 = convert(head.conv2, relu=False)

    def precompute(self, context: Tensor) -> list[Tensor]:
        """Compute the part of each GRU that depends on the context [N,C,h,w] alone, once for all updates."""
        return [cast(SplitGRU, gru).fixed(context) for gru in self.grus]

    def forward(
        self, h: Tensor, fixed: list[Tensor], correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and the change of the flow.

        Args:
            h: hidden state [N,k,h,w].
            fixed: result of `precompute`.
            correlation: [N,h,w,C], from `CorrelationPyramid.lookup`.
            flow: [N,2,h,w], in px of the feature map.
        """
        corr = F.linear(correlation, self.corr1, self.corr1_bias).relu_()
        corr = self.corr2(corr.permute(0, 3, 1, 2))
        motion = self.merge(corr, self.flow2(self.flow1(flow)))
        motion[:, -2:] = flow
        for gru, own in zip(self.grus, fixed, strict=True):
            h = gru(h, motion, own)
        return h, self.head2(self.head1(h))


def by_rows(weight: Tensor, levels: int) -> Tensor:
    """Return the weight [O,levels*D*D,1,1] of a 1x1 convolution as [O,levels*D*D] for windows by rows.

    torchvision's windows are stored column by column.
    """
    side = round((weight.shape[1] / levels) ** 0.5)
    return weight.detach().view(-1, levels, side, side).transpose(2, 3).flatten(1).contiguous()
