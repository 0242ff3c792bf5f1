"""RAFT's update block with everything that stays the same over the updates taken out of the loop.

Mathematically torchvision's `UpdateBlock`, on its weights. The convolutions of the GRU are linear, so
the context's part is convolved once for all updates, and z and r share one convolution; the 1x1
convolution over correlations is a matrix product on the layout that the lookup gives. All maps are
channels-last.
Source: Teed & Deng, "RAFT", ECCV 2020; torchvision.models.optical_flow.raft.
Axes: N pairs, C channels, h and w feature map (an eighth of the image), k hidden channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow.raft import ConvGRU, UpdateBlock

from deiii.pipeline.flow.raft.winograd import KERNELS, WinogradConv


class DirectConv(nn.Module):
    """`WinogradConv` by the library's own convolution, for any kernel, device and type."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, relu: bool = False):
        super().__init__()
        self.padding, self.relu = (weight.shape[2] // 2, weight.shape[3] // 2), relu
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, *parts: Tensor, add: Tensor | None = None, fresh: int | None = None) -> Tensor:
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        y = F.conv2d(x, self.weight, self.bias if add is None else None, padding=self.padding)
        y = y if add is None else y.add_(add)
        return y.relu_() if self.relu else y


class NarrowConv(nn.Module):
    """A 3x3 convolution to few channels: one matrix product, its nine taps then shifted and summed."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        taps = weight.detach().flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        self.register_buffer("taps", taps.contiguous())  # [O*9,C]
        self.register_buffer("bias", bias.detach().clone()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        taps = F.linear(x.permute(0, 2, 3, 1), self.taps).flatten(1, 2)
        return F.fold(taps.transpose(1, 2), x.shape[2:], 3, padding=1).add_(self.bias)


def convolution(weight: Tensor, bias: Tensor | None, relu: bool, winograd: bool) -> nn.Module:
    """The faster of the two forms where there is a choice."""
    narrow = min(weight.shape[:2]) < 16  # nothing to win: the transforms cost more than the products
    if winograd and tuple(weight.shape[2:]) in KERNELS and not narrow:
        return WinogradConv(weight, bias, relu)
    return DirectConv(weight, bias, relu)


class SplitGRU(nn.Module):
    """A `ConvGRU` by the parts of its input.

    Args:
        gru: torchvision's; its input is the context's channels, then the motion's.
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

    def forward(self, h: Tensor, motion: Tensor, share: Tensor) -> Tensor:
        """The next hidden state; ``share`` [N,3k,h,w] is ``fixed(context)``."""
        gates = self.gates(h, motion, add=share[:, : 2 * self.hidden])
        z, r = gates.sigmoid_().chunk(2, dim=1)
        q = self.candidate(r * h, motion, add=share[:, 2 * self.hidden :], fresh=1).tanh_()
        return torch.lerp(h, q, z)


class Update(nn.Module):
    """One refinement of the flow.

    Args:
        block: torchvision's update block.
        context: number of context channels.
        levels: of the correlation pyramid.
        winograd: use `WinogradConv` (float32 on the CPU).
    """

    def __init__(self, block: UpdateBlock, context: int, levels: int, winograd: bool):
        super().__init__()
        self.context = context
        make = lambda conv, relu=True: convolution(conv.weight, conv.bias, relu, winograd)
        motion, recurrent, head = block.motion_encoder, block.recurrent_block, block.flow_head
        self.register_buffer("corr1", by_rows(motion.convcorr1[0].weight, levels))
        self.register_buffer("corr1_bias", motion.convcorr1[0].bias.detach().clone())
        deep = not isinstance(motion.convcorr2, nn.Identity)
        self.corr2 = make(motion.convcorr2[0]) if deep else nn.Identity()
        self.flow1, self.flow2 = make(motion.convflow1[0]), make(motion.convflow2[0])
        # Two more outputs, which are zero, keep a place for the flow beside the motion features.
        merge = motion.conv[0]
        weight, bias = F.pad(merge.weight, (0, 0, 0, 0, 0, 0, 0, 2)), F.pad(merge.bias, (0, 2))
        self.merge = convolution(weight, bias, True, winograd)
        grus = [recurrent.convgru1, recurrent.convgru2]
        self.grus = nn.ModuleList(SplitGRU(g, context, winograd) for g in grus if isinstance(g, ConvGRU))
        self.head1 = make(head.conv1)
        self.head2 = NarrowConv(head.conv2.weight, head.conv2.bias) if winograd else make(head.conv2, False)

    def precompute(self, context: Tensor) -> list[Tensor]:
        """What the GRUs need of the context [N,C,h,w], once for all updates."""
        return [gru.fixed(context) for gru in self.grus]

    def forward(
        self, h: Tensor, shares: list[Tensor], correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and the change of the flow.

        Args:
            h: [N,k,h,w], hidden state.
            shares: from `precompute`.
            correlation: [N,h,w,C], from `CorrelationPyramid.lookup`.
            flow: [N,2,h,w], in px of the feature map.
        """
        corr = F.linear(correlation, self.corr1, self.corr1_bias).relu_()
        corr = self.corr2(corr.permute(0, 3, 1, 2))
        motion = self.merge(corr, self.flow2(self.flow1(flow)))
        motion[:, -2:] = flow
        for gru, share in zip(self.grus, shares, strict=True):
            h = gru(h, motion, share)
        return h, self.head2(self.head1(h))


def by_rows(weight: Tensor, levels: int) -> Tensor:
    """A 1x1 convolution's weight [O,levels*D*D,1,1] for windows row by row, not column by column: [O,C]."""
    side = round((weight.shape[1] / levels) ** 0.5)
    return weight.detach().view(-1, levels, side, side).transpose(2, 3).flatten(1).contiguous()
