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
        name, has_audio, frames_wait = "camera", True, False

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


class Dark:
    """A video frame without a face."""

    shape = (120, 160)

    def rgb(self, longest=None):
        return np.zeros((*self.shape, 3), np.uint8)


def frames_and_noise(seconds, *shown):
    """Items of a source whose video, 25 frames per second, is there in the intervals ``shown`` alone."""
    noise = np.random.default_rng(1)
    for n in range(round(seconds * 25)):
        if any(begin <= n / 25 < end for begin, end in shown):
            yield Picture(Dark(), n / 25, 0.0)
        if n % 5 == 0:
            yield AudioPiece(noise.normal(0, 0.1, 3200).astype(np.float32), 16_000, n / 25)


VIDEO_AND_AUDIO = {FACES.name, FLOW.name, LOGMEL.name}


@pytest.mark.parametrize("fps", ["null", "10"])
@pytest.mark.parametrize(
    "shown",
    [[(0, 2)], [(9, 12)], [(0, 2), (9, 12)], []],
    ids=["ends early", "begins late", "stops for a while", "never begins"],
)
def test_audio_goes_on_where_the_video_does_not(shown, fps, monkeypatch):
    """No prediction was made until the next video frame, and memory grew with the audio."""
    monkeypatch.setattr(live, "LiveReader", stand_in(*frames_and_noise(12, *shown), has_video=True))
    config = load_config("tiny", ["faces.detector=haar", "flow.method=dis", f"faces.fps={fps}"])
    stream = live.LiveStream("camera", config, VIDEO_AND_AUDIO)
    ready, most = [0.0], 0
    while stream.advance():
        ready.append(stream.ready_s)
        arrays = stream.arrays(0.0, 99.0)
        rows = [arrays[name]["time"] if name in arrays else [] for name in (FACES.name, FLOW.name)]
        faces, flow = (np.array(time)[np.array(time) >= stream.ready_s - 1] for time in rows)
        assert faces.tolist() == flow.tolist()  # a window has as many rows of both
        most = max(most, len(arrays.get(LOGMEL.name, {}).get("time", ())))
        stream.forget(stream.ready_s - 1)
    assert ready == sorted(ready) and ready[-1] > 11.5
    assert max(np.diff(ready)) < live.SILENT_S + 0.7
    assert most < 100 * (live.SILENT_S + 2)
    seen = [begin for begin, _ in shown if begin == 9]
    assert not seen or arrays[FACES.name]["time"][-1] > 11.5


def test_audio_does_not_pass_video_frames_that_wait(monkeypatch):
    """Where the computation is slow, the audio of seconds is taken before the next video frame."""
    reader = stand_in(*frames_and_noise(12, (0, 2), (9, 12)), has_video=True)
    reader.frames_wait = True
    monkeypatch.setattr(live, "LiveReader", reader)
    config = load_config("tiny", ["faces.detector=haar", "flow.method=dis"])
    stream = live.LiveStream("camera", config, VIDEO_AND_AUDIO)
    ready = []
    while stream.advance():
        ready.append(stream.ready_s)
    assert not any(2 < t < 9 for t in ready) and ready[-1] > 11.5
