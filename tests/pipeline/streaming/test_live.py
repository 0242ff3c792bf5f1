"""A live source is opened when everything that its frames need is ready."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.config.load import load_config
from deiii.pipeline.flow import stream as flow_stream
from deiii.pipeline.logmel import stream as mel_stream
from deiii.pipeline.media.streaming.live import AudioPiece, Picture
from deiii.pipeline.streaming import live
from tests.helpers.clipmaker import tone


class Opened(Exception):
    """The source is opened."""


@pytest.mark.parametrize(
    ("stages", "computed"),
    [({FLOW.name, LOGMEL.name}, ["log-mel", "flow"]), ({LOGMEL.name}, ["log-mel"]), ({FACES.name}, [])],
)
def test_log_mel_and_flow_are_computed_once_before_the_source_is_opened(stages, computed, monkeypatch):
    """The first call imports librosa and compiles; frames of an open source would be dropped meanwhile."""
    calls = []

    def recorded(module, function, name):
        original = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *words: calls.append(name) or original(*words))

    def opened(*words):
        raise Opened

    recorded(mel_stream, "mel_rows", "log-mel")
    recorded(flow_stream, "compute_flow", "flow")
    monkeypatch.setattr(live, "LiveReader", opened)
    config = load_config("tiny", ["faces.detector=haar", "flow.method=dis"])
    with pytest.raises(Opened):
        live.LiveStream("camera", config, stages)
    assert sorted(calls) == sorted(computed)


def stand_in(*items, has_video=False):
    """A class in place of `LiveReader` that yields what a camera would send."""

    class Reader:
        name, has_audio = "camera", True

        def __init__(self, *words):
            self.has_video = has_video

        def start(self):
            pass

        def __iter__(self):
            yield from items

    return Reader


def test_audio_that_goes_on_at_another_rate_keeps_its_pitch(monkeypatch):
    """After a new connection within the allowed gap, samples at 16 kHz were taken for samples at 48 kHz."""
    pieces = []
    for second, rate in enumerate((48_000, 16_000)):
        samples = tone(1.0, hertz=1000.0, rate=rate).astype(np.float32)
        pieces += [AudioPiece(p, rate, second + k / 10) for k, p in enumerate(np.split(samples, 10))]
    monkeypatch.setattr(live, "LiveReader", stand_in(*pieces))
    stream = live.LiveStream("camera", load_config("tiny", []), {LOGMEL.name})
    while stream.advance():
        pass
    rows = stream.arrays(0.0, 9.0)[LOGMEL.name]
    loudest = rows["logmel"].argmax(axis=1)
    assert rows["time"][-1] > 1.7
    assert set(loudest[rows["time"] > 1.4]) == {loudest[len(loudest) // 4]}


def test_video_frames_do_not_wait_for_audio_that_has_ended(monkeypatch):
    """With a network of audio alone, an overlay kept every later frame, and drew none."""
    items = []
    for n in range(40 * 25):
        items.append(Picture(None, n / 25, 0.0))
        if n % 25 == 0 and n < 250:
            items.append(AudioPiece(tone(1.0).astype(np.float32), 16_000, n / 25))
    monkeypatch.setattr(live, "LiveReader", stand_in(*items, has_video=True))
    stream = live.LiveStream("camera", load_config("tiny", []), {LOGMEL.name}, keep_pictures=True)
    drawn, most = [], 0
    while stream.advance():
        most = max(most, len(stream._kept))
        drawn += [picture.time_s for picture in stream.settled_pictures()]
    assert most < 25 * (live.SILENT_S + 2) and stream.ready_s < 11
    assert drawn == [n / 25 for n in range(len(drawn))] and drawn[-1] > 37
