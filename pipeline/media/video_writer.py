"""Write a video with the audio of another file.

>>> with VideoWriter("out.mp4", 640, 360, audio="clip.mp4") as video:   # doctest: +SKIP
...     for rgb, time_s in read_video("clip.mp4"):
...         video.add(rgb, time_s)
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec
import av.error
import numpy as np

from deiii.data.tools.atomic_files import atomic_path

CLOCK = 90_000  # ticks a second; the frame times of every common frame rate are whole ticks
AUDIO_RATE = 48_000  # Hz
AUDIO_FRAME = 1024  # samples in one AAC frame
GAP_S = 0.03  # a later start than this after the preceding audio is a gap


class VideoWriter:
    """Write an mp4 file with H.264 video and AAC audio.

    The file gets its final name when the block ends without an error; else nothing is left. Frames
    keep their times, also at variable frame rates. Audio is encoded again, because mp4 does not allow
    every codec. Where the source has no audio that can be decoded, the video has none.

    Args:
        path: of the file to write.
        width, height: of the frames in px, even numbers.
        audio: a media file whose first audio stream is added on the same clock.

    Raises:
        ValueError: the width or height is odd.
    """

    def __init__(self, path: str | Path, width: int, height: int, audio: str | Path | None = None):
        if width % 2 or height % 2:
            raise ValueError(f"a video's width and height must be even, not {width}x{height}")
        self.path = Path(path)
        self.size = (width, height)
        self.source = audio
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
            options = {"movflags": "+faststart"}
            self._out = self._stack.enter_context(av.open(str(temporary), "w", format="mp4", options=options))
            self._video = _video_stream(self._out, self.size)
            self._audio_frames = self._stack.enter_context(contextlib.closing(_audio_frames(self.source)))
            self._next: av.AudioFrame | None = next(self._audio_frames, None)
            self._audio: Any = None
            if self._next is not None:
                layout = self._next.layout.name
                self._audio = self._out.add_stream("aac", rate=AUDIO_RATE, layout=layout)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def add(self, rgb: np.ndarray, time_s: float) -> None:
        """Add a frame uint8 [H,W,3] that is shown from ``time_s`` s on; times must rise strictly."""
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts = round(time_s * CLOCK)
        frame.time_base = Fraction(1, CLOCK)
        self._add_audio(time_s)
        self._out.mux(self._video.encode(frame))

    def __exit__(self, kind, error, trace) -> bool | None:
        try:
            if kind is None:
                self._add_audio(float("inf"))
                self._out.mux(self._video.encode())
                if self._audio is not None:
                    self._out.mux(self._audio.encode())
        except BaseException as late:
            self._stack.__exit__(type(late), late, late.__traceback__)
            raise
        return self._stack.__exit__(kind, error, trace)

    def _add_audio(self, until_s: float) -> None:
        """Write the audio frames that begin at or before ``until_s`` s."""
        while self._next is not None and (self._next.pts or 0) / AUDIO_RATE <= until_s:
            self._out.mux(self._audio.encode(self._next))
            self._next = next(self._audio_frames, None)


def _video_stream(out: Any, size: tuple[int, int]) -> Any:
    """Add a video stream: H.264, or MPEG-4 where FFmpeg was built without libx264."""
    try:
        av.codec.Codec("libx264", "w")
        stream = out.add_stream("libx264", rate=25, options={"crf": "20", "preset": "veryfast"})
    except (av.error.FFmpegError, ValueError):
        stream = out.add_stream("mpeg4", rate=25)
        stream.bit_rate = 4_000_000
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    return stream


def _audio_frames(path: str | Path | None) -> Generator[av.AudioFrame, None, None]:
    """Yield the audio of a file as frames for AAC, timed on the clock of `read_video`."""
    if path is None:
        return
    with contextlib.suppress(av.error.FFmpegError, OSError), av.open(str(path)) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return
        zero = Fraction(container.start_time or 0, av.time_base)
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = av.AudioResampler("fltp", layout, AUDIO_RATE, AUDIO_FRAME)
        expected: int | None = None  # where the next frame begins if there is no gap, in samples
        start = sent = 0  # where the audio after the last gap begins, and how many samples of it were sent
        for frame in container.decode(stream):
            begin = expected
            if frame.pts is not None and frame.time_base is not None:
                begin = round((frame.pts * frame.time_base - zero) * AUDIO_RATE)
            if expected is None or (begin is not None and begin - expected > GAP_S * AUDIO_RATE):
                expected = start = max(0, begin or 0)
                sent = 0
            expected += round(frame.samples * AUDIO_RATE / frame.sample_rate)
            frame.pts = None
            for piece in resampler.resample(frame):
                sent = _place(piece, start, sent)
                yield piece
        if expected is not None:
            for piece in resampler.resample(None):
                sent = _place(piece, start, sent)
                yield piece


def _place(piece: av.AudioFrame, start: int, sent: int) -> int:
    """Set the time of a frame; returns how many samples were sent with it."""
    piece.pts = start + sent
    piece.time_base = Fraction(1, AUDIO_RATE)
    return sent + piece.samples
