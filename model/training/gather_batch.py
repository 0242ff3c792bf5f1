"""Join the parts of a batch that the ranks hold: outputs and truth, in the order of the global batch.

Axes: B clips of one rank, W ranks, C classes, A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deiii.data.loader.batch import Batch
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.heads import Outputs, Scores
from deiii.model.network.time_match import Matches


@dataclass(frozen=True)
class Truth:
    """The truth of N clips that a loss and a score need.

    Attributes:
        label: int64 [N], class number, -1 where unknown.
        soft: float32 [N,C], target distribution; zero where the clip has no label.
        attributes: float32 [N,A], NaN where unknown.
        index: int64 [N], row of the feature set, -1 where the row only fills the batch.
        real: bool [N], false where the row only fills the batch.

    Raises:
        ValueError: the tensors have different numbers of rows.
    """

    label: Tensor
    soft: Tensor
    attributes: Tensor
    index: Tensor
    real: Tensor

    def __post_init__(self) -> None:
        shapes = {name: list(value.shape) for name, value in vars(self).items()}
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise ValueError(f"the truth of a batch needs one row per clip in every field, not {shapes}")

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={list(value.shape)}" for name, value in vars(self).items())
        return f"Truth({shapes})"


def truth_of(batch: Batch) -> Truth:
    """Return the truth of a batch."""
    return Truth(batch.label, batch.soft, batch.attributes, batch.index, batch.real)


def gather_batch(ranks: Ranks, outputs: Outputs, batch: Batch) -> tuple[Outputs, Truth]:
    """Return every rank's clips on every rank.

    A loss that every rank then computes over all clips is that of one process, means, CCC and class weights
    included. In the backward pass each rank's part receives W times its gradient; the mean over ranks that
    `DistributedDataParallel` takes divides by W again.

    It takes two exchanges between the ranks, three with L_S. A single process exchanges nothing.
    """
    if ranks.alone:
        return outputs, truth_of(batch)
    columns: list[Tensor] = [batch.real[:, None], batch.soft, batch.attributes]
    for scores in outputs.heads().values():
        columns.append(scores.present[:, None])
        columns += [x for x in (scores.logits, scores.attributes) if x is not None]
    sent = ranks.whole(torch.cat([x.float() for x in columns], dim=1))
    received = list(sent.split([x.shape[1] for x in columns], dim=1))
    label, index = ranks.whole(torch.stack((batch.label, batch.index), dim=1)).unbind(1)
    real, soft, attributes = received[:3]
    truth = Truth(label, soft.detach(), attributes.detach(), index, real[:, 0] > 0)
    rest = iter(received[3:])
    heads = {}
    for name, scores in outputs.heads().items():
        present = next(rest)[:, 0] > 0
        logits = next(rest) if scores.logits is not None else None
        heads[name] = Scores(logits, next(rest) if scores.attributes is not None else None, present)
    fused = heads.pop("fused")
    return Outputs(fused, **heads, matches=whole_matches(ranks, outputs.matches)), truth


def whole_matches(ranks: Ranks, matches: Matches | None) -> Matches | None:
    """Return the matches of the clips of all ranks, the input of the loss L_S; ``None`` without matches."""
    if matches is None:
        return None
    fields = (matches.logits, matches.mask, matches.other)
    sent = ranks.whole(torch.cat([x.float().flatten(1) for x in fields], dim=1))
    received = sent.split([x[0].numel() for x in fields], dim=1)
    logits, mask, other = (p.unflatten(1, x.shape[1:]) for p, x in zip(received, fields, strict=True))
    return Matches(logits, mask > 0, other > 0)
