"""A video's frames with their times on the media clock, one at a time.

Frames come upright (turned and mirrored according to the display matrix), with square pixels, in SDR colours
and without combs (interlaced frames go through FFmpeg's bwdif filter).

>>> for rgb, time_s in read_video("clip.mp4"):  # doctest: +SKIP
...     print(rgb.shape, time_s)
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, SupportsFloat

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media import container as media
from deiii.pipeline.media.clock import Clock, clock_remarks
from deiii.pipeline.media.colour import UNSPECIFIED, ColourSpace, colour_space
from deiii.pipeline.media.decoders.deinterlacing import deinterlaced
from deiii.pipeline.media.decoders.frame_counts import FrameCounts
from deiii.pipeline.media.decoders.nvdec import GpuDecodingFailed, as_decoded, open_video
from deiii.pipeline.media.frame import DecodedFrame
from deiii.pipeline.media.lengths import cut_off, defects_of_length
from deiii.pipeline.media.orientation import Orientation, orientation
from deiii.pipeline.media.survey import JOINED, Part, joined_parts

__all__ = ["DecodedFrame", "GpuDecodingFailed", "VideoReader", "read_video"]

LOWRES = {"mjpeg": 3}  # codecs that can decode at a lower resolution, and how many halvings they allow
HELD_BYTES = 96 * 2**20  # size of the decoded frames that wait for later timestamps
HELD_FRAMES = (8, 32)  # fewest and most of them
GAP_S = 1.0  # a longer time without a frame is noted
MOST_GAPS = 3  # such notes


class VideoReader:
    """Iterates over the frames of a video; made by `read_video`.

    The attributes are complete after iteration.

    Attributes:
        notes: defects that left the video usable.
        remarks: properties that were handled without loss, such as interlacing.
        share: decoded share of the duration that the header declares, 0 to 1.
        useless: indices of streams that were tried and of which no frame can be decoded.
    """

    def __init__(
        self, path: str, longest: int | None = None, most_s: float | None = None, decoder: str = "cpu"
    ):
        self.path, self.longest, self.most_s, self.decoder = path, longest, most_s, decoder
        self.notes: list[str] = []
        self.remarks: list[str] = []
        self.share = 1.0
        self.useless: list[int] = []

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        for frame, time in self.frames():
            yield frame.rgb(self.longest), time

    def frames(self) -> Generator[tuple[DecodedFrame, float], None, None]:
        """Yield the frames before their conversion to RGB, with their times in s."""
        self.notes, self.remarks, self.share = [], [], 1.0
        parts = joined_parts(self.path)
        views, counts, failed = Views(), FrameCounts(), list[ClipError]()
        for part in parts or (None,):
            try:
                if not (yield from self._recording(part, views, counts)):
                    break
            except ClipError as error:
                if part is None:
                    raise
                failed.append(error)
                where = f"the video of the recording that begins at byte {part.link.start}"
                self.notes.append(f"{where} was not read: {error.outcome.reason}")
        if parts and len(failed) == len(parts):
            raise failed[0]
        self.remarks += [f"the file holds {len(parts)} {JOINED}"] if parts else []
        if counts.corrupt:
            self.notes.append(f"{counts.corrupt} of {counts.all} frames are damaged")
        if counts.interlaced:
            some = f"{counts.interlaced} of {counts.all} frames"
            self.remarks.append(f"{some} are interlaced and were deinterlaced (bwdif)")
        self.remarks += views.remarks

    def _recording(
        self, part: Part | None, views: Views, counts: FrameCounts
    ) -> Generator[tuple[DecodedFrame, float], None, bool]:
        """Yield the frames of a file, or of one of its recordings; returns whether to go on with the next.

        Where no frame of the stream can be decoded, another one is used.
        """
        first: ClipError | None = None
        useless = self.useless = list[int]()
        notes, remarks = list(self.notes), list(self.remarks)
        while True:
            try:
                return (yield from self._stream(part, views, counts, useless))
            except _NoFrame as error:
                first = first or ClipError(Status.UNREADABLE, str(error))
                if len(useless) + 1 >= error.streams:
                    raise first from None
                useless.append(error.index)
                self.notes, self.remarks = list(notes), list(remarks)
            except ClipError as error:
                raise first or error from None

    def _stream(
        self, part: Part | None, views: Views, counts: FrameCounts, useless: Sequence[int]
    ) -> Generator[tuple[DecodedFrame, float], None, bool]:
        """Do `_recording` with one stream: the best one of those that are not useless."""
        link = part.link if part else None
        with open_video(self.path, self.decoder, link, useless) as (opened, on_gpu):
            container, times = opened.container, opened.times
            stream, remark = media.video_stream(container, useless)
            if times.video is None:  # the file changed meanwhile
                raise ClipError(Status.UNREADABLE, "the file changed while it was read")
            self.remarks += [words for words in (remark, times.video.remark) if words]
            placed = replace(times.video, zero=times.video.zero - (part.begin if part else 0.0))
            # With more threads, damaged frames are concealed differently from run to run.
            stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "NONE"
            views.follow(stream)
            if self.longest and stream.codec_context.name in LOWRES:
                views.halvings = _halvings(views.size, self.longest, LOWRES[stream.codec_context.name])
                stream.codec_context.options = {"lowres": str(views.halvings)}
            packets = counts.decode(container, stream, self.notes, opened.packets)
            if on_gpu:
                packets = as_decoded(packets, (stream.width, stream.height))
            decoded = views.noted(deinterlaced(packets))
            clock = placed.clock(0.25 * times.video.step + 0.002, _window(stream), reorder=True)
            previous: float | None = None
            late = 0
            most = self.most_s or media.MAX_SECONDS
            for frame, time in _timed(clock, decoded):
                if time > most:
                    self.notes.append(f"the video goes on beyond {most:.0f} s; the rest was left out")
                    most = 0.0  # no other recording either
                    break
                if previous is not None and time <= previous:
                    late += 1  # the stream overlaps itself
                    continue
                previous = time
                yield views.view(frame), time
            if on_gpu and (self.notes or previous is None):  # damage is concealed by the processor alone
                raise GpuDecodingFailed("; ".join(self.notes) or "no frame was decoded")
            if previous is None:
                # Frames behind the end of what is read are no damage of the stream.
                others = media.number_of_recordings(container, av.VideoStream) if most else 1
                raise _NoFrame(stream.index, others)
            self.notes += defects_of_length(self.path, container, previous)
            if late:
                self.remarks.append(f"{late} frames with the times of others were left out")
            self.remarks += clock_remarks(clock, "video")
            self.remarks += [
                f"there is no video frame from {start:.2f} to {end:.2f} s"
                for start, end in clock.gaps
                if end - start > GAP_S
            ][:MOST_GAPS]
            if most and not clock.restarts and clock.end is not None:
                reach = max(t.end or 0.0 for t in (times.video, times.audio) if t)
                short = cut_off(container, stream, clock.end, reach)
                if short:
                    self.share = min(self.share, float(short[0] / short[1]))
                    self.notes.append(
                        f"the video ends after {short[0]:.2f} of {short[1]:.2f} s: the file is cut off"
                    )
            return most > 0


def read_video(
    path: str | os.PathLike,
    longest: int | None = None,
    most_s: float | None = None,
    decoder: str = "cpu",
) -> VideoReader:
    """Open a video; iterating yields ``(rgb uint8 [H,W,3], time_s float)`` one frame at a time.

    Times come from the timestamps of the stream, also at variable frame rates, and rise strictly.
    Iterating again decodes again and yields the same bytes. Where the file has several video streams and no
    frame of the default or best one can be decoded, another one is used.

    Args:
        path: the media file.
        longest: bound of the longer side in px; larger frames are averaged down while they are decoded
            or converted, so that no large RGB frame is allocated.
        most_s: what lies behind this time in s is left out; ``None`` for `media.MAX_SECONDS`.
        decoder: ``cpu``; or ``auto`` or ``gpu`` to decode on a GPU the videos that
            `deiii.pipeline.media.decoders.nvdec.suits` accepts.

    Raises:
        ClipError: on iteration, where no frame can be decoded.
        GpuDecodingFailed: on iteration, where the video must be read again with the decoder ``cpu``.
    """
    return VideoReader(os.fspath(path), longest, most_s, decoder)


class _NoFrame(Exception):
    """No frame of a video stream can be decoded.

    Attributes:
        index: the index of the stream.
        streams: the number of streams that may be the recording.
    """

    def __init__(self, index: int, streams: int):
        super().__init__("no frame of the video can be decoded")
        self.index = index
        self.streams = streams


def _timed(
    clock: Clock[av.VideoFrame], frames: Iterator[av.VideoFrame]
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield frames with the times that the clock gives them."""
    for frame in frames:
        seconds = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else None
        yield from clock.add(frame, frame.time, seconds)
    yield from clock.finish()


def _window(stream: av.VideoStream) -> int:
    """Return the number of decoded frames that may wait: as many as fit into the memory for them."""
    fewest, most = HELD_FRAMES
    return max(fewest, min(most, HELD_BYTES // max(1, stream.width * stream.height * 3 // 2)))


class Views:
    """Size, orientation and colours of frames, which may change in mid-stream.

    Attributes:
        size: width and height in square pixels of the frames that the header declares, px.
        halvings: how often decoding halves the resolution.
        remarks: what was unusual, complete after the last frame.
    """

    def __init__(self) -> None:
        self._canvas: tuple[int, int] | None = None
        self._now: tuple[tuple[int, int], Orientation, ColourSpace] | None = None
        self._raw_size = (0, 0)
        self._converters: dict[tuple[int, int, str, int], VideoReformatter] = {}
        self._remarks: dict[str, None] = {}  # remarks in order, each once
        self._others: dict[tuple[int, int], int] = {}
        # Pixel aspect ratios of decoded frames that were not used yet, by id().
        self._ratios: dict[int, float] = {}

    def follow(self, stream: av.VideoStream) -> None:
        """Go on with the frames of a stream; those of a second one are fitted into the size of the first."""
        self.halvings = 0
        self._stream = stream
        self._declared = (stream.width, stream.height)
        self._ratio = _ratio(stream.sample_aspect_ratio)
        self._first_ratio: float | None = None  # of the first frame, as the codec states it
        self.size = self._square(*self._declared)
        self._now = None

    @property
    def remarks(self) -> list[str]:
        sizes = ", ".join(f"{n} of {w}x{h}" for (w, h), n in list(self._others.items())[:MOST_GAPS])
        width, height = self._canvas or (0, 0)
        changed = f"the frame size changes ({sizes} px); these frames were fitted into {width}x{height} px"
        return [*self._remarks, *([changed] if sizes else [])]

    def noted(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield frames as they are decoded, and note the sample aspect ratio of each.

        PyAV returns the decoder's ratio alone, and the decoder may be some frames ahead of the viewed frame.
        """
        for frame in frames:
            self._ratios[id(frame)] = _ratio(self._stream.codec_context.sample_aspect_ratio)
            yield frame

    def view(self, raw: av.VideoFrame) -> DecodedFrame:
        """Return the frame with all that its RGB depends on."""
        # These facts change at key frames only; reading them from PyAV takes as long as a small conversion.
        ratio = self._ratios.pop(id(raw), None)
        if self._now is None or raw.key_frame or (raw.width, raw.height) != self._raw_size:
            self._now = self._look(raw, ratio)
            self._raw_size = (raw.width, raw.height)
        size, turned, colours = self._now
        upright = turned.size(*size)
        if self._canvas is None:
            self._canvas = upright
        if upright != self._canvas:
            self._others[upright] = self._others.get(upright, 0) + 1
        return DecodedFrame(raw, size, turned, colours, self._canvas, self._converters)

    def _look(
        self, raw: av.VideoFrame, ratio: float | None
    ) -> tuple[tuple[int, int], Orientation, ColourSpace]:
        """Return size, orientation and colours of a frame; remarks on them are kept."""
        matrix: Any = raw.side_data.get("DISPLAYMATRIX")
        turned, odd_angle = orientation(bytes(matrix) if matrix is not None else None)
        has_matrix = not raw.format.is_rgb and len(raw.format.components) >= 3
        matrix_number = raw.colorspace if has_matrix else UNSPECIFIED
        colours = colour_space(raw.color_trc, raw.color_primaries, matrix_number)
        for remark in (odd_angle, "" if colours.is_sdr else colours.remark):
            if remark:
                self._remarks[remark] = None
        return self._size(raw, ratio), turned, colours

    def _size(self, raw: av.VideoFrame, ratio: float | None) -> tuple[int, int]:
        """Return the width and height of a frame in square pixels."""
        if ratio is None:
            ratio = _ratio(self._stream.codec_context.sample_aspect_ratio)
        if self._first_ratio is None:
            self._first_ratio = ratio
        if ratio != self._first_ratio:  # until then the ratio in the container counts
            self._ratio = self._first_ratio = ratio
        declared = tuple(-(-side >> self.halvings) for side in self._declared)
        if (raw.width, raw.height) == declared:
            return self._square(*self._declared)
        return self._square(raw.width << self.halvings, raw.height << self.halvings)

    def _square(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height in square pixels; the sample aspect ratio scales the width."""
        return max(1, round(width * self._ratio)), height


def _ratio(ratio: SupportsFloat | None) -> float:
    """Return a sample aspect ratio (PyAV 19's is no `Fraction`); 1 where it is unknown or absurd."""
    value = float(ratio) if ratio else 1.0
    return value if 0.1 < value < 10 else 1.0


def _halvings(size: tuple[int, int], longest: int, most: int) -> int:
    """Return how often, at most ``most`` times, a frame can be halved and keep ``longest`` px or more."""
    return next(n for n in range(most, -1, -1) if n == 0 or max(size) >> n >= longest)
