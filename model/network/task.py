"""What a network predicts: classes and continuous attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deiii.data.cache.stages import extra_inputs
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.feature_set import FeatureSet

if TYPE_CHECKING:
    from deiii.model.network.deiii import DEIII


@dataclass(frozen=True)
class Task:
    """The outputs of a network.

    Attributes:
        classes: C class names; empty where no classes are predicted.
        attributes: A attribute names.
        ranges: the lowest and the highest value of each attribute.

    >>> Task(("happy", "sad"), ("valence",), ((-1.0, 1.0),)).classes
    ('happy', 'sad')
    """

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.attributes) != len(self.ranges):
            raise ValueError(f"{len(self.attributes)} attributes with {len(self.ranges)} ranges")

    @classmethod
    def of(cls, features: FeatureSet, config: Config) -> Task:
        """Return the task of a corpus under some settings.

        Raises:
            ConfigError: ``model.attributes`` names one that the corpus does not have.
        """
        names = tuple(config.model.attributes)
        unknown = [n for n in names if n not in features.ranges]
        if unknown:
            available = ", ".join(features.ranges) or "none"
            raise ConfigError(
                f"model.attributes={list(names)}: {features.corpus.name} has no {', '.join(unknown)}; "
                f"its attributes are: {available}"
            )
        ranges = tuple(_range(features.ranges[n]) for n in names)
        return cls(features.classes if config.model.classes else (), names, ranges)

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Task:
        """Return the task that ``run.json`` or an export's ``deiii.json`` records."""
        ranges = tuple(_range(pair) for pair in info["ranges"])
        return cls(tuple(info["classes"]), tuple(info["attributes"]), ranges)

    def network(self, config: Config, imagenet: str | Path | None = None) -> DEIII:
        """Return a new DE-III with these outputs; see `DEIII` for ``imagenet``."""
        from deiii.model.network.deiii import DEIII  # here, because `deiii.runtime` has no PyTorch

        return DEIII(
            config.model,
            len(self.classes),
            len(self.attributes),
            config.logmel.n_mels,
            self.ranges,
            imagenet,
            extra_inputs(config),
        )


def _range(pair: Any) -> tuple[float, float]:
    low, high = pair
    return float(low), float(high)
