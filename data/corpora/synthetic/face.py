"""Render synthetic faces: a shaded head of which only brows, lips and freckles move.

Head, hair, eyes and cheeks are rendered once for a clip, in face units. For each frame, freckles, brows and
mouth are added, and the result is placed by the frame's position, roll and scale. A frame depends only on
its own entries of the plan, so that it carries no information about neighbouring frames.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike

from deiii.data.corpora.synthetic.plan import ClipPlan
from deiii.data.corpora.synthetic.skin import BLUSH, cheeks, freckled, tinted

LEFT, RIGHT, TOP, BOTTOM = -2.2, 2.2, -2.0, 3.0  # the canvas, face units
EYE_Y = -0.18
EYE_OPENING = (0.058, 0.128)  # half the distance of the lids, by appearance bit
CHEEK = ((0.47, 0.20), (0.52, 0.42))  # x and y of the cheek's highest point, by appearance bit
FLUSHED = (0.50, 0.31)  # x and y of the middle of a cheek that flushes
SHIFT = 5  # fractional bits of OpenCV's fixed-point coordinates


def render_frames(plan: ClipPlan) -> np.ndarray:
    """Render all frames of a clip.

    Returns:
        uint8 [n,size,size,3], RGB.
    """
    unit = plan.size / 3.0  # px per face unit on the canvas, a little finer than in the frame
    head, alpha = render_head(plan, unit)
    rng = np.random.default_rng([*plan.seed, 12])
    scene = _background(plan, rng)
    light = _light(plan)
    xs, ys = _face_units(unit, head.shape[:2])
    bare = _freckled_skin(plan, xs, ys)
    frames = np.empty((len(plan.roll), plan.size, plan.size, 3), np.uint8)
    window = (plan.size, plan.size)
    for i, out in enumerate(frames):
        face = head.copy() if plan.freckles is None else freckled(head, plan.freckles, i, xs, ys, bare)
        _draw_brows(face, plan, unit, plan.brow[i])
        _draw_mouth(face, plan, unit, plan.opening[i], plan.quiver[i])
        matrix = placement(plan, i) @ np.array([[1 / unit, 0, LEFT], [0, 1 / unit, TOP], [0, 0, 1]])
        cover = cv2.warpAffine(alpha, matrix, window, flags=cv2.INTER_LINEAR)[..., None]
        placed = cv2.warpAffine(
            face, matrix, window, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        placed -= scene
        placed *= cover
        placed += scene
        placed *= light
        placed += plan.noise * rng.standard_normal((plan.size, plan.size, 1), np.float32)
        np.clip(placed, 0, 255, out=placed)
        out[:] = placed
    return frames


def landmarks(plan: ClipPlan) -> np.ndarray:
    """Return the true landmarks of every frame, in YuNet's order.

    Returns:
        float64 [n,5,2], px (x, y): right eye, left eye, nose tip, right and left mouth corner. The
        speaker's right is on the left of the frame.
    """
    s = plan.speaker
    corner = s.mouth_y - 0.6 * _curvature(plan)
    face = np.array(
        [
            (-s.eye_distance, EYE_Y),
            (s.eye_distance, EYE_Y),
            (0, EYE_Y + s.nose_length),
            (-s.mouth_width, corner),
            (s.mouth_width, corner),
        ]
    )
    points = np.concatenate([face, np.ones((5, 1))], axis=1)
    return np.stack([points @ placement(plan, i).T for i in range(len(plan.roll))])


def placement(plan: ClipPlan, i: int) -> np.ndarray:
    """Return the affine transform, float64 [2,3], from face units to px of frame i."""
    c = plan.scale[i] * np.cos(plan.roll[i])
    s = plan.scale[i] * np.sin(plan.roll[i])
    return np.array([[c, -s, plan.centre[i, 0]], [s, c, plan.centre[i, 1]]])


def _curvature(plan: ClipPlan) -> float:
    return 0.16 * plan.valence


def render_head(plan: ClipPlan, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Render the parts that do not move: uint8 [h,w,3], RGB, and its opacity float32 [h,w], on the canvas."""
    s, fine = plan.speaker, 2 * unit
    shape = round(2 * (BOTTOM - TOP) * unit / 2), round(2 * (RIGHT - LEFT) * unit / 2)
    big = np.zeros((2 * shape[0], 2 * shape[1], 4), np.uint8)
    skin, hair = np.array(s.skin), np.array(s.hair)
    around = np.linspace(0, 2 * np.pi, 90)
    cos, sin = np.cos(around), np.sin(around)

    def fill(points: np.ndarray, colour: np.ndarray) -> None:
        fixed = ((points - (LEFT, TOP)) * fine + 0.5) * 2**SHIFT
        rgba = [float(c) for c in np.clip(colour, 0, 255)] + [255.0]
        cv2.fillPoly(big, [np.rint(fixed).astype(np.int32)], rgba, cv2.LINE_AA, SHIFT)

    def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
        return np.stack([x + a * cos, y + b * sin], axis=1)

    h = s.face_height
    # Narrower towards the chin, by the speaker's jaw.
    oval = np.stack([cos * (1 - s.jaw * np.clip(sin, 0, 1) ** 2), h * sin], axis=1)
    volume, fall = ((1.10, 0.2), (1.16, 0.6), (1.22, 1.3), (1.06, 0.0))[s.hair_style]
    fill(ellipse(0, -0.25, volume, h - 0.1), hair)
    if fall:
        fill(np.array([(-volume, -0.3), (volume, -0.3), (volume, fall), (-volume, fall)]), hair)
    fill(np.array([(-0.46, 0.8), (0.46, 0.8), (0.52, 2.2), (-0.52, 2.2)]), 0.72 * skin)
    fill(ellipse(0, 3.1, 2.0, 1.35), np.array(s.shirt))
    for side in (-1, 1):
        fill(ellipse(side * 1.0, 0.0, 0.12, 0.24), 0.86 * skin)
    fill(oval, skin)
    # The fringe: the part of the oval above a hairline.
    line = -0.80 - 0.10 * (s.hair_style % 2)
    x = np.linspace(-1.02, 1.02, 40)
    fringe = np.stack([x, line + (0.5 - 0.12 * s.hair_style) * x**2 * (1 + 0.3 * x)], axis=1)
    cap = ellipse(0, -0.25, volume, h - 0.1)
    fill(np.concatenate([fringe, cap[(sin < -0.2)][::-1] * (1, 1)]), hair)

    rgba_canvas = cv2.resize(big, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = rgba_canvas[..., 3] / 255
    xs, ys = _face_units(unit, shape)
    rgb = rgba_canvas[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    rgb *= _shading(plan, xs, ys)[..., None]
    if plan.blush:
        rgb = tinted(rgb, plan.blush * BLUSH * cheeks(*FLUSHED, xs, ys))
    face = np.ascontiguousarray(np.clip(rgb, 0, 255).astype(np.uint8))
    for side in (-1, 1):
        _draw_eye(face, plan, unit, side)
    return face, alpha


def _face_units(unit: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns and the rows of the canvas in face units, float32 [1,w] and [h,1]."""
    xs = np.arange(shape[1], dtype=np.float32)[None] / unit + LEFT
    ys = np.arange(shape[0], dtype=np.float32)[:, None] / unit + TOP
    return xs, ys


def _freckled_skin(plan: ClipPlan, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return where freckles show, 0 or 1, float32 [h,w]: everywhere but on the eyes."""
    free = np.ones(np.broadcast_shapes(xs.shape, ys.shape), np.float32)
    for side in (-1, 1):
        x = side * plan.speaker.eye_distance
        free[((xs - x) / 0.27) ** 2 + ((ys - EYE_Y) / 0.17) ** 2 < 1] = 0
    return free


def _shading(plan: ClipPlan, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return the brightness over the face, [h,w]: roundness, sockets, nose, cheeks and chin."""
    s = plan.speaker

    def spot(x: float, y: float, a: float, b: float) -> np.ndarray:
        return np.exp(-(((xs - x) / a) ** 2)) * np.exp(-(((ys - y) / b) ** 2))

    tip = EYE_Y + s.nose_length
    shade = 1.04 - 0.22 * np.clip(xs**2 + (ys / s.face_height) ** 2, 0, 1.2) ** 2
    shade -= 0.16 * spot(0, tip + 0.07, 0.17, 0.05)  # under the nose
    shade += 0.10 * spot(0, tip - 0.16, 0.07, 0.22)  # its ridge
    shade -= 0.08 * spot(0, s.mouth_y + 0.24, 0.22, 0.07)  # under the lips
    cheek_x, cheek_y = CHEEK[plan.appearance]
    for side in (-1, 1):
        shade -= 0.24 * spot(side * (s.eye_distance - 0.03), EYE_Y - 0.03, 0.30, 0.17)  # socket
        shade -= 0.10 * spot(side * 0.15, tip - 0.03, 0.05, 0.10)  # side of the nose
        shade += (0.13, 0.05)[plan.appearance] * spot(side * cheek_x, cheek_y, 0.24, 0.13)
        if plan.appearance == 0:  # the fold above a raised cheek
            shade -= 0.14 * spot(side * s.eye_distance, EYE_Y + 0.16, 0.24, 0.035)
    return shade.astype(np.float32)


def _draw_eye(face: np.ndarray, plan: ClipPlan, unit: float, side: int) -> None:
    s = plan.speaker
    half = EYE_OPENING[plan.appearance]
    skin = np.array(s.skin)
    t = np.linspace(-1, 1, 17)
    lid = (1 - t**2) ** 0.75
    x = side * s.eye_distance + t * s.eye_width
    upper, lower = EYE_Y - half * lid, EYE_Y + 0.85 * half * lid
    almond = np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])
    patch, place = _patch(face, unit, x.min() - 0.1, x.max() + 0.1, EYE_Y - 0.3, EYE_Y + 0.3)
    white = patch.copy()
    white[:] = np.clip(0.35 * skin + 130, 0, 225)
    disc = _disc(side * s.eye_distance, EYE_Y - 0.01, 0.105)
    _blend(white, _mask(patch, place(disc)), s.iris)
    _blend(white, _mask(patch, place(_disc(side * s.eye_distance, EYE_Y - 0.01, 0.05))), (14, 12, 12))
    _blend(white, _mask(patch, place(_disc(side * s.eye_distance + 0.035, EYE_Y - 0.045, 0.02))), (240,) * 3)
    open_ = _mask(patch, place(almond))[..., None].astype(np.float32) / 255
    patch[:] = patch * (1 - open_) + white * open_
    lash = np.concatenate(
        [np.stack([x, upper - 0.035 * lid - 0.005], 1), np.stack([x, upper + 0.012], 1)[::-1]]
    )
    _blend(patch, _mask(patch, place(lash)), 0.22 * skin)
    under = np.concatenate([np.stack([x, lower], 1), np.stack([x, lower + 0.018 * lid], 1)[::-1]])
    _blend(patch, _mask(patch, place(under)), 0.5 * skin)


def _draw_brows(face: np.ndarray, plan: ClipPlan, unit: float, lift: float) -> None:
    s = plan.speaker
    middle = EYE_Y - s.brow_height
    reach = s.eye_distance + 0.34
    patch, place = _patch(face, unit, -reach, reach, middle - 0.25, middle + 0.2)
    t = np.linspace(-1, 1, 13)
    thick = s.brow_thickness * (1 - 0.75 * np.clip(t, 0, 1) ** 1.5) * (1 - np.clip(-t, 0, 1) ** 6)
    mask = np.zeros(patch.shape[:2], np.uint8)
    for side in (-1, 1):
        x = side * (s.eye_distance + 0.01 + 0.27 * t)
        y = middle + lift - 0.05 * (1 - t**2) + 0.03 * t
        outline = np.concatenate([np.stack([x, y - thick], 1), np.stack([x, y + thick], 1)[::-1]])
        cv2.fillPoly(mask, [place(outline)], 255, cv2.LINE_AA, SHIFT)
    colour = np.minimum(0.75 * np.array(s.hair), 0.42 * np.array(s.skin))
    _blend(patch, cv2.GaussianBlur(mask, (3, 3), 0), colour)


def _draw_mouth(face: np.ndarray, plan: ClipPlan, unit: float, opening: float, quiver: float) -> None:
    s = plan.speaker
    t = np.linspace(-1, 1, 21)
    arch = 1 - t**2
    x = t * s.mouth_width
    # The corners do not move, so that a quiver does not move the landmarks that crops are aligned by.
    line = s.mouth_y - _curvature(plan) * (t**2 - 0.4) + quiver * arch
    gap = 0.26 * opening * arch
    inner_up, inner_down = line - 0.25 * gap, line + 0.75 * gap
    outer_up = inner_up - 0.075 * arch * (1 - 0.25 * np.exp(-((t / 0.18) ** 2)))
    outer_down = inner_down + 0.10 * arch
    patch, place = _patch(face, unit, -0.55, 0.55, s.mouth_y - 0.3, s.mouth_y + 0.42)

    def between(up: np.ndarray, down: np.ndarray) -> np.ndarray:
        return place(np.concatenate([np.stack([x, up], 1), np.stack([x, down], 1)[::-1]]))

    lips = np.array(s.lips)
    _blend(patch, _mask(patch, between(outer_up, outer_down)), lips)
    _blend(patch, _mask(patch, between(line - 0.012, inner_down + 0.012)), (46, 18, 20))
    _blend(patch, _mask(patch, between(inner_up - 0.012, line + 0.012)), (46, 18, 20))
    if opening > 0.15:  # a closed mouth shows no teeth
        teeth = np.minimum(inner_up + 0.07 * arch, inner_down)
        _blend(patch, _mask(patch, between(inner_up + 0.012 * arch, teeth)), (205, 200, 190))


def _patch(
    face: np.ndarray, unit: float, x0: float, x1: float, y0: float, y1: float
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return a view of a part of the canvas, and the function from face units to its fixed-point px."""
    left, top = int((x0 - LEFT) * unit), int((y0 - TOP) * unit)
    right, bottom = int(np.ceil((x1 - LEFT) * unit)), int(np.ceil((y1 - TOP) * unit))
    origin = np.array([LEFT + left / unit, TOP + top / unit])

    def place(points: np.ndarray) -> np.ndarray:
        return np.rint((points - origin) * unit * 2**SHIFT).astype(np.int32)

    return face[top:bottom, left:right], place


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    around = np.linspace(0, 2 * np.pi, 25)
    return np.stack([x + radius * np.cos(around), y + radius * np.sin(around)], axis=1)


def _mask(patch: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    mask = np.zeros(patch.shape[:2], np.uint8)
    cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA, SHIFT)
    return mask


def _blend(patch: np.ndarray, mask: np.ndarray, colour: ArrayLike) -> None:
    """Paint a colour through a mask, in place."""
    cover = mask[..., None].astype(np.float32) * (1 / 255)
    patch[:] = patch + cover * (np.asarray(colour, np.float32) - patch)


def _background(plan: ClipPlan, rng: np.random.Generator) -> np.ndarray:
    """Return a wall with soft blotches, float32 [size,size,3], RGB."""
    blotches = cv2.resize(
        rng.uniform(-1, 1, (5, 5)).astype(np.float32), (plan.size, plan.size), interpolation=cv2.INTER_CUBIC
    )
    return (np.array(plan.speaker.background, np.float32) * (1 + 0.15 * blotches[..., None])).astype(
        np.float32
    )


def _light(plan: ClipPlan) -> np.ndarray:
    """Return the brightness factor of each pixel, float32 [size,size,1]."""
    across = np.linspace(-1, 1, plan.size, dtype=np.float32)
    slope = 0.12 * (
        np.cos(plan.speaker.light_angle) * across[None] + np.sin(plan.speaker.light_angle) * across[:, None]
    )
    return (plan.light * (1 + slope))[..., None].astype(np.float32)
