"""Refuse a sweep whose combinations would be ranked by different figures, or on different validation clips.

UAR, CCC and the negated loss cannot be compared with each other, nor can losses with different terms or
weights. Some speakers are easier than others, so scores of different speakers, clips or labels cannot be
compared either.

>>> check_comparable(Combinations(["tiny"]), [Axis("train.monitor", ("uar", "loss"))])  # doctest: +SKIP
deiii.data.config.strict_yaml.ConfigError: the combinations would be ranked by different validation scores ...
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress

from deiii.data.cache.stages import BUILT_IN, get_stage
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.streams import enabled_streams
from deiii.model.sweep.combinations import Combinations
from deiii.model.sweep.space import Axis

# Settings that decide which figure an epoch is chosen by.
OF_FIGURE = ("train.monitor", "model.classes", "model.attributes")
# Settings that change what a validation loss is the sum of; label smoothing and L_S do not enter it.
OF_LOSS = (
    "train.w_video", "train.w_audio", "model.modality_heads", "model.video", "model.flow", "model.audio",
    "model.extra",
)  # fmt: skip
# Settings that decide which clips are validated, with which labels and which hidden inputs.
OF_CLIPS = ("corpus.", "split.")
NOT_OF_CLIPS = ("corpus.clips_per_shard",)


def score_name(config: Config) -> str:
    """Return the name of the validation score of a run; scores of one name can be compared.

    >>> score_name(Config())
    'UAR of the best epoch'
    """
    monitor = config.train.monitor
    epoch = "last" if monitor == "last" else "best"
    if monitor in ("auto", "last"):
        monitor = "uar" if config.model.classes else "ccc"
    if monitor == "loss":
        parts = [*(["classes"] if config.model.classes else []), *config.model.attributes]
        if config.model.modality_heads and _modalities(config) == {"video", "audio"}:
            parts += [
                f"the video head times {config.train.w_video}",
                f"the audio head times {config.train.w_audio}",
            ]
        return f"loss of {', '.join(parts)}"
    of = f" of {', '.join(config.model.attributes)}" if monitor == "ccc" else ""
    return f"{monitor.upper()}{of} of the {epoch} epoch"


def check_comparable(combinations: Combinations, axes: Sequence[Axis]) -> None:
    """Refuse axes that change the score by which the combinations are ranked, or the validation clips.

    Raises:
        ConfigError: names the axes.
    """
    _check_clips(combinations.base, axes)
    names = (*OF_FIGURE, *(OF_LOSS if combinations.base.train.monitor == "loss" else ()))
    changing = [axis for axis in axes if axis.key in names]
    values = [axis.values or (axis.low, axis.high) for axis in changing]
    scores: dict[str, None] = {}
    for some in itertools.product(*values):
        with suppress(ConfigError):  # the sweep reports the error of the combination
            config = combinations.config({axis.key: v for axis, v in zip(changing, some, strict=True)})
            scores[score_name(config)] = None
    if len(scores) > 1:
        what = " and ".join(axis.key for axis in changing)
        raise ConfigError(
            f"the combinations would be ranked by different validation scores ({'; '.join(scores)}), which "
            f"cannot be compared, because {what} is varied. Leave {what} as it is, or make a sweep for each "
            "value and compare the chosen runs with `deiii evaluate` and `deiii compare`"
        )


def _check_clips(base: Config, axes: Sequence[Axis]) -> None:
    """Refuse axes that change the validation clips; ``mix`` changes them if its corpora are validated."""
    own = ("mix_test", *(("mix",) if base.mix_test else ()))
    changing = [
        axis.key
        for axis in axes
        if axis.key in own or (axis.key.startswith(OF_CLIPS) and axis.key not in NOT_OF_CLIPS)
    ]
    if changing:
        what = " and ".join(changing)
        verb = "is" if len(changing) == 1 else "are"
        raise ConfigError(
            "the combinations would be ranked by scores of different validation clips, which cannot be "
            f"compared, because {what} {verb} varied. Leave {what} as it is, and make a sweep for each "
            "value; `deiii crossval` trains and scores every fold with the same settings"
        )


def _modalities(config: Config) -> set[str]:
    """Return the modalities of the streams that the network reads."""
    built_in = {stage.stream: stage.modality for stage in BUILT_IN}
    streams = enabled_streams(config.model)
    return {built_in[name] if name in built_in else get_stage(name).modality for name in streams}
