"""A camera, a network stream or a file played in real time: decoded frames as they arrive.

A thread opens the source, reads it and decodes it. Video frames that are not taken in time are dropped and
counted, the oldest first, so that what is taken is never older than `LATE_FRAMES` frames. A broken connection
is opened again. A recording on a server, and a stream that a server sends in pieces of some seconds (HLS,
DASH), are played in real time, as a file is. A file begins when its first frame is requested.

>>> with LiveReader("rtsp://camera/stream") as reader:      # doctest: +SKIP
...     for item in reader:
...         print(item.time_s, reader.dropped)
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import av
import av.error

from deiii.data.cache.outcomes import ClipError
from deiii.data.tools.processes.left_threads import watch
from deiii.pipeline.media.container import audio_stream, demuxed, video_stream
from deiii.pipeline.media.frame import DecodedFrame
from deiii.pipeline.media.opening.versions import LENIENT
from deiii.pipeline.media.streaming.address import (
    ENDED,
    GROWN,
    OPEN_S,
    READ_S,
    LiveError,
    address,
    cannot_open,
    cut_short,
    lacks_streams,
    nothing_arrived,
    shown,
    why_ended,
)
from deiii.pipeline.media.streaming.beginnings import Beginnings, StartsAgain
from deiii.pipeline.media.streaming.damage import Damage
from deiii.pipeline.media.streaming.items import AudioPiece, Picture
from deiii.pipeline.media.streaming.live_clock import LiveClock
from deiii.pipeline.media.streaming.mono import ToMono
from deiii.pipeline.media.streaming.played import played
from deiii.pipeline.media.streaming.presentation import DECODING_ORDER, Presentation, decoded
from deiii.pipeline.media.streaming.used_streams import useless_streams
from deiii.pipeline.media.survey import open_surveyed
from deiii.pipeline.media.video import Views

CLOSE_S = 0.5  # that closing waits for the thread, which FFmpeg may hold for `OPEN_S` or `READ_S`
LATE_FRAMES = 4  # video frames that may wait; more are dropped
USUAL_RATE = 16_000  # sample rate at which the audio streams of a file are compared, Hz
MAX_WAITING_AUDIO = 500  # audio frames that may wait
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # before each attempt to connect again; a router needs 30 s
IN_PIECES = frozenset({"hls", "dash"})  # formats of which some seconds arrive at once
UNTIMED = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "m4v"})  # without timestamps in the stream


class LiveReader:
    """Reads a live source in a thread; iterating yields what arrives, audio and video in turn.

    Args:
        source: source as for `deiii.pipeline.media.streaming.address.address`.
        audio, video: whether audio and video are wanted.
        report: receives a line where a connection is lost or there again, and on each defect of a file.

    Attributes:
        name: the source without its password.
        frames: number of video frames that arrived.
        dropped: number of those that were dropped because they were taken too late.
        connections: how often the source was opened.
        damage: numbers of damaged and of missing video frames of a camera or a stream.
        has_video, has_audio: which of the wanted streams the source has; known after `start`.
        lost: why a network source ended that could not be opened again, or before the end of its recording;
            empty elsewhere.

    Raises:
        LiveError: by `start`, where it cannot be opened; by iterating, where nothing arrives from it.
    """

    def __init__(
        self,
        source: str,
        audio: bool = True,
        video: bool = True,
        report: Callable[[str], None] = lambda text: None,
    ):
        self.source = source
        self.name = shown(source)
        self.address = address(source)
        self.frames = self.dropped = self.connections = 0
        self.has_video = self.has_audio = False
        self.lost = ""
        self._audio, self._video = audio, video
        self._report = report
        of_network = self.address.is_network
        self.damage = Damage(lambda text: report(f"{self.name}: {text}") if of_network else None)
        self._beginnings = Beginnings()
        self._items: deque[Picture | AudioPiece] = deque()
        self._waiting = {Picture: 0, AudioPiece: 0}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._wanted = threading.Event()  # set when the first item is requested
        self._ended = False
        self._error: Exception | None = None
        self._begin = 0.0  # value of time.monotonic at the start
        self._last_s = -1.0  # time of the newest video frame
        self._streams: dict[str, Any] = {}  # the streams that are read, by kind
        self._is_surveyed = False  # whether the source is a file that preprocessing reads
        self._useless_audio: tuple[int, ...] = ()  # indices of a file's audio streams that are not used
        self._pieces = 0  # number of audio pieces that arrived
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> LiveReader:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Open the source and begin to read it; Ctrl-C ends the waiting for an answer."""
        self._thread.start()
        watch(self._thread)
        try:
            with self._changed:
                while not self.connections and not self._ended:
                    self._changed.wait(0.2)
        except BaseException:
            self._stopped.set()
            raise
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the reading; a thread that waits for the network ends some seconds later."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def __iter__(self) -> Iterator[Picture | AudioPiece]:
        self._wanted.set()
        while True:
            with self._changed:
                while not self._items and not self._ended:
                    self._changed.wait(0.5)
                if not self._items:
                    break
                item = self._items.popleft()
                self._waiting[type(item)] -= 1
            yield item
        if self._error is not None:
            raise self._error

    @property
    def frames_wait(self) -> bool:
        """Whether video frames arrived that are not taken yet."""
        return self._waiting[Picture] > 0

    def _put(self, item: Picture | AudioPiece) -> None:
        kind, most = type(item), LATE_FRAMES if isinstance(item, Picture) else MAX_WAITING_AUDIO
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
        where, began = self.address, time.monotonic()
        try:
            options, limits = dict(where.options), (OPEN_S, READ_S)
            container = av.open(where.url, format=where.form, options=options, timeout=limits, **LENIENT)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            # FFmpeg has no one error for this: RTSP that is given up looks like damaged data.
            raise cannot_open(self.source, error, time.monotonic() - began >= OPEN_S) from None
        self._streams = self._choose(container)
        has_video, has_audio = (self._streams[kind] is not None for kind in ("video", "audio"))
        if not (has_video and self._video) and not (has_audio and self._audio):
            container.close()
            found = [kind for kind, there in (("video", has_video), ("audio", has_audio)) if there]
            wanted = [kind for kind, read in (("video", self._video), ("audio", self._audio)) if read]
            raise lacks_streams(self.source, found, wanted)
        with self._changed:
            self.has_video, self.has_audio = has_video and self._video, has_audio and self._audio
            self._begin = self._begin or time.monotonic()
            self.connections += 1
            self._changed.notify()
        return container

    def _choose(self, container: Any) -> dict[str, Any]:
        """Return the video and the audio stream to read, None where there is none; cover art is no video.

        Those of a file are the ones that preprocessing uses.
        """
        useless: tuple[int, ...] = ()
        if self.address.is_file:
            useless_video, self._useless_audio = useless_streams(self.address.url, USUAL_RATE)
            useless = (*useless_video, *self._useless_audio)
            with contextlib.suppress(ClipError), open_surveyed(self.address.url, useless=useless) as opened:
                self._is_surveyed = bool(opened.times.video or opened.times.audio)
        found: dict[str, Any] = {"video": None, "audio": None}
        for kind, choose in (("video", video_stream), ("audio", audio_stream)):
            with contextlib.suppress(ClipError):
                found[kind] = choose(container, useless)[0]
        return found

    def _run(self) -> None:
        """Read until the source ends; an error that ended it is raised where the items are taken."""
        try:
            size = self.address.size()
            self._read_all()
            if self.address.size() > size:
                self._report(f"{self.name}: {GROWN}")
            if not (self.frames or self._pieces or self._stopped.is_set()):
                raise nothing_arrived(self.source, self.lost)
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _read_all(self) -> None:
        """Read connections until one ends as it had declared, or none can be made."""
        container, attempts = self._open(), 0
        if self.address.is_file:  # it begins when its frames are requested, so that none is dropped before
            while not self._wanted.wait(0.05):
                if self._stopped.is_set():
                    container.close()
                    return
            if self._is_surveyed:
                container.close()
                self._play()
                return
            self._begin = time.monotonic()
        while True:
            before = self.frames + self._pieces
            with container:
                ended = self._read(container)
            attempts = 0 if self.frames + self._pieces > before else attempts
            if ended is None or not self.address.is_network or self._stopped.is_set():
                return
            self._report(f"{self.name}: the connection was lost ({ended}); trying again, Ctrl-C ends")
            container = None
            while container is None:
                if attempts >= len(WAITS_S):
                    self.lost = f"not there again after {sum(WAITS_S):.0f} s of trying ({ended})"
                    return
                if self._stopped.wait(WAITS_S[attempts]):
                    return
                attempts += 1
                try:
                    container = self._open()
                except LiveError as error:
                    ended = str(error)
            self._report(f"{self.name}: connected again")

    def _play(self) -> None:
        """Play a file that preprocessing reads, with the frames and the times of preprocessing."""
        items = played(
            self.address.url, self.has_video, self.has_audio, self._useless_audio,
            lambda text: self._report(f"{self.name}: {text}"),
        )  # fmt: skip
        try:
            for number, (time_s, item) in enumerate(items):
                if not number:
                    self._begin = time.monotonic()
                due = self._begin + max(0.0, time_s)
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    return
                if isinstance(item, DecodedFrame):
                    self.frames += 1
                    self._put(Picture(item, time_s, due))
                else:
                    self._pieces += 1
                    self._put(AudioPiece(item.samples, item.rate, time_s))
        except ClipError as error:
            raise LiveError(f"live source {self.name} cannot be played: {error.outcome.reason}") from None

    def _read(self, container: Any) -> str | None:
        """Read a connection to its end; returns why it is lost, ``None`` where it ended as declared."""
        forms = set(container.format.name.split(","))
        # A server that cannot seek in a transport stream gives its size, but no duration.
        recorded = bool(container.duration) or ("mpegts" in forms and (container.size or 0) > 0)
        in_real_time = self.address.is_file or recorded or bool(forms & IN_PIECES)
        latest_s, ended = 0.0, "" if recorded or forms & IN_PIECES else ENDED
        try:
            kinds = {"video": self.has_video, "audio": self.has_audio}
            wanted = [self._streams[kind] for kind, there in kinds.items() if there]
            views = Views()
            if self.has_video:
                views.follow(wanted[0])
            to_mono = ToMono()
            order = Presentation(bool(forms & DECODING_ORDER))
            opened_s = 0.0 if self.address.is_file else time.monotonic() - self._begin
            clock = LiveClock(opened_s)
            self.damage.begin()
            gaps = not in_real_time and not forms & UNTIMED  # a recording may have gaps of its own
            packets = demuxed(container, wanted)
            if self.address.url.startswith("http") and not forms & (IN_PIECES | UNTIMED):
                packets = self._beginnings.watched(packets)
            for frame, stamp, arrived in decoded(packets, order, self._stopped, self.damage, gaps):
                stamp = None if forms & UNTIMED else stamp
                if in_real_time and stamp is not None:
                    stamp = clock.joined(stamp, type(frame).__name__)
                at = clock.time(stamp, arrived - self._begin, self.address.is_file)
                latest_s = max(latest_s, at - opened_s)
                if in_real_time:
                    due = self._begin + at
                    self._stopped.wait(max(0.0, due - time.monotonic()))
                    arrived = due if self.address.is_file else max(arrived, due)
                if isinstance(frame, av.VideoFrame):
                    for one in views.noted(iter([frame])):
                        self._put_video(one, views, at, arrived)
                else:
                    self._pieces += 1
                    for samples in to_mono.convert(frame):
                        self._put(AudioPiece(samples, to_mono.rate, at))
        except StartsAgain as error:
            self.lost = str(error)
            return None
        except (av.error.FFmpegError, OSError, ClipError) as error:
            ended = why_ended(error)
        if self._stopped.is_set():
            return None
        # Opened again, a recording would begin again.
        if recorded and self.address.is_network and (latest_s or not ended):
            whole_s = (container.duration or 0) / av.time_base
            self.lost = cut_short(latest_s, whole_s, ended) if whole_s else ended
            return None
        return ended or None

    def _put_video(self, frame: av.VideoFrame, views: Views, time_s: float, arrived: float) -> None:
        """Count a video frame, and hand it over where its time is later than that of the frame before."""
        self.frames += 1
        if time_s > self._last_s:
            self._last_s = time_s
            self._put(Picture(views.view(frame), time_s, arrived))
