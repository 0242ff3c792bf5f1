"""Layers whose statistics or random numbers are those of the whole batch.

On several ranks they give the result of one process.

In a single process (``ranks`` is ``None``) each is the PyTorch layer of its name, with the same parameters.
Axes: B clips, N images, C channels, H, W (here: height and width).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deiii.model.distributed.ranks import Ranks


class RankAware:
    """Base of a layer that exchanges with the other ranks.

    Attributes:
        ranks: set by `connect`; ``None`` in a single process.
    """

    ranks: Ranks | None = None


def connect(model: nn.Module, ranks: Ranks) -> None:
    """Give a network's layers the ranks, so that they act on the global batch."""
    for module in model.modules():
        if isinstance(module, RankAware):
            module.ranks = None if ranks.alone else ranks


class Dropout(RankAware, nn.Dropout):
    """Dropout; on several ranks each clip gets the mask that one process on the same device would give it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.ranks is None or not self.training or not self.p:
            return super().forward(x)
        return x * dropout_mask(x, self.p, self.ranks)


def dropout_mask(x: Tensor, p: float, ranks: Ranks) -> Tensor:
    """Return this rank's part of a dropout mask for the global batch: 0 or 1/(1-p), in the shape of ``x``.

    All ranks generate the same numbers (`deiii.model.distributed.devices.seed_all`): W times the work, but on
    small tensors.
    """
    return ranks.own(F.dropout(x.new_ones((len(x) * ranks.world, *x.shape[1:])), p))


class BatchNorm2d(RankAware, nn.BatchNorm2d):
    """Batch normalisation; with ``weight_N``, float32 [N], the statistics are weighted and over all ranks.

    In a single process ``weight_N`` has no effect on the output, and a batch whose weights are all zero
    leaves the running statistics as they are.

    Attributes:
        counts: whether the layer counts its batches itself; see `count_together`.
    """

    counts = True

    def forward(self, x: Tensor, weight_N: Tensor | None = None) -> Tensor:
        if self.training and self.ranks is None and weight_N is not None and self.momentum is not None:
            return self._move_if(weight_N.any(), x)
        if self.training and self.single_process():
            return self._of_batch(x, self.bias)
        if self.ranks is None or weight_N is None or not self.training:
            return super().forward(x)
        return normalise(x, weight_N[:, None, None, None], self, self.ranks)

    def single_process(self) -> bool:
        """Return whether the statistics are those of one process, and `count_together` counts the batches."""
        return not self.counts and self.momentum is not None and self.ranks is None

    def with_offset(self, x: Tensor, offset: Tensor) -> Tensor:
        """Normalise a batch in training and add ``offset``, [C]; only where `single_process` is true."""
        return self._of_batch(x, self.bias + offset)

    def _move_if(self, valid: Tensor, x: Tensor) -> Tensor:
        """Normalise a batch in training; the running statistics move where ``valid``, bool [], is true.

        This can be compiled, which `statistics_of_valid` cannot: the backward pass keeps copies of the
        running statistics, so that they may be written to after the normalisation.
        """
        running = [self.running_mean, self.running_var]
        mean, variance = (None if r is None else r.clone() for r in running)
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
        with torch.no_grad():
            for kept, moved in zip(running, (mean, variance), strict=True):
                if kept is not None and moved is not None:
                    kept.copy_(torch.where(valid, moved, kept))
            if self.counts and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return y

    def _of_batch(self, x: Tensor, bias: Tensor) -> Tensor:
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, bias, True, momentum, self.eps
        )


def count_together(model: nn.Module) -> list[Tensor]:
    """Stop a network's `BatchNorm2d` layers from counting batches; returns their counters, int64 [] each.

    The training step then adds one to all counters after each batch, in one launch on a GPU. Layers that are
    connected to other ranks continue to count.
    """
    layers = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    counters = []
    for layer in layers:
        if layer.ranks is None and layer.momentum is not None and layer.num_batches_tracked is not None:
            layer.counts = False
            counters.append(layer.num_batches_tracked)
    return counters


@contextmanager
def statistics_of_valid(model: nn.Module, valid: Tensor) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they were before a block without a valid input.

    Args:
        model: network with the batch normalisation.
        valid: bool [], whether the block has a valid input; the tensor stays on its device.

    >>> norm = BatchNorm2d(1)
    >>> with statistics_of_valid(norm, torch.tensor(False)):
    ...     _ = norm(torch.ones(2, 1, 3, 3))
    >>> norm.running_mean
    tensor([0.])
    """
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    running = [x for layer in layers for x in (layer.running_mean, layer.running_var) if x is not None]
    if not model.training or not running:
        yield
        return
    before = torch.cat(running)  # all in one tensor: on a GPU a few launches, however many layers there are
    yield
    kept = torch.where(valid, torch.cat(running), before).split([len(x) for x in running])
    # Autograd has saved these tensors, but the backward pass in training does not read them. Writing to
    # ``data`` avoids the error that autograd raises for a saved tensor that was changed.
    torch._foreach_copy_([x.data for x in running], kept)


def normalise(x: Tensor, share: Tensor, layer: nn.BatchNorm2d, ranks: Ranks) -> Tensor:
    """Normalise a batch with weighted statistics over all ranks; returns [B,C,H,W] in the dtype of x.

    Args:
        x: [B,C,H,W], this rank's part of the batch.
        share: float32, broadcastable to [B,1,H,W]; the weight of each place in the statistics.
        layer: layer with the scale, the offset and the running statistics, which are updated.
        ranks: the processes that share the batch.
    """
    clips, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):
        # No copy is made if channels are stored last.
        flat = x.float().permute(0, 2, 3, 1).reshape(-1, channels)
        weight = share.expand(clips, 1, height, width).permute(0, 2, 3, 1).reshape(1, -1)
        y, mean, variance, count = _Normalise.apply(flat, weight, layer.weight, layer.bias, layer.eps, ranks)
    update_statistics(layer, mean, variance, count)
    return y.view(clips, height, width, channels).permute(0, 3, 1, 2).to(x.dtype)


@torch.no_grad()
def update_statistics(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Move a layer's running statistics towards a batch's mean and (biased) variance, float32 [C].

    A batch in which every place is masked changes only the number of batches.

    Args:
        layer: the layer.
        mean, variance: float32 [C].
        count: float32 [], sum of the weights of the places in the batch.

    Raises:
        TypeError: the layer keeps no running statistics.
    """
    running_mean, running_var, batches = layer.running_mean, layer.running_var, layer.num_batches_tracked
    if running_mean is None or running_var is None or batches is None or layer.momentum is None:
        raise TypeError(f"{layer} keeps no running statistics")
    batches.add_(1)
    momentum = layer.momentum * count.clamp_max(1.0)  # 0 where the batch has nothing valid
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * count / (count - 1).clamp_min(1.0), momentum)


class _Normalise(torch.autograd.Function):
    """Batch normalisation (Ioffe & Szegedy, arXiv 1502.03167) with weighted sums over all ranks.

    Ranks exchange counts, means and squared deviations, which combine without cancellation (Chan, Golub and
    LeVeque 1979). Axes: N places of images, C channels.
    """

    @staticmethod
    def forward(ctx, x_NC, weight_1N, scale, offset, eps, ranks):
        own = weight_1N.sum().clamp_min(1e-12)
        mean = (weight_1N @ x_NC)[0] / own
        deviations = (weight_1N @ (x_NC - mean).square())[0]
        every = ranks.gather(torch.cat((weight_1N.sum()[None], mean, deviations)))
        counts = every[:, :1]
        means, squares = every[:, 1:].chunk(2, dim=1)
        total = counts.sum()
        count = total.clamp_min(1.0)
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        inverse = (variance + eps).rsqrt()
        ctx.ranks = ranks
        ctx.save_for_backward(x_NC, weight_1N, scale, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance, total)
        y = torch.addcmul(offset - mean * inverse * scale, x_NC, inverse * scale)
        return y, mean, variance, total

    @staticmethod
    def backward(ctx, dy, *_):
        x, weight, scale, mean, inverse, count = ctx.saved_tensors
        normal = (x - mean) * inverse
        sums = torch.stack((dy.sum(0), (dy * normal).sum(0)))
        whole = ctx.ranks.sum_(sums.clone()) / count
        dx = (dy - weight[0, :, None] * torch.addcmul(whole[0], normal, whole[1])) * (scale * inverse)
        return dx, None, sums[1], sums[0], None, None
