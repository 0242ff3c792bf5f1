"""One batch out of the ranks' parts: what the heads say and what is true, in the order of the global batch.

Axes: B clips of one rank, W ranks, C classes, A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deiii.data.loader.batch import Batch
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.deiii import Outputs, Scores
from deiii.model.network.time_match import Matches


@dataclass
class Truth:
    """What a loss and a score need to know of the clips; see `ClipInfo` for the fields."""

    label: Tensor
    soft: Tensor
    attributes: Tensor
    index: Tensor
    real: Tensor


def gather_batch(ranks: Ranks, outputs: Outputs, batch: Batch) -> tuple[Outputs, Batch | Truth]:
    """Every rank's clips on every rank, in two exchanges, three with L_S; alone, what came in.

    A loss that every rank then computes over all clips is that of one process, means, CCC and class weights
    included. Backwards each rank's part receives W times its gradient, which the mean over ranks that
    `DistributedDataParallel` takes makes right again.
    """
    if ranks.world == 1:
        return outputs, batch
    columns: list[Tensor] = [batch.real[:, None], batch.soft, batch.attributes]
    for scores in outputs.heads().values():
        columns.append(scores.present[:, None])
        columns += [x for x in (scores.logits, scores.attributes) if x is not None]
    sent = ranks.whole(torch.cat([x.float() for x in columns], dim=1))
    parts = list(sent.split([x.shape[1] for x in columns], dim=1))
    label, index = ranks.whole(torch.stack((batch.label, batch.index), dim=1)).unbind(1)
    real, soft, attributes = parts[:3]
    truth = Truth(label, soft.detach(), attributes.detach(), index, real[:, 0] > 0)
    rest, heads = iter(parts[3:]), {}
    for name, scores in outputs.heads().items():
        present = next(rest)[:, 0] > 0
        logits = next(rest) if scores.logits is not None else None
        heads[name] = Scores(logits, next(rest) if scores.attributes is not None else None, present)
    return Outputs(**heads, matches=whole_matches(ranks, outputs.matches)), truth


def whole_matches(ranks: Ranks, matches: Matches | None) -> Matches | None:
    """What L_S reads, of every rank's clips."""
    if matches is None:
        return None
    fields = (matches.logits, matches.mask, matches.other)
    sent = ranks.whole(torch.cat([x.float().flatten(1) for x in fields], dim=1))
    parts = sent.split([x[0].numel() for x in fields], dim=1)
    logits, mask, other = (p.unflatten(1, x.shape[1:]) for p, x in zip(parts, fields, strict=True))
    return Matches(logits, mask > 0, other > 0)
