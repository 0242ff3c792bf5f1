"""VAVL, versatile audio-visual learning (Goncalves et al. 2023, arXiv 2305.07216).

After https://github.com/ilucasgoncalves/VAVL (commit c128439, ``VAVL/net/avmodel.py``). Differences: the
losses that reconstruct the inputs are left out and all parts are trained together, because the recipe is the
same for all networks; the Conformer blocks are those of DE-III, with masks; clips that lack a modality come
from modality dropout.

The published code hands its Conformers tensors of the shape [T,B,D], which they read as T sequences of B
steps (``proj_x_a = audio.permute(2, 0, 1)``): attention and convolution run along the clips of the batch,
never along time. ``model.batch_axis`` does the same, so that its effect can be measured. The prediction of a
clip then depends on the other clips of its batch, on ``loader.batch``, and on the order of the clips.

Axes: B clips, T steps of a modality, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.conformer import Conformer
from deiii.model.network.heads import Encoded, Outputs, Stream
from deiii.model.network.positions import ClockRotary
from deiii.model.peers.base import Peer

PLACE_S = 0.04  # time between two clips of the batch, for positions along the batch


class VAVL(Peer):
    """A Conformer per modality, then layers that both modalities share, with a shortcut; three heads.

    ``model.blocks`` is the number of Conformer blocks of each modality (3 in the published code),
    ``model.ife_blocks`` that of the shared blocks (2).

    Args: those of `Peer`.

    Raises:
        ConfigError: as for `Peer`; in `forward` if ``model.batch_axis`` is on and several processes train.

    >>> from deiii.data.config.schema import ModelConfig
    >>> len(VAVL(ModelConfig(name="vavl", width=32, ife_blocks=2), n_classes=8).shared.blocks)
    2
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        c = self.config

        def conformer(blocks: int) -> Conformer:
            return Conformer(c.width, blocks, c.heads, c.conv_kernel, c.dropout)

        self.own = nn.ModuleDict({m: conformer(c.blocks) for m in self.modalities})
        self.shared = conformer(c.ife_blocks)
        self.norm = nn.LayerNorm(c.width)
        self.rotary = ClockRotary(c.width // c.heads)
        self.out = self.head(len(self.modalities))
        alone = self.modalities if len(self.modalities) == 2 and c.modality_heads else ()
        self.heads = nn.ModuleDict({m: self.head() for m in alone})

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        if self.config.batch_axis and self.ranks is not None:
            raise ConfigError(
                "model.batch_axis=true trains in one process: a batch is not divided among several"
            )
        streams = {}
        for modality, (x, mask, time) in sequences.items():
            x = self._interact(self.own[modality], x, mask, time)
            x = self.norm(self._interact(self.shared, x, mask, time) + x)
            streams[modality] = Stream(x, mask, None)
        alone = {modality: head([streams[modality]]) for modality, head in self.heads.items()}
        return Outputs(self.out(list(streams.values())), alone.get("video"), alone.get("audio"))

    def _interact(self, conformer: nn.Module, x_BTD: Tensor, mask_BT: Tensor, time_BT: Tensor) -> Tensor:
        """Apply a Conformer along time, or, with ``model.batch_axis``, along the clips of the batch."""
        if not self.config.batch_axis:
            return conformer(x_BTD, mask_BT, self.rotary(time_BT))
        place_B = PLACE_S * torch.arange(x_BTD.shape[0], device=x_BTD.device)
        rotation = self.rotary(place_B.expand(x_BTD.shape[1], -1))
        return conformer(x_BTD.transpose(0, 1), mask_BT.transpose(0, 1), rotation).transpose(0, 1)
