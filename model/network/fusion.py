"""Frame-flow fusion (OV) and inter-modal feature enhancement (IFE).

Axes: B clips, T video steps, P spatial tokens, L audio steps, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deiii.model.network.attention import Attention, AttentivePool
from deiii.model.network.conformer import FeedForward, start_small
from deiii.model.network.positions import Rotation


class VisualFusion(nn.Module):
    """Frame tokens and flow tokens of the same step become one feature.

    With ``attention`` each first attends to the other's tokens of that step (OV); without, they
    are only pooled and concatenated. Either input may be switched off, or be missing at a step:
    it then adds nothing there.
    """

    def __init__(self, width: int, heads: int, dropout: float, frames: bool, flow: bool, attention: bool):
        super().__init__()
        self.v_pool = AttentivePool(width, heads) if frames else None
        self.o_pool = AttentivePool(width, heads) if flow else None
        self.cross = PairAttention(width, heads, dropout) if frames and flow and attention else None
        self.project = nn.Linear(width * (frames + flow), width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, v_BTPD: Tensor | None, o_BTPD: Tensor | None, v_mask_BT: Tensor, o_mask_BT: Tensor
    ) -> Tensor:
        """Tokens (``None`` where switched off) and their masks to [B,T,D]."""
        steps = v_mask_BT.shape
        v_ok, o_ok = v_mask_BT.flatten(), o_mask_BT.flatten()
        v, o = (None if x is None else x.flatten(0, 1) for x in (v_BTPD, o_BTPD))
        if self.cross is not None:
            v, o = self.cross(v, o, v_ok, o_ok)
        parts = []
        if self.v_pool is not None:
            parts.append(self.v_pool(v).masked_fill(~v_ok[:, None], 0.0))
        if self.o_pool is not None:
            parts.append(self.o_pool(o).masked_fill(~o_ok[:, None], 0.0))
        return self.norm(self.project(torch.cat(parts, dim=-1))).unflatten(0, steps)


class PairAttention(nn.Module):
    """v' = v + MHA(LN v; LN o, LN o) and o' = o + MHA(LN o; LN v, LN v), both from the old values."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.v_norm, self.o_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.v_from_o = Attention(width, heads, dropout)
        self.o_from_v = Attention(width, heads, dropout)
        start_small(self.v_from_o.out)
        start_small(self.o_from_v.out)

    def forward(self, v_NPD: Tensor, o_NPD: Tensor, v_ok: Tensor, o_ok: Tensor) -> tuple[Tensor, Tensor]:
        v, o = self.v_norm(v_NPD), self.o_norm(o_NPD)
        to_v = self.v_from_o(v, o).masked_fill(~o_ok[:, None, None], 0.0)
        to_o = self.o_from_v(o, v).masked_fill(~v_ok[:, None, None], 0.0)
        return v_NPD + to_v, o_NPD + to_o


class InterModal(nn.Module):
    """One IFE block: each modality attends to the other through a gate that starts small.

    Both read the other's *old* value. Where the other modality is missing altogether, nothing is added.
    """

    START = 0.1

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.v_norm, self.a_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.v_from_a = Attention(width, heads, dropout)
        self.a_from_v = Attention(width, heads, dropout)
        self.v_gate = nn.Parameter(torch.full((width,), self.START))
        self.a_gate = nn.Parameter(torch.full((width,), self.START))
        self.v_ffn, self.a_ffn = FeedForward(width, dropout), FeedForward(width, dropout)

    def forward(
        self,
        v_BTD: Tensor,
        a_BLD: Tensor,
        v_mask_BT: Tensor,
        a_mask_BL: Tensor,
        v_rotation: Rotation,
        a_rotation: Rotation,
    ) -> tuple[Tensor, Tensor]:
        """Both modalities with their masks and rotations; the same shapes come back."""
        v, a = self.v_norm(v_BTD), self.a_norm(a_BLD)
        v_BTD = v_BTD + self.v_gate * self.v_from_a(v, a, a_mask_BL, v_rotation, a_rotation)
        a_BLD = a_BLD + self.a_gate * self.a_from_v(a, v, v_mask_BT, a_rotation, v_rotation)
        return v_BTD + self.v_ffn(v_BTD), a_BLD + self.a_ffn(a_BLD)
