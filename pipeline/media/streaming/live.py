"""A camera, a network stream or a file played in real time: decoded frames as they arrive.

A thread reads and decodes. Video frames that nobody takes in time are dropped, the oldest first, and counted,
so that what is taken is never older than `LATE_FRAMES` frames. A broken connection is opened again.

>>> with LiveReader("rtsp://camera/stream") as reader:      # doctest: +SKIP
...     for item in reader:
...         print(item.time_s, reader.dropped)
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.media.container import audio_stream, video_stream
from deiii.pipeline.media.frame import DecodedFrame
from deiii.pipeline.media.video import Views

LATE_FRAMES = 4  # video frames that may wait; more are dropped
MOST_SOUND = 500  # audio frames that may wait
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0)  # before each attempt to connect again
OPEN_S, READ_S = 10.0, 5.0  # after which opening and reading give up
ASTRAY_S = 5.0  # timestamps that differ by more from the time that has passed are not used
NETWORK = ("http://", "https://", "rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://", "srt://", "rtp://")
PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,rtsp,rtp,srtp,udp,rtmp,srt"
QUICK = {"fflags": "nobuffer", "probesize": "1000000", "analyzeduration": "500000"}


class LiveError(ValueError):
    """A source cannot be opened; the message names it, the reason and the cure."""


class Sound(NamedTuple):
    """Audio that was decoded: mono samples float32 [n], their rate in Hz, and when they begin, s."""

    samples: np.ndarray
    rate: int
    time_s: float


class Picture(NamedTuple):
    """A video frame, its time in s, and when it arrived, s on `time.monotonic`."""

    frame: DecodedFrame
    time_s: float
    arrived: float


@dataclass(frozen=True)
class Address:
    """The address of a live source, as FFmpeg opens it.

    Attributes:
        url: a path, a URL or the name of a device.
        form: FFmpeg's name of the device's kind; ``None`` where it finds out.
        is_file: whether it is a file, which is played in real time.
        is_network: whether a lost connection is opened again.
    """

    url: str
    form: str | None = None
    is_file: bool = False
    is_network: bool = False


def address(source: str) -> Address:
    """Return the address for a word of the command line: a camera's number, a URL, a device or a file.

    Raises:
        LiveError: there is no such file, or this system's cameras need another word.

    >>> address("rtsp://camera/stream").is_network
    True
    """
    if source.isdecimal():
        if sys.platform == "linux":
            return Address(f"/dev/video{source}", "v4l2")
        if sys.platform == "darwin":
            return Address(source, "avfoundation")
        raise LiveError(
            f"--live {source}: numbers of cameras are known on Linux and macOS; give a URL or a file"
        )
    if source.startswith("/dev/"):
        return Address(source, "v4l2")
    if source.lower().startswith(NETWORK):
        return Address(source, is_network=True)
    if os.path.isfile(source):
        return Address(source, is_file=True)
    raise LiveError(
        f"--live {source}: there is no such file; give the number of a camera (0), a URL (rtsp://, http://) "
        "or a media file"
    )


class LiveReader:
    """Reads a live source in a thread; iterating yields what arrives, audio and video in turn.

    Args:
        source: as for `address`.
        sound: whether audio is wanted.

    Attributes:
        frames: number of video frames that arrived.
        dropped: number of those that were dropped because they were taken too late.
        connections: how often the source was opened.
        has_video, has_audio: which streams the source has; known after `start`.

    Raises:
        LiveError: by `start`, where the source cannot be opened.
    """

    def __init__(self, source: str, sound: bool = True):
        self.source = source
        self.address = address(source)
        self.frames = self.dropped = self.connections = 0
        self.has_video = self.has_audio = False
        self._sound = sound
        self._items: deque[Picture | Sound] = deque()
        self._waiting = {Picture: 0, Sound: 0}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._ended = False
        self._begin = 0.0  # on time.monotonic
        self._last_s = -1.0  # time of the newest video frame
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._container: Any = None

    def __enter__(self) -> LiveReader:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Open the source and begin to read it."""
        self._container = self._open()
        self._begin = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        """End the reading."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(READ_S + 1.0)

    def __iter__(self) -> Iterator[Picture | Sound]:
        while True:
            with self._changed:
                while not self._items and not self._ended:
                    self._changed.wait(0.5)
                if not self._items:
                    return
                item = self._items.popleft()
                self._waiting[type(item)] -= 1
            yield item

    def _put(self, item: Picture | Sound) -> None:
        kind, most = type(item), LATE_FRAMES if isinstance(item, Picture) else MOST_SOUND
        with self._changed:
            if self._waiting[kind] >= most:
                oldest = next(i for i, other in enumerate(self._items) if isinstance(other, kind))
                del self._items[oldest]
                self._waiting[kind] -= 1
                self.dropped += kind is Picture
            self._items.append(item)
            self._waiting[kind] += 1
            self._changed.notify()

    def _open(self) -> Any:
        where = self.address
        options = {"protocol_whitelist": PROTOCOLS, **QUICK} if where.is_network else {}
        if where.is_file:
            options = {"protocol_whitelist": "file"}
        try:
            container = av.open(where.url, format=where.form, options=options, timeout=(OPEN_S, READ_S))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise LiveError(
                f"--live {self.source} cannot be opened ({words}); is the camera free, is the address "
                "right? ffplay tells the same"
            ) from None
        self.connections += 1
        self.has_video, self.has_audio = bool(container.streams.video), bool(container.streams.audio)
        if not self.has_video and not (self.has_audio and self._sound):
            container.close()
            raise LiveError(f"--live {self.source} has neither video nor audio")
        return container

    def _run(self) -> None:
        """Read until the source ends; a network source is opened again."""
        attempts = 0
        while not self._stopped.is_set():
            finite = False
            if self._container is not None:
                before = self.frames
                finite = self._read(self._container)
                self._container.close()
                self._container = None
                attempts = 0 if self.frames > before else attempts
            if finite or not self.address.is_network or attempts >= len(WAITS_S):
                break
            self._stopped.wait(WAITS_S[attempts])
            attempts += 1
            try:
                self._container = self._open()
            except LiveError:
                continue
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _read(self, container: Any) -> bool:
        """Read a connection to its end; returns whether it ended as it had declared."""
        try:
            wanted: list[Any] = []
            if self.has_video:
                wanted.append(video_stream(container)[0])
                views = Views(wanted[0])
            if self.has_audio and self._sound:
                wanted.append(audio_stream(container)[0])
            clock = _LiveClock(0.0 if self.address.is_file else time.monotonic() - self._begin)
            mixer: av.AudioResampler | None = None
            for packet in container.demux(wanted):
                if self._stopped.is_set():
                    return True
                arrived = time.monotonic()
                try:
                    decoded = packet.decode()
                except (av.error.FFmpegError, ValueError):
                    continue  # damaged: a lost packet of the network
                for frame in decoded:
                    at = clock.time(frame.time, arrived - self._begin, self.address.is_file)
                    if self.address.is_file:
                        arrived = self._begin + at
                        self._stopped.wait(max(0.0, arrived - time.monotonic()))
                    if isinstance(frame, av.VideoFrame):
                        self.frames += 1
                        if at > self._last_s:  # times must rise
                            self._last_s = at
                            self._put(Picture(views.view(frame), at, arrived))
                    else:
                        mixer = mixer or av.AudioResampler(
                            format="flt", layout="mono", rate=frame.sample_rate
                        )
                        for piece in mixer.resample(frame):
                            self._put(Sound(piece.to_ndarray().ravel(), piece.sample_rate, at))
            return bool(container.duration)
        except (av.error.FFmpegError, OSError, ClipError):
            return False


class _LiveClock:
    """Times of frames since the beginning: their timestamps, where these keep up with the time that passes.

    Args:
        begin: when this connection was made, s since the beginning.
    """

    def __init__(self, begin: float):
        self._begin = begin
        self._zero: float | None = None  # the timestamp that is `_begin`

    def time(self, stamp: float | None, passed: float, paced: bool) -> float:
        """Return the time of a frame in s.

        Args:
            stamp: its timestamp in s; ``None`` where it has none.
            passed: time since the beginning at which it arrived, s.
            paced: whether timestamps alone count, because they decide when a frame of a file is shown.
        """
        if stamp is None:
            return passed
        if self._zero is None:
            self._zero = stamp
        found = self._begin + stamp - self._zero
        if not paced and abs(found - passed) > ASTRAY_S:
            self._zero = stamp - (passed - self._begin)
            return passed
        return max(found, self._begin) if not paced else max(found, 0.0)
