"""The training loss: L = L_F + w_V L_V + w_A L_A + w_S L_S.

L_F, L_V and L_A are the losses of the fused, the video and the audio head, each from classes, attributes or
both; L_S is `deiii.model.network.time_match.match_loss`, where it is on. Rows that only fill a batch, clips
without a label and clips without a head's modality have no weight. No function waits for the device.

Axes: B clips, C classes, A attributes, N training clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deiii.data.loader.batch import Batch
from deiii.model.network.heads import Outputs, Scores
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
    clip_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the training loss, and its terms by head name (detached scalars); ``match`` is L_S.

    Args:
        outputs: outputs of the network.
        batch: the truth of the same clips.
        w_video, w_audio, w_match: weights of L_V, L_A and L_S.
        label_smoothing: share of the target that is spread over all classes, 0 to 1.
        class_weights: float32 [C], or ``None`` for equal weights.
        clip_weights: float32 [N] of the rows of the feature set, in the losses of classes; or ``None`` for
            equal weights.

    >>> loss, terms = total_loss(network(batch), batch)   # doctest: +SKIP
    """
    weights = {"fused": 1.0, "video": w_video, "audio": w_audio, "match": w_match}
    heads = outputs.heads()
    each_H = head_losses(list(heads.values()), batch, label_smoothing, class_weights, clip_weights)
    terms = dict(zip(heads, each_H.unbind(), strict=True))
    if outputs.matches is not None:
        terms["match"] = match_loss(outputs.matches, batch.real)
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return loss, {name: term.detach() for name, term in terms.items()}


def head_losses(
    heads: Sequence[Scores],
    batch: Batch | Truth,
    label_smoothing: float,
    class_weights: Tensor | None,
    clip_weights: Tensor | None = None,
) -> Tensor:
    """Return the loss of each of H heads, float32 [H], over the clips that have what the head reads.

    It is the cross-entropy of the classes, the sum of 1 - CCC over the attributes, or the sum of both. All
    heads predict the same classes and attributes, so their losses are computed together.

    Args:
        heads: outputs of each head.
        batch, label_smoothing, class_weights, clip_weights: arguments of `total_loss`.
    """
    counts_HB = batch.real & torch.stack([scores.present for scores in heads])
    logits = [scores.logits for scores in heads if scores.logits is not None]
    attributes = [scores.attributes for scores in heads if scores.attributes is not None]
    losses = []
    if logits:
        # Rows that only fill the batch have the index -1; `counts_HB` excludes them, whatever weight they
        # get.
        own_B = None if clip_weights is None else clip_weights[batch.index]
        scores = torch.stack(logits)
        losses.append(class_loss(scores, batch.soft, counts_HB, label_smoothing, class_weights, own_B))
    if attributes:
        losses.append(ccc_loss(torch.stack(attributes), batch.attributes, counts_HB))
    if not losses:
        return counts_HB.new_zeros(len(heads), dtype=torch.float32)
    return losses[0] if len(losses) == 1 else losses[0] + losses[1]


def class_loss(
    logits_BC: Tensor,
    soft_BC: Tensor,
    counts_B: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    clip_weights_B: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy with soft targets, averaged over the clips that count and have a target.

    With ``class_weights`` [C] the weight of a clip is the mean weight of the classes in its target. The
    average is weighted by the product of both weights. For hard labels without label smoothing the result is
    that of `torch.nn.CrossEntropyLoss`. With class weights, PyTorch's differs for soft targets and with
    smoothing.

    Args:
        logits_BC: float [B,C], or [H,B,C] of several heads, each of which has a loss of its own.
        soft_BC: float [B,C], target distributions; zero where a clip has no label.
        counts_B: bool [B] or [H,B], the clips that count.
        label_smoothing: share of the target that is spread over all classes, 0 to 1.
        class_weights: float32 [C], or ``None`` for equal weights.
        clip_weights_B: float32 [B], or ``None`` for equal weights.

    Returns:
        float32 [], or [H] for several heads; 0 where no clip counts.
    """
    target = soft_BC.float()
    weight_B = (counts_B & (target.sum(dim=1) > 0)).float()
    if class_weights is not None:
        weight_B = weight_B * (target @ class_weights)
    if clip_weights_B is not None:
        weight_B = weight_B * clip_weights_B
    target = target * (1 - label_smoothing) + label_smoothing / target.shape[1]
    each_B = -(target * logits_BC.float().log_softmax(dim=-1)).sum(dim=-1)
    # torch.where instead of a product: 0 * NaN is NaN, and rows that do not count may hold NaN.
    each_B = torch.where(weight_B > 0, each_B, 0.0)
    return (weight_B * each_B).sum(dim=-1) / weight_B.sum(dim=-1).clamp_min(1e-6)


def ccc_loss(predicted_BA: Tensor, target_BA: Tensor, counts_B: Tensor) -> Tensor:
    """Return the sum over the attributes of 1 - CCC (Lin 1989, Biometrics 45:255).

    The CCC of an attribute is over the clips that count and whose target is known. An attribute that is known
    for fewer than two clips of the batch adds nothing.

    Args:
        predicted_BA: float [B,A], or [H,B,A] of several heads, each of which has a loss of its own.
        target_BA: float [B,A], NaN where unknown.
        counts_B: bool [B] or [H,B], the clips that count.

    Returns:
        float32 [], or [H] for several heads.
    """
    known = counts_B[..., None] & ~target_BA.isnan()
    n = known.sum(dim=-2)
    x = torch.where(known, predicted_BA.float(), 0.0)
    y = torch.where(known, target_BA.float(), 0.0)
    share = n.clamp_min(1)
    mean_x, mean_y = x.sum(dim=-2) / share, y.sum(dim=-2) / share
    dx = torch.where(known, x - mean_x[..., None, :], 0.0)
    dy = torch.where(known, y - mean_y[..., None, :], 0.0)
    covariance = (dx * dy).sum(dim=-2) / share
    spread = (dx * dx).sum(dim=-2) / share + (dy * dy).sum(dim=-2) / share + (mean_x - mean_y) ** 2
    ccc = 2 * covariance / (spread + 1e-8)
    return torch.where(n >= 2, 1 - ccc, 0.0).sum(dim=-1)


def inverse_frequency(soft_NC: Tensor) -> Tensor:
    """Return class weights, float32 [C], from targets, float [N,C].

    They are the inverse frequencies of the classes, with mean 1 over the clips. A class without clips has the
    weight zero.
    """
    count = soft_NC.float().sum(dim=0)
    seen = count > 0
    return torch.where(seen, count.sum() / (seen.sum() * count.clamp_min(1e-6)), 0.0)
