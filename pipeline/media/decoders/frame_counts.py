"""Count the frames of a video: all of them, those decoded with damage, the interlaced ones.

FFmpeg's decoder of JPEG does not report a picture that ends early: it returns the frame, and the rows that
are missing have arbitrary levels. `JpegEnds` finds such pictures.

>>> JpegEnds("h264").is_cut(b"of another codec")
False
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.error

from deiii.pipeline.media import container as media

START, END = 0xD8, 0xD9  # markers of JPEG (ITU-T T.81, table B.1): SOI, EOI
END_MARKER = bytes((0xFF, END))
ALONE = frozenset({0x01, *range(0xD0, 0xDA)})  # markers without a segment: TEM, RSTm, SOI, EOI
# In the data of a scan 0xFF is followed by 0; fill bytes and restart markers belong to the data, too.
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


@dataclass
class FrameCounts:
    """Numbers of frames.

    Attributes:
        all: all decoded frames.
        corrupt: those that the decoder calls damaged, and JPEG pictures that end early.
        interlaced: those that are interlaced.
    """

    all: int = 0
    corrupt: int = 0
    interlaced: int = 0

    def decode(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        notes: list[str],
        packets: Iterator[av.Packet] | None = None,
    ) -> Iterator[av.VideoFrame]:
        """Yield the frames of `deiii.pipeline.media.container.decode`, which has these arguments."""
        ends = JpegEnds(stream.codec_context.name)
        packets = media.demuxed(container, stream) if packets is None else packets
        for frame in media.decode(container, stream, notes, ends.watched(packets)):
            self.all += 1
            self.corrupt += frame.is_corrupt or ends.was_cut
            self.interlaced += frame.interlaced_frame
            yield frame


class JpegEnds:
    """Finds the JPEG pictures of a stream that end early.

    A picture without the marker of its end is not always cut: some cameras leave the marker out. So such a
    picture is decoded a second time by a decoder that reports missing data.

    Args:
        codec: name of the stream's decoder; in pictures of other codecs than ``mjpeg`` nothing is found.

    Attributes:
        was_cut: whether the newest packet of `watched` ends early.
    """

    def __init__(self, codec: str):
        self._is_jpeg = codec == "mjpeg"
        self._strict: av.VideoCodecContext | None = None
        self.was_cut = False

    def watched(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """Yield the packets of a stream of video unchanged, and look at each before it is yielded."""
        for packet in packets:
            self.was_cut = self.is_cut(packet)
            yield packet

    def is_cut(self, packet: Any) -> bool:
        """Return whether a packet, whose data `bytes` returns, has a picture or a field that ends early."""
        if not self._is_jpeg or not (data := bytes(packet)) or data.endswith(END_MARKER):
            return False  # nearly all whole pictures end with the marker
        found = pictures(data)
        return not all(has_end for _, has_end in found) and not self._decode(one for one, _ in found)

    def _decode(self, found: Iterable[bytes]) -> bool:
        """Return whether pictures decode without an error; the second field may use tables of the first."""
        if self._strict is None:
            self._strict = av.VideoCodecContext.create("mjpeg", "r")
            self._strict.options = {"err_detect": "explode"}
            self._strict.thread_count = 1
        try:
            for picture in found:
                self._strict.decode(av.Packet(picture))
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError):
            self._strict = None  # a decoder that failed may keep a part of the picture
            return False
        return True


def pictures(data: bytes) -> list[tuple[bytes, bool]]:
    """Return the JPEG pictures in a packet, and whether each has the marker of its end.

    An interlaced frame of AVI is two pictures, one for each field. Bytes between pictures are left out. The
    pictures in segments, such as the small one of Exif, are parts of the segments.

    >>> scan = b"\\xff\\xd8\\xff\\xda\\x00\\x02data\\xff\\x00data"
    >>> [has_end for _, has_end in pictures(scan)]
    [False]
    >>> [has_end for _, has_end in pictures(scan + b"\\xff\\xd9\\x00")]
    [True]
    """
    found: list[tuple[bytes, bool]] = []
    at, begin = 0, -1
    while mark := MARKER.search(data, at):
        marker, at = mark[1][0], mark.end()
        if marker == START:
            if begin >= 0:
                found.append((data[begin : mark.start()], False))
            begin = mark.start()
        elif marker == END and begin >= 0:
            found.append((data[begin:at], True))
            begin = -1
        elif begin >= 0 and marker not in ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    if begin >= 0:
        found.append((data[begin:], False))
    return found
