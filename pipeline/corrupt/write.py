"""Write a corrupted copy of a media file, with the frames, samples and times that the stages read from it.

>>> write_corrupted("a.mp4", "b", Corruption("noise", 20.0), seed=0, clip="a")      # doctest: +SKIP
PosixPath('b.mov')

Everything but the corruption is kept: video is stored without loss (H.264 in RGB at CRF 0), audio as float
samples at its own rate, both on the clock of `read_video` and `read_audio`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from deiii.data.cache.outcomes import ClipError, Status
from deiii.data.tools.atomic_files import atomic_path
from deiii.pipeline.corrupt.kinds import (
    Corruption,
    add_noise,
    blur,
    change_speed,
    generator,
    occlude,
    parse_corruption,
)
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.levels import TOO_LOUD
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.copies import add_audio, add_video, audio_packets, audio_rate, video_frame

NO_BOX = 1 / 3  # width of the face, as a share of the frame's height, if no face was found


class FaceBoxes:
    """The boxes of a clip's face at any time.

    Args:
        time: float64 [n], s.
        box: float32 [n,4], x, y, width and height in px; NaN without a face.
    """

    def __init__(self, time: np.ndarray, box: np.ndarray):
        known = ~np.isnan(box).any(axis=1)
        self.time, self.box = time[known], box[known]

    def at(self, time: float) -> np.ndarray | None:
        """Return the box of the nearest time with a face; ``None`` for a clip without."""
        if not len(self.time):
            return None
        return self.box[int(np.abs(self.time - time).argmin())]

    def width(self, height: int) -> float:
        """Return the median width in px; a third of the frame's height for a clip without a face."""
        return float(np.median(self.box[:, 2])) if len(self.box) else NO_BOX * height


NOWHERE = FaceBoxes(np.zeros(0), np.zeros((0, 4), np.float32))


def write_corrupted(
    source: str | Path,
    target: str | Path,
    corruption: Corruption | None,
    seed: int = 0,
    clip: str = "",
    faces: FaceBoxes = NOWHERE,
) -> Path:
    """Write a corrupted copy of a recording.

    Args:
        source: the media file.
        target: path of the copy, without suffix.
        corruption: what is done to it; ``None`` writes a copy without loss.
        seed, clip: the random numbers depend on them and on the corruption alone.
        faces: boxes of the face, for ``blur`` and ``occlude``.

    Returns:
        the path of the copy: ``.mov``, or ``.wav`` for a recording without video.

    Raises:
        ClipError: neither video nor audio can be decoded.
        EncoderError: FFmpeg was built without libx264, which video needs.
    """
    rng = generator(seed, clip, corruption) if corruption else np.random.default_rng(0)
    source_audio, audio_error = _read_source_audio(source, corruption, rng)
    frames = iter(read_video(source))
    try:
        first = next(frames)
    except ClipError as no_video:
        if no_video.outcome.status is Status.FAILED:  # an error of the machine: there may be a video
            raise
        if source_audio is None:
            audio_is_bad = audio_error and audio_error.outcome.status is not Status.NO_AUDIO
            raise audio_error if audio_error and audio_is_bad else no_video from None
        return _write_wav(Path(f"{target}.wav"), *source_audio[:2])
    except StopIteration:
        first = None
    path = Path(f"{target}.mov")
    place = (float(rng.random()), float(rng.random()))
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mov") as out:
        video: Any = None
        audio = add_audio(out, source_audio[1]) if source_audio else None
        for rgb, time in _chain(first, frames):
            changed = _changed(rgb, time, corruption, faces, place)
            if video is None:
                compressed = corruption is not None and corruption.kind == "compress"
                crf = corruption.value if compressed and corruption else None
                video = add_video(out, changed.shape[1], changed.shape[0], crf)
            out.mux(video.encode(video_frame(video, changed, time / _speed(corruption))))
        if video is not None:
            out.mux(video.encode())
        if audio is not None and source_audio is not None:
            for packet in audio_packets(audio, *source_audio):
                out.mux(packet)
    return path


@contextlib.contextmanager
def corrupted_copy(path: str, corruption: str) -> Iterator[str]:
    """Yield the path of a temporary corrupted copy of a media file.

    Random numbers depend on the file's name and the corruption.

    Raises:
        ClipError: neither video nor audio can be decoded.

    >>> with corrupted_copy("a.mp4", "speed=0.9") as copy:      # doctest: +SKIP
    ...     run_clip("logmel", copy, config)
    """
    with tempfile.TemporaryDirectory(prefix="deiii-corrupt-") as folder:
        target = Path(folder) / "clip"
        yield str(write_corrupted(path, target, parse_corruption(corruption), 0, Path(path).name))


def _chain(first: Any, frames: Any) -> Any:
    if first is not None:
        yield first
    yield from frames


def _changed(
    rgb: np.ndarray, time: float, corruption: Corruption | None, faces: FaceBoxes, place: tuple[float, float]
) -> np.ndarray:
    """Return a frame after the corruption; compression happens in the encoder."""
    if corruption is None or corruption.kind not in ("blur", "occlude"):
        return rgb
    if corruption.kind == "blur":
        return blur(rgb, corruption.value, faces.width(rgb.shape[0]))
    box = faces.at(time)
    return rgb if box is None else occlude(rgb, corruption.value, box, place)


def _read_source_audio(
    source: str | Path, corruption: Corruption | None, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, int, float] | None, ClipError | None]:
    """Return samples, float32 [n], their rate in Hz and the first one's time in s; or why there are none."""
    try:
        rate = audio_rate(str(source))
        if rate is None:
            return None, None
        samples, start, _ = read_audio(source, rate)
    except ClipError as error:
        if error.outcome.status is Status.FAILED:  # an error of the machine, not of the file
            raise
        return None, error
    if corruption is not None and corruption.kind == "noise":
        samples = add_noise(samples, corruption.value, rng)
        # Louder float samples are read as integers. A quieter copy has the same ratio.
        samples *= min(1.0, TOO_LOUD / max(float(np.abs(samples).max(initial=0.0)), TOO_LOUD))
        np.clip(samples, -TOO_LOUD, TOO_LOUD, out=samples)  # the product may be rounded up
    if (factor := _speed(corruption)) != 1:
        samples, start = change_speed(samples, rate, factor), start / factor
    return (samples, rate, start), None


def _speed(corruption: Corruption | None) -> float:
    """Return the factor by which a copy is faster than its recording."""
    return corruption.value if corruption is not None and corruption.kind == "speed" else 1.0


def _write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Write a recording without video; its time begins at 0, as that of every WAV file."""
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="wav") as out:
        for packet in audio_packets(add_audio(out, rate), samples, rate, 0.0):
            out.mux(packet)
    return path
