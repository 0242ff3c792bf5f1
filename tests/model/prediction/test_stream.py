"""Long recordings: read in order, with the results of the whole file and with flat memory."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from deiii import load
from deiii.data.cache.outcomes import ClipError, Outcome, Status
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.prediction.files import FileOptions, predict_loaded
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.windows import media, recording
from deiii.model.prediction.windows.moments import Job, Scored
from deiii.model.prediction.windows.recording import _OutputRows
from deiii.model.prediction.windows.units import units_of
from deiii.pipeline.media.video import read_video
from deiii.pipeline.streaming import file
from tests.helpers.clipmaker import numbered, tone, write
from tests.helpers.long_clips import repeated

SECONDS = 21.0


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


@pytest.fixture(scope="module")
def long_clip(seen_run, tmp_path_factory):
    return repeated(str(seen_run / "raw/c0.mp4"), tmp_path_factory.mktemp("long") / "long.mp4", SECONDS)


@pytest.fixture(scope="module")
def whole(network, long_clip):
    """The prediction with all features in memory."""
    return network.predict(long_clip, window_s=1.0, hop_s=0.5)


def test_moments_are_the_windows_of_the_whole_file(network, long_clip, whole):
    found = list(network.stream(long_clip, window_s=1.0))
    timeline = whole.timeline
    assert len(found) == len(timeline.time) == round(SECONDS / 0.5)
    assert [m.time_s for m in found] == pytest.approx(timeline.time.tolist())
    streamed = np.array([list(m.probabilities.values()) for m in found])
    assert np.abs(streamed - timeline.probabilities).max() < 1e-4
    assert np.ptp(timeline.probabilities[:, 0]) > 1e-3  # it changes
    valence = np.array([m.attributes["valence"] for m in found])
    assert np.abs(valence - timeline.attributes[:, 0]).max() < 1e-4
    assert all(m.usable and m.face_share is not None and m.face_share > 0.9 for m in found)
    assert found[3].label == max(found[3].probabilities, key=found[3].probabilities.get)


def test_a_long_file_gets_the_prediction_of_the_whole(network, long_clip, whole, monkeypatch, tmp_path):
    monkeypatch.setattr(media, "LONG_S", 10.0)
    found = network.predict(long_clip, window_s=1.0, hop_s=0.5, keep_flow=tmp_path)
    assert "frames" not in found.arrays["faces"]
    assert found.notes == whole.notes and found.outcomes == whole.outcomes
    assert found.seconds == pytest.approx(whole.seconds, abs=1e-6)
    assert found.face == whole.face
    for kind in ("probabilities", "attributes"):
        assert getattr(found, kind) == pytest.approx(getattr(whole, kind), abs=1e-4)
    for output, shares in whole.contributions.items():
        assert found.contributions[output] == pytest.approx(shares, abs=1e-4)
    for head, values in whole.heads.items():
        assert found.heads[head] == pytest.approx(values, abs=1e-4)
    assert np.abs(found.timeline.probabilities - whole.timeline.probabilities).max() < 1e-4
    rows = [3, 500, 77]
    for name in ("flow", "scale"):
        np.testing.assert_array_equal(found.arrays["flow"][name][rows], whole.arrays["flow"][name][rows])
    assert not list(tmp_path.iterdir())  # the temporary file has no name


def test_the_reading_of_the_audio_is_reported(network, long_clip, monkeypatch):
    monkeypatch.setattr(media, "LONG_S", 10.0)
    monkeypatch.setattr(file, "LOOK_S", 1e-4)
    read = []
    network.predict(long_clip, window_s=1.0, hop_s=2.0, audio_progress=read.append)
    assert read == sorted(read) and 0 < read[-1] <= SECONDS + 0.1


def test_reading_stops_where_the_caller_stops(network, long_clip):
    some = list(itertools.islice(network.stream(long_clip, window_s=1.0, hop_s=0.25), 3))
    assert [m.time_s for m in some] == pytest.approx([0.125, 0.375, 0.625])


def test_a_long_recording_without_a_face_is_predicted_from_audio(network, tmp_path, monkeypatch):
    path = write(tmp_path / "wall.mp4", numbered(60, 96, 96), audio=tone(2.4))
    whole = network.predict(path, window_s=0.5, hop_s=0.2)
    monkeypatch.setattr(media, "LONG_S", 0.5)
    monkeypatch.setattr(network, "longest_s", 0.8)
    found = network.predict(path, window_s=0.5, hop_s=0.2)
    again = network.predict(path, window_s=0.5, hop_s=0.2)
    assert found.outcomes == whole.outcomes and found.face is None
    assert found.contributions.keys() == again.contributions.keys()
    assert set(found.contributions["valence"]) == {"audio"} and "predicted from audio alone" in found.notes
    assert found.probabilities == pytest.approx(whole.probabilities, abs=1e-4)
    assert np.abs(found.timeline.probabilities - whole.timeline.probabilities).max() < 1e-4
    with pytest.raises(ClipError, match="there is no such file"):
        next(network.stream(tmp_path / "none.mp4"))


def test_the_overlay_of_a_long_file_shows_its_flow(network, long_clip, monkeypatch, tmp_path):
    monkeypatch.setattr(media, "LONG_S", 10.0)
    short = repeated(str(long_clip.with_name("long-once.mp4")), tmp_path / "short.mp4", 11.0)
    target = tmp_path / "over.mp4"
    options = FileOptions(overlay=str(target))
    (found,) = predict_loaded(network, [str(short)], tmp_path, options, progress=False, report=lambda s: None)
    assert not found.notes[1:] and json.loads((tmp_path / "short.json").read_text())["seconds"] > 10
    drawn = [(rgb, time) for rgb, time in read_video(target)]
    times = [time for _, time in read_video(short)]
    assert [time for _, time in drawn] == pytest.approx(times, abs=1e-3)
    tile = drawn[120][0][-168:][12:132, 12:132]
    assert np.ptp(tile.reshape(-1, 3), axis=0).min() > 30  # flow colours


def test_a_network_that_needs_the_whole_file_is_refused(network, long_clip, monkeypatch):
    monkeypatch.setattr(network.config.faces, "align", "static")
    with pytest.raises(ConfigError, match="faces.align=static"):
        next(network.stream(long_clip))


PEAK = """
import resource, sys
from deiii import load
from deiii.model.prediction.files import FileOptions, predict_loaded
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.windows.moments import Job, Scored
from deiii.model.prediction.windows.recording import _OutputRows
network = load(sys.argv[1], "cpu")
list(network.stream(sys.argv[2]))
options = FileOptions(overlay=sys.argv[4])
predict_loaded(network, [sys.argv[2]], sys.argv[3], options, progress=False, report=lambda words: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(seen_run, tmp_path):
    peaks = []
    for seconds in (60.0, 180.0):
        path = repeated(str(seen_run / "raw/c0.mp4"), tmp_path / f"{seconds:.0f}.mp4", seconds)
        words = [str(seen_run / "run"), str(path), str(tmp_path / "out"), str(tmp_path / "over.mp4")]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *words], check=True, capture_output=True, text=True
        )
        peaks.append(float(done.stdout.split()[-1]))
    assert abs(peaks[1] - peaks[0]) <= 20, peaks


def test_outputs_of_a_long_recording_are_kept_in_few_arrays():
    """A view for each output of each window stayed in memory: 0.86 MB here, where the values take 0.13."""
    rows = _OutputRows(places=3)
    shared = np.arange(32, dtype=np.float32).reshape(4, 8)
    outputs = HeadOutputs(4, {"fused": shared}, {}, {"fused": np.array([True, True, False, True])})
    tracemalloc.start()
    for key in range(4000):
        rows.put(Scored(Job(0.0, 1.0, key, centre=0.5), outputs, key % 4, {}))
    rows.put(Scored(Job(0.0, 1.0, 1), outputs, 2, {}))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    found = rows.outputs()
    assert found.count == 4003 and kept < 4 * 4003 * (8 * 4 + 1)
    assert np.array_equal(found.probabilities["fused"][[0, 1, 2]], [shared[0] * 0, shared[2], shared[0] * 0])
    assert np.array_equal(found.probabilities["fused"][3:], np.tile(shared, (1000, 1)))
    assert found.present["fused"].tolist() == [False] * 3 + [True, True, False, True] * 1000


def test_without_flow_alone_a_long_recording_is_predicted_from_its_audio(monkeypatch):
    """Faces are freed with the flow, so nothing may be said of them."""
    given = []

    class Source:
        has_video, end_s = True, 40.0

        def audio(self):
            return {}

        def outcomes(self):
            found = {stage: Outcome(Status.OK) for stage in ("faces", "logmel")}
            return found | {"flow": Outcome(Status.TOO_SHORT, "1 frame", 0.0)}

        def leave_out_video(self):
            given.append("video is left out")

        def track(self):
            return {}

    def score(source, scorer, inputs, *others):
        given.append(list(inputs))
        return HeadOutputs(0, {}, {}, {}), np.zeros(0)

    monkeypatch.setattr(recording, "_score", score)
    units = units_of(40.0, 4.0, 4.0, None)
    found = recording.score_long(Source(), None, ("frames", "flow", "audio"), units, 4.0, 1.0, None)
    assert given == [["frames", "flow", "audio"], "video is left out", ["audio"]]
    assert set(found.shown) == {frozenset({"audio"})}
