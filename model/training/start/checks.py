"""Refuse settings and features with which no training can start, before anything is written."""

from __future__ import annotations

import numpy as np

from deiii.data.cache.stages import FACES, FLOW, get_stage, stages, with_upstream
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.counts import counted
from deiii.model.network.inputs.build import check_grid
from deiii.model.network.visual_encoders import feature_rows

LARGE_BATCH = 1024  # clips; the empty places of smaller batches cost little
PRESETS = ("tiny", "base", "large")  # configs that come with deiii and describe a network


def check_sizes(config: Config) -> None:
    """Refuse sizes that do not go together, before anything is loaded or written.

    Raises:
        ConfigError: names both settings.
    """
    m = config.model
    if (m.video or m.flow) and config.loader.crop > config.faces.size:
        raise ConfigError(
            f"loader.crop={config.loader.crop} is larger than the crops, faces.size={config.faces.size}; "
            f"{_fitting_preset(config.faces.size)}use a smaller loader.crop, or preprocess with a larger "
            "faces.size"
        )
    check_grid(m, config.loader.crop)
    check_statistics(config)
    if m.conformer and m.conv_kernel % 2 == 0:
        raise ConfigError(f"model.conv_kernel must be odd, not {m.conv_kernel}")


def check_statistics(config: Config) -> None:
    """Refuse sizes with which the batch normalisation of an image encoder has one value for each channel.

    Raises:
        ConfigError: names the settings.
    """
    m, loader = config.model, config.loader
    of_packages = {item.partition(":")[0] for item in m.encoders}
    # With ImageNet weights, the statistics are fixed.
    frames = m.video and not m.imagenet and FACES.name not in of_packages
    flow = m.flow and FLOW.name not in of_packages
    places = loader.batch * loader.steps * feature_rows(loader.crop, m.channels) ** 2
    if (frames or flow) and places == 1:
        raise ConfigError(
            f"loader.batch=1, loader.steps=1 and loader.crop={loader.crop} give the image encoders one value "
            "for each channel, and batch normalisation needs several; use a larger loader.batch, "
            "loader.steps or loader.crop, or fewer model.channels"
        )


def check_batch(config: Config, clips: int) -> None:
    """Refuse a batch with many empty places, which take as much memory and time as places with a clip.

    Raises:
        ConfigError: names a size that fits.
    """
    batch = config.loader.batch
    if batch > LARGE_BATCH and batch >= 2 * clips:
        raise ConfigError(
            f"loader.batch={batch} is larger than the {counted(clips, 'training clip')}, and the empty "
            f"places also take memory and time; use loader.batch={clips} for one step an epoch"
        )


def _fitting_preset(size: int) -> str:
    """Return the advice to name a preset that fits crops of a size in px; empty where none does."""
    fitting = [name for name in PRESETS if load_config(name).loader.crop <= size]
    return f"name a preset of the network that fits, {' or '.join(fitting)}, or " if fitting else ""


def check_streams(features: FeatureSet, rows: np.ndarray) -> None:
    """Refuse an input of the network that no training clip has.

    Raises:
        ConfigError: names the input and the setting that leaves it out.
    """
    for name, stream in features.streams.items():
        if not stream.length[rows].any():
            below = [s for s in features.streams if name in with_upstream([s])]
            remedy = " ".join(_without(s, features) for s in stages() if s in below)
            what = get_stage(name).product
            raise ConfigError(f"no training clip of {features.corpus.title} has any {what}; add {remedy}")


def _without(stage: str, features: FeatureSet) -> str:
    """Return the setting that keeps a stage out of the network."""
    if get_stage(stage).switch:
        return f"model.{get_stage(stage).switch}=false"
    others = [name for name in features.streams if not get_stage(name).switch and name != stage]
    return f"model.extra=[{','.join(others)}]"
