"""A video's frames with their times on the media clock, one at a time.

Frames come upright (rotation metadata applied), with square pixels and without combs (interlaced
frames go through FFmpeg's bwdif). A frame stays as the decoder made it until somebody asks for RGB, and
then only what is asked for is converted: the whole picture, a smaller one, or a part.

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

LOWRES = {"mjpeg": 3}  # codecs that can leave out resolution while decoding, and the most halvings
PLANAR, HALVES = {"yuv420p", "yuvj420p"}, (1, 2, 2)  # formats whose planes are handled one by one
LEAST_GAIN = 4  # a part is converted alone where the frame is this many times larger


@dataclass(frozen=True)
class Picture:
    """One decoded frame.

    Attributes:
        raw: as decoded.
        size: width and height with square pixels, before turning, px.
        turns: quarter turns counter-clockwise that make it upright.
    """

    raw: av.VideoFrame
    size: tuple[int, int]
    turns: int
    _converters: dict[tuple[int, int], VideoReformatter] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, upright, px."""
        return self.size if self.turns % 2 else self.size[::-1]

    @property
    def nbytes(self) -> int:
        return sum(plane.buffer_size for plane in self.raw.planes)

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """uint8 [H,W,3], upright; averaged over area so that no side is longer than ``longest`` px."""
        size = self.size
        if longest and max(size) > longest:  # even, as chroma has half the size
            size = tuple(max(2, 2 * round(side * longest / max(size) / 2)) for side in size)
        raw, smaller = self.raw, size[0] <= self.raw.width and size[1] <= self.raw.height
        if smaller and size != (raw.width, raw.height) and raw.format.name in PLANAR:
            # OpenCV averages the three planes in less time than FFmpeg or RGB would take.
            raw = self._packed(
                [
                    cv2.resize(plane, (size[0] // half, size[1] // half), interpolation=cv2.INTER_AREA)
                    for plane, half in zip(self._planes(), HALVES, strict=True)
                ]
            )
        how = Interpolation.AREA if smaller else Interpolation.BILINEAR
        return self._upright(self._convert(raw, size, how))

    def part(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """The RGB of a window inside the upright picture, uint8 [bottom-top,right-left,3]."""
        window = self._stored(left, top, right, bottom)
        alone = self.raw.format.name in PLANAR and self.size == (self.raw.width, self.raw.height)
        alone = alone and not any(side % 2 for side in window)  # chroma has no odd places
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
        """An upright window in the picture as it is stored, before its quarter turns."""
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
        """Views of the decoder's own memory: brightness, and colour at half the size."""
        return [
            np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : p.width]
            for p in self.raw.planes
        ]

    def _packed(self, planes: list[np.ndarray]) -> av.VideoFrame:
        joined = np.concatenate([np.ascontiguousarray(plane).ravel() for plane in planes])
        joined = joined.reshape(-1, planes[0].shape[1])
        frame = av.VideoFrame.from_ndarray(joined, format=self.raw.format.name)
        frame.colorspace, frame.color_range = self.raw.colorspace, self.raw.color_range
        return frame

    def _convert(self, frame: av.VideoFrame, size: tuple[int, int], how: Interpolation) -> np.ndarray:
        # A converter is kept for each size: setting one up takes longer than a small frame. One thread,
        # because the workers share the cores.
        converter = self._converters.setdefault(size, VideoReformatter())
        return converter.reformat(frame, *size, "rgb24", interpolation=how, threads=1).to_ndarray()


class VideoReader:
    """Iterates over a video's frames; made by `read_video`.

    Attributes:
        notes: after iterating, what was wrong but survivable.
        remarks: after iterating, what was unusual and put right.
        share: after iterating, decoded share of the duration that the container promises, 0 to 1.
    """

    def __init__(self, path: str, longest: int | None = None):
        self.path, self.longest = path, longest
        self.notes: list[str] = []
        self.remarks: list[str] = []
        self.share = 1.0

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        for picture, time in self.pictures():
            yield picture.rgb(self.longest), time

    def pictures(self) -> Iterator[tuple[Picture, float]]:
        """The frames before their conversion to RGB, with their times in s."""
        self.notes, self.remarks, self.share = [], [], 1.0
        with media.open_media(self.path) as container:
            stream = media.video_stream(container)
            # With more threads, how a decoder patches damage differs from run to run, sometimes unnoticed.
            stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
            size = _display_size(stream)
            if self.longest and stream.codec_context.name in LOWRES:
                halvings = _halvings(size, self.longest, LOWRES[stream.codec_context.name])
                stream.codec_context.options = {"lowres": str(halvings)}
            zero = media.clock_zero(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            previous, step, converters = None, 1.0 / rate, {}
            counts = _Counts()
            frames = counts.over(media.decode(container, stream, self.notes))
            for frame in _deinterlaced(frames):
                time = frame.time - zero if frame.time is not None else None
                if time is None or (previous is not None and time <= previous):
                    time = 0.0 if previous is None else previous + step
                if time > media.MAX_SECONDS:
                    self.notes.append(
                        f"the video goes on beyond {media.MAX_SECONDS:.0f} s; the rest was left out"
                    )
                    break
                previous = time
                yield Picture(frame, size, round(frame.rotation / 90) % 4, converters), time
            if previous is None:
                raise ClipError(Status.UNREADABLE, "no frame of the video can be decoded")
            if counts.corrupt:
                self.notes.append(f"{counts.corrupt} of {counts.all} frames are damaged")
            if counts.interlaced:
                self.remarks.append(
                    f"{counts.interlaced} of {counts.all} frames are interlaced and were deinterlaced (bwdif)"
                )
            first = float((stream.start_time or 0) * stream.time_base) - zero
            self._check_end(stream, previous - first + step)

    def _check_end(self, stream: av.VideoStream, seconds: float) -> None:
        promised = media.promised_seconds(stream)
        if media.falls_short(seconds, promised):
            self.share = max(0.0, min(1.0, float(seconds) / promised))
            self.notes.append(f"the video ends after {seconds:.2f} of {promised:.2f} s: the file is cut off")


def read_video(path: str | os.PathLike, longest: int | None = None) -> VideoReader:
    """Open a video; iterating yields ``(rgb uint8 [H,W,3], time_s float)`` one frame at a time.

    Times come from the stream's timestamps (variable frame rates keep theirs) and rise
    strictly. Iterating again decodes again and yields the same bytes.

    Args:
        path: the media file.
        longest: bound of the longer side in px; larger frames are averaged down while they are decoded
            or converted, so no large RGB picture is made.

    Raises:
        ClipError: on iterating, where there is nothing to decode.
    """
    return VideoReader(os.fspath(path), longest)


def expected_bytes(path: str | os.PathLike) -> float:
    """About how much memory all decoded frames of a video would take, from its header; inf if unknown.

    Raises:
        ClipError: where the file is no video.
    """
    with media.open_media(os.fspath(path)) as container:
        stream = media.video_stream(container)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / av.time_base
        else:
            return float("inf")
        return 1.5 * stream.width * stream.height * seconds * rate or float("inf")


@dataclass
class _Counts:
    """Frames that passed, and what the decoder said of them."""

    all: int = 0
    corrupt: int = 0
    interlaced: int = 0

    def over(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            self.all += 1
            self.corrupt += frame.is_corrupt
            self.interlaced += frame.interlaced_frame
            yield frame


def _deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """One whole frame for each frame; progressive ones pass unchanged."""
    graph, kind = None, None
    for frame in frames:
        now = frame.width, frame.height, frame.format.name
        if graph is not None and now != kind:
            yield from _drain(graph, None)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, kind = _bwdif(frame), now
        if graph is None:
            yield frame
        else:
            yield from _drain(graph, frame)
    if graph is not None:
        yield from _drain(graph, None)


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
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
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _display_size(stream: av.VideoStream) -> tuple[int, int]:
    """Width and height after making pixels square: the width follows the sample aspect ratio."""
    sar = stream.sample_aspect_ratio
    ratio = float(sar) if sar and 0.1 < sar < 10 else 1.0
    return max(1, round(stream.width * ratio)), stream.height


def _halvings(size: tuple[int, int], longest: int, most: int) -> int:
    """How often a frame may be halved and still be at least ``longest`` px long."""
    return next(n for n in range(most, -1, -1) if n == 0 or max(size) >> n >= longest)
