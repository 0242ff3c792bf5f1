"""Tiny corpora in their published layouts, with real media files."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import av
import numpy as np

_VIDEO = {".mp4": ("mp4", "mpeg4", "aac"), ".avi": ("avi", "mpeg4", "mp3"), ".flv": ("flv", "flv1", "mp3")}
_SOUND = {".wav": ("wav", "pcm_s16le"), ".flac": ("flac", "flac")}


def place(root: Path, path: str) -> Path:
    """Put a decodable file of a fifth of a second at ``root/path``; its suffix determines the kind."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(media_bytes(file.suffix.lower()))
    return file


@lru_cache
def media_bytes(suffix: str) -> bytes:
    """Return a file of five grey frames at 25 fps and a tone, or of the tone alone."""
    buffer = BytesIO()
    container, *codecs = _VIDEO.get(suffix) or _SOUND[suffix]
    with av.open(buffer, "w", format=container) as out:
        rate = 16000 if suffix != ".flv" else 22050
        if suffix in _VIDEO:
            video = out.add_stream(codecs[0], rate=25)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
            sound = out.add_stream(codecs[1], rate=rate, layout="mono")
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * i, np.uint8), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                out.mux(video.encode(frame))
            out.mux(video.encode())
        else:
            sound = out.add_stream(codecs[0], rate=rate, layout="mono")
        tone = (8000 * np.sin(np.arange(rate // 5) * 0.1)).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(sound.format, "mono", rate, sound.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(sound.encode(piece))
        out.mux(sound.encode())
    return buffer.getvalue()


def decodes(path: Path) -> tuple[int, int]:
    """Return the number of video frames and of samples in a file."""
    frames = samples = 0
    with av.open(str(path)) as container:
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                frames += 1
            else:
                samples += frame.samples
    return frames, samples
