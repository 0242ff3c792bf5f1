"""Strips: crops, flow and log-mel of a clip in one small picture, for the report and the overview."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.tools.pictures import flow_colours, flow_saturation, mel_picture, resized


@dataclass(frozen=True)
class StripStyle:
    """Size and format of a strip.

    Attributes:
        columns: crops beside each other.
        tile: side of a crop in px.
        mel_height: height of the log-mel in px.
        suffix: ``.jpg`` or ``.webp``.
        quality: quality of the format, 1 to 100.
    """

    columns: int = 8
    tile: int = 72
    mel_height: int = 56
    suffix: str = ".jpg"
    quality: int = 82  # a strip takes about 30 kB


def strip_parts(stages: Collection[str]) -> list[str]:
    """Return in words what a `strip` of arrays of these stages shows.

    >>> strip_parts(["faces", "flow", "logmel"]), strip_parts(["logmel", "speech"])
    (['crops', 'flow', 'log-mel'], ['log-mel'])
    """
    parts = {"crops": (FACES,), "flow": (FACES, FLOW), "log-mel": (LOGMEL,)}
    return [words for words, needed in parts.items() if all(stage.name in stages for stage in needed)]


def strip(arrays: Mapping[str, Mapping[str, np.ndarray]], style: StripStyle = StripStyle()) -> bytes | None:
    """Return crops, flow and log-mel of a clip as one picture file, or ``None`` where there are none.

    Args:
        arrays: arrays of the clip in the caches, keyed by stage.
        style: size and format.
    """
    rows = []
    width, tile = style.columns * style.tile, style.tile
    faces, flow, audio = (arrays.get(stage) for stage in (FACES.name, FLOW.name, LOGMEL.name))
    if faces is not None:
        last = max(0, len(faces["time"]) - 2)  # the last video frame has no flow
        shown = np.linspace(0, last, style.columns).round().astype(int)
        rows.append(np.hstack([resized(faces["frames"][i], tile, tile) for i in shown]))
        if flow is not None:
            field = decode_flow({name: np.asarray(values)[shown] for name, values in flow.items()})
            largest = flow_saturation(field)
            rows.append(np.hstack([resized(flow_colours(f, largest), tile, tile) for f in field]))
    if audio is not None:
        rows.append(resized(mel_picture(audio[LOGMEL.large]), width, style.mel_height))
    if not rows:
        return None
    kind = cv2.IMWRITE_WEBP_QUALITY if style.suffix == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    image = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    return cv2.imencode(style.suffix, image, [kind, style.quality])[1].tobytes()
