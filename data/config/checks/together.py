"""Checks of settings that have to fit each other; the values of single settings are checked elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deiii.data.config.checks.bands import check_bands
from deiii.data.config.networks import DEFAULT, check_network
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.counts import counted

# By kind, an example: those of `deiii.pipeline.corrupt.kinds` that do not need the place of the face.
CORRUPTIONS = {"noise": "noise=10 (dB SNR)", "compress": "compress=40 (CRF)", "speed": "speed=0.9 (factor)"}
# A number as it may enter the name of a cache folder, in which other signs become underscores: Python would
# also read 1_0 as 10 and +5 as 5, whose folders would be those of 1.0 and .5.
NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def check_together(config: Config, named: Iterable[str] = ()) -> None:
    """Refuse settings that do not fit each other.

    Args:
        config: all settings, each of which is allowed by itself.
        named: the dotted names of the settings that a command names; see `check_network`.

    Raises:
        ConfigError: names the settings that do not fit.
    """
    check_network(config.model, named)
    check_bands(config.logmel)
    check_mixture(config)
    check_accumulate(config)
    check_discriminant(config)
    check_precision(config)


def check_precision(config: Config) -> None:
    """Refuse encoders that a setting puts on the CPU in a type that is for GPUs.

    Raises:
        ConfigError: names the settings.

    >>> check_precision(Config())
    """
    for name in ("speech", "speech2", "appearance"):
        section = getattr(config, name)
        if name in config.stages and section.device == "cpu" and section.precision != "float32":
            raise ConfigError(
                f"{name}.precision={section.precision} is for GPUs, and {name}.device=cpu: set "
                f"{name}.precision=float32 for the CPU, or {name}.device=cuda"
            )


def check_mixture(config: Config) -> None:
    """Refuse settings of mixtures and corrupted copies that do not exist or do not fit each other.

    Raises:
        ConfigError: for another number of weights than of corpora, weights together with attributes, an
            unknown corruption, one that is named twice, and copies of a corrupted corpus or beside other
            corpora that are tested.
    """
    if config.mix and config.copies and config.mix_test:
        raise ConfigError(
            "with copies, the corpora of mix can only be trained on; set mix_test=false, or leave copies out"
        )
    for name, words in (("corpus.corrupt", [config.corpus.corrupt]), ("copies", config.copies)):
        for word in filter(None, words):
            kind, _, number = word.partition("=")
            if kind not in CORRUPTIONS or not NUMBER.fullmatch(number):
                raise ConfigError(f"{name}: {word!r} is none of {', '.join(CORRUPTIONS.values())}")
    known: dict[tuple[str, float], str] = {}
    for word in config.copies:
        kind, _, number = word.partition("=")
        if (first := known.setdefault((kind, float(number)), word)) is not word:
            raise ConfigError(f"copies names {first} and {word}, which are the same; name each once")
    if config.corpus.corrupt and config.copies:
        raise ConfigError("copies are made of recordings as they are; leave corpus.corrupt or copies out")
    weights, others = config.mix_weights, len(config.mix)
    if weights and len(weights) != others:
        raise ConfigError(
            f"mix_weights={weights} is {counted(len(weights), 'weight')} for {counted(others, 'config')} of "
            "mix; name one weight for each config, in the same order"
        )
    if weights and config.model.attributes:
        raise ConfigError(
            "mix_weights weighs the losses of classes alone; leave it out, or set model.attributes=[]"
        )


def check_accumulate(config: Config, processes: int = 1) -> None:
    """Refuse a batch that cannot be computed in the parts of ``train.accumulate``.

    Layers of packages are not known here; the training step checks them.

    Args:
        config: all settings.
        processes: the processes that train together; each computes an equal share of every batch.

    Raises:
        ConfigError: the parts are not equal, or the clips of a batch have an effect on each other.

    >>> check_accumulate(Config())
    """
    count = config.train.accumulate
    if count == 1:
        return
    clips, what = config.loader.batch // processes, f"loader.batch={config.loader.batch}"
    if clips % count:
        below = max(n for n in range(1, count) if clips % n == 0)
        above = -(-clips // count) * count * processes
        if processes > 1:
            what = f"the {counted(clips, 'clip')} of {what} that each of {processes} processes computes"
        raise ConfigError(
            f"train.accumulate={count} cannot divide {what} into equal parts; use "
            f"train.accumulate={below}, or loader.batch={above}"
        )
    if config.model.batch_axis:
        raise ConfigError(
            f"train.accumulate={count}: with model.batch_axis=true clips have an effect on others of their "
            "batch, which cannot be computed in parts; use train.accumulate=1, or model.batch_axis=false"
        )


def check_discriminant(config: Config) -> None:
    """Refuse ``train.optimizer=discriminant`` for networks with more than linear heads on pooled features.

    Raises:
        ConfigError: names the settings to change.

    >>> check_discriminant(Config())
    """
    if config.train.optimizer != "discriminant":
        return
    model = config.model
    needed = {
        f"model.name={DEFAULT}": model.name == DEFAULT,
        "model.video, model.flow and model.audio off": not (model.video or model.flow or model.audio),
        "stages in model.extra": bool(model.extra),
        "model.join=pooled": model.join == "pooled",
        "model.encoders=[]": not model.encoders,
        "model.head=linear": model.head == "linear",
        "model.classes=true": model.classes,
        "model.attributes=[]": not model.attributes,
        "train.epochs=1": config.train.epochs == 1,
        "no train.start": config.train.start is None,
    }
    if missing := [words for words, there in needed.items() if not there]:
        raise ConfigError(
            "train.optimizer=discriminant computes linear heads on pooled features of frozen encoders; it "
            f"needs {', '.join(missing)}; or use train.optimizer=adamw"
        )
