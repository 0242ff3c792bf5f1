"""Steady landmarks from the track of a face, and aligned crops from landmarks.

Motion between neighbouring frames comes from sparse flow, which is accurate to a fraction of a pixel but
drifts. Position comes from detections, which do not drift but jitter. Detections are carried into one frame
by the motion, averaged there over time and carried back, so that the crop follows the head without the
jitter of the detector. A zero-lag smoother is applied at the end.

Inside this module landmarks are complex numbers x + iy in px.
"""

from __future__ import annotations

import cv2
import numpy as np

from deiii.pipeline.faces.detectors import TEMPLATE
from deiii.pipeline.faces.tracking import Track

ROLL_SETTLES_S = 2.0  # if detections do not show the roll, the mean roll over this time counts as upright
_TEMPLATE = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]


def landmark_path(track: Track, oriented: bool, settle_s: float, smooth_s: float) -> np.ndarray:
    """Return the landmarks of a face in each frame of its track.

    Args:
        track: a track with at least one detection.
        oriented: whether detections show the roll of the face; else it comes from the motion alone.
        settle_s: detections are averaged over about this time, in s.
        smooth_s: time constant of the smoother in s; 0 turns it off.

    Returns:
        complex128 [n,5], px.
    """
    times = np.asarray(track.times)
    points = np.full((len(times), 5), np.nan + 0j)
    roll = np.zeros(len(times))
    breaks = [0, *(i for i in range(1, len(times)) if track.steps[i] is None), len(times)]
    for start, stop in zip(breaks[:-1], breaks[1:], strict=True):
        a, b = _motion_since(track, start, stop)
        seen = np.array([i for i in range(start, stop) if track.seen[i] is not None], int)
        if not len(seen):
            continue
        found = np.array([_landmarks(track, i) for i in seen])
        if not oriented:
            turn = a[seen - start] / np.abs(a[seen - start])
            centre = found.mean(axis=1, keepdims=True)
            found = centre + (found - centre) * turn[:, None]
            roll[start:stop] = np.unwrap(np.angle(a))
        home = (found - b[seen - start, None]) / a[seen - start, None]
        home = smooth(home, times[seen], times[start:stop], settle_s)
        points[start:stop] = a[:, None] * home + b[:, None]
        if not oriented:
            span = times[start:stop]
            upright = smooth(roll[start:stop, None], span, span, ROLL_SETTLES_S)[:, 0]
            centre = points[start:stop].mean(axis=1, keepdims=True)
            points[start:stop] = centre + (points[start:stop] - centre) * np.exp(-1j * upright)[:, None]
    points = _interpolated(points, times)
    return local_line(points, times, smooth_s) if smooth_s > 0 else points


def smooth(values: np.ndarray, at: np.ndarray, wanted: np.ndarray, tau: float) -> np.ndarray:
    """Return the Gaussian-weighted mean of values over time.

    Args:
        values: [k,...], real or complex.
        at: float64 [k], times of the values in s, rising.
        wanted: float64 [n], times of the results in s.
        tau: standard deviation of the weights in s.

    Returns:
        [n,...]; where no value lies within 4 ``tau``, the nearest value.

    >>> smooth(np.array([1.0, 3.0]), np.array([0.0, 1.0]), np.array([0.5]), 0.3).tolist()
    [2.0]
    """
    out = np.empty((len(wanted), *values.shape[1:]), values.dtype)
    for i, time in enumerate(wanted):
        low, high = np.searchsorted(at, (time - 4 * tau, time + 4 * tau))
        if low == high:  # no value is near: take the nearest one
            low = int(np.abs(at - time).argmin())
            high = low + 1
        distance = (at[low:high] - time) / tau
        weight = np.exp(-0.5 * (distance**2 - (distance**2).min()))
        out[i] = np.tensordot(weight / weight.sum(), values[low:high], 1)
    return out


def local_line(values: np.ndarray, times: np.ndarray, tau: float) -> np.ndarray:
    """Smooth without lag: return the value at each time of a line fitted to the neighbouring values.

    Steady motion passes unchanged, also at the ends and at variable frame rates.

    Args:
        values: [n,...], real or complex.
        times: float64 [n], s, rising.
        tau: standard deviation of the Gaussian weights in s.

    Returns:
        [n,...].

    >>> local_line(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]), 1.0).round(6).tolist()
    [0.0, 1.0, 2.0]
    """
    out = np.empty_like(values)
    for i, time in enumerate(times):
        low, high = np.searchsorted(times, (time - 3 * tau, time + 3 * tau))
        offset = times[low:high] - time
        weight = np.exp(-0.5 * (offset / tau) ** 2)
        weight /= weight.sum()
        mean = float(weight @ offset)
        lever = weight * offset
        variance = float(lever @ offset) - mean**2
        if variance > 1e-12:
            weight = weight - mean * (lever - mean * weight) / variance
        out[i] = np.tensordot(weight, values[low:high], 1)
    return out


def crop_transforms(points: np.ndarray, size: int, margin: float, align: str) -> np.ndarray:
    """Return similarities that map source px to crop px.

    Args:
        points: complex128 [n,5], landmarks of one track in source px.
        size: height and width S of the crop in px.
        margin: space around the face on each side, as a share of its box.
        align: ``similarity`` follows position, size and roll; ``box`` follows position and size; ``static``
            keeps one position and size for the track.

    Returns:
        float64 [n,2,3] for the centres of pixels; x points right, y points down. NaN where the landmarks are
        all one point, which has no size.
    """
    goal = ((_TEMPLATE + margin * (1 + 1j)) / (1 + 2 * margin)) * size - (0.5 + 0.5j)
    centred = goal - goal.mean()
    centre = points.mean(axis=1)
    a = ((points - centre[:, None]) @ centred.conj()) / (np.abs(centred) ** 2).sum()  # crop to source
    if align == "static":
        centre = np.full_like(centre, np.median(centre.real) + 1j * np.median(centre.imag))
        a = np.full_like(a, np.median(np.abs(a)))
    elif align == "box":
        a = np.abs(a) + 0j
    forward = np.full_like(a, complex(np.nan, np.nan))
    sized = a != 0
    forward[sized] = 1 / a[sized]
    shift = goal.mean() - forward * centre
    return np.stack(
        [
            np.stack([forward.real, -forward.imag, shift.real], axis=-1),
            np.stack([forward.imag, forward.real, shift.imag], axis=-1),
        ],
        axis=-2,
    )


def boxes(points: np.ndarray) -> np.ndarray:
    """Return square boxes of faces, float64 [n,4] (x, y, width, height), from landmarks complex128 [n,5]."""
    centred = _TEMPLATE - _TEMPLATE.mean()
    centre = points.mean(axis=1)
    a = ((points - centre[:, None]) @ centred.conj()) / (np.abs(centred) ** 2).sum()
    middle, side = centre + a * (0.5 + 0.5j - _TEMPLATE.mean()), np.abs(a)
    return np.stack([middle.real - side / 2, middle.imag - side / 2, side, side], axis=-1)


def window(transform: np.ndarray, size: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the window of a frame that a crop is computed from.

    Its sides are even numbers of px, and whole blocks of those that `crop` averages, except where the frame
    ends.

    Args:
        transform: float64 [2,3] from `crop_transforms`.
        size: height and width S of the crop in px.
        shape: height and width of the frame in px.

    Returns:
        left, top, right and bottom in px.
    """
    unit = max(1, _block(transform))
    unit *= 1 + unit % 2
    corners = _outline(transform, size)
    end = np.array(shape[::-1])
    low = np.clip(np.floor(corners.min(axis=0) / unit - 2) * unit, 0, (end - 1) // unit * unit).astype(int)
    high = np.maximum(np.ceil(corners.max(axis=0) / unit + 2).astype(int) * unit, low + unit)
    left, top = low
    right, bottom = np.minimum(high, end)
    return int(left), int(top), int(right), int(bottom)


def crop(
    rgb: np.ndarray, transform: np.ndarray, size: int, corner: tuple[int, int] | None = None
) -> np.ndarray:
    """Return an aligned crop of a frame; outside the frame its border is replicated.

    A crop that shrinks the frame is averaged over area: first whole blocks of source px, then bilinear
    samples at twice the resolution of the crop, then means of 2x2 px.

    Args:
        rgb: the frame uint8 [H,W,3], or the part of it in `window`.
        transform: float64 [2,3], source px to crop px, from `crop_transforms`.
        size: height and width S of the crop in px.
        corner: left and top of ``rgb`` in the frame; ``None`` where ``rgb`` is the whole frame.

    Returns:
        uint8 [S,S,3].
    """
    if corner is None:
        left, top, right, bottom = window(transform, size, rgb.shape[:2])
        return crop(rgb[top:bottom, left:right], transform, size, (left, top))
    move = np.array([[1.0, 0.0, corner[0]], [0.0, 1.0, corner[1]], [0.0, 0.0, 1.0]])
    block = _block(transform)
    if not block:
        return _warp(rgb, transform @ move, size)
    if block > 1:
        down, right = -rgb.shape[0] % block, -rgb.shape[1] % block
        if down or right:
            rgb = cv2.copyMakeBorder(rgb, 0, down, 0, right, cv2.BORDER_REPLICATE)
        shape = (rgb.shape[1] // block, rgb.shape[0] // block)
        rgb = cv2.resize(rgb, shape, interpolation=cv2.INTER_AREA)
        middle = (block - 1) / 2
        move = move @ np.array([[block, 0, middle], [0, block, middle], [0, 0, 1]])
    double = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]) @ np.vstack([transform, [0, 0, 1]]) @ move
    return cv2.resize(_warp(rgb, double[:2], 2 * size), (size, size), interpolation=cv2.INTER_AREA)


def share_inside(transform: np.ndarray, size: int, width: int, height: int) -> float:
    """Return the share of a crop's area, 0 to 1, that lies inside a frame of ``width`` x ``height`` px."""
    frame = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    area, _ = cv2.intersectConvexConvex(
        _outline(transform, size).astype(np.float32), frame.astype(np.float32), handleNested=True
    )
    return float(area * (transform[0, 0] ** 2 + transform[1, 0] ** 2) / size**2)


def _warp(rgb: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    return cv2.warpAffine(
        rgb, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _block(transform: np.ndarray) -> int:
    """Return how many source px, a whole number, fit into the side of a crop px; 0 if the crop enlarges."""
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    return 0 if scale >= 1 else max(1, int(1 / scale + 1e-6))


def _outline(transform: np.ndarray, size: int) -> np.ndarray:
    """Return the corners of a crop in source px, float64 [4,2]."""
    ends = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [size - 0.5, size - 0.5], [-0.5, size - 0.5]])
    return (ends - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T


def _motion_since(track: Track, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion from frame ``start`` to each one before ``stop``, complex a and b, [stop - start]."""
    a, b = np.ones(stop - start, complex), np.zeros(stop - start, complex)
    for i in range(start + 1, stop):
        step = track.steps[i]
        if step is None:
            raise ValueError(f"the motion to frame {i} of the track is unknown")
        a[i - start] = step[0] * a[i - start - 1]
        b[i - start] = step[0] * b[i - start - 1] + step[1]
    return a, b


def _landmarks(track: Track, i: int) -> np.ndarray:
    """Return the landmarks detected in frame ``i`` of a track, complex128 [5]."""
    face = track.seen[i]
    if face is None:
        raise ValueError(f"frame {i} of the track has no detection")
    return face.landmarks[:, 0] + 1j * face.landmarks[:, 1]


def _interpolated(points: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return landmarks complex128 [n,5] with frames of NaN interpolated linearly in time."""
    known = ~np.isnan(points[:, 0].real)
    if known.all():
        return points
    out = points.copy()
    for j in range(points.shape[1]):
        out.real[:, j] = np.interp(times, times[known], points.real[known, j])
        out.imag[:, j] = np.interp(times, times[known], points.imag[known, j])
    return out
