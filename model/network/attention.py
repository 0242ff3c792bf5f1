"""Masked attention and masked attentive pooling.

Axes: B clips (or clips x steps), Q queries, S keys, D width, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deiii.model.distributed.layers import RankAware, dropout_mask
from deiii.model.network.gpu.attention import attend
from deiii.model.network.gpu.fill import fill
from deiii.model.network.positions import Rotation, rotate

MOST_SCORES = 2**27  # scores that plain attention keeps for its backward pass: 512 MB in float32


class Keys(NamedTuple):
    """A mask of keys in the forms that layers need, computed once for all layers that share it.

    Attributes:
        valid: bool [B,S], true for valid keys.
        hidden: bool [B,S], the opposite of ``valid``.
        some: bool [B], whether a clip has a valid key.
        attend: bool [B,1,1,S], the keys that attention may use: the valid ones, or all keys of a clip without
            a valid one, because a softmax over no key would be NaN.
    """

    valid: Tensor
    hidden: Tensor
    some: Tensor
    attend: Tensor


def keys_of(mask_BS: Tensor | Keys) -> Keys:
    """Return the keys of a mask, bool [B,S]; keys are returned as they are.

    >>> keys_of(torch.tensor([[True, False], [False, False]])).some
    tensor([ True, False])
    """
    if isinstance(mask_BS, Keys):
        return mask_BS
    some = mask_BS.any(dim=1)
    return Keys(mask_BS, ~mask_BS, some, (mask_BS | ~some[:, None])[:, None, None, :])


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
        mask_BS: Tensor | Keys | None = None,
        q_rotation: Rotation | None = None,
        k_rotation: Rotation | None = None,
    ) -> Tensor:
        """Attend from ``q`` to the entries of ``kv`` whose mask is true; returns [B,Q,D].

        Rotations are applied where both are given.
        """
        keys = None if mask_BS is None else keys_of(mask_BS)
        rotations = None
        if q_rotation is not None and k_rotation is not None:
            rotations = (q_rotation, k_rotation)
        dropout = self.dropout if self.training else 0.0
        plain = learns_on_gpu(q_BQD, kv_BSD, self.heads)
        if plain and self.ranks is None and not torch.compiler.is_compiling():
            return self._few_launches(q_BQD, kv_BSD, keys, rotations, dropout)
        q = self._split(self.to_q(q_BQD))
        k, v = (self._split(x) for x in self.to_kv(kv_BSD).chunk(2, dim=-1))
        if rotations is not None:
            q, k = rotate(q, rotations[0]), rotate(k, rotations[1])
        open_B11S = None if keys is None else keys.attend
        if plain or (dropout and self.ranks is not None):
            x = self._attend(q, k, v, open_B11S, dropout)
        else:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=open_B11S, dropout_p=dropout)
        x = self.out(x.transpose(1, 2).flatten(2))
        return x if keys is None else x * keys.some[:, None, None]

    def _few_launches(
        self,
        q_BQD: Tensor,
        kv_BSD: Tensor,
        keys: Keys | None,
        rotations: tuple[Rotation, Rotation] | None,
        dropout: float,
    ) -> Tensor:
        """Attend as `deiii.model.network.gpu.attention` does it."""
        hidden, some = (None, None) if keys is None else (keys.hidden, keys.some)
        if q_BQD is kv_BSD and (rotations is None or rotations[0] is rotations[1]):
            projected = F.linear(q_BQD, torch.cat((self.to_q.weight, self.to_kv.weight)))
            return self.out(attend(projected, None, self.heads, hidden, some, rotations, dropout))
        q, kv = self.to_q(q_BQD), self.to_kv(kv_BSD)
        return self.out(attend(q, kv, self.heads, hidden, some, rotations, dropout))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, attend: Tensor | None, dropout: float) -> Tensor:
        """Attend in plain operations, which are deterministic and can use the dropout mask of all ranks."""
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


def learns_on_gpu(q_BQD: Tensor, kv_BSD: Tensor, heads: int) -> bool:
    """Return whether attention needs gradients on a GPU and is small enough for plain operations.

    The backward passes of the fused kernels are not deterministic, and for the few steps of a clip they are
    not faster. Beyond `MOST_SCORES` the scores would take too much memory, and the fused kernels are used.
    """
    if not (q_BQD.is_cuda and torch.is_grad_enabled()):
        return False
    return q_BQD.shape[0] * heads * q_BQD.shape[1] * kv_BSD.shape[1] <= MOST_SCORES


class AttentivePool(nn.Module):
    """Weighted mean of normalised entries over the last-but-one axis, [B,S,D] to [B,D].

    Each head has its own weights, for its D / H features. Masked entries have no weight. The result is zero
    where all entries are masked.

    Args:
        width: D.
        heads: H; divides the width.

    >>> AttentivePool(16, 2)(torch.zeros(3, 5, 16)).shape
    torch.Size([3, 16])
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, heads, bias=False)

    def forward(self, x_BSD: Tensor, mask_BS: Tensor | Keys | None = None) -> Tensor:
        """Pool [B,S,D] with an optional mask, bool [B,S], to [B,D]."""
        x_BSD = self.norm(x_BSD)
        score_BSH = self.score(x_BSD).float()
        keys = None if mask_BS is None else keys_of(mask_BS)
        if keys is not None:
            # A finite number: where all entries are masked, the weights are then equal and not NaN.
            score_BSH = fill(score_BSH, keys.hidden[:, :, None], torch.finfo(score_BSH.dtype).min)
        weight_BSH = score_BSH.softmax(dim=1).to(x_BSD.dtype)
        pooled = (weight_BSH[..., None] * x_BSD.unflatten(-1, (self.heads, -1))).sum(dim=1).flatten(1)
        return pooled if keys is None else pooled * keys.some[:, None]


class StatisticsPool(nn.Module):
    """Mean and standard deviation over the last-but-one axis; every valid entry has the same weight.

    The variation of a voice or a face over time depends on the emotion, as its mean does. Source: the
    statistics pooling of x-vectors (Snyder et al. 2018, ICASSP, doi 10.1109/ICASSP.2018.8461375).

    >>> StatisticsPool()(torch.zeros(3, 5, 16)).shape
    torch.Size([3, 32])
    """

    LEAST_VARIANCE = 1e-5  # keeps the gradient of the root finite where a feature does not change

    def forward(self, x_BSD: Tensor, mask_BS: Tensor | Keys | None = None) -> Tensor:
        """Pool [B,S,D] with an optional mask, bool [B,S], to [B,2D]; zero where all entries are masked."""
        if isinstance(mask_BS, Keys):
            mask_BS = mask_BS.valid
        if mask_BS is None:
            mask_BS = torch.ones(x_BSD.shape[:2], dtype=torch.bool, device=x_BSD.device)
        valid = mask_BS[..., None]
        count = valid.sum(dim=1).clamp_min(1)
        x = x_BSD.float()
        mean = torch.where(valid, x, 0.0).sum(dim=1) / count
        variance = torch.where(valid, x - mean[:, None], 0.0).square().sum(dim=1) / count
        pooled = torch.cat((mean, (variance + self.LEAST_VARIANCE).sqrt()), dim=1).to(x_BSD.dtype)
        return pooled * valid.any(dim=1)
