"""Late fusion: each modality is classified alone, and the logits are averaged.

The baseline that every fusion has to beat. The mean of the logits is the mean of the logarithms of the
probabilities up to a constant, so the predicted class is that of the product rule with equal priors of
Kittler et al. 1998, "On Combining Classifiers", IEEE TPAMI 20(3), who compare it with other rules. Each
modality has the intra-modal Conformer of DE-III, so the difference from DE-III is OV, IFE and the fused head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from deiii.model.network.conformer import Conformer
from deiii.model.network.heads import Encoded, Outputs, Stream
from deiii.model.network.positions import ClockRotary
from deiii.model.peers.base import Peer, averaged


class Late(Peer):
    """One Conformer and one head per modality; the fused output is the mean of the heads.

    A clip that lacks a modality is classified by the other one alone. ``model.modality_heads`` sets whether
    each head has a loss of its own beside that of the mean.

    Args: those of `Peer`.

    >>> from deiii.data.config.schema import ModelConfig
    >>> Late(ModelConfig(name="late", width=32, blocks=1), n_classes=8).modalities
    ('video', 'audio')
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        c = self.config
        blocks = c.blocks if c.conformer else 0
        self.conformers = nn.ModuleDict(
            {m: Conformer(c.width, blocks, c.heads, c.conv_kernel, c.dropout) for m in self.modalities}
        )
        self.heads = nn.ModuleDict({m: self.head() for m in self.modalities})
        self.rotary = ClockRotary(c.width // c.heads)

    def fuse(self, sequences: Mapping[str, Encoded]) -> Outputs:
        scores = {}
        for modality, (x, mask, time) in sequences.items():
            rotation = self.rotary(time)
            x = self.conformers[modality](x, mask, rotation)
            scores[modality] = self.heads[modality]([Stream(x, mask, rotation)])
        fused = averaged(list(scores.values()))
        if len(scores) == 1 or not self.config.modality_heads:
            return Outputs(fused)
        return Outputs(fused, scores["video"], scores["audio"])
