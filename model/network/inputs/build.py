"""The encoders that the settings ask for, and the check that inputs and outputs go together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from deiii.data.cache.stages import BUILT_IN, FACES, FLOW, LOGMEL, ExtraInput
from deiii.data.config.networks import check_network
from deiii.data.config.schema import ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.counts import counted
from deiii.model.network.audio_encoders import AudioEncoder, DeepAudioEncoder
from deiii.model.network.extra_encoders import (
    PooledEncoder,
    RowEncoder,
    check_encoders,
    package_encoder,
)
from deiii.model.network.fusion import VisualFusion
from deiii.model.network.visual_encoders import ImageEncoder, ResNetEncoder, feature_rows


def frame_encoder(config: ModelConfig, imagenet: str | Path | None) -> nn.Module | None:
    """Return the encoder of face crops, ``None`` where they are off; see `ResNetEncoder` for ``imagenet``."""
    if not config.video:
        return None
    if (own := package_encoder(config, FACES.name, (3,))) is not None:
        return own
    if config.imagenet:
        return ResNetEncoder(config.width, config.grid, imagenet)
    return ImageEncoder(3, config.channels, config.width, config.grid)


def flow_encoder(config: ModelConfig, channels: int = 2) -> nn.Module | None:
    """Return the encoder of optical flow with ``channels`` channels, ``None`` where it is off."""
    if not config.flow:
        return None
    if (own := package_encoder(config, FLOW.name, (channels,))) is not None:
        return own
    return ImageEncoder(channels, config.channels, config.width, config.grid)


def check_grid(config: ModelConfig, crop: int) -> None:
    """Refuse crops of ``crop`` px that give an image encoder fewer rows of features than ``model.grid``.

    Raises:
        ConfigError: names the settings.
    """
    rows = []
    if config.video and package_encoder(config, FACES.name, (3,)) is None:
        rows.append(feature_rows(crop, None if config.imagenet else config.channels))
    if config.flow and package_encoder(config, FLOW.name, (2,)) is None:
        rows.append(feature_rows(crop, config.channels))
    if rows and min(rows) < config.grid:
        raise ConfigError(
            f"loader.crop={crop} gives {counted(min(rows), 'row')} of features, fewer than "
            f"model.grid={config.grid}; use a larger loader.crop, a smaller model.grid or fewer "
            "model.channels"
        )


def extra_encoder(config: ModelConfig, extra: ExtraInput) -> nn.Module:
    """Return the encoder of a stage of ``model.extra``."""
    own = package_encoder(config, extra.name, extra.shape)
    if own is None and config.join == "pooled":
        return PooledEncoder(extra.shape, config.standardise)
    return RowEncoder(extra.shape, config.width, config.standardise) if own is None else own


def pooled_width(config: ModelConfig, extra: ExtraInput) -> int:
    """Return the number of features with which a stage enters the heads under ``model.join=pooled``."""
    own = any(item.partition(":")[0] == extra.name for item in config.encoders)
    return 2 * (config.width if own else math.prod(extra.shape))


def balance_factors(config: ModelConfig, extra: Sequence[ExtraInput]) -> dict[str, float]:
    """Return factors for the vectors of pooled stages, by which ``config.balance`` weighs the stages.

    The weight of a stage is the sum of the squares of its features, which are standardised: without factors
    it is their number F. With factors it is proportional to F to the power of 1 - ``config.balance``. The sum
    of the weights is the same with and without factors, so a learning rate suits both. Source: scaling of
    blocks in multiblock analysis (Westerhuis, Kourti & MacGregor 1998, Journal of Chemometrics 12).

    >>> stages = [ExtraInput("speech", "audio", (96,), 0.25), ExtraInput("appearance", "video", (4,), 1)]
    >>> factors = balance_factors(ModelConfig(join="pooled", balance=1.0), stages)
    >>> [round(192 * factors["speech"] ** 2), round(8 * factors["appearance"] ** 2)]
    [100, 100]
    """
    if config.join != "pooled" or not config.balance or not extra:
        return {}
    features = {x.name: pooled_width(config, x) for x in extra}
    weights = {name: count ** (1 - config.balance) for name, count in features.items()}
    unit = sum(features.values()) / sum(weights.values())
    return {name: math.sqrt(unit * weights[name] / count) for name, count in features.items()}


def visual_fusion(config: ModelConfig, vectors: int, attention: bool) -> VisualFusion:
    """Return the fusion of frame tokens and flow tokens.

    Args:
        config: settings of the network.
        vectors: number of vectors of pretrained encoders at each step, which are frame tokens, too.
        attention: whether frames and flow attend to each other (OV).
    """
    return VisualFusion(
        config.width,
        config.heads,
        config.dropout,
        frames=config.video or vectors > 0,
        flow=config.flow,
        attention=attention,
        one_token=not config.video and vectors == 1,
    )


def audio_encoder(config: ModelConfig, n_mels: int) -> nn.Module | None:
    """Return the encoder of log-mel, ``None`` where it is off."""
    if not config.audio:
        return None
    if (own := package_encoder(config, LOGMEL.name, (n_mels,))) is not None:
        return own
    if config.audio_channels:
        return DeepAudioEncoder(n_mels, config.width, config.audio_channels, config.audio_deltas)
    return AudioEncoder(n_mels, config.width)


def check_inputs(config: ModelConfig, extra: Sequence[ExtraInput], n_classes: int, n_attributes: int) -> None:
    """Refuse settings that contradict each other, or leave nothing to read or to predict.

    Raises:
        ConfigError: names the settings.
    """
    check_network(config)
    if [x.name for x in extra] != config.extra:
        raise ConfigError(f"model.extra={config.extra}, but the network was given {[x.name for x in extra]}")
    own = [stage.name for stage in BUILT_IN if getattr(config, stage.switch)]
    check_encoders(config, [*own, *config.extra])
    if not own and not extra:
        raise ConfigError("model.video, model.flow and model.audio are all off: switch at least one on")
    if not n_classes and not n_attributes:
        raise ConfigError(
            "there is nothing to predict: switch model.classes on (the corpus needs labels), "
            "or name attributes in model.attributes"
        )
    if len(config.audio_channels) == 1:
        raise ConfigError(f"model.audio_channels={config.audio_channels}: give no number, or two or more")
    if config.balance and (config.join != "pooled" or not extra):
        raise ConfigError(
            f"model.balance={config.balance:g} weighs stages that enter the heads pooled, and there are "
            "none; use model.join=pooled with stages in model.extra, or model.balance=0"
        )
    if config.width % config.heads or (config.width // config.heads) % 2:
        raise ConfigError(
            f"model.width={config.width} must divide into model.heads={config.heads} heads of even width"
        )
