"""Streams of media files that keep decoded frames and samples, without loss or with little.

>>> with av.open("copy.mov", "w") as out:      # doctest: +SKIP
...     video = add_video(out, 640, 360, crf=12)
...     audio = add_audio(out, 48_000)
...     for packet in audio_packets(audio, samples, 48_000, start=0.02):
...         out.mux(packet)
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.codec
import av.error
import numpy as np

from deiii.pipeline.media.container import open_media

CLOCK = 90_000  # ticks per second; the frame times of every common frame rate are whole ticks
BLOCK = 4096  # audio samples in a packet
LOSSLESS = {"crf": "0", "preset": "ultrafast"}
# With x264's macroblock tree, some calls encoded the same frames to other bytes (5 of 24 at a width of 96 px,
# 1 of 12 at 200 px). Without it all calls gave the same bytes; the cause within x264 is not known.
REPRODUCIBLE = {"x264-params": "mbtree=0"}


class EncoderError(RuntimeError):
    """FFmpeg was built without the H.264 encoder."""


def add_video(
    out: Any, width: int, height: int, crf: float | None = None, preset: str = "medium", threads: int = 1
) -> Any:
    """Add a stream of H.264 video to an open file and return it.

    Args:
        out: PyAV's output container.
        width, height: size in px; with ``crf`` it is rounded down to even numbers, because yuv420p has a
            quarter of the colour samples. The stream has the rounded size.
        crf: constant rate factor of x264, 0 to 51, in yuv420p; ``None`` stores RGB without loss.
        preset: preset of x264; without loss, ``ultrafast`` is used.
        threads: threads of the encoder; 0 lets x264 choose. The bytes depend on their number.

    Raises:
        EncoderError: FFmpeg has no libx264.
    """
    name = "libx264rgb" if crf is None else "libx264"
    try:
        av.codec.Codec(name, "w")
    except (av.error.FFmpegError, ValueError):
        raise EncoderError(
            f"this build of FFmpeg has no {name}; install PyAV from PyPI: pip install av"
        ) from None
    options = LOSSLESS if crf is None else {"crf": f"{crf:g}", "preset": preset, **REPRODUCIBLE}
    stream = out.add_stream(name, rate=25, options=options)
    even = 1 if crf is None else 2
    stream.height, stream.width = height - height % even, width - width % even
    stream.pix_fmt = "rgb24" if crf is None else "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    stream.codec_context.thread_count = threads
    return stream


def video_frame(stream: Any, rgb: np.ndarray, time_s: float) -> av.VideoFrame:
    """Return a frame of uint8 [H,W,3] for a stream of `add_video`, shown from ``time_s`` s on."""
    cut = np.ascontiguousarray(rgb[: stream.height, : stream.width])
    frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
    frame.pts, frame.time_base = round(time_s * CLOCK), Fraction(1, CLOCK)
    return frame


def add_audio(out: Any, rate: int) -> Any:
    """Add a stream of mono float32 samples at ``rate`` Hz to an open file and return it."""
    stream = out.add_stream("pcm_f32le", rate=rate, layout="mono")
    stream.codec_context.time_base = Fraction(1, rate)
    return stream


def audio_packets(stream: Any, samples: np.ndarray, rate: int, start: float) -> Iterator[Any]:
    """Yield the packets of an audio stream.

    Args:
        stream: from `add_audio`.
        samples: float32 [n].
        rate: Hz.
        start: time of the first sample in s; samples before 0 are left out.
    """
    first = round(start * rate)
    for at in range(max(0, -first), len(samples), BLOCK):
        yield from stream.encode(audio_frame(samples[at : at + BLOCK], rate, first + at))
    yield from stream.encode()


def audio_frame(samples: np.ndarray, rate: int, index: int) -> av.AudioFrame:
    """Return samples float32 [n] as a frame whose first sample has the time ``index / rate`` s."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, index, Fraction(1, rate)
    return frame


def audio_rate(path: str) -> int | None:
    """Return the highest sample rate of a file's audio streams in Hz; ``None`` where it has none.

    Streams for which FFmpeg has no decoder do not count.
    """
    with open_media(path) as container:
        decodable = [stream for stream in container.streams.audio if stream.codec_context is not None]
        rates = [stream.rate for stream in decodable if stream.rate]
    return int(max(rates)) if rates else None
