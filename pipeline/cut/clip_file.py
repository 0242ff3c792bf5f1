"""The file of one segment, which is written while its recording is read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.os_errors import name_written_file
from deiii.data.tools.processes.made_folders import make_folder
from deiii.pipeline.cut.segments import Segment
from deiii.pipeline.media.writing.copies import BLOCK, add_audio, add_video, audio_frame, video_frame


class _Discarded(Exception):
    """Makes `atomic_path` remove what was written."""


class ClipFile:
    """The file of one segment: ``.mov``, or ``.wav`` if the segment has no video frame.

    Nothing is written before the first frame. The file gets its final name in `finish`.

    Args:
        segment: what the file holds.
        target: path without suffix.
        rate: sample rate of the audio in Hz; ``None`` for a recording without audio.
        crf: quality of the video, as in `add_video`.

    Attributes:
        path: path of the file; ``None`` before anything was written.
        sounds: whether there is audio.
        frames, damaged: number of video frames, and of those that were decoded with damage.

    >>> clip = ClipFile(segment, Path("out/interview_0012500-0015000"), 48_000, 12)      # doctest: +SKIP
    >>> clip.add_frame(rgb, 12.52)                                                       # doctest: +SKIP
    >>> clip.finish()                                                                    # doctest: +SKIP
    """

    def __init__(self, segment: Segment, target: Path, rate: int | None, crf: float | None):
        self.segment, self.target, self.rate, self.crf = segment, target, rate, crf
        self.path: Path | None = None
        self.sounds = False
        self.frames = self.damaged = 0
        self._waiting: list[tuple[int, np.ndarray]] = []  # audio before the first frame
        self._temporary = target  # the temporary name of the file, once it is open
        self._out: Any = None
        self._video: Any = None
        self._audio: Any = None
        self._size = (0, 0)
        self._first = 0  # number of the first sample of a WAV file
        self._stack = contextlib.ExitStack()

    def add_frame(self, rgb: np.ndarray, time: float, damaged: bool = False) -> None:
        """Add a video frame uint8 [H,W,3]; ``time`` is its time in the recording in s.

        A frame of another size than the first one is scaled.
        """
        if self._video is None:
            self._open("mov")
            self._size = rgb.shape[1], rgb.shape[0]
            self._video = add_video(self._out, *self._size, self.crf, "veryfast", 0)
            if self.rate is not None:
                self._audio = add_audio(self._out, self.rate)
        if (rgb.shape[1], rgb.shape[0]) != self._size:
            rgb = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
        frame = video_frame(self._video, rgb, max(0.0, time - self.segment.begin))
        self._mux(self._video.encode(frame))
        self.frames += 1
        self.damaged += damaged
        self._write_waiting()

    def add_samples(self, samples: np.ndarray, index: int, more_video: bool = True) -> None:
        """Add audio samples float32 [n]; ``index`` is the place of the first one after the segment's begin.

        Samples of one call follow those of the call before without a gap. They stay in memory until the first
        video frame; without ``more_video``, no frame will follow, and they are written at once.
        """
        self._waiting.append((index, samples))
        self.sounds = True
        if not more_video:
            self._open_wav()
        self._write_waiting()

    def finish(self) -> None:
        """Write what is left and give the file its name."""
        self._open_wav()
        self._write_waiting()
        for stream in (self._video, self._audio):
            if stream is not None:
                self._mux(stream.encode())
        self._stack.close()
        self._out = self._video = self._audio = None  # the encoders take much memory

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(_Discarded), self._stack:
            raise _Discarded

    def _open_wav(self) -> None:
        if self.path is None and self._waiting and self.rate is not None:
            self._open("wav")
            self._audio = add_audio(self._out, self.rate)
            self._first = self._waiting[0][0]  # the time of every WAV file begins at 0

    def _open(self, suffix: str) -> None:
        self.path = self.target.with_name(f"{self.target.name}.{suffix}")
        make_folder(self.path.parent)
        self._temporary = self._stack.enter_context(atomic_path(self.path)).absolute()
        self._out = self._stack.enter_context(av.open(str(self._temporary), "w", format=suffix))

    def _mux(self, packets: Any) -> None:
        """Write packets; errors name the file, and not its temporary name."""
        with name_written_file(self.target if self.path is None else self.path, self._temporary):
            self._out.mux(packets)

    def _write_waiting(self) -> None:
        if self._audio is None or self.rate is None:
            return
        for index, samples in self._waiting:
            for at in range(0, len(samples), BLOCK):
                part = audio_frame(samples[at : at + BLOCK], self.rate, index - self._first + at)
                self._mux(self._audio.encode(part))
        self._waiting = []
