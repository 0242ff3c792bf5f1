"""Turn a stored batch into the network's input, on the device of the batch: cast, crop, augment, normalise.

Every random number comes with the batch, so the result does not depend on the device or on the order of the
batches. Axes: B clips, T video steps, F rows of flow, H stored size, S network's input size, L log-mel hops,
M mel bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache

import torch

from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augmentation.audio import DB_CENTRE, DB_SCALE, SpeakerLevels, warp, warps
from deiii.data.loader.augmentation.draws import columns
from deiii.data.loader.augmentation.geometry import affine, erased, resamples
from deiii.data.loader.augmentation.video import Crop, batched, one_pass
from deiii.data.loader.batch import Batch, ClipInfo, ExtraStream, StoredBatch, StoredExtra

# Mean and standard deviation of ImageNet's pixels (RGB, 0 to 1), which pretrained encoders expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # weights of R, G, B in the luma of ITU-R BT.601
WIDEST = 0.15  # widest SpecAugment mask, as a share of the axis


class Augment:
    """Turn a `StoredBatch` into a `Batch`.

    Args:
        config: crop size and strengths of augmentation.
        training: augment; otherwise only crop the centre and normalise.
        resident: large fields on the device, by stage, which the batch's ``frame_at``, ``flow_at``,
            ``hop_at`` and ``at`` of extra streams then point into.
        levels: offset and scale of each row's mel bands (`deiii.data.loader.augmentation.audio.level_table`).
        by_speaker: offset and scale that standardise each extra stream, keyed by stream.
    """

    def __init__(
        self,
        config: LoaderConfig,
        training: bool,
        resident: Mapping[str, torch.Tensor] | None = None,
        levels: tuple[torch.Tensor, torch.Tensor] | None = None,
        by_speaker: Mapping[str, SpeakerLevels] | None = None,
    ):
        self.config = config
        self.columns = columns(config)
        self.training = training
        self.resident = resident or {}
        self.levels = levels
        self.by_speaker = by_speaker or {}

    def __call__(self, c: StoredBatch) -> Batch:
        """Return the network's input; it shares no memory with the stored batch.

        Raises:
            ValueError: the stored crops are smaller than ``loader.crop``.
        """
        frames, logmel = c.frames, c.logmel
        if FACES.name in self.resident:
            frames = _rows(self.resident[FACES.name], c.frame_at)
        flow, scale = self._flow(c, 0)
        if LOGMEL.name in self.resident:
            logmel = _rows(self.resident[LOGMEL.name], c.hop_at)
        prepare = one_pass if frames.device.type == "cpu" else batched
        view = self._view(c.draws, max(frames.shape[2], flow.shape[2]))
        frames, flow = prepare(frames, flow, scale, view)
        # One row of flow of each step at a time: all of them in float32 would take many times the memory.
        none = c.frames[:, :, :0, :0]
        count = self.config.flow_frames if flow.shape[3] else 1  # flow that is switched off stays empty
        further = (prepare(none, *self._flow(c, n), view)[1] for n in range(1, count))
        return Batch(
            frames=frames,
            flow=stacked([flow, *further]) if self.config.flow_join == "stack" else sum(further, start=flow),
            **self._audio(logmel, c),
            **{n: getattr(c, n).clone() for n in CARRIED},
            extra={name: self._extra(name, stream, c.index) for name, stream in c.extra.items()},
        )

    def _flow(self, c: StoredBatch, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row ``n`` of each step's flow as stored, [B,T,H,H,2], and its factor, float32 [B,T]."""
        of_step = slice(n, None, self.config.flow_frames)
        if FLOW.name in self.resident:
            flow = _rows(self.resident[FLOW.name], c.flow_at[:, of_step])
        else:
            flow = c.flow[:, of_step].contiguous()
        return flow, c.scale[:, of_step].contiguous()

    def _extra(self, name: str, stream: ExtraStream, index: torch.Tensor) -> ExtraStream:
        """Return an extra stream as float32; it is not augmented."""
        values = stream.values
        if name in self.resident and isinstance(stream, StoredExtra):
            values = _rows(self.resident[name], stream.at)
        values = values.to(torch.float32, copy=True)
        if name in self.by_speaker:
            values = self.by_speaker[name].apply(values, index)
        return ExtraStream(values=values, time=stream.time.clone(), mask=stream.mask.clone())

    def _view(self, draws: torch.Tensor, stored: int) -> Crop:
        """Return what each clip shows of its stored crops, whose height and width is ``stored``."""
        c, size = self.config, self.config.crop
        flip = draws[:, 2] < (c.flip if self.training else 0.0)
        y, x = self._corner(draws, stored)
        if not self.training:
            return Crop(y, x, flip, *colour_matrix(draws, 0.0), size)
        more = draws[:, self.columns.video]
        colours = colour_matrix(draws, c.colour, more[:, 7] < c.grey if c.grey else None)
        turned = affine(more, draws[:, :2], flip, c, stored) if resamples(c) else None
        return Crop(y, x, flip, *colours, size, turned, erased(more, c) if c.erase else None)

    def _corner(self, draws: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the upper left corner of each clip's square, y and x, int64 [B]."""
        room = max(0, size - self.config.crop)
        if not self.training:
            middle = torch.full_like(draws[:, 0], room // 2, dtype=torch.int64)
            return middle, middle
        place = (draws[:, :2] * (room + 1)).long().clamp(max=room)
        return place[:, 0], place[:, 1]

    def _audio(self, db: torch.Tensor, c: StoredBatch) -> dict[str, torch.Tensor]:
        """Return log-mel float16 [B,L,M], dB, as float32, with times and mask; masked values are 0."""
        x = db.to(torch.float32, copy=True)
        time = c.audio_time.clone()
        mask = c.audio_mask.clone()
        if not x.shape[2]:
            return {"logmel": x, "audio_time": time, "audio_mask": mask}
        unit: float | torch.Tensor = DB_SCALE
        if self.levels is None:
            x.sub_(DB_CENTRE).mul_(1 / DB_SCALE)
        else:
            row = c.index.clamp_min(0)
            offset, scale = (table[row][:, None] for table in self.levels)
            x.sub_(offset).div_(scale)
            unit = scale.mean(dim=2, keepdim=True)
        x.mul_(mask[:, :, None])
        if self.training and warps(self.config):
            x, time, mask = warp(x, time, mask, c.draws[:, self.columns.audio], self.config, unit)
        if self.training and self.config.spec_masks:
            hops, bands = spec_masks(c.draws[:, self.columns.masks], mask.sum(1), x.shape[1], x.shape[2])
            x.mul_(hops[:, :, None]).mul_(bands[:, None])
        return {"logmel": x, "audio_time": time, "audio_mask": mask}


def stacked(flow: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the flow of n frames, float32 [B,T,2,S,S] each, as [B,T,2n,S,S], channels innermost in memory.

    >>> stacked([torch.zeros(1, 1, 2, 3, 3), torch.ones(1, 1, 2, 3, 3)])[0, 0, :, 0, 0]
    tensor([0., 0., 1., 1.])
    """
    return torch.cat([one.permute(0, 1, 3, 4, 2) for one in flow], dim=-1).permute(0, 1, 4, 2, 3)


WARPED = ("audio_time", "audio_mask")  # what warping the audio can change
CARRIED = tuple(f.name for f in fields(ClipInfo) if f.name not in (*WARPED, "extra"))


def colour_matrix(
    draws: torch.Tensor, strength: float, grey: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return brightness, contrast, saturation and normalisation as one affine map, x @ matrix + offset.

    Args:
        draws: float32 [B,K] in [0,1); columns 3 to 5 are used.
        strength: each factor lies in 1 ± strength; 0 gives the normalisation only.
        grey: bool [B], clips whose saturation is 0.

    Returns:
        Matrix float32 [B,3,3] and offset float32 [B,1,3], for RGB values x from 0 to 255.
    """
    mean, std, luma, identity = _constants(draws.device)
    factor = 1 + strength * (2 * draws[:, 3:6] - 1)
    bright, contrast, colour = (factor[:, i, None, None] for i in range(3))
    if grey is not None:
        colour = colour * ~grey[:, None, None]
    mix = colour * identity + (1 - colour) * luma[:, None].expand(3, 3)
    matrix = bright * contrast * mix / std / 255
    offset = ((1 - contrast) * mean - mean) / std
    return matrix, offset


@cache
def _constants(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return MEAN, STD, LUMA and the identity on a device, where they are copied only once."""
    return (*(torch.tensor(v, device=device) for v in (MEAN, STD, LUMA)), torch.eye(3, device=device))


def spec_masks(
    draws: torch.Tensor, lengths: torch.Tensor, hops: int, bands: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return SpecAugment's masks (Park et al., arXiv 1904.08779).

    Args:
        draws: float32 [B,4n] in [0,1); place and width of n masks along time and of n along frequency.
        lengths: int [B], number of valid hops; the masks lie within them.
        hops, bands: L and M.

    Returns:
        The hops and the bands that are kept, bool [B,L] and [B,M].
    """
    b = draws.shape[0]
    place, width, low, high = draws.view(b, -1, 4).unbind(2)
    time, band = torch.arange(hops, device=draws.device), torch.arange(bands, device=draws.device)
    length = lengths[:, None].float()
    wide = width * WIDEST * length
    start = place * (length - wide)
    tall = high * WIDEST * bands
    bottom = low * (bands - tall)
    return ~_within(time, start, wide), ~_within(band, bottom, tall)


def _within(axis: torch.Tensor, start: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Return intervals [B,n] as bool [B,len(axis)]: cells from round(start) to round(start+width)."""
    first, last = start.round(), (start + width).round()
    return ((axis >= first[..., None]) & (axis < last[..., None])).any(1)


def _rows(whole: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return rows ``at`` (int64 [B,T]) of a resident field, [B,T,...]."""
    return whole.index_select(0, at.reshape(-1)).view(*at.shape, *whole.shape[1:])
