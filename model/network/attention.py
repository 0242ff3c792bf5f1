"""Masked attention and masked attentive pooling.

Axes: B clips (or clips x steps), Q queries, S keys, D width, H heads.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deiii.model.distributed.layers import RankAware, dropout_mask
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.positions import Rotation, rotate


class Attention(RankAware, nn.Module):
    """Multi-head attention over the last-but-one axis, never across clips.

    A query whose keys are all masked receives zeros, so that a residual branch adds nothing. The projections
    have no bias: a key bias would cancel in the softmax.

    Args:
        width: D.
        heads: H; divides the width.
        dropout: probability that an attention weight is dropped in training.

    Raises:
        ValueError: the heads do not divide the width.

    >>> Attention(16, 2)(torch.zeros(3, 5, 16), torch.zeros(3, 7, 16)).shape
    torch.Size([3, 5, 16])
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        if width % heads:
            raise ValueError(f"model.width={width} is not a multiple of model.heads={heads}")
        self.heads, self.dropout = heads, dropout
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        q_BQD: Tensor,
        kv_BSD: Tensor,
        mask_BS: Tensor | None = None,
        q_rotation: Rotation | None = None,
        k_rotation: Rotation | None = None,
    ) -> Tensor:
        """Attend from ``q`` to the entries of ``kv`` whose mask is true; returns [B,Q,D].

        Rotations are applied where both are given.
        """
        q = self._split(self.to_q(q_BQD))
        k, v = (self._split(x) for x in self.to_kv(kv_BSD).chunk(2, dim=-1))
        if q_rotation is not None and k_rotation is not None:
            q, k = rotate(q, q_rotation), rotate(k, k_rotation)
        attend = some = None
        if mask_BS is not None:
            some = mask_BS.any(dim=1)
            # A row without any key would give NaN, so it attends to all and is zeroed below.
            attend = (mask_BS | ~some[:, None])[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if dropout and self.ranks is not None:
            x = self._attend(q, k, v, attend, self.ranks)
        else:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=dropout)
        x = self.out(x.transpose(1, 2).flatten(2))
        return x if some is None else x * some[:, None, None]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, attend: Tensor | None, ranks: Ranks) -> Tensor:
        """Attend with the dropout mask of the global batch, which the fused kernels do not accept."""
        score = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if attend is not None:
            score = score.masked_fill(~attend, float("-inf"))
        weight = score.softmax(dim=-1)
        return (weight * dropout_mask(weight, self.dropout, ranks)).to(v.dtype) @ v

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AttentivePool(nn.Module):
    """Weighted mean over the last-but-one axis, with separate weights for each head.

    Masked entries have no weight. Where all entries are masked the result is zero.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, heads, bias=False)

    def forward(self, x_BSD: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Pool [B,S,D] with an optional mask, bool [B,S], to [B,D]."""
        x_BSD = self.norm(x_BSD)
        score_BSH = self.score(x_BSD).float()
        if mask_BS is not None:
            some = mask_BS.any(dim=1)[:, None]
            score_BSH = score_BSH.masked_fill(~(mask_BS | ~some)[:, :, None], float("-inf"))
        weight_BSH = score_BSH.softmax(dim=1).to(x_BSD.dtype)
        pooled = (weight_BSH[..., None] * x_BSD.unflatten(-1, (self.heads, -1))).sum(dim=1).flatten(1)
        return pooled if mask_BS is None else pooled * some
