"""YuNet against OpenCV's reader of the same file."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deiii.data.tools.weights import WeightsError
from deiii.pipeline.faces.face import shrink
from deiii.pipeline.faces.yunet import YuNet
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import needs_shared, shared

pytestmark = needs_shared
CLIPS = ["edge/several_faces_5_frames.mp4", "edge/tiny_face.mp4", "grid/bbaf2n.mpg", "edge/no_face.mp4"]


@pytest.mark.parametrize("size", [200, 320, 640])  # 200 px and most heights are no whole cells
@pytest.mark.parametrize("name", CLIPS)
def test_same_faces_as_opencv(name, size):
    path = shared("weights/face_detection_yunet_2023mar.onnx")
    ours, opencv = YuNet(path, 0.6), cv2.FaceDetectorYN.create(path, "", (320, 320), 0.6, 0.3, 500)
    for i, (rgb, _) in enumerate(read_video(shared(f"media/{name}"))):
        if i % 40:
            continue
        small = shrink(rgb, size)[0]
        opencv.setInputSize(small.shape[1::-1])
        _, rows = opencv.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15)) if rows is None else rows[np.argsort(-rows[:, 2] * rows[:, 3])][:8]
        found = ours(small)
        assert len(found) == len(rows)
        for face, row in zip(found, rows, strict=True):
            np.testing.assert_allclose(face.box, row[:4], atol=0.01)
            np.testing.assert_allclose(face.landmarks.ravel(), row[4:14], atol=0.01)
            assert face.score == pytest.approx(row[14], abs=1e-4)


def test_threads_change_nothing():
    rgb, _ = next(iter(read_video(shared("media/edge/several_faces_5_frames.mp4"))))
    path = shared("weights/face_detection_yunet_2023mar.onnx")
    one, two = (YuNet(path, 0.6, threads)(shrink(rgb, 640)[0]) for threads in (1, 2))
    assert len(one) > 1
    for a, b in zip(one, two, strict=True):
        assert (
            np.array_equal(a.landmarks, b.landmarks) and np.array_equal(a.box, b.box) and a.score == b.score
        )


def test_another_network_is_refused(tmp_path):
    other = tmp_path / "other.onnx"
    content = Path(shared("weights/face_detection_yunet_2023mar.onnx")).read_bytes()
    other.write_bytes(content.replace(b"cls_8", b"cls_9"))
    with pytest.raises(WeightsError, match="other.onnx does not hold .* no output cls_8"):
        YuNet(other, 0.6)
