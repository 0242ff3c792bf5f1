"""Masked attention and masked attentive pooling.

Axes: B clips (or clips x steps), Q queries, S keys, D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deiii.model.distributed.layers import RankAware, dropout_mask
from deiii.model.network.positions import Rotation, rotate

MOST_SCORES = 2**27  # scores that plain attention keeps for its backward pass: 512 MB in float32


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
        if (dropout and self.ranks is not None) or learns_on_gpu(q, k):
            x = self._attend(q, k, v, attend, dropout)
        else:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=dropout)
        x = self.out(x.transpose(1, 2).flatten(2))
        return x if some is None else x * some[:, None, None]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, attend: Tensor | None, dropout: float) -> Tensor:
        """Attend in plain operations: all are deterministic, and take the dropout mask of a global batch."""
        score = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if attend is not None:
            score = score.masked_fill(~attend, float("-inf"))
        weight = score.softmax(dim=-1)
        if dropout and self.ranks is not None:
            weight = weight * dropout_mask(weight, dropout, self.ranks)
        elif dropout:
            weight = F.dropout(weight, dropout)
        return weight.to(v.dtype) @ v

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def learns_on_gpu(q_BHQK: Tensor, k_BHSK: Tensor) -> bool:
    """Return whether attention needs gradients on a GPU, where plain operations serve better.

    The backward passes of the fused kernels are not deterministic, and for the few steps of a clip they save
    nothing. Beyond `MOST_SCORES` the scores would take too much memory, and the fused kernels are used.
    """
    if not (q_BHQK.is_cuda and torch.is_grad_enabled() and q_BHQK.requires_grad):
        return False
    return q_BHQK.shape[0] * q_BHQK.shape[1] * q_BHQK.shape[2] * k_BHSK.shape[2] <= MOST_SCORES


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


class StatisticsPool(nn.Module):
    """Mean and standard deviation over the last-but-one axis; every valid entry has the same weight.

    How much a voice or a face varies carries emotion as its mean does. Source: the statistics pooling of
    x-vectors (Snyder et al. 2018, ICASSP, doi 10.1109/ICASSP.2018.8461375).

    >>> StatisticsPool()(torch.zeros(3, 5, 16)).shape
    torch.Size([3, 32])
    """

    LEAST_VARIANCE = 1e-5  # keeps the gradient of the root finite where a feature does not change

    def forward(self, x_BSD: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """Pool [B,S,D] with an optional mask, bool [B,S], to [B,2D]; zero where all entries are masked."""
        if mask_BS is None:
            mask_BS = torch.ones(x_BSD.shape[:2], dtype=torch.bool, device=x_BSD.device)
        valid = mask_BS[..., None]
        count = valid.sum(dim=1).clamp_min(1)
        x = x_BSD.float()
        mean = torch.where(valid, x, 0.0).sum(dim=1) / count
        variance = torch.where(valid, x - mean[:, None], 0.0).square().sum(dim=1) / count
        pooled = torch.cat((mean, (variance + self.LEAST_VARIANCE).sqrt()), dim=1).to(x_BSD.dtype)
        return pooled * valid.any(dim=1)
