"""Recognise a server that sends the same recording from its beginning on each connection.

>>> beginnings = Beginnings()
>>> packets = [av.Packet(b"a"), av.Packet(b"b")]
>>> [bytes(packet) for packet in beginnings.watched(packets, most=2)]
[b'a', b'b']
>>> list(beginnings.watched(packets, most=2))
Traceback (most recent call last):
    ...
deiii.pipeline.media.streaming.beginnings.StartsAgain: the server sends the same recording from its beginning
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator

import av

FIRST = 10  # packets with new content that are compared
STILL_BYTES = 64  # a packet of video of at most this size repeats the picture before it


class StartsAgain(Exception):
    """A connection has the same packets as an earlier one."""


class Beginnings:
    """Compares the packets of each connection with those of the connections before: data and timestamps.

    Pictures of a camera differ because of noise, and the clock of a camera goes on between connections. But a
    generated test picture, or a tone, can have the same data for a long time, and some servers give the first
    packet of each connection the time 0. So only packets with new content count: a packet of video that
    repeats a picture does not, and neither does one whose data came before on the same connection. Where too
    few packets count, connections are the same only if all packets up to their ends are the same.
    Connections with fewer than `FIRST` packets are not compared.
    """

    def __init__(self) -> None:
        self._begun: set[bytes] = set()  # digests of first packets
        self._whole: set[bytes] = set()  # digests of connections with too little new content

    def watched(self, packets: Iterable[av.Packet], most: int = FIRST) -> Iterator[av.Packet]:
        """Yield the packets of a connection.

        Args:
            packets: the packets, from the beginning of the connection.
            most: number of packets with new content that are compared.

        Raises:
            OSError: that of the packets. FFmpeg reports the usual end of a connection as EIO.
            StartsAgain: the first packets are those of an earlier connection; it is raised before the last
                one of them is yielded, or at the end of the connection.
        """
        digest, contents, count = hashlib.sha256(), set[bytes](), 0
        end: OSError | None = None
        packets = iter(packets)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                end = error
                break
            if len(contents) < most and (data := bytes(packet)):
                count += 1
                digest.update(f"{packet.stream_index} {packet.pts} {packet.dts} {len(data)} ".encode())
                digest.update(data)
                if len(data) > STILL_BYTES or not isinstance(packet.stream, av.VideoStream):
                    contents.add(data)
                if len(contents) == most:
                    _refuse(digest.digest(), self._begun)
            yield packet
        if len(contents) < most <= count:  # fewer packets may be what a server without its camera sends
            _refuse(digest.digest(), self._whole)
        if end is not None:
            raise end


def _refuse(digest: bytes, earlier: set[bytes]) -> None:
    """Add a digest to those of earlier connections. Raises StartsAgain if it is one of them."""
    if digest in earlier:
        raise StartsAgain("the server sends the same recording from its beginning")
    earlier.add(digest)
