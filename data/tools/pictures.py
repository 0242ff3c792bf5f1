"""Pictures of features for people: flow as colours, log-mel as colours, tiles that fit into a place.

Contact sheets, clip videos, prediction overlays, the overview of a corpus and the report use them. Nothing
here needs PyTorch: `deiii.runtime` draws overlays without it.
"""

from __future__ import annotations

import cv2
import numpy as np

from deiii.data.tools.text.printable import printable

LEAST_SATURATION = 0.5  # px; shorter flow is mostly noise and must not get full colours


def figure_text(text: str) -> str:
    """Return text that Matplotlib draws literally: no formulas, no control characters, only valid UTF-8.

    >>> figure_text("a$b$c")
    'a\\\\$b\\\\$c'
    """
    return printable(text).encode("utf-8", "backslashreplace").decode("utf-8").replace("$", r"\$")


def _wheel() -> np.ndarray:
    """Return hues of a full turn, float64 [55,3], 0 to 1: red, yellow, green, cyan, blue, magenta (Baker)."""
    steps = (15, 6, 4, 11, 13, 6)
    rising = ((0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2))  # (channel that is full, channel that changes)
    parts = []
    for n, (count, (full, moving)) in enumerate(zip(steps, rising, strict=True)):
        ramp = np.floor(255 * np.arange(count) / count) / 255
        part = np.zeros((count, 3))
        part[:, full] = 1
        part[:, moving] = ramp if n % 2 == 0 else 1 - ramp
        parts.append(part)
    return np.concatenate(parts)


WHEEL = _wheel()


def flow_colours(flow: np.ndarray, largest: float) -> np.ndarray:
    """Return the flow as colours: hue is direction, saturation is length (Baker et al., 2011).

    Args:
        flow: float32 [H,W,2], px.
        largest: length in px that gets full saturation.

    Returns:
        uint8 [H,W,3], RGB.
    """
    u, v = np.moveaxis(np.asarray(flow, np.float32), 2, 0) / max(largest, 1e-9)
    length = np.hypot(u, v)
    share = np.minimum(1, length)[..., None]
    # Of the wheel's colours, the two nearest to the direction are mixed.
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(WHEEL) - 1)
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    hue = (1 - part) * WHEEL[low] + part * WHEEL[(low + 1) % len(WHEEL)]
    return np.floor(255 * (1 - share * (1 - hue))).astype(np.uint8)


def colour_wheel(size: int) -> np.ndarray:
    """Return the legend of `flow_colours`, uint8 [size,size,3]: each colour lies in its direction."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    wheel = flow_colours(np.stack([u, v], axis=2), 1.0)
    wheel[np.hypot(u, v) > 1] = 255
    return wheel


def flow_saturation(flow: np.ndarray) -> float:
    """Return the flow length in px that gets full saturation: the 99th percentile, at least 0.5 px.

    Args:
        flow: float32 [...,2], px; the valid flow of a clip, or a sample of it; empty flow gives 1.0.

    >>> flow_saturation(np.full((3, 8, 8, 2), (3.0, 4.0), np.float32))
    5.0
    """
    if not flow.size:
        return 1.0
    lengths = np.linalg.norm(flow, axis=-1)
    return max(LEAST_SATURATION, float(np.percentile(lengths, 99)))


def mel_picture(logmel: np.ndarray) -> np.ndarray:
    """Return a log-mel spectrogram as colours (magma), from its lowest value to its highest.

    Args:
        logmel: [m,n_mels] in dB.

    Returns:
        uint8 [n_mels,m,3], RGB; time runs to the right, the lowest band is at the bottom.

    >>> mel_picture(np.zeros((100, 80), np.float16)).shape
    (80, 100, 3)
    """
    levels = np.asarray(logmel, np.float32).T[::-1]
    low = float(levels.min())
    high = float(levels.max())
    grey = ((levels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return an image uint8 [H,W,3] as uint8 [height,width,3]; area means where it shrinks, else bilinear."""
    smaller = width * height < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how)


def paste_fitted(canvas: np.ndarray, image: np.ndarray, place: tuple[int, int, int, int]) -> None:
    """Paint an image as large as a place allows into its centre, with its own ratio of sides.

    Args:
        canvas: uint8 [H,W,3], changed in place.
        image: uint8 [h,w,3].
        place: left, top, width and height in px of the canvas.

    >>> canvas = np.zeros((10, 20, 3), np.uint8)
    >>> paste_fitted(canvas, np.full((4, 4, 3), 9, np.uint8), (0, 0, 20, 10))
    >>> canvas[0, 4:16, 0].tolist()
    [0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0]
    """
    left, top, width, height = place
    scale = min(width / image.shape[1], height / image.shape[0])
    tile = resized(image, round(image.shape[1] * scale), round(image.shape[0] * scale))
    x = left + (width - tile.shape[1]) // 2
    y = top + (height - tile.shape[0]) // 2
    canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
