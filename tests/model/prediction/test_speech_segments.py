"""Prediction for stretches of speech: each has its own, and silence counts for nothing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from deiii import load
from deiii.model.network.task import Task
from deiii.model.prediction import files
from deiii.model.prediction.files import FileOptions, predict_loaded
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.windows import media
from deiii.model.prediction.windows.combine import Rows, combine
from deiii.model.prediction.windows.units import units_of
from tests.helpers.clips import write_audio

SPEECH = [(0.2, 1.0), (2.0, 2.4), (3.1, 9.0)]


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


@pytest.mark.parametrize("in_order", [False, True], ids=["at-once", "in-order"])
def test_each_segment_is_the_mean_of_its_windows(network, tmp_path, monkeypatch, in_order):
    sound = write_audio(tmp_path / "a.flac", seconds=4.0)
    monkeypatch.setattr(media, "LONG_S", 2.0 if in_order else 100.0)
    arrays = media.run_stages(sound, network.config, ["logmel"])
    arrays = {"logmel": arrays["logmel"].arrays}
    found = network.predict(sound, window_s=0.5, hop_s=0.1, speech=SPEECH)
    meant, lengths = [], []
    for begin, end in [(0.2, 1.0), (2.0, 2.4), (3.1, found.seconds)]:
        parts = [(begin, end)]
        if end - begin > 1.25 * network.longest_s:
            edges = np.linspace(begin, end, round((end - begin) / network.median_s) + 1)
            parts = list(zip(edges[:-1], edges[1:], strict=True))
        outputs = network.scorer(arrays, parts, [], None)
        meant.append(outputs.probabilities["fused"])
        lengths += [(end - begin) / len(parts)] * len(parts)
    assert [(s.begin_s, s.end_s) for s in found.segments[:2]] == SPEECH[:2]
    for segment, rows in zip(found.segments, meant, strict=True):
        assert list(segment.probabilities.values()) == pytest.approx(rows.mean(axis=0).tolist(), abs=1e-4)
    whole = np.average(np.concatenate(meant), axis=0, weights=lengths)
    assert list(found.probabilities.values()) == pytest.approx(whole.tolist(), abs=1e-4)
    t = found.timeline
    heard = ((t.time >= 0.2) & (t.time < 1.0)) | ((t.time >= 2.0) & (t.time < 2.4)) | (t.time >= 3.1)
    assert t.present.tolist() == heard.tolist()
    assert any("silence is left out" in note and "3 segments" in note for note in found.notes)


def test_a_file_without_speech_has_no_prediction(network, tmp_path, monkeypatch):
    sound = write_audio(tmp_path / "a.flac", seconds=1.0)
    found = network.predict(sound, speech=[])
    assert not found.usable and found.segments == () and not found.timeline.present.any()
    assert any("no speech" in note for note in found.notes)


def test_command_writes_segments(network, tmp_path, monkeypatch):
    sound = write_audio(tmp_path / "a.flac", seconds=2.0)
    monkeypatch.setattr(files, "VoiceDetector", object)
    monkeypatch.setattr(files, "speech_segments", lambda path, detector, progress: [(0.5, 1.25)])
    told = []
    options = FileOptions(speech=True)
    predict_loaded(network, [str(sound)], tmp_path, options, progress=False, report=told.append)
    (segment,) = json.loads((tmp_path / "a.json").read_text())["segments"]
    assert (segment["begin_s"], segment["end_s"]) == (0.5, 1.25) and segment["label"] in "ab"
    assert "0.50 to    1.25 s" in told[0]


def test_command_writes_tables_of_the_speech_alone(network, tmp_path, monkeypatch):
    """Rows reached into silence by up to half a hop, and short segments had no row."""
    sound = write_audio(tmp_path / "a.flac", seconds=2.0)
    speech = [(0.15, 0.25), (0.45, 1.25)]  # the centres of the windows are at 0.1 s, 0.3 s and so on
    monkeypatch.setattr(files, "VoiceDetector", object)
    monkeypatch.setattr(files, "speech_segments", lambda path, detector, progress: speech)
    told = []
    options = FileOptions(window_s=0.5, hop_s=0.2, texts=["vtt", "tsv"], speech=True)
    predict_loaded(network, [str(sound)], tmp_path, options, progress=False, report=told.append)
    tree = json.loads((tmp_path / "a.json").read_text())
    with open(tmp_path / "a-timeline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    times = [(0.15, 0.25), (0.45, 0.6), (0.6, 0.8), (0.8, 1.0), (1.0, 1.25)]
    assert [(float(row["begin_s"]), float(row["end_s"])) for row in rows] == times
    names = [f"p_{name}" for name in network.classes]
    steps = [step for step in tree["timeline"]["steps"] if step["probabilities"]]
    assert [round(step["time_s"], 6) for step in steps] == [0.5, 0.7, 0.9, 1.1]
    for row, found in zip(rows, [tree["segments"][0], *steps], strict=True):
        assert [float(row[name]) for name in names] == list(found["probabilities"].values())
        assert float(row["valence"]) == found["attributes"]["valence"]
    with open(tmp_path / "a-segments.csv", newline="") as file:
        parts = list(csv.DictReader(file))
    assert [(float(row["begin_s"]), float(row["end_s"])) for row in parts] == speech
    for row, found in zip(parts, tree["segments"], strict=True):
        assert [float(row[name]) for name in names] == list(found["probabilities"].values())
    annotated = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()[1:]]
    covered = [(float(b), float(e)) for tier, b, e, *_ in annotated if tier == "valence"]
    assert covered == times and "00:00:01.250" in (tmp_path / "a.vtt").read_text()


def test_a_long_list_of_segments_is_not_printed(network, tmp_path, monkeypatch):
    sound = write_audio(tmp_path / "a.flac", seconds=2.2)
    speech = [(0.1 * k, 0.1 * k + 0.05) for k in range(21)]
    monkeypatch.setattr(files, "VoiceDetector", object)
    monkeypatch.setattr(files, "speech_segments", lambda path, detector, progress: speech)
    told = []
    predict_loaded(
        network, [str(sound)], tmp_path, FileOptions(speech=True), progress=False, report=told.append
    )
    table = tmp_path / "a-segments.csv"
    assert f"\n  21 segments, 1.1 s in all; {table} lists them\n" in told[0]
    assert " s  " not in told[0]  # no line for a single segment
    assert len(table.read_text().splitlines()) == 22


def test_a_long_segment_counts_more_than_a_short_one():
    """An utterance of 0.36 s counted as much as one of 5 s."""
    task = Task(("sad", "happy"), ("valence",), ((-1.0, 1.0),))
    units = units_of(20.0, 2.0, 4.0, [(0.0, 0.5), (2.0, 3.5), (10.0, 16.0)])  # the last one in three windows
    p = np.array([[1, 0], [0.5, 0.5], [0, 1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    a = np.array([[1.0], [0.5], [-1.0], [-0.5], [0.0]], np.float32)
    own = {"fused": p, "audio": p[:, ::-1]}, {"fused": a, "audio": a}
    present = {"fused": np.array([True, True, True, False, True]), "audio": np.ones(5, bool)}
    rows = Rows(HeadOutputs(5, *own, present), task, slice(0, 5))
    found = combine({frozenset({"audio"}): rows}, task, ["audio"], units.weights)
    # Of 0.5 + 1.5 + 2 + 2 s with usable input: (0.5 * 1 + 1.5 * 0.5 + 2 * 0 + 2 * 0.4) / 6.
    assert found.probabilities == pytest.approx({"sad": 2.05 / 6, "happy": 3.95 / 6})
    assert found.attributes == pytest.approx({"valence": (0.5 + 0.75 - 2 + 0) / 6})
    # All 8 s: (0.5 * 0 + 1.5 * 0.5 + 2 * 1 + 2 * 0.8 + 2 * 0.6) / 8.
    assert found.heads["audio"]["sad"] == pytest.approx(5.55 / 8)
    assert found.contributions["happy"]["audio"] == pytest.approx(3.95 / 6 - 0.5)
    assert units_of(20.0, 2.0, 4.0).weights is None
    visible = units_of(20.0, 2.0, 4.0, visible=[(0.0, 0.5), (2.0, 8.0)])  # for people, too
    assert visible.weights.tolist() == pytest.approx([0.5, 2, 2, 2])
