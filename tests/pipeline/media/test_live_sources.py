"""Network sources: RTSP, recordings, cameras without timestamps, segments, lost connections, addresses."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.address import LiveError, address, cut_short, is_live, shown
from deiii.pipeline.media.streaming.live import AudioPiece, LiveReader, Picture
from tests.helpers.clipmaker import level, numbered, tone, write
from tests.helpers.gstreamer import gstreamer
from tests.helpers.media_server import folder_server, jpeg_camera, web_server
from tests.helpers.rtsp_server import rtsp_server

SECONDS, FRAMES = 2.4, 60


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A transport stream of 2.4 s whose frames tell their number."""
    path = tmp_path_factory.mktemp("ts") / "live.ts"
    return Path(write(path, numbered(FRAMES, 96, 128), audio=tone(SECONDS), options={"g": "8", "bf": "0"}))


def read(url: str, **options) -> tuple[LiveReader, list[Picture], list[AudioPiece]]:
    with LiveReader(url, **options) as reader:
        items = list(reader)
    pictures = [item for item in items if isinstance(item, Picture)]
    return reader, pictures, [item for item in items if isinstance(item, AudioPiece)]


def numbers_agree(pictures: list[Picture], fps: float = 25) -> None:
    """The times of frames are those of the camera: their numbers over its rate."""
    numbers = np.array([level(picture.frame.rgb()) for picture in pictures])
    times = np.array([picture.time_s for picture in pictures])
    assert np.abs(times - times[0] - (numbers - numbers[0]) / fps).max() < 0.3


@pytest.fixture
def no_waits(monkeypatch):
    monkeypatch.setattr(live, "WAITS_S", (0.02, 0.05))


def test_rtsp_with_audio(stream, no_waits):
    with rtsp_server(stream) as camera:
        reader, pictures, sounds = read(camera.url)
    assert reader.has_video and reader.has_audio and reader.frames >= FRAMES - 25
    numbers_agree(pictures)
    sound = np.concatenate([item.samples for item in sounds])
    assert len(sound) == pytest.approx(SECONDS * 8000, rel=0.3) and sounds[0].rate == 8000
    spectrum = np.abs(np.fft.rfft(sound[:8000]))
    assert spectrum.argmax() == pytest.approx(440, abs=2)
    transports = [asked for asked in camera.asked if asked.startswith("SETUP")]
    assert transports and all("TCP" in asked for asked in transports)
    assert "404" in reader.lost or "no stream of this name" in reader.lost


def test_rtsp_without_audio(stream, no_waits, nothing_is_late):
    with rtsp_server(stream, audio=False) as camera:
        reader, pictures, sounds = read(camera.url)
    assert reader.has_video and not reader.has_audio and not sounds and len(pictures) > 20


def test_rtsp_cut_and_opened_again(stream, no_waits, nothing_is_late):
    told = []
    with rtsp_server(stream, cut_after=0.8) as camera:
        reader, pictures, _ = read(camera.url, report=told.append)
    assert reader.connections == 2 and pictures[-1].time_s > 1.2
    assert np.all(np.diff([picture.time_s for picture in pictures]) > 0)
    assert "connection was lost" in told[0] and "connected again" in told[1]


def test_rtsp_asks_for_a_password_that_no_message_shows(stream, no_waits, nothing_is_late):
    told = []
    with rtsp_server(stream, login="anna:geheim") as camera:
        reader, pictures, _ = read(camera.url, report=told.append)
        assert len(pictures) > 30 and "***" in reader.name
        assert told and "geheim" not in " ".join([*told, reader.name, reader.lost])
    with rtsp_server(stream, login="anna:geheim") as camera:
        for wrong in (camera.url.replace("geheim", "falsch"), camera.url.replace("anna:geheim@", "")):
            with pytest.raises(LiveError, match="user name or password is missing or wrong") as caught:
                read(wrong)
            assert "falsch" not in str(caught.value)


def test_rtsp_wrong_path_and_no_common_transport(stream):
    with rtsp_server(stream) as camera, pytest.raises(LiveError, match="check the path"):
        read(camera.url.replace("/live", "/other"))
    with rtsp_server(stream, interleaved=False) as camera, pytest.raises(LiveError, match="cannot be opened"):
        read(camera.url)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers_is_given_up(scheme, monkeypatch):
    monkeypatch.setattr(live, "OPEN_S", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://anna:geheim@127.0.0.1:{server.getsockname()[1]}/live"
        began = time.monotonic()
        with pytest.raises(LiveError, match="no answer within") as caught:
            read(url)
    assert time.monotonic() - began < 20 and "geheim" not in str(caught.value)


def test_a_stream_that_stops_without_closing_is_lost(stream, no_waits, monkeypatch):
    monkeypatch.setattr(live, "READ_S", 0.5)
    data, done = stream.read_bytes(), threading.Event()
    served = []

    def answer(request) -> None:
        served.append(request.path)
        if len(served) > 1:
            request.send_error(503)
            return
        request.send_response(200)
        request.end_headers()
        request.wfile.write(data[: len(data) // 2])
        request.wfile.flush()
        done.wait(20)

    with web_server(answer) as url:
        reader, pictures, _ = read(f"{url}/live.ts")
        done.set()
    assert pictures and len(served) == 3 and reader.lost


def test_nothing_listens(no_waits):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for scheme in ("rtsp", "http"):
        with pytest.raises(LiveError, match="nothing listens"):
            read(f"{scheme}://127.0.0.1:{port}/live")


def test_a_web_page_is_no_stream(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><html><body>camera</body></html>")
    with folder_server(tmp_path) as url, pytest.raises(LiveError, match="address of a web page"):
        read(f"{url}/index.html")


def test_ctrl_c_while_a_server_does_not_answer(monkeypatch):
    """The main thread waits for the reader's thread, and so Ctrl-C reaches it at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = LiveReader(f"http://127.0.0.1:{server.getsockname()[1]}/live")

        def interrupt(timeout: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(reader._changed, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reader.start()
        assert reader._stopped.is_set()


@pytest.mark.parametrize(("length_s", "told"), [(12.0, "of a recording of 12.0 s"), (1.8, "")])
def test_rtsp_recording_cut_before_its_end_is_told_and_not_begun_again(length_s, told, stream, no_waits):
    with rtsp_server(stream, audio=False, cut_after=1.6, length_s=length_s) as camera:
        reader, pictures, _ = read(camera.url)
    assert pictures and reader.connections == 1
    assert told in reader.lost and bool(told) == bool(reader.lost)


@pytest.mark.parametrize(
    ("found", "whole", "told"),
    [
        (10.3, 49.0, "10.3 s after"),
        (48.0, 49.0, ""),
        (1.0, 2.5, ""),
        (90.0, 100.0, ""),
        (89.0, 100.0, "100.0 s"),
    ],
)
def test_a_recording_that_ends_long_before_its_length_is_cut_short(found, whole, told):
    assert (told in cut_short(found, whole)) and bool(told) == bool(cut_short(found, whole))


@pytest.mark.parametrize("cut", [None, 4000])
def test_a_recording_on_a_server_is_played_in_real_time(cut, tmp_path, no_waits):
    noise = np.random.default_rng(0).integers(-3, 4, (FRAMES, 96, 128, 1))
    frames = [np.uint8(frame + grain) for frame, grain in zip(numbered(FRAMES, 96, 128), noise, strict=True)]
    path = write(tmp_path / "talk.mp4", frames, audio=tone(SECONDS), options={"movflags": "faststart"})
    assert Path(path).stat().st_size > 8000
    began = time.monotonic()
    with folder_server(tmp_path, cut) as url:
        reader, pictures, _ = read(f"{url}/talk.mp4")
    assert 2 < time.monotonic() - began < 30
    assert reader.frames == FRAMES and reader.connections == 1 and not reader.lost
    assert len(pictures) + reader.dropped == FRAMES
    numbers_agree(pictures)


def test_a_camera_without_timestamps_gets_the_times_of_arrival(no_waits):
    images = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in numbered(24, 96, 128)]
    with jpeg_camera(images, fps=10) as url:
        reader, pictures, _ = read(url)
    assert reader.frames >= 20
    numbers_agree(pictures, fps=10)


def test_segments_arrive_at_once_and_are_played_in_real_time(tmp_path):
    whole = write(
        tmp_path / "whole.mp4",
        numbered(FRAMES, 96, 128),
        audio=tone(SECONDS),
        options={"g": "20", "keyint_min": "20", "bf": "0"},
    )
    with av.open(whole) as source, av.open(
        str(tmp_path / "live.m3u8"), "w", format="hls", options={"hls_time": "0.8", "hls_list_size": "0"}
    ) as out:  # fmt: skip
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    lines = (tmp_path / "live.m3u8").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("#EXTINF"))
    count = sum(line.startswith("#EXTINF") for line in lines)
    assert count >= 3
    began = time.monotonic()

    def answer(request) -> None:
        path = tmp_path / request.path.lstrip("/")
        data = path.read_bytes()
        if path.suffix == ".m3u8":  # one more segment in each 0.8 s
            known = min(count, 1 + int((time.monotonic() - began) / 0.8))
            shown_lines = [line for line in lines[:first] if "PLAYLIST-TYPE" not in line]
            shown_lines += lines[first : first + 2 * known] + ["#EXT-X-ENDLIST"] * (known == count)
            data = "\n".join(shown_lines).encode() + b"\n"
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    with web_server(answer) as url:
        reader, pictures, sounds = read(f"{url}/live.m3u8")
    assert reader.connections == 1 and not reader.lost
    assert reader.frames == FRAMES and reader.dropped < 20 and sounds
    numbers_agree(pictures)


def test_a_wanted_stream_that_is_not_there(stream, tmp_path):
    silent = write(tmp_path / "silent.mp4", numbered(10))
    with pytest.raises(LiveError, match="has video; audio is needed"):
        read(silent, video=False)
    with pytest.raises(LiveError, match="deiii cannot open addresses that begin with rstp://"):
        address("rstp://anna:geheim@camera/live")


def test_an_error_of_the_thread_reaches_the_reader(stream, monkeypatch):
    def fail(self, frame):
        raise RuntimeError("broken frame")

    monkeypatch.setattr(live.Views, "view", fail)
    with pytest.raises(RuntimeError, match="broken frame"), LiveReader(str(stream)) as reader:
        list(reader)


WORDS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=6, max_size=20)


@given(st.sampled_from(["rtsp", "http", "https"]), WORDS, st.booleans())
def test_no_password_is_shown(scheme, password, port):
    where = f"camera{':8554' if port else ''}/live"
    told = shown(f"{scheme}://anna:{password}@{where}")
    assert told == f"{scheme}://anna:***@{where}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rtsp://camera:554/live", "rtsp://camera:554/live"),
        ("rtsp://anna@camera/live", "rtsp://anna@camera/live"),
        ("http://camera/video?user=a&pwd=b", "http://camera/video?user=***&pwd=***"),
        ("rtsp://camera/user=a&password=b&channel=1", "rtsp://camera/user=a&password=***&channel=1"),
        ("talk.mp4", "talk.mp4"),
        ("0", "0"),
    ],
)
def test_what_is_shown_of_an_address(source, expected):
    assert shown(source) == expected


def test_what_is_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_live("0") and is_live("RTSP://camera/live") and is_live("/dev/video0")
    assert not is_live("talk.mp4")
    Path("0").write_bytes(b"")
    assert not is_live("0")


CAMERA = (
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    "x264enc tune=zerolatency key-int-max=25 ! rtph264pay name=pay0 pt=96 "
    "audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 )"
)


@pytest.mark.slow
def test_a_recording_on_a_real_rtsp_server_that_dies_is_told(tmp_path):
    # The packets that FFmpeg reads while it opens RTSP are dropped, the first key frame among them.
    path = write(tmp_path / "talk.mp4", numbered(FRAMES, 96, 128), fps=5, options={"g": "5"})
    launch = f"( filesrc location={path} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 )"
    with gstreamer(launch) as (process, url), LiveReader(url, audio=False) as reader:
        for item in reader:
            if isinstance(item, Picture) and item.time_s > 2:
                process.kill()
    assert "of a recording of 12.0 s" in reader.lost and reader.connections == 1
    assert 0 < reader.frames < FRAMES


@pytest.mark.slow
def test_a_real_rtsp_server():
    times, sounds = [], 0
    with gstreamer(CAMERA) as (_, url), LiveReader(url) as reader:
        for item in reader:
            if isinstance(item, Picture):
                times.append(item.time_s)
            sounds += isinstance(item, AudioPiece)
            if times and times[-1] > 3:
                break
    assert reader.has_video and reader.has_audio and sounds > 20
    assert len(times) > 50 and np.all(np.diff(times) > 0)


def test_audio_that_changes_its_channels_goes_on(tmp_path):
    path = tmp_path / "radio.mp3"
    rate = 44100
    for layout in ("mono", "stereo"):
        with av.open(str(tmp_path / "part.mp3"), "w") as container:
            stream = container.add_stream("mp3", rate=rate, layout=layout)
            samples = np.full((len(stream.layout.channels), 2 * rate), 0.2, np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
            frame.sample_rate = rate
            container.mux([*stream.encode(frame), *stream.encode(None)])
        path.write_bytes((path.read_bytes() if path.exists() else b"") + (tmp_path / "part.mp3").read_bytes())
    _, _, sounds = read(str(path))
    assert sum(len(item.samples) for item in sounds) == pytest.approx(4 * rate, rel=0.1)
