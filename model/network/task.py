"""The outputs that a network predicts: classes and continuous attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deiii.data.cache.stages import extra_inputs, import_function
from deiii.data.config.networks import NETWORKS, network_names
from deiii.data.config.plugins import NETWORKS as GROUP
from deiii.data.config.plugins import load_plugin
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.sampling import flow_channels

if TYPE_CHECKING:
    from deiii.model.network.inputs.network import Network


@dataclass(frozen=True)
class Task:
    """The outputs of a network.

    Attributes:
        classes: C class names; empty where no classes are predicted.
        attributes: A attribute names.
        ranges: the lowest and the highest value of each attribute.

    Raises:
        ValueError: the attributes and the ranges differ in number.

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
            ConfigError: ``model.attributes`` names one that the corpus does not have, or none, though the
                corpus has ratings only.
        """
        names = tuple(config.model.attributes)
        unknown = [n for n in names if n not in features.ranges]
        if unknown:
            available = ", ".join(features.ranges) or "none"
            raise ConfigError(
                f"model.attributes={list(names)}: {features.corpus.title} has no {', '.join(unknown)}; "
                f"its attributes are: {available}"
            )
        if not names and not features.classes and features.ranges:
            raise ConfigError(
                f"there is nothing to predict: {features.corpus.title} has no labels, and model.attributes "
                f"is empty; predict its ratings with model.attributes=[{','.join(features.ranges)}]"
            )
        ranges = tuple(_range(features.ranges[n]) for n in names)
        return cls(features.classes if config.model.classes else (), names, ranges)

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Task:
        """Return the task that ``run.json`` or an export's ``deiii.json`` records."""
        ranges = tuple(_range(pair) for pair in info["ranges"])
        return cls(tuple(info["classes"]), tuple(info["attributes"]), ranges)

    def network(self, config: Config, imagenet: str | Path | None = None) -> Network:
        """Return a new network of ``model.name`` with these outputs; see `DEIII` for ``imagenet``.

        Raises:
            ConfigError: there is no such network, its settings contradict each other, or it is one of another
                package that cannot read stacked flow.
            PluginError: the network or an encoder of an installed package cannot be imported.
            WeightsError: ``imagenet`` does not hold the weights of a ResNet-18.
        """
        network = network_class(config.model.name)
        return network(
            config.model,
            len(self.classes),
            len(self.attributes),
            config.logmel.n_mels,
            self.ranges,
            imagenet,
            extra_inputs(config),
            **_stacked_flow(network, config),
        )


def _stacked_flow(network: type[Network], config: Config) -> dict[str, int]:
    """Return the argument ``flow_channels``, which networks of packages need for stacked flow alone."""
    channels = flow_channels(config.loader)
    if channels == 2 or not config.model.flow:
        return {}
    arguments = signature(network).parameters.values()
    if not any(a.name == "flow_channels" or a.kind is Parameter.VAR_KEYWORD for a in arguments):
        raise ConfigError(
            f"model.name={config.model.name}: this network of another package has no argument flow_channels, "
            "so it cannot read loader.flow_join=stack; use loader.flow_join=sum"
        )
    return {"flow_channels": channels}


def network_class(name: str) -> type[Network]:
    """Return the class of a network: one of deiii (`deiii.data.config.networks`), or of an installed package.

    A package adds one to the entry-point group ``deiii.networks``: a subclass of
    `deiii.model.network.inputs.network.Network` whose constructor takes what that of `DEIII` takes; it gets
    ``flow_channels`` only with ``loader.flow_join=stack``.

    Raises:
        ConfigError: there is no such network, or a package's is no `Network`.
        PluginError: its package cannot be imported.

    >>> network_class("late").__name__
    'Late'
    """
    # Imported here, because `deiii.runtime` works without PyTorch.
    from deiii.model.network.inputs.network import Network

    if name in NETWORKS:
        own: Any = import_function(NETWORKS[name].factory)
        return own
    if name not in network_names():
        raise ConfigError(f"model.name is one of {', '.join(network_names())}; it cannot be {name!r}")
    found = load_plugin(GROUP, name)
    if not (isinstance(found, type) and issubclass(found, Network)):
        raise ConfigError(
            f"the entry point {name!r} of {GROUP} must name a subclass of "
            f"deiii.model.network.inputs.network.Network; it names {found!r:.80}"
        )
    return found


def _range(pair: Any) -> tuple[float, float]:
    low, high = pair
    return float(low), float(high)
