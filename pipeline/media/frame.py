"""A decoded video frame, and its conversion to RGB on request: upright, with square pixels, in SDR colours.

A decoded frame keeps the decoder's pixel format until RGB is requested; then only the requested part is
converted: the whole frame, a smaller one, or a window. `is_cut` decides whether a frame begins a new shot.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from deiii.pipeline.media.colour import ColourSpace, to_sdr
from deiii.pipeline.media.orientation import Orientation

PLANAR = {"yuv420p", "yuvj420p"}  # formats whose planes are processed one by one
HALVES = (1, 2, 2)  # factor by which each plane is smaller than the frame
LEAST_GAIN = 4  # a window is converted alone where the frame has this many times more pixels
THUMBNAIL = 32  # px; side of the thumbnails that are compared
# A new shot begins where the thumbnail changes by this many grey levels on average and does not
# correlate with the one before. A fade changes the levels but keeps the correlation.
CUT_LEVELS = 20.0
CUT_CORRELATION = 0.8
# Images that differ by no more than this in total, per px, have thumbnails that differ by less than
# CUT_LEVELS: a level of a colour changes grey by at most 0.587 levels, averages over area cannot change more
# than the px do, and rounding twice adds at most two levels: 0.587 * 30 + 2 < 20.
QUIET_LEVELS = 30.0
MOST_SUMMED = 4 << 20  # bytes of images that are compared in one call; they fit into a processor's cache


@dataclass(frozen=True)
class DecodedFrame:
    """One video frame before its conversion to RGB.

    Attributes:
        raw: the frame as PyAV decoded it.
        size: width and height in px with square pixels, before it is turned upright.
        orientation: what makes it upright.
        colours: its transfer function and primaries.
        canvas: upright width and height in px of all frames of the video. A frame of another size is scaled
            to fit, its shape kept, with black beside it.
    """

    raw: av.VideoFrame
    size: tuple[int, int]
    orientation: Orientation
    colours: ColourSpace
    canvas: tuple[int, int]
    _converters: dict[tuple[int, int, str, int], VideoReformatter] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright frame in px."""
        return self.canvas[1], self.canvas[0]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the decoded planes take."""
        return sum(plane.buffer_size for plane in self.raw.planes)

    def rgb(self, longest: int | None = None) -> np.ndarray:
        """Return the upright frame as uint8 [H,W,3].

        Args:
            longest: bound of the longer side in px; a larger frame is averaged down over area.
        """
        if self.orientation.size(*self.size) == self.canvas:
            return self._upright(self._scaled(bounded_size(self.size, longest)))
        width, height = bounded_size(self.canvas, longest)
        own = self.orientation.size(*self.size)
        scale = min(width / own[0], height / own[1])
        fitted = self.orientation.size(*(max(1, round(side * scale)) for side in own))
        inner = self._upright(self._scaled(fitted))
        out = np.zeros((height, width, 3), np.uint8)
        top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
        out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return out

    def part(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """Return a window of the upright frame as RGB, uint8 [bottom-top,right-left,3]; arguments in px."""
        window = (left, top, right, bottom)
        if self.orientation.size(*self.size) != self.canvas:
            return self.rgb()[top:bottom, left:right]
        left, top, right, bottom = self.orientation.stored(window, *self.size)
        alone = self.raw.format.name in PLANAR and self.size == (self.raw.width, self.raw.height)
        alone = alone and self.colours.is_sdr
        alone = alone and not any(side % 2 for side in (left, top, right, bottom))  # chroma is half as fine
        if not alone or (right - left) * (bottom - top) * LEAST_GAIN > self.size[0] * self.size[1]:
            return self._upright(self._scaled(self.size)[top:bottom, left:right])
        cut = self._packed(
            [
                plane[top // half : bottom // half, left // half : right // half]
                for plane, half in zip(self._planes(), HALVES, strict=True)
            ]
        )
        return self._upright(self._convert(cut, (cut.width, cut.height), Interpolation.BILINEAR))

    def _scaled(self, size: tuple[int, int]) -> np.ndarray:
        """Return the stored frame at this width and height: uint8 RGB, or uint16 where it is no SDR yet."""
        raw = self.raw
        smaller = size[0] <= raw.width and size[1] <= raw.height
        even = not (size[0] % 2 or size[1] % 2)  # an odd size has no planes of half its size
        if smaller and even and size != (raw.width, raw.height) and raw.format.name in PLANAR:
            # Averaging the three planes with OpenCV is faster than FFmpeg's scaler and than averaging RGB.
            raw = self._packed(
                [
                    cv2.resize(plane, (size[0] // half, size[1] // half), interpolation=cv2.INTER_AREA)
                    for plane, half in zip(self._planes(), HALVES, strict=True)
                ]
            )
        return self._convert(raw, size, Interpolation.AREA if smaller else Interpolation.BILINEAR)

    def _upright(self, rgb: np.ndarray) -> np.ndarray:
        """Return stored RGB of either depth as upright uint8 RGB in SDR."""
        return self.orientation.apply(rgb if self.colours.is_sdr else to_sdr(rgb, self.colours))

    def _planes(self) -> list[np.ndarray]:
        """Return views of the decoder's memory: luma, and the two chroma planes at half the size."""
        # A plane offers the buffer protocol, but its stub does not declare it before Python 3.12.
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
        # frame. Each thread has its own: the frames of a live source are drawn in another thread than the one
        # that finds faces, and a converter in use by two threads crashes. One thread, because workers share
        # the cores.
        form = "rgb24" if self.colours.is_sdr else "rgb48le"
        converter = self._converters.setdefault((*size, form, threading.get_ident()), VideoReformatter())
        return converter.reformat(frame, *size, form, interpolation=how, threads=1).to_ndarray()


def bounded_size(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Return width and height, at most ``longest``; even numbers, because chroma has half the size."""
    if not longest or max(size) <= longest:
        return size
    width, height = (max(2, 2 * round(side * longest / max(size) / 2)) for side in size)
    return width, height


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether a new shot begins between two consecutive thumbnails, float32 [h,w].

    >>> is_cut(np.zeros((32, 32), np.float32), np.full((32, 32), 200, np.float32))
    True
    """
    if np.abs(after - before).mean() <= CUT_LEVELS:
        return False
    one = before - before.mean()
    other = after - after.mean()
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) < CUT_CORRELATION * power or power < before.size


def cuts_between(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return where a new shot begins between consecutive images, uint8 [n,H,W,3] (RGB): bool [n-1].

    It is `is_cut` of their thumbnails, which are made only where neighbouring images differ much.

    >>> cuts_between(np.zeros((3, 64, 64, 3), np.uint8)).tolist()
    [False, False]
    """
    found = np.zeros(max(0, len(frames) - 1), bool)
    if not len(found):
        return found
    latest: tuple[int, np.ndarray] | None = None  # number and thumbnail of the image that was looked at last
    height, width = frames[0].shape[:2]
    differ = np.ones(len(found), bool)
    if min(height, width) >= THUMBNAIL:
        differ = differences(frames) > QUIET_LEVELS * height * width
    for i in np.flatnonzero(differ).tolist():
        first = latest[1] if latest is not None and latest[0] == i else thumbnail(frames[i])
        latest = i + 1, thumbnail(frames[i + 1])
        found[i] = is_cut(first, latest[1])
    return found


def differences(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return the sum of the absolute differences of consecutive images, uint8 [n,H,W,3]: int64 [n-1].

    Many images are compared in one call: other threads of the process wait for the GIL once, not once for
    each image.

    >>> differences(np.array([[[[0, 1, 2]]], [[[3, 1, 0]]]], np.uint8)).tolist()
    [5]
    """
    sums = np.zeros(len(frames) - 1, np.int64)
    width = max(1, MOST_SUMMED // frames[0].size)  # images at a time
    for start in range(0, len(sums), width):
        part = np.asarray(frames[start : start + width + 1])
        flat = part.reshape(len(part), -1)
        apart = cv2.absdiff(flat[:-1], flat[1:])
        if frames[0].size * 255 < 2**31:
            sums[start : start + width] = cv2.reduce(apart, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
        else:
            sums[start : start + width] = apart.sum(1, dtype=np.int64)
    return sums


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the thumbnail for `is_cut`, float32 [32,32], of an image uint8 [H,W,3] (RGB) or [H,W] (grey).

    >>> thumbnail(np.zeros((48, 64, 3), np.uint8)).shape
    (32, 32)
    """
    if image.ndim == 3:
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)
