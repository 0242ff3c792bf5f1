"""Checks of settings that have to fit each other; the values of single settings are checked elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from deiii.data.config.checks.bands import check_bands
from deiii.data.config.networks import check_network
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.counts import counted


def check_together(config: Config, named: Iterable[str] = ()) -> None:
    """Refuse settings that do not fit each other.

    Args:
        config: all settings, each of which is allowed by itself.
        named: the dotted names of the settings that a command names; see `check_network`.

    Raises:
        ConfigError: says which settings do not fit.
    """
    check_network(config.model, named)
    check_bands(config.logmel)
    check_mixture(config)


def check_mixture(config: Config) -> None:
    """Refuse weights that do not go with the corpora of a mixture.

    Raises:
        ConfigError: says how many weights are needed, or that attributes have none.
    """
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
