"""Attention with rotary positions and its backward pass, in few deterministic operations.

It computes what `deiii.model.network.attention.Attention` computes between its projections. Automatic
differentiation of the plain operations takes about 65 launches on a GPU, this about 20: factors, masks and
changes of layout are parts of operations that are needed anyway, and matrix products keep their data type.
The fused kernels of PyTorch take fewer launches, but their backward passes are not deterministic.

Axes: B clips, Q queries, S keys, T either of them, H heads, K features of a head, D = H x K.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deiii.model.network.gpu.heads import put_together, take_apart
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
        hidden_BS: bool, true for masked keys.
        some_B: bool, whether a clip has a key that is not masked; the result is zero where it has none.
        rotations: rotations of the queries and of the keys; the same object twice without ``kv``.
        dropout: probability that an attention weight is dropped.

    >>> attend(torch.zeros(2, 5, 16), torch.zeros(2, 7, 32), heads=2).shape
    torch.Size([2, 5, 16])
    """
    result: Tensor = _Attend.apply(q, kv, heads, hidden_BS, some_B, rotations, dropout)
    return result


def _product(a: Tensor, b: Tensor, factor: float = 1.0, out: Tensor | None = None) -> Tensor:
    """Return ``factor`` times the matrix product of [B,H,I,J] and [B,H,J,L], in ``out`` where it is given."""
    if out is None:
        out = a.new_empty((*a.shape[:-1], b.shape[-1]))
    out.flatten(0, 1).baddbmm_(a.flatten(0, 1), b.flatten(0, 1), beta=0, alpha=factor)
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, heads, hidden, some, rotations, dropout):
        ctx.heads, ctx.dropout = heads, dropout
        of_queries, of_keys = ctx.rotations = rotations or (None, None)
        ctx.packed = kv is None
        with torch.autocast(q.device.type, enabled=False):
            if kv is None:  # queries and keys of the same steps are rotated together
                query, key, value = take_apart(q, 3, heads, of_queries, 2).unbind()
            else:
                (query,) = take_apart(q, 1, heads, of_queries, 1).unbind()
                key, value = take_apart(kv, 2, heads, of_keys, 1).unbind()
            ctx.scale = query.shape[-1] ** -0.5
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
        g = torch.empty_like(query)
        split = gradient.unflatten(-1, (ctx.heads, -1)).transpose(1, 2)
        if some is None:
            g.copy_(split)
        else:
            torch.mul(split, some[:, None, None, None], out=g)
        of_weight = _product(g, value.transpose(-2, -1))
        if kept is not None:
            of_weight = torch.ops.aten.native_dropout_backward(of_weight, kept, 1 / (1 - ctx.dropout))
        of_score = torch.ops.aten._softmax_backward_data(of_weight, weight, -1, weight.dtype)
        of_queries, of_keys = ctx.rotations
        parts = g.new_empty((3 if ctx.packed else 2, *key.shape))
        of_query = parts[0] if ctx.packed else torch.empty_like(query)
        _product(of_score, key, ctx.scale, out=of_query)
        _product(of_score.transpose(-2, -1), query, ctx.scale, out=parts[-2])
        _product(given.transpose(-2, -1), g, out=parts[-1])
        if ctx.packed:
            return put_together(parts, of_queries, 2), None, None, None, None, None, None
        q = put_together(of_query[None], of_queries, 1)
        return q, put_together(parts, of_keys, 1), None, None, None, None, None
