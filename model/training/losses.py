"""L = L_F + w_V L_V + w_A L_A, each from classes, attributes or both, and w_S L_S where it is on.

Rows that only fill up a batch, clips without a label and clips without a head's modality weigh
nothing. Nothing here waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deiii.data.loader.batch import Batch
from deiii.model.network.deiii import Outputs, Scores
from deiii.model.network.time_match import match_loss
from deiii.model.training.gather_batch import Truth


def total_loss(
    outputs: Outputs,
    batch: Batch | Truth,
    *,
    w_video: float = 0.3,
    w_audio: float = 0.3,
    w_match: float = 0.5,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss and its parts by head name (detached scalars); ``match`` is L_S."""
    weights = {"fused": 1.0, "video": w_video, "audio": w_audio, "match": w_match}
    parts = {
        name: head_loss(scores, batch, label_smoothing, class_weights)
        for name, scores in outputs.heads().items()
    }
    if outputs.matches is not None:
        parts["match"] = match_loss(outputs.matches, batch.real)
    loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return loss, {name: part.detach() for name, part in parts.items()}


def head_loss(
    scores: Scores, batch: Batch | Truth, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Cross-entropy, the attributes' sum of 1 - CCC, or both, over the clips this head can judge."""
    counts = batch.real & scores.present
    loss = counts.new_zeros((), dtype=torch.float32)
    if scores.logits is not None:
        loss = loss + class_loss(scores.logits, batch.soft, counts, label_smoothing, class_weights)
    if scores.attributes is not None:
        loss = loss + ccc_loss(scores.attributes, batch.attributes, counts)
    return loss


def class_loss(
    logits_BC: Tensor,
    soft_BC: Tensor,
    counts_B: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with soft targets, averaged over the clips that count and have a target.

    With ``class_weights`` [C] each clip weighs as much as its target's classes do on average, as in
    `torch.nn.CrossEntropyLoss`.
    """
    target = soft_BC.float()
    weight_B = (counts_B & (target.sum(dim=1) > 0)).float()
    if class_weights is not None:
        weight_B = weight_B * (target @ class_weights)
    target = target * (1 - label_smoothing) + label_smoothing / target.shape[1]
    each_B = -(target * logits_BC.float().log_softmax(dim=1)).sum(dim=1)
    # where, not a product: what a row that does not count holds must not reach the loss, NaN included
    each_B = torch.where(weight_B > 0, each_B, 0.0)
    return (weight_B * each_B).sum() / weight_B.sum().clamp_min(1e-6)


def ccc_loss(predicted_BA: Tensor, target_BA: Tensor, counts_B: Tensor) -> Tensor:
    """Sum over the attributes of 1 - CCC (Lin 1989), each over the clips where it is known.

    An attribute known for fewer than two clips of the batch adds nothing.
    """
    known = counts_B[:, None] & ~target_BA.isnan()
    n = known.sum(dim=0)
    x = torch.where(known, predicted_BA.float(), 0.0)
    y = torch.where(known, target_BA.float(), 0.0)
    share = n.clamp_min(1)
    mean_x, mean_y = x.sum(dim=0) / share, y.sum(dim=0) / share
    dx, dy = torch.where(known, x - mean_x, 0.0), torch.where(known, y - mean_y, 0.0)
    covariance = (dx * dy).sum(dim=0) / share
    spread = (dx * dx).sum(dim=0) / share + (dy * dy).sum(dim=0) / share + (mean_x - mean_y) ** 2
    ccc = 2 * covariance / (spread + 1e-8)
    return torch.where(n >= 2, 1 - ccc, 0.0).sum()


def inverse_frequency(soft_NC: Tensor) -> Tensor:
    """Class weights [C] for targets [N,C] of the training clips: inverse frequency, mean one over clips.

    A class that no clip has weighs nothing.
    """
    count = soft_NC.float().sum(dim=0)
    seen = count > 0
    return torch.where(seen, count.sum() / (seen.sum() * count.clamp_min(1e-6)), 0.0)
