"""Checks of settings that have to fit each other; the values of single settings are checked elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from deiii.data.config.checks.bands import check_bands
from deiii.data.config.networks import check_network
from deiii.data.config.schema import Config


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
