"""Head pose, sharpness and brightness have known answers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces.quality import (
    FACE,
    StreamedFigures,
    brightness,
    describe_figures,
    face_figures,
    head_pose,
    laplacian_variance,
)
from deiii.pipeline.faces.stage import extract_faces, load_detector

ANGLES = st.tuples(st.floats(-70, 70), st.floats(-60, 60), st.floats(-80, 80))


def turned(yaw, pitch, roll):
    """The face after known rotations, [5,3]: around its own axis, then up, then to the right."""
    return Rotation.from_euler("YXZ", [-yaw, -pitch, roll], degrees=True).apply(FACE)


@given(ANGLES, st.floats(5, 300), st.floats(-500, 500))
def test_a_known_rotation_is_found(angles, scale, shift):
    points = turned(*angles)[None, :, :2] * scale + [shift, -shift]
    assert [float(a[0]) for a in head_pose(points)] == pytest.approx(angles, abs=1e-4)


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 5, -8), (-30, -10, 12), (10, 20, 30)])
def test_a_camera_gives_about_the_angles_of_solvepnp(angles):
    camera = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])
    world = turned(*angles) + [0.1, -0.5, 8]
    points = world @ camera.T
    points = points[:, :2] / points[:, 2:]
    found = [float(a[0]) for a in head_pose(points[None])]
    assert found == pytest.approx(angles, abs=6)  # perspective, which the method leaves out
    _, turn, _ = cv2.solvePnP(FACE, points, camera, None, flags=cv2.SOLVEPNP_EPNP)
    yaw, pitch, roll = Rotation.from_rotvec(turn.ravel()).as_euler("YXZ", degrees=True)
    assert found == pytest.approx([-yaw, -pitch, roll], abs=6)


def test_signs_are_as_they_are_said():
    def nose_at(x, y):
        points = FACE[None, :, :2].copy()
        points[0, 2] += [x, y]
        return [round(float(a[0])) for a in head_pose(points)]

    assert nose_at(0.2, 0)[0] > 10 and nose_at(-0.2, 0)[0] < -10  # to the right, to the left
    assert nose_at(0, -0.2)[1] > 10 and nose_at(0, 0.2)[1] < -10  # up, down
    angle = np.radians(20)  # clockwise in the image, whose y points down
    clockwise = FACE[None, :, :2] @ np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    assert [round(float(a[0])) for a in head_pose(clockwise)] == [0, 0, 20]


def test_unknown_landmarks_have_no_pose():
    points = np.repeat(FACE[None, :, :2], 3, axis=0)
    points[1] = np.nan
    pose = head_pose(points)
    assert np.isnan(pose.yaw).tolist() == [False, True, False]


@pytest.mark.parametrize("period", [4, 8, 16])
def test_sharpness_of_a_wave_is_known(period):
    x = np.arange(129)  # a whole number of periods, so that the border reflects the wave onto itself
    wave = np.round(127 + 100 * np.cos(2 * np.pi * x / period))
    image = np.tile(wave, (64, 1)).astype(np.uint8)[..., None].repeat(3, axis=2)
    meant = 0.5 * (100 * (2 - 2 * np.cos(2 * np.pi / period))) ** 2
    assert laplacian_variance(image) == pytest.approx(meant, rel=0.05)
    assert brightness(image) == pytest.approx(127, abs=1)


def test_blur_lowers_sharpness_and_light_raises_brightness():
    rng = np.random.default_rng(0)
    image = rng.integers(60, 140, (64, 64, 3), np.uint8)
    blurred = [laplacian_variance(cv2.GaussianBlur(image, None, sigma)) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert laplacian_variance(image) > blurred[0] > blurred[1] > blurred[2] > blurred[3]
    assert brightness(image + 50) == pytest.approx(brightness(image) + 50, abs=0.01)


def test_figures_are_medians_of_valid_rows():
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    for row, level in enumerate((10, 20, 30, 40, 250)):
        frames[row] = level
    landmarks = np.stack([turned(yaw, 0, 0)[:, :2] for yaw in (-10, 0, 20, 30, 80)])
    faces = {"frames": frames, "landmarks": landmarks, "valid": np.array([1, 1, 1, 0, 0], bool)}
    found = face_figures(faces, posed=True)
    assert found["brightness"] == 20 and found["sharpness"] == 0
    assert [found[name] for name in ("yaw", "pitch", "roll")] == pytest.approx([0, 0, 0], abs=1e-6)
    assert set(face_figures(faces, posed=False)) == {"brightness", "sharpness"}
    assert face_figures({**faces, "valid": np.zeros(5, bool)}, posed=True) == {}
    assert describe_figures({}) == ""


@pytest.mark.parametrize("posed", [False, True])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_rows_that_come_in_order_have_the_figures_of_the_whole(count, posed):
    rng = np.random.default_rng(count)
    faces = {
        "frames": rng.integers(0, 256, (count, 8, 8, 3), np.uint8),
        "landmarks": np.stack([turned(yaw, 5, -8)[:, :2] for yaw in rng.uniform(-60, 60, count)]),
        "valid": rng.random(count) > 0.3,
    }
    faces["valid"][0] = True
    faces["landmarks"][-1] = np.nan  # known to be valid, without landmarks
    found = StreamedFigures(posed)
    assert found.figures() == {}
    for begin in range(0, count, 3):
        found.add({name: values[begin : begin + 3] for name, values in faces.items()})
    wanted = face_figures(faces, posed)
    assert found.figures() == pytest.approx(wanted, abs=1e-9) and found.figures().keys() == wanted.keys()


def test_a_real_face_that_is_mirrored_or_turned(test_data):
    weights = str(test_data / "weights/face_detection_yunet_2023mar.onnx")
    detector = load_detector(FacesConfig(detector="yunet", weights=weights))
    config = FacesConfig(size=64, detector="yunet", weights=weights, every=4)
    arrays = extract_faces(str(test_data / "media/grid/lrwp9a.mpg"), config, detector).arrays
    angles = [float(np.median(a)) for a in head_pose(arrays["landmarks"][arrays["valid"]])]
    assert np.abs(angles).max() < 20  # the speakers of GRID look into the camera
    mirrored = arrays["landmarks"][:, [1, 0, 2, 4, 3]] * [-1, 1]
    assert [float(np.median(a)) for a in head_pose(mirrored)] == pytest.approx(
        [-angles[0], angles[1], -angles[2]], abs=1e-3
    )
