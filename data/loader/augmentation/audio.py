"""Normalise log-mel by clip or speaker, other stages by speaker, and warp log-mel in training.

Axes: B clips, L log-mel hops, M mel bands, N rows of the feature set, S speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from deiii.data.cache.stages import LOGMEL
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.stage_arrays import LEAST_DEVIATION, Levels, band_levels, valid_rows

AUDIO_DRAWS = 5  # random numbers: tempo, shift, warp, gain, and the begin of a clip that is cut
DB_CENTRE = -40.0  # dB that becomes 0 without normalisation
DB_SCALE = 20.0  # dB that become 1 without normalisation


def level_table(features: FeatureSet, how: str) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return offset and scale that normalise the mel bands of each clip.

    ``clip`` subtracts the clip's own mean. ``speaker`` uses mean and standard deviation over all clips of the
    speaker (`speaker_rows`), without their labels. For a test speaker these are the test clips, so such
    results must be reported separately.

    Args:
        features: the clips.
        how: the setting ``loader.normalise``: ``none``, ``clip`` or ``speaker``.

    Returns:
        Offset and scale, float32 [N,M] in dB; ``None`` for ``none``.

    >>> offset, scale = level_table(features, "speaker")  # doctest: +SKIP
    """
    if how == "none":
        return None
    stream = features.streams[LOGMEL.name]
    bands = int(np.prod(stream.shape, dtype=int))
    offset = np.zeros((len(features), bands), np.float32)
    scale = np.full_like(offset, DB_SCALE)
    groups = speaker_rows(features) if how == "speaker" else [[row] for row in range(len(features))]
    for group in groups:
        rows = [row for row in group if stream.length[row]]
        if not rows:
            continue
        mean, deviation = band_levels([stream.main(row) for row in rows])
        offset[rows] = mean
        if how == "speaker":
            scale[rows] = deviation
    return torch.from_numpy(offset), torch.from_numpy(scale)


def speaker_rows(features: FeatureSet) -> list[list[int]]:
    """Return the rows of each speaker.

    Where one corpus of a mixture alone is validated and tested, those of another corpus, or of a corrupted
    copy, are another group: a test speaker is then normalised by the test clips, as without the mixture.
    """
    part = features.part if features.corpus.divided is not None else None
    groups: dict[tuple[str, int], list[int]] = {}
    for row, clip in enumerate(features.clips):
        groups.setdefault((clip.speaker, 0 if part is None else int(part[row])), []).append(row)
    return list(groups.values())


@dataclass
class SpeakerLevels:
    """Statistics that standardise the rows of a stage of ``model.extra`` by speaker.

    Attributes:
        speaker: int64 [N], number of each clip's speaker.
        offset, scale: float32 [S,...], mean and deviation of the speaker's rows.
    """

    speaker: torch.Tensor
    offset: torch.Tensor
    scale: torch.Tensor

    def to(self, device: torch.device) -> SpeakerLevels:
        """Return the statistics on another device."""
        return SpeakerLevels(*(x.to(device) for x in (self.speaker, self.offset, self.scale)))

    def apply(self, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Standardise rows [B,R,...] of the clips ``index``, int64 [B]."""
        speaker = self.speaker[index.clamp_min(0)]
        return (values - self.offset[speaker][:, None]) / self.scale[speaker][:, None]


def speaker_levels(features: FeatureSet, stage: str) -> SpeakerLevels:
    """Return the levels of a stage's rows over all clips of each speaker, without their labels."""
    stream = features.streams[stage]
    groups = speaker_rows(features)
    number = torch.zeros(len(features), dtype=torch.int64)
    offset = torch.zeros(len(groups), *stream.shape)
    scale = torch.ones_like(offset)
    for speaker, rows in enumerate(groups):
        number[rows] = speaker
        clips = valid_rows(stream, rows)
        if clips:
            mean, deviation = band_levels(clips, LEAST_DEVIATION)
            offset[speaker], scale[speaker] = torch.from_numpy(mean), torch.from_numpy(deviation)
    return SpeakerLevels(number, offset, scale)


def one_speaker(levels: Levels, count: int) -> SpeakerLevels:
    """Return the same levels of a stage's rows for ``count`` clips."""
    offset, scale = (torch.from_numpy(values.astype(np.float32))[None] for values in levels)
    return SpeakerLevels(torch.zeros(count, dtype=torch.int64), offset, scale)


def rows_of(levels: Levels, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same levels for ``count`` clips, in the form of `level_table`."""
    offset, scale = (torch.from_numpy(values.astype(np.float32)).expand(count, -1) for values in levels)
    return offset, scale


def warps(config: LoaderConfig) -> bool:
    """Return whether training changes tempo, mel bands or level."""
    return any((config.stretch, config.mel_shift, config.mel_warp, config.gain_db))


def warp(
    x_BLM: torch.Tensor,
    time_BL: torch.Tensor,
    mask_BL: torch.Tensor,
    draws: torch.Tensor,
    config: LoaderConfig,
    db: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Change tempo, place and width of the mel bands, and level of each clip, in one interpolation.

    Tempo follows speed perturbation (Ko et al. 2015, Interspeech), the mel axis vocal tract length
    perturbation (Jaitly & Hinton 2013), both applied to the spectrogram. Each hop keeps its time on the media
    clock, so audio and video stay synchronous.

    Args:
        x_BLM: float32, normalised log-mel.
        time_BL: float32, s.
        mask_BL: bool, valid hops; they come first.
        draws: float32 [B,AUDIO_DRAWS] in [0,1).
        config: largest changes.
        db: dB of one unit of ``x_BLM``, a number or [B,1,1].

    Returns:
        Log-mel, times and mask of the same shapes. A faster clip becomes shorter; a slower one that no longer
        fits is cut, at a random place.
    """
    b, hops, bands = x_BLM.shape
    tempo, shift, wide, gain = (2 * draws[:, :4] - 1).unbind(1)
    tempo = torch.exp(tempo * float(np.log1p(config.stretch)))  # old hops that a new one steps over
    length = mask_BL.sum(1)
    count = (length / tempo).floor().clamp(max=hops)
    start = draws[:, 4] * (length - count * tempo).clamp_min(0)
    at = start[:, None] + torch.arange(hops, device=x_BLM.device) * tempo[:, None]
    at = torch.minimum(at, (length - 1).clamp_min(0)[:, None])  # behind the last hop there is padding alone
    centre = (bands - 1) / 2
    band = torch.arange(bands, device=x_BLM.device) - centre
    band = band * (1 + wide * config.mel_warp)[:, None] + centre + (shift * config.mel_shift)[:, None]
    grid = torch.stack(
        (
            _grid_coordinate(band, bands)[:, None, :].expand(b, hops, bands),
            _grid_coordinate(at, hops)[:, :, None].expand(b, hops, bands),
        ),
        dim=-1,
    )
    x = F.grid_sample(x_BLM[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]
    mask = torch.arange(hops, device=x_BLM.device) < count[:, None]
    near = at.round().long()
    x = (x + gain[:, None, None] * config.gain_db / db) * mask[:, :, None]
    return x, time_BL.gather(1, near) * mask, mask


def _grid_coordinate(place: torch.Tensor, size: int) -> torch.Tensor:
    """Return indices 0..size-1 as coordinates -1..1 of `torch.nn.functional.grid_sample`, corners aligned."""
    return 2 * place / max(1, size - 1) - 1
