"""What is done to log-mel on its way to the network: normalisation by clip or speaker, and warping.

Axes: B clips, L log-mel hops, M mel bands, N rows of the feature set.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from deiii.data.cache.stages import LOGMEL
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.feature_set import FeatureSet

SOUND_DRAWS = 5  # tempo, shift, warp, gain and where a longer clip begins
DB_CENTRE, DB_SCALE = -40.0, 20.0  # what becomes zero and one without normalisation
LEAST_DB = 1.0  # a band that a speaker never moves is not blown up


def level_table(features: FeatureSet, how: str) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Offset and scale of each clip's mel bands, float32 [N,M] in dB; ``None`` for ``how="none"``.

    ``clip`` takes each clip's own mean out. ``speaker`` takes mean and deviation over all of a
    speaker's clips, without looking at labels: for a test speaker these are the test clips, so such
    results are to be reported apart.

    >>> offset, scale = level_table(features, "speaker")  # doctest: +SKIP
    """
    if how == "none":
        return None
    stream = features.streams[LOGMEL.name]
    bands = int(np.prod(stream.shape, dtype=int))
    offset = np.zeros((len(features), bands), np.float32)
    scale = np.full_like(offset, DB_SCALE)
    groups: dict[str, list[int]] = {}
    for row, clip in enumerate(features.clips):
        if stream.length[row]:
            groups.setdefault(clip.speaker if how == "speaker" else clip.id, []).append(row)
    for rows in groups.values():
        total, squares, count = np.zeros(bands), np.zeros(bands), 0
        for row in rows:
            values = stream.main(row).astype(np.float64)
            total, squares, count = total + values.sum(0), squares + (values**2).sum(0), count + len(values)
        mean = total / count
        offset[rows] = mean
        if how == "speaker":
            scale[rows] = np.maximum(LEAST_DB, np.sqrt(np.maximum(0.0, squares / count - mean**2)))
    return torch.from_numpy(offset), torch.from_numpy(scale)


def warps(config: LoaderConfig) -> bool:
    """Whether training changes tempo, mel bands or loudness."""
    return any((config.stretch, config.mel_shift, config.mel_warp, config.gain_db))


def warp(
    x_BLM: torch.Tensor,
    time_BL: torch.Tensor,
    mask_BL: torch.Tensor,
    draws: torch.Tensor,
    config: LoaderConfig,
    db: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Change tempo, place and width of the mel bands and loudness of each clip, in one resampling.

    Tempo as in speed perturbation (Ko et al. 2015, Interspeech), the mel axis as in vocal tract length
    perturbation (Jaitly & Hinton 2013), both on the spectrogram. A hop keeps the instant on the media
    clock that it shows, so sound and picture stay together.

    Args:
        x_BLM: normalised log-mel, of which one unit is ``db`` (a number or [B,1,1]).
        time_BL: s; mask_BL: valid hops, which come first.
        draws: [B,SOUND_DRAWS] in [0,1).

    Returns:
        Sound, times and mask of the same shapes; a faster clip is shorter, a slower one is cut where it no
        longer fits, at a random place.
    """
    b, hops, bands = x_BLM.shape
    tempo, shift, wide, gain = (2 * draws[:, :4] - 1).unbind(1)
    tempo = torch.exp(tempo * float(np.log1p(config.stretch)))  # old hops that a new one steps over
    length = mask_BL.sum(1)
    count = (length / tempo).floor().clamp(max=hops)
    start = draws[:, 4] * (length - count * tempo).clamp_min(0)
    at = start[:, None] + torch.arange(hops, device=x_BLM.device) * tempo[:, None]
    centre = (bands - 1) / 2
    band = torch.arange(bands, device=x_BLM.device) - centre
    band = band * (1 + wide * config.mel_warp)[:, None] + centre + (shift * config.mel_shift)[:, None]
    unit = lambda place, size: 2 * place / max(1, size - 1) - 1
    grid = torch.stack(
        (
            unit(band, bands)[:, None, :].expand(b, hops, bands),
            unit(at, hops)[:, :, None].expand(b, hops, bands),
        ),
        dim=-1,
    )
    x = F.grid_sample(x_BLM[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]
    mask = torch.arange(hops, device=x_BLM.device) < count[:, None]
    near = at.round().long().clamp(max=hops - 1)
    near = torch.minimum(near, (length - 1).clamp_min(0)[:, None])
    x = (x + gain[:, None, None] * config.gain_db / db) * mask[:, :, None]
    return x, time_BL.gather(1, near) * mask, mask
