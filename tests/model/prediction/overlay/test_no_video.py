"""Overlay videos of networks that read no video say so where others show the flow of the face."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ImageDraw

from deiii.data.cache.outcomes import Outcome, Status
from deiii.model.network.task import Task
from deiii.model.prediction.overlay.live import LiveOverlay
from deiii.model.prediction.overlay.panel import Panel
from deiii.model.prediction.overlay.video import draw_overlay
from deiii.model.prediction.result import Prediction
from deiii.model.prediction.windows.moments import Moment
from deiii.pipeline.media.writing.video_writer import VideoWriter

TASK = Task(("a", "b"), (), ())
SAID = "the network\nreads no video"


@pytest.fixture
def words(monkeypatch):
    """Texts that are drawn, in order."""
    found = []
    real = ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **kwargs):
        found.append(text)
        return real(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


@pytest.mark.parametrize("stage", ["logmel", "faces"])
def test_an_overlay_of_a_file(words, tmp_path, stage):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 320, 64) as video:
        for n in range(5):
            video.add(np.full((64, 320, 3), 90, np.uint8), n / 25)
    prediction = Prediction(str(path), 0.2, {stage: Outcome(Status.OK)}, {"a": 0.4, "b": 0.6})
    draw_overlay(prediction, SimpleNamespace(stages=[stage], task=TASK), tmp_path / "over.mp4")
    assert (tmp_path / "over.mp4").stat().st_size > 0
    check(words, stage == "faces")


@pytest.mark.parametrize("reads_video", [True, False])
def test_an_overlay_of_a_live_source(words, tmp_path, reads_video):
    overlay = LiveOverlay(tmp_path / "a.mp4", TASK, 0.5, 1.0, reads_video)
    for moments in ((), (Moment(1.0, 0.0, 1.0, {"a": 0.4, "b": 0.6}, {}, 0.0),)):
        words.clear()
        assert isinstance(overlay._panel(moments, 640), Panel)
        overlay._panel(moments, 640).draw(0.1, None)
        check(words, reads_video)


def check(words, reads_video):
    assert (SAID in words) != reads_video
    assert ("flow of the face" in words) == reads_video
    assert any("no face" in text for text in words) == reads_video
