"""MBT, fusion through attention bottlenecks (Nagrani et al. 2021, arXiv 2107.00135).

Differences from the paper: no pretrained ViT; positions are sinusoids of the media clock; each modality is
classified from its pooled steps (``model.pool``) instead of from a class token.

Axes: B clips, T steps of a modality, F bottleneck tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deiii.model.network.heads import Encoded, Outputs, Stream
from deiii.model.peers.base import Peer, averaged
from deiii.model.peers.layers import ClockPositions, TransformerStack

TOKENS = 4  # F, the default number of bottleneck tokens of the paper's code
TOKEN_SCALE = 0.02  # standard deviation of their initial values, also as in this code (scenic/projects/mbt)


class BottleneckTransformer(Peer):
    """Transformer layers within each modality, then layers that exchange information through a few tokens.

    In a fusion layer the steps of a modality and the bottleneck tokens attend to each other. The tokens' new
    values are then the mean over the modalities that the clip has, and the next layer reads them. For
    ``model.ife_blocks`` exchanges there is therefore one fusion layer more. ``model.blocks`` is the number of
    layers before fusion. Logits are the mean over the modalities.

    Args: those of `Peer`.

    >>> from deiii.data.config.schema import ModelConfig
    >>> BottleneckTransformer(ModelConfig(name="mbt", width=32), n_classes=8).tokens.shape
    torch.Size([4, 32])
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        c = self.config

        def layers(count: int) -> TransformerStack:
            return TransformerStack(count, c.width, c.heads, c.dropout)

        both = len(self.modalities) == 2
        self.positions = ClockPositions(c.width)
        self.within = nn.ModuleDict({m: layers(c.blocks) for m in self.modalities})
        self.between = nn.ModuleDict({m: layers(c.ife_blocks + 1) for m in self.modalities})
        self.tokens = nn.Parameter(TOKEN_SCALE * torch.randn(TOKENS, c.width)) if both else None
        self.heads = nn.ModuleDict({m: self.head() for m in self.modalities})

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        steps = {}
        for modality, (x, mask, time) in sequences.items():
            x = self.drop(x + self.positions(time).to(x.dtype))
            steps[modality] = self.within[modality](x, mask)
        masks = {modality: mask for modality, (_, mask, _) in sequences.items()}
        clips = next(iter(masks.values())).shape[0]
        tokens = None if self.tokens is None else self.tokens.expand(clips, -1, -1)
        for layers in zip(*(self.between[m].children() for m in self.modalities), strict=True):
            found = {
                m: _layer(layer, steps[m], masks[m], tokens) for m, layer in zip(steps, layers, strict=True)
            }
            steps = {m: x for m, (x, _) in found.items()}
            if tokens is not None:
                tokens = _mean([own for _, own in found.values()], list(masks.values()))
        scores = [self.heads[m]([Stream(steps[m], masks[m], None)]) for m in self.modalities]
        return Outputs(averaged(scores))


def _layer(
    layer: nn.Module, x_BTD: Tensor, mask_BT: Tensor, tokens_BFD: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the new steps of a modality and its update of the tokens."""
    if tokens_BFD is None:
        return layer(x_BTD, mask_BT), None
    both = torch.cat((x_BTD, tokens_BFD.to(x_BTD.dtype)), dim=1)
    always = mask_BT.new_ones(tokens_BFD.shape[:2])
    both = layer(both, torch.cat((mask_BT, always), dim=1))
    return both[:, : x_BTD.shape[1]], both[:, x_BTD.shape[1] :]


def _mean(each: list[Tensor | None], masks: list[Tensor]) -> Tensor:
    """Return the mean of the tokens, [B,F,D], over the modalities that have a valid step."""
    present_MB = torch.stack([mask.any(dim=1) for mask in masks])
    weight_MB = present_MB / present_MB.sum(dim=0).clamp_min(1)
    return (weight_MB[..., None, None] * torch.stack([x for x in each if x is not None])).sum(dim=0)
