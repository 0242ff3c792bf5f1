"""Facts on the frozen encoders of a network that a paper must state: training data, size, licence, digest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from deiii.data.config.schema import AppearanceConfig, Config, SpeechConfig
from deiii.data.encoders.chosen import chosen
from deiii.data.encoders.record import Encoder
from deiii.data.tools.weights import WeightsError, known_digest


def emotion_of(encoder: Encoder) -> str:
    """Return the emotion corpora in an encoder's training data, in words.

    >>> from deiii.data.encoders.table import find_encoder
    >>> emotion_of(find_encoder("speech", "smart-turn"))
    'none that its authors name'
    """
    if encoder.emotion == "unknown":
        return "unknown: it may have been trained on emotion corpora"
    return encoder.emotion or "none that its authors name"


@dataclass(frozen=True)
class Statement:
    """One frozen encoder of a run.

    Attributes:
        stage: speech, speech2 or appearance.
        name: name that the settings give.
        layers: numbers of the stored layers.
        sha256: SHA-256 of its weights, as far as they are known; empty for none.
        parameters: 0 if unknown.
        licence, trained_on, source: attributes of `Encoder`.
        emotion: whether and how it was trained on emotions, in words.
    """

    stage: str
    name: str
    layers: tuple[int, ...]
    sha256: str
    parameters: int
    licence: str
    trained_on: str
    emotion: str
    source: str


def used_encoders(config: Config, stages: Collection[str]) -> list[Statement]:
    """Return the frozen encoders that compute the stages that a network reads.

    Args:
        config: settings.
        stages: names of the stages.
    """
    sections: dict[str, SpeechConfig | AppearanceConfig] = {
        "speech": config.speech, "speech2": config.speech2, "appearance": config.appearance,
    }  # fmt: skip
    return [_statement(name, section) for name, section in sections.items() if name in stages]


def _statement(stage: str, section: SpeechConfig | AppearanceConfig) -> Statement:
    choice = chosen(section)
    encoder = choice.encoder
    try:
        sha256 = known_digest(choice.path, encoder.weights) if choice.path or encoder.weights else ""
    except WeightsError:
        sha256 = ""
    return Statement(
        stage,
        section.encoder,
        choice.layers,
        sha256,
        encoder.parameters,
        encoder.licence,
        encoder.trained_on,
        emotion_of(encoder),
        encoder.source,
    )


def describe_table(encoders: Collection[Encoder]) -> str:
    """Return the table of encoders in text, one paragraph for each."""
    parts = []
    for e in encoders:
        size = f"{e.parameters / 1e6:.1f} million parameters" if e.parameters else "size unknown"
        rows = f", {e.rate:g} rows per second" if e.modality == "speech" else ""
        layers = f"layers {e.layers[0]} to {e.layers[-1]}" if len(e.layers) > 1 else "1 layer"
        lines = [
            f"{e.modality}.encoder={e.name}",
            f"    {size}, {layers} of {e.width} features{rows}; licence {e.licence}",
            f"    reads {e.input}",
            f"    trained on {e.trained_on}",
            f"    emotion corpora in its training: {emotion_of(e)}",
            f"    {e.source}",
        ]
        parts.append("\n".join(line for line in lines if line.strip()))
    return "\n".join(parts)
