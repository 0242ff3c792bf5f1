"""Attention with rotary positions and its backward pass, in few deterministic operations.

It computes what `deiii.model.network.attention.Attention` computes between its projections. Automatic
differentiation of the plain operations takes about 65 launches on a GPU, this about 30: factors, masks and
changes of layout are parts of operations that are needed anyway, and products stay in their own type. The
fused kernels of PyTorch take fewer, but their backward passes are not deterministic.

Axes: B clips, Q queries, S keys, T either of them, H heads, K features of a head, D = H x K.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deiii.model.network.positions import Rotation


def attend(
    q: Tensor,
    kv: Tensor | None,
    heads: int,
    hidden_BS: Tensor | None = None,
    some_B: Tensor | None = None,
    rotations: tuple[Rotation, Rotation] | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend with masks, rotary positions and dropout; returns [B,Q,D].

    Args:
        q: projected queries [B,Q,D]; without ``kv`` the projected queries, keys and values [B,Q,3D].
        kv: projected keys and values, [B,S,2D].
        heads: H.
        hidden_BS: bool, true for keys that do not count.
        some_B: bool, whether a clip has keys that count; the result is zero where it has none.
        rotations: of the queries and of the keys.
        dropout: probability that an attention weight is dropped.

    >>> attend(torch.zeros(2, 5, 16), torch.zeros(2, 7, 32), heads=2).shape
    torch.Size([2, 5, 16])
    """
    result: Tensor = _Attend.apply(q, kv, heads, hidden_BS, some_B, rotations, dropout)
    return result


def _split(q: Tensor, kv: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return views of queries, keys and values, [B,H,T,K] each."""
    parts = q.chunk(3, dim=-1) if kv is None else (q, *kv.chunk(2, dim=-1))
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in parts)
    return query, key, value


def _stacked(qkv_BT3D: Tensor, heads: int) -> Tensor:
    """Return a view of queries, keys and values of one tensor, [3,B,H,T,K]."""
    return qkv_BT3D.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)


def _rotate(x: Tensor, rotation: Rotation | None, out: Tensor, sign: int) -> None:
    """Write x [...,T,K], rotated by the angles of its steps or back (``sign`` -1), into ``out``."""
    if rotation is None:
        out.copy_(x)
        return
    cos, signed_sin = rotation
    halves_swapped = x.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    torch.addcmul(x * cos, halves_swapped, signed_sin, value=sign, out=out)


def _product(a: Tensor, b: Tensor, factor: float = 1.0, out: Tensor | None = None) -> Tensor:
    """Return ``factor`` times the matrix product of [B,H,I,J] and [B,H,J,L], in ``out`` where it is given."""
    if out is None:
        out = a.new_empty((*a.shape[:-1], b.shape[-1]))
    out.flatten(0, 1).baddbmm_(a.flatten(0, 1), b.flatten(0, 1), beta=0, alpha=factor)
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, heads, hidden, some, rotations, dropout):
        ctx.heads, ctx.dropout, ctx.rotations = heads, dropout, rotations or (None, None)
        ctx.packed = kv is None
        # Queries and keys of the same steps are rotated together.
        ctx.together = ctx.packed and ctx.rotations[0] is ctx.rotations[1]
        with torch.autocast(q.device.type, enabled=False):
            parts = _split(q, kv, heads)
            ctx.scale = parts[0].shape[-1] ** -0.5
            if ctx.together:
                seen = _stacked(q, heads)
                inner = torch.empty_like(seen, memory_format=torch.contiguous_format)
                _rotate(seen[:2], ctx.rotations[0], inner[:2], 1)
                inner[2].copy_(seen[2])
                query, key, value = inner.unbind()
            else:
                query, key, value = (
                    torch.empty_like(x, memory_format=torch.contiguous_format) for x in parts
                )
                for x, rotation, out in zip(parts, (*ctx.rotations, None), (query, key, value), strict=True):
                    _rotate(x, rotation, out, 1)
            score = _product(query, key.transpose(-2, -1), ctx.scale)
            if hidden is not None:
                # A finite number: the weights of a clip without keys are then equal and not NaN.
                score.masked_fill_(hidden[:, None, None], torch.finfo(score.dtype).min)
            weight = score.softmax(dim=-1)
            given, kept = torch.native_dropout(weight, dropout, True) if dropout else (weight, None)
            clips, _, steps, _ = query.shape
            x = _product(given, value).transpose(1, 2)
            result = x.new_empty((clips, steps, heads, x.shape[-1]))
            if some is None:
                result.copy_(x)
            else:
                torch.mul(x, some[:, None, None, None], out=result)
            ctx.save_for_backward(query, key, value, weight, given, kept, some)
        return result.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        query, key, value, weight, given, kept, some = ctx.saved_tensors
        clips, heads, steps, features = query.shape
        g = torch.empty_like(query)
        split = gradient.unflatten(-1, (heads, -1)).transpose(1, 2)
        if some is None:
            g.copy_(split)
        else:
            torch.mul(split, some[:, None, None, None], out=g)
        of_value = _product(given.transpose(-2, -1), g)
        of_weight = _product(g, value.transpose(-2, -1))
        if kept is not None:
            of_weight = torch.ops.aten.native_dropout_backward(of_weight, kept, 1 / (1 - ctx.dropout))
        of_score = torch.ops.aten._softmax_backward_data(of_weight, weight, -1, weight.dtype)
        width = heads * features
        q = g.new_empty((clips, steps, (3 if ctx.packed else 1) * width))
        if ctx.together:
            inner = g.new_empty((2, *g.shape))
            _product(of_score, key, ctx.scale, out=inner[0])
            _product(of_score.transpose(-2, -1), query, ctx.scale, out=inner[1])
            seen = _stacked(q, heads)
            _rotate(inner, ctx.rotations[0], seen[:2], -1)
            seen[2].copy_(of_value)
            return q, None, None, None, None, None, None
        of_query = _product(of_score, key, ctx.scale)
        of_key = _product(of_score.transpose(-2, -1), query, ctx.scale)
        kv = None if ctx.packed else g.new_empty((clips, key.shape[2], 2 * width))
        parts = (of_query, of_key, of_value)
        for x, rotation, out in zip(parts, (*ctx.rotations, None), _split(q, kv, heads), strict=True):
            _rotate(x, rotation, out, -1)
        return q, kv, None, None, None, None, None
