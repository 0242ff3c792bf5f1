"""The settings of every combination of a sweep, put together from values that are read once each.

Reading the words of a command takes time, and a grid of 10,000 combinations has few distinct values. So the
settings that all combinations share are read once, and each distinct value once beside them.

>>> found = Combinations(["tiny", "train.epochs=5"])
>>> found.config({"train.lr": 0.01, "model.width": 32}) == read_settings(
...     ["tiny", "train.epochs=5", "train.lr=0.01", "model.width=32"])
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deiii.data.config.checks.together import check_together
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import is_config, is_override, read_settings
from deiii.model.sweep.space import text

_REFUSED = object()  # marks a value that is not allowed together with the common settings


class Combinations:
    """The settings that the words of a command and further values describe.

    Args:
        words: ``CONFIG`` and ``KEY=VALUE`` words that all combinations share.

    Attributes:
        base: what `read_settings` returns of the words.

    Raises:
        ConfigError: as `read_settings`.
    """

    def __init__(self, words: Sequence[str]):
        self.base = read_settings(words)
        self._words = list(words)
        self._named = [w.partition("=")[0] for w in words if is_override(w) and not is_config(w)]
        self._values: dict[tuple[str, str], Any] = {}

    def config(self, settings: Mapping[str, Any]) -> Config:
        """Return what `read_settings` returns of the words and settings.

        The result shares its unchanged sections with other results, so do not modify it.

        Args:
            settings: values, keyed by dotted name.

        Raises:
            ConfigError: as `read_settings`.
        """
        found = {key: self._value(key, value) for key, value in settings.items()}
        if any(value is _REFUSED for value in found.values()):
            # The other settings of the combination may allow the value, or say better why it is refused.
            return read_settings([*self._words, *(_word(key, value) for key, value in settings.items())])
        config = self.base
        for key, value in found.items():
            config = _replaced(config, key, value)
        check_together(config, [*self._named, *settings])
        return config

    def _value(self, key: str, value: Any) -> Any:
        """Return a value as the settings hold it, or `_REFUSED`."""
        place = (key, text(value))
        if place not in self._values:
            try:
                at: Any = read_settings([*self._words, _word(key, value)])
                for part in key.split("."):
                    at = getattr(at, part)
            except ConfigError:
                at = _REFUSED
            self._values[place] = at
        return self._values[place]


def _word(key: str, value: Any) -> str:
    return f"{key}={text(value)}"


def _replaced(section: Any, key: str, value: Any) -> Any:
    """Return a copy of a section of settings with another value of one setting."""
    name, _, rest = key.partition(".")
    return replace(section, **{name: _replaced(getattr(section, name), rest, value) if rest else value})
