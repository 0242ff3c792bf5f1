"""L_S, a loss without labels: match each video step to the audio step of the same time.

Each video step must be matched to the audio step nearest to it in time, among the audio steps that are
nearest to the other video steps of its clip, and each of these audio steps to its video step. Sources: Chung
& Zisserman, "Out of Time", 2016, and Korbar et al., arXiv 1807.00230; here all negatives come from one clip,
with a softmax over them as in arXiv 1807.03748. Speaker, room and light are the same for all steps of a clip,
so only features that change with the voice lower the loss. The loss reads the encoders' output, where no step
depends on its neighbours: in a Conformer's output a step could be recognised by its position alone.

Axes: B clips, T video steps, L audio steps, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPNESS = 10.0  # inverse temperature: logits are cosines times this
FURTHEST_S = 0.05  # a video step without an audio step this near is left out


@dataclass(frozen=True)
class Matches:
    """Similarities between the video steps and the audio steps of each clip.

    Attributes:
        logits: float32 [B,T,T]; row i, column j: video step i with the audio step nearest to video step j.
        mask: bool [B,T], the video steps that are valid and have a valid audio step within `FURTHEST_S`.
        other: bool [B,T,T], whether the audio steps of two video steps differ; an audio step is not a
            negative of itself.
    """

    logits: Tensor
    mask: Tensor
    other: Tensor


class TimeMatch(nn.Module):
    """Projects both modalities and compares them within each clip.

    Args:
        width: D; the projections have half of it.

    >>> yes = torch.ones(2, 8, dtype=torch.bool)
    >>> time = 0.04 * torch.arange(8.0).expand(2, 8)
    >>> TimeMatch(64)(torch.randn(2, 8, 64), yes, time, torch.randn(2, 8, 64), yes, time).logits.shape
    torch.Size([2, 8, 8])
    """

    def __init__(self, width: int):
        super().__init__()
        self.of_video = nn.Linear(width, width // 2)
        self.of_audio = nn.Linear(width, width // 2)

    def forward(
        self, v_BTD: Tensor, v_mask_BT: Tensor, v_time_BT: Tensor,
        a_BLD: Tensor, a_mask_BL: Tensor, a_time_BL: Tensor,
    ) -> Matches:  # fmt: skip
        """Compare features, with masks (bool) and times in s, of both modalities."""
        away = (v_time_BT[:, :, None] - a_time_BL[:, None]).abs()
        distance, nearest = away.masked_fill(~a_mask_BL[:, None], float("inf")).min(dim=2)
        a = a_BLD.gather(1, nearest[..., None].expand(-1, -1, a_BLD.shape[-1]))
        v = F.normalize(self.of_video(v_BTD).float(), dim=-1)
        a = F.normalize(self.of_audio(a).float(), dim=-1)
        return Matches(
            (SHARPNESS * v @ a.transpose(1, 2)).float(),
            v_mask_BT & (distance <= FURTHEST_S),
            nearest[:, :, None] != nearest[:, None],
        )


def match_loss(matches: Matches, counts_B: Tensor) -> Tensor:
    """Return the mean cross-entropy in both directions, video to audio and audio to video.

    The mean is over the valid video steps of the clips where ``counts_B`` (bool [B]) is true; the candidates
    of a step are itself and the valid steps of its clip with another audio step. Without any valid step the
    loss is zero.
    """
    mask_BT = matches.mask & counts_B[:, None]
    same = torch.eye(mask_BT.shape[1], dtype=torch.bool, device=mask_BT.device)
    open_BTT = mask_BT[:, :, None] & mask_BT[:, None] & matches.other | same
    logits = matches.logits.masked_fill(~open_BTT, float("-inf"))
    own = logits.diagonal(dim1=1, dim2=2)
    each_BT = logits.logsumexp(2) + logits.logsumexp(1) - 2 * own
    return 0.5 * torch.where(mask_BT, each_BT, 0.0).sum() / mask_BT.sum().clamp_min(1)
