"""Detectors on a real face, and what identifies them."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from cv2.data import haarcascades

from deiii.data.cache.recipes import recipes
from deiii.data.config.schema import Config, FacesConfig, SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.data.tools.weights import WeightsError
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


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
@pytest.mark.parametrize("place", range(4))
def test_a_detection_without_a_finite_box_is_dropped(wrong, place):
    box = np.array([4.0, 5, 6, 7])
    good = face.Face(box.copy(), np.zeros((5, 2)), 0.9)
    box[place] = wrong
    assert face.largest_first([face.Face(box, np.zeros((5, 2)), 0.9), good]) == [good]


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


def test_another_cascade_has_another_key(tmp_path):
    """Two cascades had one key, so the crops of one were taken for those of the other."""
    own = tmp_path / "own.xml"
    keys = [recipes(Config())["faces"].key]
    for name in (detectors.HAAR, "haarcascade_frontalface_alt2.xml"):
        shutil.copy(Path(haarcascades) / name, own)
        keys.append(recipes(Config(faces=FacesConfig(weights=str(own))))["faces"].key)
    assert len(set(keys)) == 3


@pytest.mark.parametrize("content", ["", "text", "<?xml version='1.0'?><opencv_storage></opencv_storage>"])
def test_a_file_that_is_no_cascade_is_refused(tmp_path, content):
    path = tmp_path / "own.xml"
    path.write_text(content)
    with pytest.raises(WeightsError, match=r"own\.xml.*faces\.weights"):
        detectors.load_detector(FacesConfig(weights=str(path)))


def test_threads_that_share_a_cascade_find_the_same_faces():
    """Boxes were up to 10 px apart, because OpenCV's cascade keeps the image that it searches."""
    detect = detectors.load_detector(FacesConfig())
    size = SyntheticConfig(speakers=4, clips_per_class=1, seconds=0.8, size=160)
    images = [image for n in (0, 9) for image in render_frames(plan_clip(size, n))[:4]]
    wanted = [places(detect, image) for image in images]
    assert any(wanted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: places(detect, image), images * 8))
    assert found == wanted * 8


def places(detect, image: np.ndarray) -> list[list[float]]:
    return [found.box.tolist() for found in detect(image)]
