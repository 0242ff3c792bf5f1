"""Settings that may differ between training and prediction, and notes on what does differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import LOGMEL, network_stages
from deiii.data.config.checks.effects import missing_for, without_effect
from deiii.data.config.checks.rules import ENCODERS
from deiii.data.config.load import changed_settings, parse_config, result_settings, to_yaml
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.chosen import torch_encoders
from deiii.data.tools.counts import listed
from deiii.data.tools.weights import WeightsError

OPTION = "--change-preprocessing"


def override_settings(
    config: Config, overrides: Sequence[str], change_preprocessing: bool = False
) -> tuple[Config, tuple[str, ...]]:
    """Apply ``key=value`` settings of this machine to those of a trained network.

    Devices, workers and paths of weights may change. Settings of the network and its loader may not. Settings
    that change what a stage computes may change only on request: the network was not trained on such
    features.

    Args:
        config: settings of the training.
        overrides: ``key=value``.
        change_preprocessing: whether settings of stages may change what the stage computes.

    Returns:
        the settings, and a note for every prediction on each change of preprocessing.

    Raises:
        ConfigError: a setting is unknown or may not change.

    >>> override_settings(Config(), ["flow.device=cpu"])[1]
    ()
    """
    if not overrides:  # writing and reading all settings would only delay the start
        return deepcopy(config), ()
    changed = parse_config(to_yaml(config), overrides)
    stages = network_stages(config.model)
    notes = []
    for change in changed_settings(config, changed):
        section = change.split(".")[0]
        if section in ("model", "loader"):
            raise ConfigError(f"{change}: this setting belongs to the trained network and cannot be changed")
        if section in stages and missing_for(changed, change.partition(":")[0]):
            continue  # the stage does not read it; `settings_without_effect` reports it
        if section not in stages:
            raise ConfigError(f"{change}: this setting has no effect on predictions; leave it out")
        if not change_preprocessing:
            raise ConfigError(
                f"{change}: the network was trained on features with the first value; leave the setting out, "
                f"or add {OPTION} (in Python: change_preprocessing=True) to predict from other features"
            )
        notes.append(f"preprocessing differs from training: {change}")
    return changed, tuple(notes)


def settings_without_effect(config: Config, overrides: Sequence[str]) -> list[str]:
    """Return one line for each setting of this machine that a prediction does not read.

    Args:
        config: settings of the prediction, as `override_settings` returns them.
        overrides: ``key=value``.

    >>> settings_without_effect(Config(), ["workers=4", "faces.decoder=cpu"])
    ['workers=4 has no effect here; predictions read the settings of faces, flow and logmel']
    """
    stages, results = network_stages(config.model), result_settings(config)
    lines = []
    for word in dict.fromkeys(overrides):
        key = word.partition("=")[0]
        if key.partition(".")[0] in stages:
            lines += without_effect(config, [key])
        elif key not in results:  # the others are refused, or are those of the training
            lines.append(f"{word} has no effect here; predictions read the settings of {listed(stages)}")
    return lines


def stage_notes(config: Config, keys: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note on each stage that is not the one of the training, by its key.

    The key differs where weights, the version of the stage or its settings are others.

    Args:
        config: settings of the prediction.
        keys: keys of the training, keyed by stage; those of a mixture of corpora are joined and not compared.
    """
    try:
        here = stage_keys(config)
    except WeightsError:
        return ()  # the stage itself reports missing weights, with their remedy
    return tuple(
        f"the stage {stage} is not the one of the training (key {here[stage]}, then {keys[stage]}): other "
        "weights, another version of deiii or other settings"
        for stage in network_stages(config.model)
        if stage in here and stage in keys and "+" not in keys[stage] and here[stage] != keys[stage]
    )


def refuse_torch(folder: str | Path, config: Config) -> None:
    """Raise ConfigError if PyTorch computes a stage that the network reads.

    Args:
        folder: folder of the network, for the message.
        config: settings of the prediction.

    >>> refuse_torch("exported", Config())
    """
    extra = [name for name in config.model.extra if name in ENCODERS]
    chosen = {name: {"encoder": getattr(config, name).encoder} for name in extra}
    if encoders := torch_encoders({"model": {"extra": extra}, **chosen}):
        words = ", ".join(f"{name}.encoder={encoder}" for name, encoder in encoders.items())
        raise ConfigError(
            f"{folder}: the network reads features of {words}, which need PyTorch; install it, or train a "
            "network with an encoder that is an ONNX file"
        )
    if config.model.flow and config.flow.method == "raft":
        raise ConfigError(
            f"{folder}: the network reads flow of RAFT, which needs PyTorch; install it, or train a network "
            "with flow.method=dis"
        )


def hidden_note(hidden: Sequence[str]) -> tuple[str, ...]:
    """Return a note where evaluation hid streams that a file may have."""
    if not hidden:
        return ()
    return (
        f"validation and evaluation hid {', '.join(hidden)} from the network (split.hide); a prediction uses "
        "all that the file has, so its figures are not those of evaluation",
    )


def unfinished_note(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note where the training did not come to its end.

    >>> unfinished_note({"training": {"finished": False, "epochs": 3, "planned": 25}})
    ('the training of this network was not finished: 3 of 25 epochs',)
    """
    state = info.get("training")  # runs and exports of earlier versions do not record it
    if not state or state["finished"]:
        return ()
    done = f"{state['epochs']} of {state['planned']} epochs"
    return (f"the training of this network was not finished: {done}",)


def stages_by_speaker(config: Config) -> tuple[str, ...]:
    """Return the stages whose rows a network normalises by speaker: log-mel and those of ``model.extra``.

    >>> stages_by_speaker(Config())
    ()
    """
    if config.loader.normalise != "speaker":
        return ()
    return (*((LOGMEL.name,) if config.model.audio else ()), *config.model.extra)


def speaker_note(config: Config, found: Collection[str], given: bool) -> tuple[str, ...]:
    """Return a note if a network normalises a found stage by speaker, with the levels of one file alone."""
    if given or not set(stages_by_speaker(config)) & set(found):
        return ()
    return (
        "the network normalises features by speaker: here by this file alone, in evaluation by all clips of "
        "the speaker; give the files of one speaker together with --same-speaker",
    )
