"""Layers that see the whole batch, or draw lots for it: over several ranks they act as one process would.

Alone (``ranks`` is ``None``) each is the PyTorch layer of its name, with the same parameters.
Axes: B clips, N images, C channels, H, W (here: height and width).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deiii.model.distributed.ranks import Ranks


class RankAware:
    """A layer that knows the other ranks; `connect` tells it."""

    ranks: Ranks | None = None


def connect(model: nn.Module, ranks: Ranks) -> None:
    """Make a network's layers act on the whole of every batch, of which each rank holds a part."""
    for module in model.modules():
        if isinstance(module, RankAware):
            module.ranks = ranks if ranks.world > 1 else None


class Dropout(RankAware, nn.Dropout):
    """Dropout; over several ranks each clip's mask is the one it gets in one process on the same device."""

    def forward(self, x: Tensor) -> Tensor:
        if self.ranks is None or not self.training or not self.p:
            return super().forward(x)
        return x * kept(x, self.p, self.ranks)


def kept(x: Tensor, p: float, ranks: Ranks) -> Tensor:
    """This rank's part of a dropout mask for the global batch: 0 or 1/(1-p), in the shape of ``x``.

    All ranks draw the same numbers (`deiii.model.distributed.devices.seed_all`); that is W times the work,
    on small tensors.
    """
    return ranks.own(F.dropout(x.new_ones((len(x) * ranks.world, *x.shape[1:])), p))


class BatchNorm2d(RankAware, nn.BatchNorm2d):
    """Batch normalisation; with ``weight_N`` its statistics are all ranks' and weigh each image."""

    def forward(self, x: Tensor, weight_N: Tensor | None = None) -> Tensor:
        if self.ranks is None or weight_N is None or not self.training:
            return super().forward(x)
        return normalise(x, weight_N[:, None, None, None], self, self.ranks)


def normalise(x: Tensor, share: Tensor, layer: nn.BatchNorm2d, ranks: Ranks) -> Tensor:
    """Batch normalisation whose statistics are over all ranks, each place weighing its share.

    Args:
        x: [B,C,H,W]; share: float32, broadcastable to [B,1,H,W].
        layer: its scale, offset and running statistics, which are updated.
    """
    b, c, h, w = x.shape
    with torch.autocast(x.device.type, enabled=False):
        flat = x.float().permute(0, 2, 3, 1).reshape(-1, c)  # no copy where channels come last
        weight = share.expand(b, 1, h, w).permute(0, 2, 3, 1).reshape(1, -1)
        y, mean, variance, count = _Normalise.apply(flat, weight, layer.weight, layer.bias, layer.eps, ranks)
    with torch.no_grad():
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * count / (count - 1).clamp_min(1.0), layer.momentum)
    return y.view(b, h, w, c).permute(0, 3, 1, 2).to(x.dtype)


class _Normalise(torch.autograd.Function):
    """Both passes of Ioffe & Szegedy (arXiv 1502.03167), with sums that are weighted and over all ranks.

    Ranks exchange counts, means and squared deviations, which combine without cancellation (Chan, Golub and
    LeVeque 1979). Here N counts places of images.
    """

    @staticmethod
    def forward(ctx, x_NC, weight_1N, scale, offset, eps, ranks):
        own = weight_1N.sum().clamp_min(1e-12)
        mean = (weight_1N @ x_NC)[0] / own
        deviations = (weight_1N @ (x_NC - mean).square())[0]
        parts = ranks.gather(torch.cat((weight_1N.sum()[None], mean, deviations)))
        counts, means, squares = parts[:, :1], *parts[:, 1:].chunk(2, dim=1)
        count = counts.sum().clamp_min(1.0)
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        inverse = (variance + eps).rsqrt()
        ctx.ranks = ranks
        ctx.save_for_backward(x_NC, weight_1N, scale, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        y = torch.addcmul(offset - mean * inverse * scale, x_NC, inverse * scale)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx, dy, *_):
        x, weight, scale, mean, inverse, count = ctx.saved_tensors
        normal = (x - mean) * inverse
        sums = torch.stack((dy.sum(0), (dy * normal).sum(0)))
        whole = ctx.ranks.sum_(sums.clone()) / count
        dx = (dy - weight[0, :, None] * torch.addcmul(whole[0], normal, whole[1])) * (scale * inverse)
        return dx, None, sums[1], sums[0], None, None
