"""Detectors on a real face, and what identifies them."""

import cv2
import numpy as np
import pytest

from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces import detectors, face
from deiii.pipeline.faces.stage import look
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import needs_shared, shared


def test_no_face_in_noise_or_in_an_empty_image():
    detect = detectors.load_detector(FacesConfig())
    assert detect(np.zeros((240, 320, 3), np.uint8)) == []


def test_shrink_bounds_the_longer_side():
    small, scale = face.shrink(np.zeros((2160, 3840, 3), np.uint8), 320)
    assert small.shape == (180, 320, 3) and scale == pytest.approx(1 / 12)
    assert face.shrink(small, 640)[0] is small


@needs_shared
def test_both_detectors_agree_at_any_source_size():
    rgb, _ = next(iter(read_video(shared("media/grid/bbaf2n.mpg"))))
    yunet = shared("weights/face_detection_yunet_2023mar.onnx")
    found = []
    for config in (FacesConfig(detector="yunet", weights=yunet), FacesConfig()):
        detect = detectors.load_detector(config)
        for factor in (1, 4):
            big = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            (face,) = look(detect, big, 320)
            found.append((face.landmarks + 0.5) / factor - 0.5)
    spread = np.abs(np.array(found) - found[0]).max(axis=(1, 2))
    assert spread[1] < 2  # the same detector
    assert spread[2:].max() < 12  # Haar's five points are placed, not seen
