"""Two stages of another package, one of each modality, for tests of the loader and the network."""

from __future__ import annotations

from dataclasses import dataclass

from deiii.data.cache.stages import ExtraInput, Field, Stage
from deiii.data.config.schema import opt


@dataclass
class NoConfig:
    """Settings of both."""

    level: int = opt(1, "A number that changes the result.")


SPEECH = Stage(
    name="speech",
    version=1,
    modality="audio",
    settings=NoConfig,
    fields={"states": Field("float16", (3, 6), "large"), "time": Field("float64", (), "small")},
    work="nowhere:work",
    hop_ms=20.0,
)
APPEARANCE = Stage(
    name="appearance",
    version=1,
    modality="video",
    settings=NoConfig,
    fields={"vector": Field("float16", (5,), "large"), "time": Field("float64")},
    work="nowhere:work",
    upstream="faces",
)
EXTRA = {
    "speech": ExtraInput("speech", "audio", (3, 6), 0.5),
    "appearance": ExtraInput("appearance", "video", (5,), 1.0),
}
