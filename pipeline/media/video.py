"""A video's frames with their times on the media clock, one at a time.

Frames come upright (rotation metadata applied), with square pixels and without combs (interlaced
frames go through FFmpeg's bwdif filter). A decoded frame keeps the decoder's pixel format until RGB is
requested; then only the requested part is converted: the whole frame, a smaller one, or a window.

>>> for rgb, time_s in read_video("clip.mp4"):  # doctest: +SKIP
...     print(rgb.shape, time_s)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import av.filter
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media import container as media

LOWRES = {"mjpeg": 3}  # codecs that can decode at a lower resolution, and how many halvings they allow
PLANAR = {"yuv420p", "yuvj420p"}  # formats whose planes are processed one by one
HALVES = (1, 2, 2)  # by how much each of these planes is smaller than the frame
LEAST_GAIN = 4  # a window is converted alone where the frame has this many times more pixels


@dataclass(frozen=True)
class DecodedFrame:
    """One video frame before its conversion to RGB.

    Attributes:
        raw: the frame as PyAV decoded it.
        size: width and height in px with square pixels, before rotation.
        turns: quarter turns counter-clockwise that make the frame upright.
    """

    raw: av.VideoFrame
    size: tuple[int, int]
    turns: int
    _converters: dict[tuple[int, int], VideoReformatter] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright frame in px."""
        width, height = self.size
        return (width, height) if self.turns % 2 else (height, width)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the decoded planes take."""
        return sum(plane.buffer_size for plane in self.raw.planes)

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """The upright frame as uint8 [H,W,3].

        Args:
            longest: bound of the longer side in px; a larger frame is averaged down over area.
        """
        size = self._bounded_size(longest)
        raw = self.raw
        smaller = size[0] <= raw.width and size[1] <= raw.height
        if smaller and size != (raw.width, raw.height) and raw.format.name in PLANAR:
            # Averaging the three planes with OpenCV is faster than FFmpeg's scaler and than averaging RGB.
            raw = self._packed(
                [
                    cv2.resize(plane, (size[0] // half, size[1] // half), interpolation=cv2.INTER_AREA)
                    for plane, half in zip(self._planes(), HALVES, strict=True)
                ]
            )
        how = Interpolation.AREA if smaller else Interpolation.BILINEAR
        return self._upright(self._convert(raw, size, how))

    def _bounded_size(self, longest: int | None) -> tuple[int, int]:
        """Width and height after scaling to ``longest``; even numbers, because chroma has half the size."""
        if not longest or max(self.size) <= longest:
            return self.size
        width, height = (max(2, 2 * round(side * longest / max(self.size) / 2)) for side in self.size)
        return width, height

    def part(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """A window of the upright frame as RGB, uint8 [bottom-top,right-left,3]; arguments in px."""
        window = self._stored(left, top, right, bottom)
        alone = self.raw.format.name in PLANAR and self.size == (self.raw.width, self.raw.height)
        alone = alone and not any(side % 2 for side in window)  # chroma has half the resolution
        if not alone or (right - left) * (bottom - top) * LEAST_GAIN > self.size[0] * self.size[1]:
            return self.rgb()[top:bottom, left:right]
        left, top, right, bottom = window
        cut = self._packed(
            [
                plane[top // half : bottom // half, left // half : right // half]
                for plane, half in zip(self._planes(), HALVES, strict=True)
            ]
        )
        return self._upright(self._convert(cut, (cut.width, cut.height), Interpolation.BILINEAR))

    def _stored(self, left: int, top: int, right: int, bottom: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of an upright window in the frame as stored, before its rotation."""
        width, height = self.size
        return {
            0: (left, top, right, bottom),
            1: (width - bottom, left, width - top, right),
            2: (width - right, height - bottom, width - left, height - top),
            3: (top, height - right, bottom, height - left),
        }[self.turns % 4]

    def _upright(self, rgb: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(rgb, self.turns)) if self.turns % 4 else rgb

    def _planes(self) -> list[np.ndarray]:
        """Views of the decoder's memory: luma, and the two chroma planes at half the size."""
        # A plane offers the buffer protocol, but its stub does not say so before Python 3.12.
        return [
            np.frombuffer(memoryview(p), np.uint8).reshape(-1, p.line_size)[: p.height, : p.width]
            for p in self.raw.planes
        ]

    def _packed(self, planes: list[np.ndarray]) -> av.VideoFrame:
        joined = np.concatenate([np.ascontiguousarray(plane).ravel() for plane in planes])
        joined = joined.reshape(-1, planes[0].shape[1])
        frame = av.VideoFrame.from_ndarray(joined, format=self.raw.format.name)
        frame.colorspace, frame.color_range = self.raw.colorspace, self.raw.color_range
        return frame

    def _convert(self, frame: av.VideoFrame, size: tuple[int, int], how: Interpolation) -> np.ndarray:
        # One converter is kept for each size, because creating it takes longer than converting a small
        # frame. One thread, because workers share the cores.
        converter = self._converters.setdefault(size, VideoReformatter())
        return converter.reformat(frame, *size, "rgb24", interpolation=how, threads=1).to_ndarray()


class VideoReader:
    """Iterates over the frames of a video; made by `read_video`.

    The attributes are complete after iteration.

    Attributes:
        notes: defects that left the video usable.
        remarks: properties that were handled without loss, such as interlacing.
        share: decoded share of the duration that the header declares, 0 to 1.
    """

    def __init__(self, path: str, longest: int | None = None):
        self.path, self.longest = path, longest
        self.notes: list[str] = []
        self.remarks: list[str] = []
        self.share = 1.0

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        for frame, time in self.frames():
            yield frame.rgb(self.longest), time

    def frames(self) -> Iterator[tuple[DecodedFrame, float]]:
        """Yield the frames before their conversion to RGB, with their times in s."""
        self.notes = []
        self.remarks = []
        self.share = 1.0
        with media.open_media(self.path) as container:
            stream = media.video_stream(container)
            # With more threads, damaged frames are concealed differently from run to run.
            stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "NONE"
            size = _display_size(stream)
            if self.longest and stream.codec_context.name in LOWRES:
                halvings = _halvings(size, self.longest, LOWRES[stream.codec_context.name])
                stream.codec_context.options = {"lowres": str(halvings)}
            zero = media.clock_zero(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            step = 1.0 / rate
            previous: float | None = None
            converters: dict[tuple[int, int], VideoReformatter] = {}
            counts = _Counts()
            decoded = counts.count(media.decode(container, stream, self.notes))
            for frame in _deinterlaced(decoded):
                time = frame.time - zero if frame.time is not None else None
                if time is None or (previous is not None and time <= previous):
                    time = 0.0 if previous is None else previous + step
                if time > media.MAX_SECONDS:
                    self.notes.append(
                        f"the video goes on beyond {media.MAX_SECONDS:.0f} s; the rest was left out"
                    )
                    break
                previous = time
                yield DecodedFrame(frame, size, round(frame.rotation / 90) % 4, converters), time
            if previous is None:
                raise ClipError(Status.UNREADABLE, "no frame of the video can be decoded")
            if counts.corrupt:
                self.notes.append(f"{counts.corrupt} of {counts.all} frames are damaged")
            if counts.interlaced:
                self.remarks.append(
                    f"{counts.interlaced} of {counts.all} frames are interlaced and were deinterlaced (bwdif)"
                )
            first = float((stream.start_time or 0) * (stream.time_base or 0)) - zero
            self._check_end(stream, previous - first + step)

    def _check_end(self, stream: av.VideoStream, seconds: float) -> None:
        declared = media.declared_seconds(stream)
        if media.is_cut_off(seconds, declared):
            self.share = max(0.0, min(1.0, float(seconds) / declared))
            self.notes.append(f"the video ends after {seconds:.2f} of {declared:.2f} s: the file is cut off")


def read_video(path: str | os.PathLike, longest: int | None = None) -> VideoReader:
    """Open a video; iterating yields ``(rgb uint8 [H,W,3], time_s float)`` one frame at a time.

    Times come from the timestamps of the stream, also at variable frame rates, and rise strictly.
    Iterating again decodes again and yields the same bytes.

    Args:
        path: the media file.
        longest: bound of the longer side in px; larger frames are averaged down while they are decoded
            or converted, so that no large RGB frame is allocated.

    Raises:
        ClipError: on iteration, where no frame can be decoded.
    """
    return VideoReader(os.fspath(path), longest)


def expected_bytes(path: str | os.PathLike) -> float:
    """Estimate from the header how many bytes all decoded frames of a video take; inf if unknown.

    Raises:
        ClipError: the file has no video stream.

    >>> expected_bytes("clip.mp4") < 256 << 20  # doctest: +SKIP
    True
    """
    with media.open_media(os.fspath(path)) as container:
        stream = media.video_stream(container)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / av.time_base
        else:
            return float("inf")
        return 1.5 * stream.width * stream.height * seconds * rate or float("inf")


@dataclass
class _Counts:
    """Numbers of frames: all of them, those decoded with damage, the interlaced ones."""

    all: int = 0
    corrupt: int = 0
    interlaced: int = 0

    def count(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield ``frames`` unchanged and count them."""
        for frame in frames:
            self.all += 1
            self.corrupt += frame.is_corrupt
            self.interlaced += frame.interlaced_frame
            yield frame


def _deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield one full frame for each frame; interlaced ones are deinterlaced, others pass unchanged."""
    graph: av.filter.Graph | None = None
    kind: tuple[int, int, str] | None = None
    for frame in frames:
        now = frame.width, frame.height, frame.format.name
        if graph is not None and now != kind:
            yield from _drain(graph, None)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph = _bwdif(frame)
            kind = now
        if graph is None:
            yield frame
        else:
            yield from _drain(graph, frame)
    if graph is not None:
        yield from _drain(graph, None)


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
    """A filter graph that deinterlaces frames of this size and format."""
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _drain(graph: av.filter.Graph, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """Push a frame (``None`` at the end) and yield the frames that the graph returns."""
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _display_size(stream: av.VideoStream) -> tuple[int, int]:
    """Width and height in square pixels; the sample aspect ratio scales the width."""
    sar = stream.sample_aspect_ratio
    ratio = float(sar) if sar and 0.1 < sar < 10 else 1.0
    return max(1, round(stream.width * ratio)), stream.height


def _halvings(size: tuple[int, int], longest: int, most: int) -> int:
    """How often, at most ``most`` times, a frame can be halved and stay at least ``longest`` px long."""
    return next(n for n in range(most, -1, -1) if n == 0 or max(size) >> n >= longest)
