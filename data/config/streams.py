"""The inputs of a modality as one list: ``model.audio=[logmel,speech]``, ``model.video=[frames,appearance]``.

A list is a way to write three settings, which it replaces: the switches ``model.video``, ``model.flow``
and ``model.audio`` for what the network encodes itself, and ``model.extra`` for the stages of pretrained
encoders.
Runs record those settings, so configurations without lists mean what they always did.
"""

from __future__ import annotations

from typing import Any

from deiii.data.config.plugins import STAGES, installed, load_plugin
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError

# By modality, the inputs that have a switch of their own, and the switch.
SWITCHES = {"audio": {"logmel": "audio"}, "video": {"frames": "video", "flow": "flow"}}
# Modality of the stages that enter through model.extra.
EXTRA = {"speech": "audio", "speech2": "audio", "appearance": "video"}


def expand_lists(tree: dict[str, Any], extra: list[str], source: str) -> dict[str, Any]:
    """Return a tree of settings in which the lists of inputs are switches and ``model.extra``.

    Args:
        tree: settings tree of one YAML file or override; stays as it is.
        extra: ``model.extra`` of the settings before; a list replaces those of its modality.
        source: source of the tree, for messages.

    Raises:
        ConfigError: for an input of the other modality, one that is named twice, or a stage that is unknown.

    >>> expand_lists({"model": {"audio": ["speech"]}}, ["appearance"], "override")
    {'model': {'audio': False, 'extra': ['appearance', 'speech']}}
    """
    model = tree.get("model")
    lists = {m: model[m] for m in SWITCHES if isinstance(model, dict) and isinstance(model.get(m), list)}
    if not isinstance(model, dict) or not lists:
        return tree
    found = dict(model)
    extra = list(found["extra"]) if isinstance(found.get("extra"), list) else list(extra)
    for modality, names in lists.items():
        switches = SWITCHES[modality]
        told = f"{source}: model.{modality}={_written(names)}"
        names = [str(name) for name in names]
        if len(set(names)) < len(names):
            raise ConfigError(f"{told} names an input twice; name each once")
        for name in names:
            if name not in switches and _modality(name) != modality:
                raise ConfigError(
                    f"{told}: {name!r} is not one of the {modality} inputs; {_choices(modality)}"
                )
        found |= {switch: name in names for name, switch in switches.items()}
        kept = [name for name in extra if _modality(name) != modality]
        extra = kept + [name for name in names if name not in switches]
    return {**tree, "model": {**found, "extra": extra}}


def unread_inputs(config: Config) -> list[tuple[list[str], str]]:
    """Return, for each modality, the stages of encoders that are computed and that the network does not read.

    Stages of packages count where their rows are vectors, as the network reads them, and no other stage is
    computed from them.

    Args:
        config: all settings.

    Returns:
        names of the stages, and the setting with which the network reads them beside its other inputs.

    >>> unread_inputs(Config(stages=["faces", "flow", "logmel", "speech"]))
    [(['speech'], 'model.audio=[logmel,speech]')]
    """
    found = []
    extra = config.model.extra
    for modality, switches in SWITCHES.items():
        unread = [
            name
            for name in config.stages
            if name not in extra and _modality(name) == modality and _is_readable(name, config)
        ]
        if unread:
            own = [name for name, switch in switches.items() if getattr(config.model, switch)]
            inputs = [*own, *(name for name in extra if _modality(name) == modality), *unread]
            found.append((unread, f"model.{modality}={_written(inputs)}"))
    return found


def _is_readable(stage: str, config: Config) -> bool:
    """Return whether ``model.extra`` may name a stage."""
    if stage in EXTRA:
        return True
    found = load_plugin(STAGES, stage)
    upstream = {load_plugin(STAGES, name).upstream for name in config.stages if name in installed(STAGES)}
    return stage not in upstream and len(found.shape(found.large, config)) in (1, 2)


def _modality(stage: str) -> str | None:
    """Return the modality of a stage of ``model.extra``; ``None`` where there is no such stage."""
    if stage in EXTRA:
        return EXTRA[stage]
    return load_plugin(STAGES, stage).modality if stage in installed(STAGES) else None


def _choices(modality: str) -> str:
    names = [*SWITCHES[modality], *(n for n in (*EXTRA, *installed(STAGES)) if _modality(n) == modality)]
    return f"{modality} inputs are {', '.join(names)}, and those of packages that are installed here"


def _written(names: list[Any]) -> str:
    return f"[{','.join(map(str, names))}]"
