"""Writing a video with the sound of another file.

>>> with VideoWriter("out.mp4", 640, 360, sound="clip.mp4") as video:   # doctest: +SKIP
...     for rgb, time_s in read_video("clip.mp4"):
...         video.add(rgb, time_s)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec
import av.error
import numpy as np

from deiii.data.tools.atomic_files import atomic_path

CLOCK = 90_000  # ticks a second: every common frame rate's times are whole ticks
SOUND_RATE, SOUND_FRAME = 48_000, 1024  # Hz; samples that AAC takes at a time
GAP_S = 0.03  # sound that goes on later than this after the sound before leaves a gap


class VideoWriter:
    """An H.264 and AAC file (mp4), whole or absent: it gets its name when the block ends without error.

    Frames keep their times, so variable rates stay as they are. Sound is encoded anew, because not
    every codec may lie in an mp4; a file without sound that can be decoded gives a video without.

    Args:
        path: of the file to write.
        width, height: of the frames in px, even.
        sound: a media file whose first sound track is added, on the same clock.
    """

    def __init__(self, path: str | Path, width: int, height: int, sound: str | Path | None = None):
        if width % 2 or height % 2:
            raise ValueError(f"a video's width and height must be even, not {width}x{height}")
        self.path, self.size, self.source = Path(path), (width, height), sound
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
            options = {"movflags": "+faststart"}
            self._out = self._stack.enter_context(av.open(str(temporary), "w", format="mp4", options=options))
            self._video = _video_stream(self._out, self.size)
            self._sound = self._stack.enter_context(contextlib.closing(_sound(self.source)))
            self._next = next(self._sound, None)
            self._audio: Any = None
            if self._next is not None:
                layout = self._next.layout.name
                self._audio = self._out.add_stream("aac", rate=SOUND_RATE, layout=layout)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def add(self, rgb: np.ndarray, time_s: float) -> None:
        """The next frame, uint8 [H,W,3], shown from ``time_s`` on; times rise strictly."""
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = round(time_s * CLOCK), Fraction(1, CLOCK)
        self._add_sound(time_s)
        self._out.mux(self._video.encode(frame))

    def __exit__(self, kind, error, trace) -> bool | None:
        try:
            if kind is None:
                self._add_sound(float("inf"))
                self._out.mux(self._video.encode())
                if self._audio is not None:
                    self._out.mux(self._audio.encode())
        except BaseException as late:
            self._stack.__exit__(type(late), late, late.__traceback__)
            raise
        return self._stack.__exit__(kind, error, trace)

    def _add_sound(self, until_s: float) -> None:
        while self._next is not None and self._next.pts / SOUND_RATE <= until_s:
            self._out.mux(self._audio.encode(self._next))
            self._next = next(self._sound, None)


def _video_stream(out: Any, size: tuple[int, int]) -> Any:
    try:
        av.codec.Codec("libx264", "w")
        stream = out.add_stream("libx264", rate=25, options={"crf": "20", "preset": "veryfast"})
    except (av.error.FFmpegError, ValueError):  # a build without it
        stream = out.add_stream("mpeg4", rate=25)
        stream.bit_rate = 4_000_000
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    return stream


def _sound(path: str | Path | None) -> Iterator[Any]:
    """A file's sound as frames that AAC takes, timed on the clock of `read_video`."""
    if path is None:
        return
    with contextlib.suppress(av.error.FFmpegError, OSError), av.open(str(path)) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return
        zero = Fraction(container.start_time or 0, av.time_base)
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = av.AudioResampler("fltp", layout, SOUND_RATE, SOUND_FRAME)
        expected: int | None = None
        for frame in container.decode(stream):
            at = frame.pts
            begins = expected if at is None else round((at * frame.time_base - zero) * SOUND_RATE)
            if expected is None or begins - expected > GAP_S * SOUND_RATE:
                expected = shift = max(0, begins or 0)
                sent = 0
            expected += round(frame.samples * SOUND_RATE / frame.sample_rate)
            frame.pts = None
            for piece in resampler.resample(frame):
                piece.pts, piece.time_base = shift + sent, Fraction(1, SOUND_RATE)
                sent += piece.samples
                yield piece
        for piece in resampler.resample(None) if expected is not None else ():
            piece.pts, piece.time_base = shift + sent, Fraction(1, SOUND_RATE)
            sent += piece.samples
            yield piece
