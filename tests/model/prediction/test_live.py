"""Live sources: a prediction a hop, late frames dropped, connections opened again, a clean end."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from deiii import load
from deiii.__main__ import main
from deiii.data.cache.flow_codec import encode_flow
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.task import Task
from deiii.model.prediction.live.moments import LiveMoments
from deiii.model.prediction.live.show import line, predict_live
from deiii.model.prediction.overlay import live as live_overlay
from deiii.model.prediction.windows.moments import Moment
from deiii.model.training.run_folder import RunError
from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.address import Address, LiveError, address
from deiii.pipeline.media.streaming.live import AudioPiece, LiveReader, Picture
from deiii.pipeline.media.streaming.live_clock import LiveClock
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import level, numbered, tone, write
from tests.helpers.long_clips import repeated
from tests.helpers.media_server import folder_server, media_server
from tests.helpers.rtsp_server import rtsp_server


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
    return write(tmp_path_factory.mktemp("ts") / "live.ts", numbered(75), audio=tone(3.0), options={"g": "8"})


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
    samples = sum(len(item.samples) for item in items if isinstance(item, AudioPiece))
    assert abs(samples / 16000 - 3.0) < 0.2


def test_late_frames_are_dropped_and_counted(stream):
    with LiveReader(stream) as reader:
        taken = []
        for item in reader:
            if isinstance(item, Picture):
                taken.append(item.time_s)
                later = reader.frames + 5  # a frame is taken for five that arrive, also on a slow machine
                while reader.frames < later and reader._thread.is_alive():
                    time.sleep(0.01)
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
    assert "delay" in told and "predictions" in told and "live.jsonl" in told and "replaced" not in told
    rows = [json.loads(row) for row in (tmp_path / "live.jsonl").read_text().splitlines()]
    assert rows[-1]["summary"]["predictions"] == len(rows) - 1 > 0
    assert all(row["label"] in "ab" for row in rows[:-1])


@pytest.mark.parametrize("words", [["nothing.mp4"], ["http://127.0.0.1:9/none"]], ids=["file", "address"])
def test_what_cannot_be_opened_is_one_line(seen_run, words, capsys, tmp_path):
    (tmp_path / "live.jsonl").write_text("earlier")
    assert main(["predict", str(seen_run / "run"), "--live", *words, "--out", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert f"live source {words[0]}" in told.err and "replaced" not in told.out + told.err
    assert (tmp_path / "live.jsonl").read_text() == "earlier"


def test_a_wrong_address_is_refused_before_the_network_is_loaded(tmp_path):
    with pytest.raises(LiveError, match="names no host"):
        predict_live([str(tmp_path / "no run")], "rtsp:///live", tmp_path)
    with pytest.raises(RunError, match="no run"):
        predict_live([str(tmp_path / "no run")], "rtsp://camera/live", tmp_path)


def test_a_source_of_which_nothing_arrives_is_one_error(seen_run, tmp_path, monkeypatch, capsys):
    """A server without byte ranges sends an MP4 file with its index at the end: the status was 0."""
    monkeypatch.setattr(live, "WAITS_S", (0.02, 0.05))
    words = ["predict", str(seen_run / "run"), "--out", str(tmp_path), "--live"]
    with folder_server(seen_run / "raw", ranges=False) as url:
        assert main([*words, f"{url}/c0.mp4"]) == 1
        assert "gave no video frame and no audio" in capsys.readouterr().err
        with pytest.raises(LiveError, match="faststart"):
            list(load(seen_run / "run", device="cpu").stream(f"{url}/c0.mp4"))


def test_words_for_sources(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    assert address("0") == Address("/dev/video0", "v4l2")
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
    words += ["--overlay", str(tmp_path / "live.mp4")]
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
    assert list(read_video(tmp_path / "live.mp4")) and "overlay: " in rest


GREEN = (120, 220, 140)  # of the box


class Still:
    """A decoded frame of one colour."""

    def __init__(self, level):
        self._rgb = np.full((90, 120, 3), level, np.uint8)
        self.shape = (90, 120)

    def rgb(self):
        return self._rgb


def moment(time_s, happy):
    return Moment(time_s, time_s - 1, time_s, {"sad": 1 - happy, "happy": happy}, {"valence": 0.0}, 1.0)


def test_the_overlay_shows_box_flow_and_the_last_predictions(tmp_path):
    time = np.arange(100) / 25
    flow = encode_flow(np.full((98, 16, 16, 2), (3.0, -4.0), np.float32), "int8")
    box = np.tile(np.float32([30, 20, 40, 40]), (100, 1))
    faces = {"time": time, "valid": time < 3, "box": box, "frames": np.zeros((100, 1))}
    arrays = {"faces": faces, "flow": {**flow, "time": time[:98], "valid": np.ones(98, bool)}}
    task = Task(("sad", "happy"), ("valence",), ((-1.0, 1.0),))
    pictures = [Picture(Still(60), t, 0.0) for t in time]
    with live_overlay.LiveOverlay(tmp_path / "a.mp4", task, hop_s=1.0, window_s=1.0) as overlay:
        for second in range(4):
            overlay.add(pictures[25 * second : 25 * second + 20], arrays)
            while overlay._waiting:
                sleep(0.01)
            overlay.predicted(moment(second + 1.0, (0.0, 1.0)[second % 2]), {})
    drawn = list(read_video(tmp_path / "a.mp4"))
    assert overlay.skipped == 0
    assert [t for _, t in drawn] == pytest.approx([t for t in time if t % 1 < 0.795], abs=1e-3)
    frames = [rgb.astype(int) for rgb, _ in drawn]
    upper = [int((np.abs(f[:90] - GREEN).max(axis=-1) < 40).sum()) for f in frames]
    assert min(upper[:60]) > 100 and max(upper[60:]) < 20  # after 3 s there is no face
    course = frames[-1][90 + 12 : 90 + 132, 346:628]
    orange, blue = (
        (np.abs(course - colour).max(axis=-1) < 60).mean(axis=0) for colour in ((230, 159, 0), (86, 180, 233))
    )
    width = 282 / 30  # of a prediction, px
    for second, happy in enumerate((0, 1, 0)):
        middle = int((second + 0.5) * width)
        assert (blue if happy else orange)[middle + 2 : middle + 4].mean() > 0.5  # beside the cursor
    assert orange[60:].max() < 0.1 and blue[60:].max() < 0.1
    tile = frames[-1][90 + 12 : 90 + 132, 12:132]
    assert np.ptp(tile.mean(axis=(0, 1))) > 30  # one direction has one hue


def test_the_panel_scrolls_after_half_a_minute(tmp_path):
    task = Task(("sad", "happy"), (), ())
    overlay = live_overlay.LiveOverlay(tmp_path / "a.mp4", task, hop_s=1.0, window_s=1.0)
    for second in range(100):
        overlay.predicted(moment(float(second), second / 100), {})
    panel = overlay._panel(overlay._moments, 640)
    assert len(overlay._moments) == 30
    assert panel.timeline.probabilities[:, 1] == pytest.approx(np.arange(70, 100) / 100, abs=1e-6)


def test_an_overlay_of_a_file_played_in_real_time(seen_run, face, tmp_path, capsys):
    words = ["predict", str(seen_run / "run"), "--live", str(face), "--out", str(tmp_path / "out")]
    assert main([*words, "--window", "0.8", "--overlay", str(tmp_path / "new/live.mp4")]) == 0
    assert f"overlay: {tmp_path / 'new/live.mp4'}" in capsys.readouterr().out
    last = (tmp_path / "out/live.jsonl").read_text().splitlines()[-1]
    summary = json.loads(last)["summary"]
    drawn = [rgb for rgb, _ in read_video(tmp_path / "new/live.mp4")]
    assert drawn[0].shape == (160 + 168, 640, 3)
    assert summary["frames"] - summary["dropped"] - summary["not_drawn"] - len(drawn) in range(8)
    assert max(int((np.abs(f[:160].astype(int) - GREEN).max(axis=-1) < 30).sum()) for f in drawn) > 200


def test_an_overlay_of_a_network_stream(network, face, tmp_path):
    ts = repeated(str(face.with_name("face-once.mp4")), tmp_path / "face.ts", 3.0)
    with media_server(Path(ts), 3.0) as url:
        with LiveMoments(network, url, window_s=0.8, overlay=tmp_path / "live.mp4") as source:
            found = list(itertools.islice(source, 2))
            summary = source.summary()
    assert found and not list(tmp_path.glob("*.mp4.*"))
    assert len(list(read_video(tmp_path / "live.mp4"))) > 0 and summary["not_drawn"] == 0


def test_command_and_stream_read_a_camera_over_rtsp(seen_run, network, face, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(live, "WAITS_S", (0.02,))
    ts = Path(repeated(str(face.with_name("face-once.mp4")), tmp_path / "face.ts", 3.0))
    words = ["predict", str(seen_run / "run"), "--out", str(tmp_path), "--window", "0.8", "--live"]
    with rtsp_server(ts, login="anna:geheim") as camera:
        assert main([*words, camera.url]) == 0
    told = capsys.readouterr()
    assert "anna:***@127.0.0.1" in told.out and "video and audio, window 0.8 s" in told.out
    assert "not there again after" in told.out and "delay" in told.out
    written = (tmp_path / "live.jsonl").read_text()
    assert "geheim" not in told.out + told.err + written
    assert json.loads(written.splitlines()[-1])["summary"]["predictions"] > 0
    with rtsp_server(ts, audio=False) as camera:
        found = list(itertools.islice(network.stream(camera.url, window_s=0.8), 2))
    assert found and all(m.usable and m.delay_s is not None for m in found)
    assert found[-1].face_share is not None and found[-1].face_share > 0.5


def test_a_network_stream_without_audio_is_named(seen_run, face, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(live, "WAITS_S", (0.02,))
    ts = Path(repeated(str(face.with_name("face-once.mp4")), tmp_path / "face.ts", 3.0))
    words = ["predict", str(seen_run / "run"), "--out", str(tmp_path), "--window", "0.8", "--live"]
    with rtsp_server(ts, audio=False) as camera:
        assert main([*words, camera.url]) == 0
    assert "video (no audio: that input is empty)" in capsys.readouterr().out


def test_an_overlay_that_cannot_be_written_is_refused_before_work(seen_run, face, tmp_path, capsys):
    words = ["predict", str(seen_run / "run"), "--live", str(face), "--out", str(tmp_path / "out")]
    before = Path(face).read_bytes()
    assert main([*words, "--overlay", str(face)]) == 1
    assert "is an input file" in capsys.readouterr().err and Path(face).read_bytes() == before
    assert main([*words, "--overlay", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_a_name_without_a_suffix_of_mp4_gets_advice_that_live_sources_take(tmp_path):
    with pytest.raises(ConfigError, match=r"write --overlay .*boxes\.mp4$"):
        predict_live(["runs/gone"], "0", tmp_path, overlay=str(tmp_path / "boxes"))


def test_frames_that_cannot_be_drawn_in_time_are_counted(monkeypatch, tmp_path):
    overlay = live_overlay.LiveOverlay(tmp_path / "a.mp4", Task(("a",), (), ()), 0.5, 1.0)
    monkeypatch.setattr(overlay._thread, "start", lambda: None)
    monkeypatch.setattr(live_overlay, "WAITING", 4)
    pictures = [Picture(None, k / 25, 0.0) for k in range(10)]
    overlay.add(pictures, {})
    assert overlay.skipped == 6 and [job.picture.time_s for job in overlay._waiting] == [
        k / 25 for k in (6, 7, 8, 9)
    ]
    overlay._error = OSError("full")
    with pytest.raises(OSError, match="full"):
        overlay.add(pictures, {})


def test_times_follow_the_clock_where_timestamps_go_astray():
    clock = LiveClock(1.0)
    assert clock.time(100.0, 1.2, False) == 1.0
    assert clock.time(100.5, 1.6, False) == 1.5
    assert clock.time(None, 1.7, False) == 1.7
    assert clock.time(9000.0, 2.0, False) == 2.0  # jumps
    assert clock.time(9000.5, 2.5, False) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("dropped", "end"), [(0, "face 50 %"), (1, "1 frame dropped"), (2, "2 frames dropped")]
)
def test_a_line_counts_the_frames_that_were_dropped(dropped, end):
    moment = Moment(1.0, 0.0, 1.0, {"happy": 0.9, "sad": 0.1}, {}, face_share=0.5)
    assert line(moment, dropped).endswith(end)
