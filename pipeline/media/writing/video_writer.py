"""Write a video with the audio of another file.

>>> with VideoWriter("out.mp4", 640, 360, audio="clip.mp4") as video:   # doctest: +SKIP
...     for rgb, time_s in read_video("clip.mp4"):
...         video.add(rgb, time_s)
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec
import av.error
import cv2
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.processes.made_folders import make_folder
from deiii.pipeline.media.streaming.audio import settled_reader

CLOCK = 90_000  # ticks per second; the frame times of every common frame rate are whole ticks
AUDIO_RATE = 48_000  # Hz
AUDIO_FRAME = 1024  # samples in one AAC frame
AHEAD = 8  # frames that wait for the encoder at most: 200 MB for video of 3840x2160 px


class VideoWriter:
    """Write an mp4 file with H.264 video and AAC audio.

    The file gets its final name when the block ends without an error; else nothing is left. Frames
    keep their times, also at variable frame rates. The audio is what `deiii.pipeline.media.audio.read_audio`
    returns, in parts, so that the video has the audio that the cache stores. Where the source has no audio
    that can be decoded, the video has none. A thread encodes, so that the caller can make the next frames
    meanwhile; its errors are raised by a later `add` or at the end of the block.

    Args:
        path: path of the file to write.
        width, height: size of the frames in px, even numbers.
        audio: a media file whose audio is added on the same clock.

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
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> VideoWriter:
        make_folder(self.path.parent)
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
            options = {"movflags": "+faststart"}
            name = os.path.abspath(temporary)  # FFmpeg takes a relative path with a colon for a protocol
            self._out = self._stack.enter_context(av.open(name, "w", format="mp4", options=options))
            self._video = _video_stream(self._out, self.size)
            self._audio_frames = self._stack.enter_context(contextlib.closing(_audio_frames(self.source)))
            self._next: av.AudioFrame | None = next(self._audio_frames, None)
            self._audio: Any = None
            if self._next is not None:
                layout = self._next.layout.name
                self._audio = self._out.add_stream("aac", rate=AUDIO_RATE, layout=layout)
            # Entered last: the thread has ended before the file is closed.
            self._thread = self._stack.enter_context(ThreadPoolExecutor(1, "video writer"))
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def add(self, rgb: np.ndarray, time_s: float) -> None:
        """Add a frame uint8 [H,W,3] that is shown from ``time_s`` s on; times must rise strictly.

        Raises:
            ValueError: the frame has another size than the video, or is not of uint8.
        """
        if rgb.shape != (self.size[1], self.size[0], 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"a video of {self.size[0]}x{self.size[1]} px takes frames uint8 "
                f"{(self.size[1], self.size[0], 3)}, not {rgb.dtype} {rgb.shape}"
            )
        while len(self._waiting) >= AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._write_next, rgb.copy(), time_s))

    def _write_next(self, rgb: np.ndarray, time_s: float) -> None:
        """Write a frame, unless one before it could not be written.

        FFmpeg ends the process by a signal if packets follow a header for which the disk had no room.
        """
        if self._failed:
            return
        try:
            self._write(rgb, time_s)
        except BaseException:
            self._failed = True
            raise

    def _write(self, rgb: np.ndarray, time_s: float) -> None:
        # OpenCV converts with the same matrix and range as FFmpeg (BT.601, limited), in less time.
        planes: np.ndarray = np.empty((self.size[1] * 3 // 2, self.size[0]), np.uint8)
        cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420, dst=planes)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = round(time_s * CLOCK)
        frame.time_base = Fraction(1, CLOCK)
        self._add_audio(time_s)
        self._out.mux(self._video.encode(frame))

    def __exit__(self, kind, error, trace) -> bool | None:
        try:
            if kind is None:
                while self._waiting:
                    self._waiting.popleft().result()
                self._add_audio(float("inf"))
                self._out.mux(self._video.encode())
                if self._audio is not None:
                    self._out.mux(self._audio.encode())
        except BaseException as late:
            self._drop_waiting()
            self._stack.__exit__(type(late), late, late.__traceback__)
            raise
        self._drop_waiting()
        return self._stack.__exit__(kind, error, trace)

    def _drop_waiting(self) -> None:
        """Leave out the frames that wait; after an error they would be encoded for nothing."""
        for frame in self._waiting:
            frame.cancel()
        self._waiting.clear()

    def _add_audio(self, until_s: float) -> None:
        """Write the audio frames that begin at or before ``until_s`` s."""
        while self._next is not None and (self._next.pts or 0) / AUDIO_RATE <= until_s:
            self._out.mux(self._audio.encode(self._next))
            self._next = next(self._audio_frames, None)


def _video_stream(out: Any, size: tuple[int, int]) -> Any:
    """Add a video stream: H.264, or MPEG-4 where FFmpeg was built without libx264."""
    try:
        av.codec.Codec("libx264", "w")
        # Without B-frames, encoding three videos took about 30 % less time; files were 2 to 21 % larger.
        options = {"crf": "20", "preset": "veryfast", "bf": "0"}
        stream = out.add_stream("libx264", rate=25, options=options)
    except (av.error.FFmpegError, ValueError):
        stream = out.add_stream("mpeg4", rate=25)
        stream.bit_rate = 4_000_000
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    return stream


def _audio_frames(path: str | Path | None) -> Generator[av.AudioFrame, None, None]:
    """Yield the audio of a file as frames for AAC, on the clock of `read_video`; about a second is held."""
    if path is None:
        return
    held = np.zeros(0, np.float32)
    at: int | None = None  # number of the first held sample on the clock
    try:
        reader = settled_reader(path, AUDIO_RATE)
        for samples in reader:
            if at is None:
                at = round(reader.track.start * AUDIO_RATE)
            held = np.concatenate([held, samples])
            early = min(len(held), max(0, -at))
            held, at = held[early:], at + early
            while len(held) >= AUDIO_FRAME:
                yield _audio_frame(held[:AUDIO_FRAME], at)
                held, at = held[AUDIO_FRAME:], at + AUDIO_FRAME
    except ClipError:
        return
    if len(held) and at is not None:
        yield _audio_frame(held, at)


def _audio_frame(samples: np.ndarray, at: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
    frame.sample_rate = AUDIO_RATE
    frame.pts = at
    frame.time_base = Fraction(1, AUDIO_RATE)
    return frame
