"""Fusion of frames and flow (OV), and inter-modal feature enhancement (IFE); both after arXiv 2405.16701.

Axes: B clips, T video steps, P spatial tokens, L audio steps, N clips x video steps, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deiii.model.network.attention import Attention, AttentivePool, Keys
from deiii.model.network.conformer import FeedForward, start_small
from deiii.model.network.gpu.casts import as_products_want
from deiii.model.network.gpu.fill import fill
from deiii.model.network.gpu.norm import begin_branch
from deiii.model.network.gpu.side_stream import SideStream
from deiii.model.network.positions import Rotation


class VisualFusion(nn.Module):
    """Fuses the frame tokens and the flow tokens of each step into one feature.

    With ``attention``, frame tokens first attend to the flow tokens of their step and flow tokens to the
    frame tokens (OV); without, both are only pooled and concatenated. Either input may be switched off, or be
    missing at a step; it then adds nothing there. Frame tokens are those of the frame encoder, of the vectors
    of pretrained encoders that enter here (``model.join=fusion``), or of both.

    Args:
        width: D.
        heads: heads of the attention and of the pooling.
        dropout: dropout of the attention weights.
        frames, flow: the inputs that are on.
        attention: whether to use OV attention.
        one_token: whether a step has a single frame token, which needs no weights for pooling and attention.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        frames: bool,
        flow: bool,
        attention: bool,
        one_token: bool = False,
    ):
        super().__init__()
        v_pool = OnlyToken(width) if one_token else AttentivePool(width, heads)
        self.v_pool = v_pool if frames else None
        self.o_pool = AttentivePool(width, heads) if flow else None
        crossed = frames and flow and attention
        self.cross = PairAttention(width, heads, dropout, one_token) if crossed else None
        self.project = nn.Linear(width * (frames + flow), width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        v_BTPD: Tensor | None,
        o_BTPD: Tensor | None,
        v_mask_BT: Tensor,
        o_mask_BT: Tensor,
        tokens_BTP: Tensor | None = None,
    ) -> Tensor:
        """Fuse tokens (``None`` where switched off) with their masks, bool, to features [B,T,D].

        ``tokens_BTP`` masks single frame tokens; ``v_mask_BT`` must be true where any of a step's is.
        """
        steps = v_mask_BT.shape
        tokens = None if tokens_BTP is None else tokens_BTP.flatten(0, 1)
        v_ok, o_ok = v_mask_BT.flatten(), o_mask_BT.flatten()
        v, o = (None if x is None else x.flatten(0, 1) for x in (v_BTPD, o_BTPD))
        if self.cross is not None:
            v, o = self.cross(v, o, v_ok, o_ok, tokens)
        pooled = []
        if self.v_pool is not None:
            pooled.append(fill(self.v_pool(v, tokens), ~v_ok[:, None]))
        if self.o_pool is not None:
            pooled.append(fill(self.o_pool(o), ~o_ok[:, None]))
        return self.norm(self.project(torch.cat(pooled, dim=-1))).unflatten(0, steps)


class OnlyToken(nn.Module):
    """Layer normalisation in place of pooling where each step has one token; [N,1,D] to [N,D]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x_N1D: Tensor, mask_N1: Tensor | None = None) -> Tensor:
        x_ND = self.norm(x_N1D.squeeze(1))
        return x_ND if mask_N1 is None else x_ND * mask_N1


class PairAttention(nn.Module):
    """Computes v' = v + MHA(LN v; LN o, LN o) and o' = o + MHA(LN o; LN v, LN v) from the same v and o.

    The softmax over a single token is always 1, so with ``one_token`` a linear layer replaces the attention
    to the frame token.
    """

    def __init__(self, width: int, heads: int, dropout: float, one_token: bool = False):
        super().__init__()
        self.v_norm, self.o_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.v_from_o = Attention(width, heads, dropout)
        self.one_token = one_token
        self.o_from_v = nn.Linear(width, width, bias=False) if one_token else Attention(width, heads, dropout)
        start_small(self.v_from_o.out)
        start_small(self.o_from_v if isinstance(self.o_from_v, nn.Linear) else self.o_from_v.out)

    def forward(
        self, v_NPD: Tensor, o_NPD: Tensor, v_ok: Tensor, o_ok: Tensor, v_tokens_NP: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return new tokens; where ``v_ok`` or ``o_ok``, bool [N], is false, that input adds nothing.

        Frame tokens for which ``v_tokens_NP``, bool [N,P], is false add nothing either.
        """
        v_NPD, v = begin_branch(v_NPD, self.v_norm)
        o_NPD, o = begin_branch(o_NPD, self.o_norm)
        v, o = as_products_want(v), as_products_want(o)
        to_v = fill(self.v_from_o(v, o), ~o_ok[:, None, None])
        from_v = self.o_from_v(v) if self.one_token else self.o_from_v(o, v, v_tokens_NP)
        to_o = fill(from_v, ~v_ok[:, None, None])
        return v_NPD + to_v, o_NPD + to_o


class InterModal(nn.Module):
    """One IFE block: each modality attends to the other, and learned gates scale what is added.

    Both attend to the other's features from before the block. Nothing is added where a clip lacks the other
    modality.
    """

    START = 0.1  # initial value of the gates

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
        v_mask_BT: Tensor | Keys,
        a_mask_BL: Tensor | Keys,
        v_rotation: Rotation,
        a_rotation: Rotation,
    ) -> tuple[Tensor, Tensor]:
        """Apply the block to both modalities with their masks and rotations; the shapes stay."""
        side = SideStream("audio", v_BTD.device)
        side.share(v_BTD, a_BLD, v_mask_BT, a_mask_BL, v_rotation, a_rotation)
        v_BTD, v = begin_branch(v_BTD, self.v_norm)
        v = as_products_want(v)
        with side:
            a_BLD, a = begin_branch(a_BLD, self.a_norm)
            a = as_products_want(a)
        side.synchronise(v, a)
        v_BTD = v_BTD + self.v_gate * self.v_from_a(v, a, a_mask_BL, v_rotation, a_rotation)
        with side:
            a_BLD = a_BLD + self.a_gate * self.a_from_v(a, v, v_mask_BT, a_rotation, v_rotation)
        v_BTD = self.v_ffn.add_to(v_BTD)
        with side:
            a_BLD = self.a_ffn.add_to(a_BLD)
        side.join(a_BLD)
        return v_BTD, a_BLD
