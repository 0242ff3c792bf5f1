"""The columns of a clip's random numbers: what `Gather` draws, and `Augment` reads."""

from __future__ import annotations

from dataclasses import dataclass

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augmentation.audio import AUDIO_DRAWS
from deiii.data.loader.augmentation.geometry import VIDEO_DRAWS

DRAWS = 6  # the first columns: crop y, crop x, flip, brightness, contrast, saturation


@dataclass(frozen=True)
class Columns:
    """Where the random numbers of each kind are, after the first `DRAWS`.

    Attributes:
        masks: four for each pair of SpecAugment masks.
        audio: those of `deiii.data.loader.augmentation.audio.warp`.
        video: those of `deiii.data.loader.augmentation.geometry`.
        count: number of all columns.
    """

    masks: slice
    audio: slice
    video: slice
    count: int


def columns(config: LoaderConfig) -> Columns:
    """Return the columns for the settings. New kinds come last, so that a clip keeps its other numbers.

    >>> columns(LoaderConfig(spec_masks=1)).audio
    slice(10, 15, None)
    """
    audio = DRAWS + 4 * config.spec_masks
    video = audio + AUDIO_DRAWS
    count = video + VIDEO_DRAWS
    return Columns(slice(DRAWS, audio), slice(audio, video), slice(video, count), count)
