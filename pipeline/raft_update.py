"""RAFT's update block with everything that stays the same over the updates taken out of the loop.

Mathematically torchvision's `UpdateBlock`, on its weights: the convolutions of the GRU are linear,
so their context part is convolved once and added; the gates z and r share one convolution; the
1x1 convolution over correlations is a matrix product on the layout that the lookup gives.
Source: Teed & Deng, "RAFT", ECCV 2020; torchvision.models.optical_flow.raft.
Axes: N pairs, C channels, h and w feature map (an eighth of the image), k hidden channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow.raft import ConvGRU, UpdateBlock


class SplitGRU(nn.Module):
    """A `ConvGRU` whose context part is precomputed.

    Args:
        gru: torchvision's; its input is the context's channels, then the motion's.
        context: number of context channels.
    """

    def __init__(self, gru: ConvGRU, context: int):
        super().__init__()
        k = gru.convz.out_channels
        self.hidden, self.padding = k, gru.convz.padding
        gates = (gru.convz, gru.convr, gru.convq)
        own = [torch.cat([g.weight[:, :k], g.weight[:, k + context :]], 1) for g in gates]
        self.register_buffer("zr", torch.cat(own[:2]).detach().clone())
        self.register_buffer("q", own[2].detach().clone())
        fixed = torch.cat([g.weight[:, k : k + context] for g in gates])
        self.register_buffer("fixed", fixed.detach().clone())
        self.register_buffer("bias", torch.cat([g.bias for g in gates]).detach().clone())

    def precompute(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """The context's share of the gates: z and r [N,2k,h,w], q [N,k,h,w]."""
        share = F.conv2d(context, self.fixed, self.bias, padding=self.padding)
        zr, q = share.split([2 * self.hidden, self.hidden], dim=1)
        return zr.contiguous(), q.contiguous()

    def forward(self, h: Tensor, motion: list[Tensor], share: tuple[Tensor, Tensor]) -> Tensor:
        zr = F.conv2d(torch.cat([h, *motion], 1), self.zr, padding=self.padding)
        z, r = zr.add_(share[0]).sigmoid_().chunk(2, dim=1)
        q = F.conv2d(torch.cat([r * h, *motion], 1), self.q, padding=self.padding)
        return torch.lerp(h, q.add_(share[1]).tanh_(), z)


class Update(nn.Module):
    """One refinement of the flow.

    Args:
        block: torchvision's update block.
        context: number of context channels.
    """

    def __init__(self, block: UpdateBlock, context: int):
        super().__init__()
        self.context = context
        motion, recurrent = block.motion_encoder, block.recurrent_block
        self.corr1, self.corr2 = motion.convcorr1[0], motion.convcorr2
        self.flow1, self.flow2, self.merge = motion.convflow1, motion.convflow2, motion.conv
        grus = [recurrent.convgru1, recurrent.convgru2]
        self.grus = nn.ModuleList(SplitGRU(g, context) for g in grus if isinstance(g, ConvGRU))
        self.head = block.flow_head

    def precompute(self, context: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What the GRUs need of the context [N,C,h,w], once for all updates."""
        return [gru.precompute(context) for gru in self.grus]

    def forward(
        self, h: Tensor, shares: list[tuple[Tensor, Tensor]], correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and the change of the flow.

        Args:
            h: [N,k,h,w], hidden state.
            shares: from `precompute`.
            correlation: [N,h,w,C], looked-up correlations.
            flow: [N,2,h,w], in px of the feature map.
        """
        corr = F.linear(correlation, self.corr1.weight.flatten(1), self.corr1.bias).relu_()
        corr = self.corr2(corr.permute(0, 3, 1, 2))
        motion = self.merge(torch.cat([corr, self.flow2(self.flow1(flow))], 1))
        for gru, share in zip(self.grus, shares, strict=True):
            h = gru(h, [motion, flow], share)
        return h, self.head(h)
