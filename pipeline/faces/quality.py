"""Measure how well the face of a clip can be seen: direction of the head, sharpness and brightness of crops.

The direction comes from the five landmarks. A rigid face is fitted to them by least squares under scaled
orthographic projection, and the nearest rotation is taken. The proportions of `FACE` were estimated
from MediaPipe's canonical face model. They fit no single person exactly, so the angles are estimates: they
serve to sort clips, not to measure people.

Sharpness is the variance of the Laplacian (Pech-Pacheco and others, "Diatom autofocusing in brightfield
microscopy", ICPR 2000) of a crop's grey values. It grows with contrast and falls with the enlargement of the
crop, so it compares clips of one ``faces.size``. Brightness is the mean grey value (Rec. 601) of a crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deiii.data.config.schema import FacesConfig

# Eyes, nose tip and mouth corners, left in the image first; x to the right, y down, z away from the camera,
# in distances of the eyes.
FACE = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.55, -0.6], [-0.38, 1.05, 0], [0.38, 1.05, 0]])
CANDIDATES = 32  # crops of one block that are compared for a thumbnail
CROPS = 8  # number of crops of a clip that are measured
_FIT = np.linalg.pinv(FACE - FACE.mean(axis=0))  # [3,5]


class Pose(NamedTuple):
    """The direction of a head, float64 [n] each, in degrees; NaN where the landmarks are unknown.

    Attributes:
        yaw: positive where the face looks to the right edge of the image.
        pitch: positive where it looks up.
        roll: positive where it is turned clockwise in the image.
    """

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray


def head_pose(landmarks: np.ndarray) -> Pose:
    """Return the direction of the head in each frame.

    Args:
        landmarks: [n,5,2], px: eyes, nose tip and mouth corners, left in the image first. Those of the Haar
            detector are not measured and show no direction.

    >>> pose = head_pose(FACE[None, :, :2] * 40 + 100)  # a face that looks into the camera
    >>> [abs(round(float(angle[0]), 6)) for angle in pose]
    [0.0, 0.0, 0.0]
    """
    points = np.asarray(landmarks, np.float64)
    known = np.asarray(np.isfinite(points).all(axis=(1, 2)))
    points = np.where(known[:, None, None], points, FACE[:, :2])
    centred = points - points.mean(axis=1, keepdims=True)
    map_ = np.einsum("kp,npi->nik", _FIT, centred)  # [n,2,3]: two rows of a scaled rotation
    u, _, vt = np.linalg.svd(map_, full_matrices=False)
    x, y = np.moveaxis(u @ vt, 1, 0)
    depth = np.cross(x, y)
    angles = (
        np.arctan2(-x[:, 2], depth[:, 2]),
        np.arcsin(np.clip(y[:, 2], -1, 1)),
        np.arctan2(y[:, 0], y[:, 1]),
    )
    return Pose(*(np.where(known, np.degrees(angle), np.nan) for angle in angles))


def laplacian_variance(rgb: np.ndarray) -> float:
    """Return the variance of the Laplacian (4 neighbours) of the grey values of an image uint8 [H,W,3]."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def brightness(rgb: np.ndarray) -> float:
    """Return the mean grey value (Rec. 601) of an image uint8 [H,W,3], 0 to 255."""
    return float(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).mean())


def shows_pose(config: FacesConfig) -> bool:
    """Return whether the detector measures landmarks, so that they show the direction of the head."""
    return config.detector == "yunet"


def face_figures(faces: Mapping[str, np.ndarray], posed: bool) -> dict[str, float]:
    """Return figures of the face of one clip: medians over its valid rows; empty without any.

    Args:
        faces: the fields ``valid``, ``landmarks`` and ``frames`` of the faces stage; they may be memory maps.
        posed: whether the detector measures landmarks (`shows_pose`).

    Returns:
        ``sharpness`` and ``brightness``, of `CROPS` crops, and if ``posed`` ``yaw``, ``pitch`` and ``roll``
        in degrees.
    """
    rows = np.flatnonzero(faces["valid"])
    crops = [_crop_figures(np.asarray(faces["frames"][row])) for row in rows[_spread(len(rows))]]
    pose = head_pose(np.asarray(faces["landmarks"])[rows]) if posed and len(rows) else None
    return _medians(crops, pose)


class StreamedFigures:
    """Computes the figures of `face_figures` from rows that come in order and are not kept.

    It measures every valid row, because the rows that `face_figures` would choose are known only at the end.
    40 bytes are kept of each.

    Args:
        posed: argument of `face_figures`.
    """

    def __init__(self, posed: bool):
        self._posed = posed
        self._crops: list[np.ndarray] = []  # float64 [n,2] of each block
        self._poses: list[Pose] = []

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Measure the next rows of the faces stage: ``frames``, ``landmarks`` and ``valid``."""
        valid = np.flatnonzero(rows["valid"])
        if not len(valid):
            return
        self._crops.append(np.array([_crop_figures(rows["frames"][row]) for row in valid]))
        if self._posed:
            self._poses.append(head_pose(rows["landmarks"][valid]))

    def figures(self) -> dict[str, float]:
        """Return the figures of all rows so far."""
        if not self._crops:
            return {}
        crops = np.concatenate(self._crops)
        pose = Pose(*map(np.concatenate, zip(*self._poses, strict=True))) if self._poses else None
        return _medians(crops[_spread(len(crops))], pose)


def _spread(count: int) -> np.ndarray:
    """Return at most `CROPS` evenly spaced indices of a sequence."""
    if not count:
        return np.zeros(0, int)
    return np.unique(np.linspace(0, count - 1, CROPS).round().astype(int))


def _crop_figures(crop: np.ndarray) -> tuple[float, float]:
    """Return sharpness and brightness of a crop."""
    return laplacian_variance(crop), brightness(crop)


def _medians(crops: Sequence[tuple[float, float]] | np.ndarray, pose: Pose | None) -> dict[str, float]:
    """Return the figures by name: medians over crops and over the known angles; empty without crops."""
    if not len(crops):
        return {}
    sharp, bright = np.median(crops, axis=0)
    found = {"sharpness": float(sharp), "brightness": float(bright)}
    for name, values in ({} if pose is None else pose._asdict()).items():
        known = values[np.isfinite(values)]
        if len(known):
            found[name] = float(np.median(known))
    return found


def describe_figures(figures: Mapping[str, float]) -> str:
    """Return the figures of `face_figures` as text; empty where there are none.

    >>> describe_figures({"sharpness": 210.4, "brightness": 101.0, "yaw": 12.3, "pitch": -3.2, "roll": 0.4})
    'sharpness 210, brightness 101, yaw +12°, pitch -3°, roll +0°'
    """
    words = [f"{name} {figures[name]:.0f}" for name in ("sharpness", "brightness") if name in figures]
    words += [f"{name} {figures[name]:+.0f}°" for name in Pose._fields if name in figures]
    return ", ".join(words)


class Portrait:
    """Keeps the sharpest valid crop of those that `add` compares, as a thumbnail.

    >>> portrait = Portrait()
    >>> portrait.add({"frames": np.zeros((1, 8, 8, 3), np.uint8), "valid": np.array([False])})
    >>> portrait.image is None
    True
    """

    def __init__(self) -> None:
        self.image: np.ndarray | None = None  # uint8 [S,S,3]
        self._sharpness = -1.0

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Compare valid crops of some rows (``frames``, ``valid``); of many, a few that are evenly spaced."""
        valid = np.flatnonzero(rows["valid"])
        for row in valid[:: max(1, len(valid) // CANDIDATES)]:
            sharpness = laplacian_variance(rows["frames"][row])
            if sharpness > self._sharpness:
                self.image, self._sharpness = rows["frames"][row].copy(), sharpness
