"""Decoded frames of a live source in the order of presentation: their timestamps, and without combs.

AVI and ASF store no order of presentation: a frame that is decoded early, because others refer to it, comes
out of the decoder with a timestamp that is later than those of the frames after it. The decoder returns the
frames in the order of presentation, and the packets that it has taken have the timestamps of all of them.
So each frame gets the earliest timestamp that no frame before it got, and no frame waits for another one.

>>> order = Presentation(in_decoding_order=True)
>>> for stamp in (0.0, 0.04, 0.08):
...     order.sent(stamp)
>>> [order.stamp(own, False) for own in (0.0, 0.08, 0.04)]
[0.0, 0.04, 0.08]
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterable, Iterator
from threading import Event
from typing import Any

import av
import av.error

from deiii.pipeline.media.decoders.deinterlacing import Deinterlacer
from deiii.pipeline.media.decoders.frame_counts import JpegEnds
from deiii.pipeline.media.streaming.damage import Damage
from deiii.pipeline.media.streaming.live_clock import BACK_S

DECODING_ORDER = frozenset({"avi", "asf"})  # formats that store no order of presentation
MOST_WAITING = 64  # timestamps of packets without a frame; codecs reorder over at most 16


class Presentation:
    """Puts the timestamps of decoded frames in order, and deinterlaces the frames.

    Args:
        in_decoding_order: whether the container is known to store no order of presentation. In other ones
            this shows with the first timestamp that goes back.
    """

    def __init__(self, in_decoding_order: bool):
        self._sorts = in_decoding_order
        self._waiting: list[float] = []  # heap of the timestamps that no frame got, s
        self._newest: float | None = None  # own timestamp of the frame before, s
        self._deinterlacer = Deinterlacer()
        self._held: deque[tuple[float | None, float]] = deque()  # of the frames in the deinterlacer

    def sent(self, stamp: float | None) -> None:
        """Take the timestamp of a packet that the decoder gets, s."""
        if stamp is not None:
            heapq.heappush(self._waiting, stamp)
            if len(self._waiting) > MOST_WAITING:
                heapq.heappop(self._waiting)

    def stamp(self, own: float | None, key_frame: bool) -> float | None:
        """Return the timestamp of the frame that the decoder returns next, s.

        Args:
            own: the timestamp of its packet, s; ``None`` where it has none.
            key_frame: whether it depends on no other frame. All frames that were decoded before it are shown
                before it, so that earlier timestamps are those of packets without a frame.
        """
        if own is None:
            return None
        if self._newest is not None and 0 <= self._newest - own < BACK_S:
            self._sorts = True
        self._newest = own
        while key_frame and self._waiting and self._waiting[0] < own:
            heapq.heappop(self._waiting)
        earliest = heapq.heappop(self._waiting) if self._waiting else own
        return earliest if self._sorts else own

    def shown(
        self, frame: av.VideoFrame | None, stamp: float | None = None, arrived: float = 0.0
    ) -> Iterator[tuple[av.VideoFrame, float | None, float]]:
        """Yield full frames with their timestamps and times of arrival; an interlaced one waits for the next.

        Args:
            frame: the next frame; ``None`` at the end of the stream.
            stamp: its timestamp, s.
            arrived: when it arrived, s.
        """
        if frame is not None:
            self._held.append((stamp, arrived))
        for full in self._deinterlacer.push(frame):
            if self._held:
                yield full, *self._held.popleft()


def decoded(
    packets: Iterable[av.Packet], order: Presentation, stopped: Event, damage: Damage, gaps: bool
) -> Iterator[tuple[Any, float | None, float]]:
    """Yield decoded frames, each with its timestamp in s and when it arrived, s on `time.monotonic`.

    Args:
        packets: packets of the streams to decode.
        order: what puts its video frames in order.
        stopped: ends the reading.
        damage: counts the video frames that are damaged.
        gaps: whether it also counts missing ones.
    """
    ends: JpegEnds | None = None
    for packet in packets:
        if stopped.is_set():
            return
        arrived = time.monotonic()
        is_cut = False
        if packet.size and isinstance(packet.stream, av.VideoStream):
            order.sent(_stamp(packet))
            ends = ends or JpegEnds(packet.stream.codec_context.name)
            is_cut = ends.is_cut(packet)
        for frame in _frames(packet, damage):
            if isinstance(frame, av.VideoFrame):
                stamp = order.stamp(frame.time, frame.key_frame)
                damage.frame(stamp if gaps else None, frame.is_corrupt or is_cut, frame.key_frame)
                yield from order.shown(frame, stamp, arrived)
            else:
                yield frame, frame.time, arrived
    yield from order.shown(None)


def _stamp(packet: av.Packet) -> float | None:
    """Return the timestamp of a packet of video, s: that of presentation, or else that of decoding."""
    stamp = packet.dts if packet.pts is None else packet.pts
    return None if stamp is None or packet.time_base is None else float(stamp * packet.time_base)


def _frames(packet: av.Packet, damage: Damage) -> list[Any]:
    """Return the frames of a packet; none where it is damaged, as after a lost packet of the network."""
    try:
        return packet.decode()
    except (av.error.FFmpegError, ValueError):
        if isinstance(packet.stream, av.VideoStream):
            damage.failed()
        return []
