"""Figures of each clip of a preprocessed corpus, read from its caches: length, face, loudness, flow.

The arrays are sampled: every fourth hop of log-mel, four flow fields of a clip on a coarse grid, eight crops.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.index import StageIndex
from deiii.data.cache.outcomes import ClipError
from deiii.data.cache.shards import ClipRow
from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.row_times import end_of_rows
from deiii.pipeline.faces.quality import face_figures
from deiii.pipeline.media.container import open_media, video_stream
from deiii.pipeline.media.streaming.used_streams import useless_video_streams

FLOW_FIELDS = 4  # number of flow fields that are measured in a clip
FLOW_STEP = 8  # px between the places of a field that are read
THREADS = 8

Arrays = Mapping[str, np.ndarray]


class Figure(NamedTuple):
    """One figure of clips: its name, its unit, and decimals to show."""

    name: str
    unit: str
    decimals: int


FIGURES = {
    "length": Figure("length", "s", 2),
    "fps": Figure("frame rate", "frames/s", 1),
    "height": Figure("frame height", "px", 0),
    "face": Figure("face width", "px", 0),
    "valid": Figure("valid video frames", "%", 0),
    "loudness": Figure("loudness (log-mel)", "dB", 1),
    "difference": Figure("audio end minus video end", "s", 2),
    "flow": Figure("flow length", "px of the crop", 2),
    "sharpness": Figure("sharpness of the crops", "variance of the Laplacian", 0),
    "brightness": Figure("brightness of the crops", "grey value", 0),
    "yaw": Figure("head yaw", "°, to the right", 0),
    "pitch": Figure("head pitch", "°, up", 0),
    "roll": Figure("head roll", "°, clockwise", 0),
}


def measure(
    corpus: Corpus,
    indices: Mapping[str, StageIndex],
    folders: Mapping[str, Path],
    ids: Collection[str],
    posed: bool = False,
) -> dict[str, dict[str, float]]:
    """Return the figures of clips, by clip id and name in `FIGURES`; what is unknown is absent.

    Args:
        corpus: the clips.
        indices: indices of the finished stages, by name.
        folders: folders of the same stages.
        ids: ids of the clips to measure.
        posed: argument of `face_figures`.

    Raises:
        CacheError: a shard is missing or damaged.
    """
    wanted = set(ids)
    found: dict[str, dict[str, float]] = {clip_id: {} for clip_id in ids}
    for stage, index in indices.items():
        if (figures_of := _OF_STAGE.get(stage)) is None:
            continue
        for row, arrays in _usable_clips(index, folders[stage], wanted):
            found[row.id] |= figures_of(arrays)
            if stage == FACES.name:
                found[row.id]["valid"] = 100 * row.fraction
                found[row.id] |= face_figures(arrays, posed)
    for values in found.values():
        _add_lengths(values)
    _add_headers(corpus, found)
    return found


def _usable_clips(
    index: StageIndex, folder: Path, wanted: Collection[str]
) -> Iterator[tuple[ClipRow, Arrays]]:
    """Yield the row and the arrays of each wanted clip that the stage could use."""
    for record in index.shards:
        rows = [row for row in record.clips if row.id in wanted and row.outcome.usable]
        if rows:  # a shard without wanted clips is not opened
            shard = record.open(folder)
            for row in rows:
                yield row, shard.clip(row.id)


def _add_lengths(values: dict[str, float]) -> None:
    """Replace the ends of video and audio, in s, by the length of the clip and the difference of the ends."""
    video_end, audio_end = values.pop("video_end", None), values.pop("audio_end", None)
    known = [end for end in (video_end, audio_end) if end is not None]
    if known:
        values["length"] = max(known)
    if video_end is not None and audio_end is not None:
        values["difference"] = audio_end - video_end


def _of_faces(arrays: Arrays) -> dict[str, float]:
    time, valid = arrays["time"], arrays["valid"]
    found = {"video_end": end_of_rows(time)}
    if len(time) > 1:
        found["fps"] = 1 / max(1e-6, float(np.median(np.diff(time))))
    if valid.any():
        found["face"] = float(np.median(arrays["box"][valid, 2]))
    return found


def _of_flow(arrays: Arrays) -> dict[str, float]:
    rows = np.flatnonzero(arrays["valid"])
    if not len(rows):
        return {}
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, FLOW_FIELDS).round().astype(int))]
    part = {"flow": arrays["flow"][chosen, ::FLOW_STEP, ::FLOW_STEP]}
    if "scale" in arrays:
        part["scale"] = arrays["scale"][chosen]
    return {"flow": float(np.linalg.norm(decode_flow(part), axis=-1).mean())}


def _of_logmel(arrays: Arrays) -> dict[str, float]:
    power = 10.0 ** (arrays["logmel"][::4].astype(np.float64) / 10)
    return {"audio_end": end_of_rows(arrays["time"]), "loudness": float(10 * np.log10(power.mean()))}


_OF_STAGE: dict[str, Callable[[Arrays], dict[str, float]]] = {
    FACES.name: _of_faces,
    FLOW.name: _of_flow,
    LOGMEL.name: _of_logmel,
}


def _add_headers(corpus: Corpus, found: Mapping[str, dict[str, float]]) -> None:
    """Add frame height and frame rate from the headers of clips whose video was usable."""
    paths = {
        clip.id: Path(corpus.root) / clip.path for clip in corpus.clips if "fps" in found.get(clip.id, {})
    }
    with ThreadPoolExecutor(THREADS) as pool:
        for clip_id, header in zip(paths, pool.map(_header, paths.values()), strict=True):
            found[clip_id] |= header


def _header(path: Path) -> dict[str, float]:
    """Return height in px and frames per second that a file's header names; nothing where it is not there.

    They are those of the video stream that preprocessing reads.
    """
    try:
        useless = useless_video_streams(path)
        with open_media(str(path)) as container:
            stream, _ = video_stream(container, useless)
            rate = {"fps": float(stream.average_rate)} if stream.average_rate else {}
            return {"height": float(stream.height), **rate}
    except (av.error.FFmpegError, OSError, ClipError):
        return {}
