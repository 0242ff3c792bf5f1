"""What a network predicts: classes and continuous attributes."""

from __future__ import annotations

from dataclasses import dataclass

from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.feature_set import FeatureSet
from deiii.model.network.deiii import DEIII


@dataclass(frozen=True)
class Task:
    """What is predicted: class names and attribute names with their ranges."""

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, features: FeatureSet, config: Config) -> Task:
        """Raises ConfigError for an attribute that the corpus does not have."""
        names = tuple(config.model.attributes)
        unknown = [n for n in names if n not in features.ranges]
        if unknown:
            has = ", ".join(features.ranges) or "none"
            raise ConfigError(f"model.attributes: {features.corpus.name} has {has}, not {', '.join(unknown)}")
        ranges = tuple(tuple(float(x) for x in features.ranges[n]) for n in names)
        return cls(features.classes if config.model.classes else (), names, ranges)

    def network(self, config: Config, pretrained: bool = False) -> DEIII:
        """A DE-III for this task."""
        return DEIII(
            config.model,
            len(self.classes),
            len(self.attributes),
            config.logmel.n_mels,
            self.ranges,
            pretrained,
        )
