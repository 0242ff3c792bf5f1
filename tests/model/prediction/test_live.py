"""Live sources: a prediction a hop, late frames dropped, connections opened again, a clean end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deiii import load
from deiii.__main__ import main
from deiii.model.prediction.live.moments import LiveMoments
from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.live import LiveError, LiveReader, Picture, Sound, address
from tests.helpers.clipmaker import level, numbered, tone, write
from tests.helpers.long_clips import repeated
from tests.helpers.media_server import media_server


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


@pytest.fixture(scope="module")
def face(seen_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    return repeated(str(seen_run / "raw/c0.mp4"), folder / "face.mp4", 3.0)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A transport stream of 3 s whose frames tell their number; one of 8 can be decoded by itself."""
    return write(tmp_path_factory.mktemp("ts") / "live.ts", numbered(75), sound=tone(3.0), options={"g": "8"})


def test_a_file_is_played_in_real_time(stream):
    began = time.monotonic()
    with LiveReader(stream) as reader:
        items = list(reader)
    passed = time.monotonic() - began
    pictures = [item for item in items if isinstance(item, Picture)]
    assert 2.5 < passed < 30
    assert reader.frames == 75 and len(pictures) == 75 - reader.dropped
    first = pictures[0].time_s - level(pictures[0].frame.rgb()) / 25
    assert 0 <= first < 0.2
    for item in pictures:
        assert level(item.frame.rgb()) == round((item.time_s - first) * 25)
        assert item.arrived - began >= item.time_s - 0.1
    samples = sum(len(item.samples) for item in items if isinstance(item, Sound))
    assert abs(samples / 16000 - 3.0) < 0.2


def test_late_frames_are_dropped_and_counted(stream):
    with LiveReader(stream) as reader:
        taken = []
        for item in reader:
            if isinstance(item, Picture):
                taken.append(item.time_s)
                time.sleep(0.2)
                # None of what waits is older than the frames that may wait.
                assert reader._waiting[Picture] <= live.LATE_FRAMES
    assert reader.dropped >= 30 and len(taken) + reader.dropped == reader.frames == 75
    assert np.all(np.diff(taken) > 0)


def test_a_cut_connection_is_opened_again(stream, monkeypatch):
    monkeypatch.setattr(live, "WAITS_S", (0.05, 0.1))
    with media_server(Path(stream), 3.0, cut_after=1.2) as url, LiveReader(url) as reader:
        times = [item.time_s for item in reader if isinstance(item, Picture)]
    assert reader.connections >= 2
    assert np.all(np.diff(times) > 0) and reader.frames > 15
    assert 1.0 < times[-1] < 20


def test_predictions_come_a_hop_apart_with_their_delay(network, face):
    with LiveMoments(network, str(face), window_s=0.8, hop_s=0.5) as source:
        found = list(source)
        summary = source.summary()
    assert found and all(m.usable and m.delay_s is not None and m.delay_s >= 0 for m in found)
    assert all(b.time_s - a.time_s >= 0.25 for a, b in zip(found, found[1:], strict=False))
    assert all(m.time_s - m.begin_s <= 0.8 + 1e-6 for m in found)
    assert summary["predictions"] == len(found) and summary["frames"] == 75
    mean = np.mean([list(m.probabilities.values()) for m in found], axis=0)
    assert list(summary["probabilities"].values()) == pytest.approx(mean.tolist(), abs=1e-5)


def test_command_prints_lines_and_writes_them(seen_run, face, tmp_path, capsys):
    assert (
        main(
            ["predict", str(seen_run / "run"), "--live", str(face), "--out", str(tmp_path), "--window", "0.8"]
        )
        == 0
    )
    told = capsys.readouterr().out
    assert "delay" in told and "predictions" in told and "live.jsonl" in told
    rows = [json.loads(row) for row in (tmp_path / "live.jsonl").read_text().splitlines()]
    assert rows[-1]["summary"]["predictions"] == len(rows) - 1 > 0
    assert all(row["label"] in "ab" for row in rows[:-1])


@pytest.mark.parametrize("words", [["nothing.mp4"], ["http://127.0.0.1:9/none"]], ids=["file", "address"])
def test_what_cannot_be_opened_is_one_line(seen_run, words, capsys, tmp_path):
    assert main(["predict", str(seen_run / "run"), "--live", *words, "--out", str(tmp_path)]) == 1
    assert f"--live {words[0]}" in capsys.readouterr().err


def test_words_for_sources(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    assert address("0") == live.Address("/dev/video0", "v4l2")
    assert address("RTSP://host/x").is_network and not address("RTSP://host/x").is_file
    monkeypatch.setattr(sys, "platform", "darwin")
    assert address("1").form == "avfoundation"
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(LiveError, match="give a URL"):
        address("0")


@pytest.mark.slow
def test_ctrl_c_ends_with_the_summary(seen_run, face, tmp_path):
    long = repeated(str(face.with_name("face-once.mp4")), tmp_path / "long.mp4", 60.0)
    words = [sys.executable, "-m", "deiii", "predict", str(seen_run / "run"), "--live", str(long)]
    with subprocess.Popen([*words, "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "delay" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert "stopped" in rest and "predictions" in rest
    last = (tmp_path / "live.jsonl").read_text().splitlines()[-1]
    assert "summary" in json.loads(last)


def test_times_follow_the_clock_where_timestamps_go_astray():
    clock = live._LiveClock(1.0)
    assert clock.time(100.0, 1.2, False) == 1.0
    assert clock.time(100.5, 1.6, False) == 1.5
    assert clock.time(None, 1.7, False) == 1.7
    assert clock.time(9000.0, 2.0, False) == 2.0  # jumps
    assert clock.time(9000.5, 2.5, False) == pytest.approx(2.5)
