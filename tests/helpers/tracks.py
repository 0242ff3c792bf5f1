"""Media files with several tracks, and parts of a stream that are joined with others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tests.helpers.clipmaker import tone

Track = tuple[np.ndarray, str, str]  # samples float [c,n], layout, names of dispositions joined by commas
Frames = Sequence[np.ndarray]


def audio_frames(samples: np.ndarray, layout: str = "mono", rate: int = 16000) -> Iterator[av.AudioFrame]:
    """Yield frames of 1000 samples, int16, of audio float [c,n]."""
    for start in range(0, samples.shape[1], 1000):
        block = np.round(samples[:, start : start + 1000].T * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def _disposition(names: str) -> Disposition:
    found = Disposition(0)
    for name in filter(None, names.split(",")):
        found |= Disposition[name]
    return found


def write_tracks(path: Path, audio: Sequence[Track], video: Sequence[tuple[Frames, str]] = ()) -> str:
    """Write audio tracks of 16 kHz and video tracks with their dispositions."""
    with av.open(str(path), "w") as out:
        pairs: list[tuple[Any, list]] = []
        for frames, marks in video:
            stream: Any = out.add_stream("libx264", rate=25, options={"crf": "12"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.disposition = _disposition(marks)
            pairs.append((stream, [av.VideoFrame.from_ndarray(f, format="rgb24") for f in frames]))
        for samples, layout, marks in audio:
            stream = out.add_stream("pcm_s16le", rate=16000, layout=layout)
            stream.disposition = _disposition(marks)
            pairs.append((stream, list(audio_frames(samples, layout))))
        for stream, items in pairs:
            for frame in items:
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return str(path)


def audio_part(path: Path, codec: str, rate: int, layout: str) -> bytes:
    """Return one second in a transport stream with a tone from 0.5 to 0.7 s, as bytes."""
    wave = np.zeros((1, rate))
    wave[0, rate // 2 : rate * 7 // 10] = tone(0.2, 440, rate)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=rate, layout=layout)
        size = stream.codec_context.frame_size or {"mp2": 1152, "ac3": 1536, "aac": 1024}[codec]
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, rate, size)
        for frame in [*audio_frames(wave, "mono", rate), None]:
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode())
    return path.read_bytes()
