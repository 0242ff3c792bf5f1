"""Audio encoders: convolutions on log-mel that divide time by four; masked hops are left out of statistics.

Axes: B clips, L log-mel hops, M mel bands, C channels, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deiii.model.distributed.layers import RankAware, normalise, update_statistics
from deiii.model.network.gpu.fill import fill
from deiii.model.network.gpu.masked_norm import kernels_for, masked_norm


class AudioEncoder(nn.Module):
    """Two convolutions that divide time and frequency of log-mel by four.

    Masked hops enter every convolution as zeros, exactly like the border of a shorter clip.

    Args:
        n_mels: M.
        width: D.

    >>> mask = torch.ones(2, 160, dtype=torch.bool)
    >>> AudioEncoder(80, width=64)(torch.zeros(2, 160, 80), mask).shape
    torch.Size([2, 40, 64])
    """

    def __init__(self, n_mels: int, width: int):
        super().__init__()
        inner = max(16, width // 2)
        self.first = nn.Conv2d(1, inner // 2, (5, 5), stride=(2, 2), padding=(2, 2))
        self.second = nn.Conv2d(inner // 2, inner, (3, 3), stride=(2, 2), padding=(1, 1))
        self.project = nn.Linear(inner * -(-n_mels // 4), width)
        self.norm = nn.LayerNorm(width)

    def forward(self, logmel_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        """Encode [B,L,M] with its mask, bool [B,L], as [B,ceil(L/4),D]; step i is centred on hop 4i."""
        x = logmel_BLM.masked_fill(~mask_BL[..., None], 0.0)[:, None]
        x = torch.relu(fill(self.first(x), ~mask_BL[:, None, ::2, None]))
        x = torch.relu(self.second(x))
        return self.norm(self.project(x.permute(0, 2, 3, 1).flatten(2)))


class DeepAudioEncoder(nn.Module):
    """A residual CNN that divides time by four, and frequency by two in the stem and in every stage.

    Use it for real voices, on which `AudioEncoder` scored lower in trials (docs/science.md). Masked hops
    enter every convolution as zeros and are left out of the batch's statistics.

    Args:
        n_mels: M.
        width: D.
        channels: channels of the stem and of each stage after it; two or more numbers.
        deltas: give the stem the change over `DELTA` hops on either side as a second input.

    >>> mask = torch.ones(2, 160, dtype=torch.bool)
    >>> DeepAudioEncoder(80, 64, [16, 24, 48])(torch.zeros(2, 160, 80), mask).shape
    torch.Size([2, 40, 64])
    """

    DELTA = 2

    def __init__(self, n_mels: int, width: int, channels: list[int], deltas: bool = False):
        super().__init__()
        self.deltas = deltas
        self.stem = nn.Conv2d(1 + deltas, channels[0], 5, stride=2, padding=2, bias=False)
        self.stem_norm = MaskedBatchNorm(channels[0])
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.stages = nn.ModuleList(AudioResidual(a, b, 1 if i else 2) for i, (a, b) in enumerate(pairs))
        bands = -(-n_mels // 2 ** len(channels))
        self.project = nn.Linear(channels[-1] * bands, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, logmel_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        """Encode [B,L,M] with its mask, bool [B,L], as [B,ceil(L/4),D]; step i is centred on hop 4i."""
        half, quarter = (mask_BL[:, ::k, None].unsqueeze(1) for k in (2, 4))
        x = logmel_BLM.masked_fill(~mask_BL[..., None], 0.0)[:, None]
        if self.deltas:
            x = torch.cat((x, self._change(x, mask_BL)), dim=1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        x = self.stem_norm.then_relu(x, half)
        for stage in self.stages:
            x = stage(x, quarter)
        return self.norm(self.project(x.permute(0, 2, 3, 1).flatten(2)))

    def _change(self, x_B1LM: Tensor, mask_BL: Tensor) -> Tensor:
        """Return twice the difference over DELTA hops to either side; zero where one of them is masked."""
        n = self.DELTA
        change = torch.zeros_like(x_B1LM)
        both = mask_BL[:, 2 * n :] & mask_BL[:, : -2 * n]
        step = 2 * (x_B1LM[:, :, 2 * n :] - x_B1LM[:, :, : -2 * n])
        change[:, :, n:-n] = step.masked_fill(~both[:, None, :, None], 0.0)
        return change


class AudioResidual(nn.Module):
    """Two 3x3 convolutions beside a 1x3 shortcut; halves frequency, and time where ``stride`` is 2.

    Maps are [B,C,L,M]. The mask, bool [B,1,L,1], is that of the output; masked places of the output are zero.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=(stride, 2), padding=1, bias=False)
        self.first_norm = MaskedBatchNorm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = MaskedBatchNorm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, (1, 3), stride=(stride, 2), padding=(0, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.first_norm.then_relu(self.first(x), mask)
        return self.second_norm.then_relu(self.second(y), mask, (self.shortcut, x))


class MaskedBatchNorm(RankAware, nn.BatchNorm2d):
    """Batch normalisation of [B,C,L,M] with statistics over the valid steps alone.

    Source: Ioffe & Szegedy 2015, arXiv 1502.03167; with masks, and over all ranks.
    """

    def then_relu(self, x: Tensor, mask: Tensor, beside: tuple[nn.Conv2d, Tensor] | None = None) -> Tensor:
        """Return relu(norm(x)), with zeros at masked steps.

        Args:
            x: [B,C,L,M].
            mask: bool [B,1,L,1], true for valid steps.
            beside: a convolution and its input; its result is added before the ReLU.
        """
        kernels = kernels_for(x, self) if self.training and self.ranks is None else None
        if kernels is None:
            y = self(x, mask)
            y = y if beside is None else y + beside[0](beside[1])
            return torch.relu(y).masked_fill(~mask, 0.0)
        if beside is None:
            return masked_norm(kernels, x, mask, self)
        layer, inputs = beside
        other = F.conv2d(inputs, layer.weight, None, layer.stride, layer.padding)
        return masked_norm(kernels, x, mask, self, other, layer.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise x; ``mask`` is bool [B,1,L,1] and true for valid steps, ``None`` for all."""
        if not self.training or mask is None:
            return super().forward(x)
        if self.ranks is not None:
            return normalise(x, mask.float(), self, self.ranks)
        with torch.autocast(x.device.type, enabled=False):
            # No copy is made if channels are stored last.
            flat = x.float().permute(0, 2, 3, 1).reshape(-1, x.shape[1])
            weight = mask.float().expand(-1, 1, -1, x.shape[3]).reshape(1, -1)
            valid = weight.sum()
            count = valid.clamp_min(1.0)
            mean = (weight @ flat)[0] / count
            variance = ((weight @ flat.square())[0] / count - mean.square()).clamp_min(0.0)
            update_statistics(self, mean, variance, valid)
            scale = self.weight * (variance + self.eps).rsqrt()
            y = torch.addcmul(self.bias - mean * scale, flat, scale)
            clips, channels, hops, bands = x.shape
            return y.view(clips, hops, bands, channels).permute(0, 3, 1, 2).to(x.dtype)
