"""What the loader hands to the network, and the compact form in which it travels.

Axes: B clips, T video steps, L log-mel hops, H stored and S given crop size in px, M mel bands,
C classes, A attributes, K random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch


@dataclass(kw_only=True)
class ClipInfo:
    """What a batch knows of its clips beside the large fields; the same before and after augmentation.

    Attributes:
        video_time: float32 [B,T], s on the clip's media clock.
        audio_time: float32 [B,L], s on the same clock.
        video_mask: bool [B,T], true where the step holds a valid face.
        flow_mask: bool [B,T], true where the flow of the step is valid too.
        audio_mask: bool [B,L], true where the hop holds sound.
        label: int64 [B], class number, -1 where unknown.
        soft: float32 [B,C], target distribution (one-hot where the corpus has none; zeros if unknown).
        attributes: float32 [B,A], in the corpus's range, NaN where missing.
        index: int64 [B], the clip's row in the feature set; -1 for a filler.
        real: bool [B], false for rows that only fill up the last batch.
    """

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

    def __len__(self) -> int:
        return self.label.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, f.name).nbytes for f in fields(self))


@dataclass(kw_only=True)
class Batch(ClipInfo):
    """One batch of clips as the network reads it, of static shape; what is missing or padding is masked.

    Attributes:
        frames: float32 [B,T,3,S,S], RGB, about zero mean and unit variance.
        flow: float32 [B,T,2,S,S], px per native frame step in crop pixels; u right, v down.
        logmel: float32 [B,L,M], about zero mean and unit variance.
        Others: see `ClipInfo`.
    """

    frames: torch.Tensor
    flow: torch.Tensor
    logmel: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device; itself where it is there already."""
        if self.label.device == torch.device(device):
            return self
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(kw_only=True)
class StoredBatch(ClipInfo):
    """One batch as it is stored and travels; `deiii.data.loader.augment.Augment` makes a `Batch` of it.

    Attributes:
        frames: uint8 [B,T,H,H,3]. flow: int8 or float16 [B,T,H,H,2]. logmel: float16 [B,L,M], dB.
            Empty where the batch comes from resident data or the stream is switched off.
        frame_at, hop_at: int64 [B,T], [B,L]; rows in the resident arrays.
        scale: float32 [B,T], px per step of int8 flow.
        draws: float32 [B,K] in [0,1), the clip's random numbers for augmentation.
        Others: see `ClipInfo`.
    """

    frames: torch.Tensor
    flow: torch.Tensor
    logmel: torch.Tensor
    frame_at: torch.Tensor
    hop_at: torch.Tensor
    scale: torch.Tensor
    draws: torch.Tensor

    def arrays(self) -> dict[str, np.ndarray]:
        """numpy views of the tensors."""
        return {f.name: getattr(self, f.name).numpy() for f in fields(self)}
