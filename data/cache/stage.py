"""The record in which a stage is declared.

`deiii.data.cache.stages` declares deiii's own and finds those of installed packages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from deiii.data.cache.outcomes import StageResult
from deiii.data.config.schema import Config, result_params
from deiii.data.config.strict_yaml import ConfigError


class Weights(NamedTuple):
    """Weights that a stage needs: a path or name from its settings, and the name used where that is empty."""

    given: str | None
    default: str


@dataclass(frozen=True)
class Field:
    """One array that a stage stores, with one row for each video frame or audio hop.

    Attributes:
        dtype: numpy's name of its type.
        shape: axes after the row; a number, the dotted name of the setting that holds it, or a name in the
            stage's ``sizes``.
        use: ``large`` is the array that the network reads, mapped and copied by rows; ``small`` is read once
            and kept by the loader; ``kept`` is stored for people and other stages.
        optional: whether some settings store no such array.
        dtypes: further types that a setting may choose.
        public: its name in `deiii.pipeline.extract.Features`.
    """

    dtype: str
    shape: tuple[int | str, ...] = ()
    use: Literal["large", "small", "kept"] = "kept"
    optional: bool = False
    dtypes: tuple[str, ...] = ()
    public: str = ""


class Together(Protocol):
    """Computes clips of a shard together, such as windows of several clips in one batch of an encoder.

    Each clip must get what it gets alone, up to the rounding of the batch. Batches depend only on the clips
    and the settings, so that a shard has the same bytes in any process. After an error deiii gives the
    clips whose results are missing to new objects, one clip to each.
    """

    def add(self, arrays: Mapping[str, np.ndarray]) -> list[StageResult]:
        """Take the arrays of the next clip; returns the results that are complete, in the order of the clips.

        Memory must not grow with the number of clips: hold a limited number, and compute them when it is
        reached.
        """
        ...

    def rest(self) -> list[StageResult]:
        """Return the results of all clips that are left; it is called once, after the last clip."""
        ...


@dataclass(frozen=True)
class Stage:
    """The declaration of a stage.

    Attributes:
        name: name of its settings, its cache folders and its arrays; a Python identifier.
        version: raise it whenever the code computes something else: old caches are then not found.
        modality: video or audio, so that a row belongs to a video frame or to an audio hop. Rows of a video
            stage are those of the stage upstream of it.
        settings: dataclass of its settings, every field made by `deiii.data.config.schema.opt`.
        fields: what it stores, by name: one ``large`` field, and ``time`` in s.
        work: ``module:function``. Without ``upstream`` it takes a media file's path, the settings and the
            models (where there are any) and returns a `StageResult`. With ``upstream`` it takes an iterator
            over clips' arrays of that stage instead of the path, and yields a `StageResult` for each.
        together: for a stage that reads media files, ``module:class`` whose objects compute several clips
            together, from the settings and the models (where there are any); see `Together`. ``work`` then
            only reads: it takes the path and the settings, and returns a `StageResult` with the arrays that
            `Together.add` takes. ``None`` where ``work`` computes everything.
        upstream: the stage whose arrays it reads; ``None`` where it reads media files.
        models: ``module:function`` from the settings to what each process loads once; ``None`` for nothing.
        load_early: whether models are also loaded before workers start, so that bad ones end a run at once.
        product: what its large field holds, in a few words, for messages.
        hop_ms: for an audio stage, the distance of its rows in ms: a number, the dotted name of the setting
            that holds it, or a name in ``sizes``.
        switch: setting of `ModelConfig` by which the network's own encoders read it; empty for a stage that
            enters through ``model.extra``.
        stream: the name under which the network's input is hidden and reported.
        counts_when: functions that return whether a setting changes the result under the other settings of
            the section, keyed by setting.
        settled: functions from the configuration to the value that ``auto`` stands for on this machine, keyed
            by setting; that value enters the key, and workers compute with it.
        weights: the weights that the settings ask for; they enter the key.
        known_weights: settings that use a file of the weights table, keyed by its name in the table.
        on_gpu: whether it runs on a GPU where there is one.
        at_once: how many shards of it one process with a GPU computes at a time, each in a thread of its own;
            more than 1 needs models that several threads may use, and a stage upstream.
        note: ``module:function`` from the configuration to a note for the user; may be empty.
        decode: ``module:function`` from the stored arrays to the large field's values.
        sizes: numbers that follow from the settings, by name; shapes and ``hop_ms`` may name them.
        identity: values that enter the key in place of some settings, by name, where a setting alone does not
            determine the result (a path, a default that is looked up).

    Raises:
        ConfigError: where the declaration contradicts itself; names the stage and the attribute.
    """

    name: str
    version: int
    modality: Literal["video", "audio"]
    settings: type
    fields: Mapping[str, Field]
    work: str
    upstream: str | None = None
    together: str | None = None
    models: str | None = None
    load_early: bool = False
    product: str = ""
    hop_ms: float | str | None = None
    switch: str = ""
    stream: str = ""
    counts_when: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    settled: Mapping[str, Callable[[Config], Any]] = field(default_factory=dict)
    weights: Callable[[Any], Weights | None] = lambda section: None
    known_weights: Mapping[str, str] = field(default_factory=dict)
    on_gpu: Callable[[Any], bool] = lambda section: False
    at_once: int = 1
    note: str | None = None
    decode: str | None = None
    sizes: Callable[[Any], Mapping[str, float]] = lambda section: {}
    identity: Callable[[Any], Mapping[str, Any]] = lambda section: {}

    def __post_init__(self) -> None:
        large = [name for name, f in self.fields.items() if f.use == "large"]
        told = f"stage {self.name!r}"
        if not self.name.isidentifier():
            raise ConfigError(f"{told}: a name is letters, digits and underscores")
        if len(large) != 1:
            raise ConfigError(f"{told}: fields need exactly one with use='large', not {large}")
        if "time" not in self.fields:
            raise ConfigError(f"{told}: fields need 'time', the time of each row in s")
        if self.modality not in ("video", "audio"):
            raise ConfigError(f"{told}: modality is 'video' or 'audio', not {self.modality!r}")
        if self.modality == "audio" and (self.hop_ms is None or self.fields["time"].use != "small"):
            raise ConfigError(f"{told}: an audio stage needs hop_ms, and 'time' with use='small'")
        if self.together and self.upstream:
            raise ConfigError(f"{told}: together is for a stage without upstream; work gets all clips here")
        described = is_dataclass(self.settings) and all("help" in f.metadata for f in fields(self.settings))
        if not described:
            raise ConfigError(f"{told}: settings is a dataclass whose fields are made by schema.opt")
        object.__setattr__(self, "product", self.product or self.name)
        object.__setattr__(self, "stream", self.stream if self.switch else self.name)

    @property
    def large(self) -> str:
        """Name of the large field."""
        return next(name for name, f in self.fields.items() if f.use == "large")

    @property
    def small(self) -> tuple[str, ...]:
        """Names of the fields that the loader keeps in memory."""
        return tuple(name for name, f in self.fields.items() if f.use == "small")

    def section(self, config: Config) -> Any:
        """Return the stage's settings in a configuration; its defaults where that has no such section."""
        found = getattr(config, self.name, None)
        return self.settings() if found is None else found

    def result_params(self, config: Config) -> dict[str, Any]:
        """Return the settings that change the stage's result, as they enter its key."""
        section = self.section(config)
        found = {name: value for name, value in result_params(section).items() if self._counts(name, section)}
        found |= {name: value for name, value in self.settle(config).items() if name in found}
        return found | dict(self.identity(section))

    def settle(self, config: Config) -> dict[str, Any]:
        """Return the values that ``auto`` stands for on this machine, by setting; only those that count."""
        section = self.section(config)
        return {
            name: choose(config)
            for name, choose in self.settled.items()
            if getattr(section, name) == "auto" and self._counts(name, section)
        }

    def _counts(self, name: str, section: Any) -> bool:
        """Return whether a setting changes the result under the others of its section."""
        return name not in self.counts_when or self.counts_when[name](section)

    def shape(self, name: str, config: Config) -> tuple[int, ...]:
        """Return the sizes of the axes of a field after its rows under a configuration."""
        return tuple(
            n if isinstance(n, int) else int(self._setting(config, n)) for n in self.fields[name].shape
        )

    def row_seconds(self, config: Config) -> float:
        """Return the distance of an audio stage's rows in s. Raises ConfigError for a video stage."""
        hop = self.hop_ms
        if hop is None:
            raise ConfigError(f"rows of the stage {self.name!r} are video frames, at no fixed distance")
        return float(self._setting(config, hop) if isinstance(hop, str) else hop) / 1000

    def _setting(self, config: Config, name: str) -> Any:
        """Return the value of a dotted setting, or of a number in ``sizes``."""
        section, _, key = name.partition(".")
        if not key:
            return self.sizes(self.section(config))[name]
        return getattr(self.section(config) if section == self.name else getattr(config, section), key)

    def empty(self, config: Config) -> dict[str, np.ndarray]:
        """Return the fields that the loader reads, with zero rows, for when nothing was found."""
        read = {name: f for name, f in self.fields.items() if f.use != "kept"}
        return {name: np.empty((0, *self.shape(name, config)), f.dtype) for name, f in read.items()}

    def check(self, arrays: Mapping[str, np.ndarray], config: Config) -> None:
        """Refuse arrays that are not what the stage declares.

        Args:
            arrays: arrays [n, ...], keyed by field; empty for a clip without a result.
            config: all settings, from which the declared sizes follow.

        Raises:
            ConfigError: names stage, field, what was declared and what was found.
        """
        if not arrays:
            return
        wanted = {name for name, f in self.fields.items() if not f.optional}
        if not wanted <= arrays.keys() <= self.fields.keys():
            raise ConfigError(
                f"stage {self.name!r} declares the fields {sorted(self.fields)}, "
                f"its work returned {sorted(arrays)}"
            )
        for name, array in arrays.items():
            f, shape = self.fields[name], self.shape(name, config)
            if array.dtype.name not in (np.dtype(f.dtype).name, *f.dtypes) or array.shape[1:] != shape:
                raise ConfigError(
                    f"stage {self.name!r} declares {name!r} as {f.dtype} {['n', *shape]}, "
                    f"its work returned {array.dtype} {list(array.shape)}"
                )


class ExtraInput(NamedTuple):
    """A stage that the network reads through ``model.extra``.

    Attributes:
        name: name of the stage.
        modality: video or audio.
        shape: axes of a row: (D,), or (L,D) for L layers.
        per_hop: for an audio stage, the number of rows for each hop of the log-mel; 1 for a video stage.
    """

    name: str
    modality: Literal["video", "audio"]
    shape: tuple[int, ...]
    per_hop: float

    def rows(self, steps: int, audio_steps: int) -> int:
        """Return the number of rows in a batch: one per video step, or those within ``audio_steps`` hops.

        >>> ExtraInput("speech", "audio", (12, 768), 0.5).rows(8, 161)
        81
        """
        return steps if self.modality == "video" else max(1, math.ceil(audio_steps * self.per_hop - 1e-6))


def import_function(path: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names, imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
