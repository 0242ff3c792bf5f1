"""Which sound goes with which frame: L_S, a loss that needs no labels.

Every frame must tell the sound of its own instant from the sounds of the same clip's other frames, and
every sound its frame (after Chung & Zisserman, Out of Time, 2016, and Korbar et al., arXiv 1806.11230, with
all negatives from one clip and a softmax over them as in arXiv 1807.03748). Speaker, room and light are the
same for all of a clip's instants, so what moves with the voice is all that helps. It reads the encoders'
output, before any step has seen its neighbours: a Conformer's output may tell an instant by its place alone.

Axes: B clips, T video steps, L audio steps, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPNESS = 10.0  # similarities are cosines times this
FURTHEST_S = 0.05  # a frame without a sound this near has no part


@dataclass
class Matches:
    """Similarities of a clip's frames and sounds.

    Attributes:
        logits: float32 [B,T,T], of each frame to the sound at each frame's instant.
        mask: bool [B,T], the frames that have both a picture and a sound.
        other: bool [B,T,T], whether the two frames' sounds differ; a sound is no negative of itself.
    """

    logits: Tensor
    mask: Tensor
    other: Tensor


class TimeMatch(nn.Module):
    """Projects both modalities and compares them within each clip.

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
        """Features, masks and times in s of both modalities."""
        away = (v_time_BT[:, :, None] - a_time_BL[:, None]).abs()
        distance, nearest = away.masked_fill(~a_mask_BL[:, None], float("inf")).min(dim=2)
        a = a_BLD.gather(1, nearest[..., None].expand(-1, -1, a_BLD.shape[-1]))
        v, a = (F.normalize(p(x).float(), dim=-1) for p, x in ((self.of_video, v_BTD), (self.of_audio, a)))
        return Matches(
            (SHARPNESS * v @ a.transpose(1, 2)).float(),
            v_mask_BT & (distance <= FURTHEST_S),
            nearest[:, :, None] != nearest[:, None],
        )


def match_loss(matches: Matches, counts_B: Tensor) -> Tensor:
    """Cross-entropy both ways over the frames that have a sound, of the clips that count.

    A frame has only the valid frames of its own clip to choose from; zero where there is no frame at all.
    """
    mask_BT = matches.mask & counts_B[:, None]
    same = torch.eye(mask_BT.shape[1], dtype=torch.bool, device=mask_BT.device)
    open_BTT = mask_BT[:, :, None] & mask_BT[:, None] & matches.other | same
    logits = matches.logits.masked_fill(~open_BTT, float("-inf"))
    own = logits.diagonal(dim1=1, dim2=2)
    each_BT = logits.logsumexp(2) + logits.logsumexp(1) - 2 * own
    return 0.5 * torch.where(mask_BT, each_BT, 0.0).sum() / mask_BT.sum().clamp_min(1)
