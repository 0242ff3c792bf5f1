"""Mixup: pairs of clips blended together with their targets (Zhang et al. 2018, arXiv 1710.09412)."""

from __future__ import annotations

from dataclasses import replace

import torch

from data.batch import Batch


def mixup(batch: Batch, alpha: float) -> Batch:
    """Each clip blended with another of the batch, by one share drawn from Beta(alpha, alpha).

    The larger share, times and presence stay the clip's own, so what it lacks it does not get; where only
    the partner is valid there is nothing, where only the clip is, the partner counts as zeros. Clips
    without a target, and fillers, are left alone and lend nothing.

    >>> mixup(batch, alpha=0.2)  # doctest: +SKIP
    """
    if alpha <= 0:
        return batch
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    share = max(share, 1 - share)
    other = torch.randperm(len(batch), device=batch.label.device)
    known = batch.real & (batch.soft.sum(dim=1) > 0)
    fits = known & known[other]
    keep = torch.where(fits, share, 1.0)

    def blend(x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        weight = keep.view(-1, *[1] * (x.ndim - 1))
        partner = x[other]
        if mask is not None:
            partner = partner * mask[other].view(*mask.shape, *[1] * (x.ndim - 2))
        return torch.where(weight < 1, weight * x + (1 - weight) * partner, x)

    return replace(
        batch,
        frames=blend(batch.frames, batch.video_mask),
        flow=blend(batch.flow, batch.flow_mask),
        logmel=blend(batch.logmel, batch.audio_mask),
        soft=blend(batch.soft),
        attributes=blend(batch.attributes),
    )
