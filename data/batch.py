"""What the loader hands to the network.

Axes: B clips, T video steps, L log-mel hops, S crop size in px, M mel bands, C classes,
A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch


@dataclass
class Batch:
    """One batch of clips, of static shape; what is missing or padding is masked.

    Attributes:
        frames: float32 [B,T,3,S,S], RGB, about zero mean and unit variance.
        flow: float32 [B,T,2,S,S], px per native frame step in crop pixels; u right, v down.
        logmel: float32 [B,L,M], about zero mean and unit variance.
        video_time: float32 [B,T], s on the clip's media clock.
        audio_time: float32 [B,L], s on the same clock.
        video_mask: bool [B,T], true where the step holds a valid face.
        flow_mask: bool [B,T], true where the flow of the step is valid too.
        audio_mask: bool [B,L], true where the hop holds sound.
        label: int64 [B], class number, -1 where unknown.
        soft: float32 [B,C], target distribution (one-hot where the corpus has none; zeros if unknown).
        attributes: float32 [B,A], in the corpus's range, NaN where missing.
        index: int64 [B], the clip's row in the feature set.
        real: bool [B], false for rows that only fill up the last batch.
    """

    frames: torch.Tensor
    flow: torch.Tensor
    logmel: torch.Tensor
    video_time: torch.Tensor
    audio_time: torch.Tensor
    video_mask: torch.Tensor
    flow_mask: torch.Tensor
    audio_mask: torch.Tensor
    label: torch.Tensor
    soft: torch.Tensor
    attributes: torch.Tensor
    index: torch.Tensor
    real: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __len__(self) -> int:
        return self.label.shape[0]
