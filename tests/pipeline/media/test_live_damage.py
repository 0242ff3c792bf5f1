"""Live sources whose frames are damaged, lost or sent again, and files that grow while they are played."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.address import ENDED, GROWN, cut_short, why_ended
from deiii.pipeline.media.streaming.damage import NOTE, Damage
from deiii.pipeline.media.streaming.items import Picture
from deiii.pipeline.media.streaming.live import LiveReader
from tests.helpers.clipmaker import numbered, tone, write
from tests.helpers.media_server import jpeg_camera, web_server
from tests.helpers.rtsp_server import rtsp_server

SECONDS, FRAMES = 4.0, 100


def noise(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (FRAMES, 96, 128, 3), np.uint8))


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A transport stream of noise, so that each frame needs several packets of RTP."""
    path = tmp_path_factory.mktemp("ts") / "live.ts"
    return Path(write(path, noise(0), audio=tone(SECONDS), options={"g": "10", "bf": "0"}))


@pytest.fixture
def no_waits(monkeypatch):
    monkeypatch.setattr(live, "WAITS_S", (0.02, 0.05))


def read(url: str) -> tuple[LiveReader, list[Picture], list[str]]:
    said: list[str] = []
    with LiveReader(url, report=said.append) as reader:
        pictures = [item for item in reader if isinstance(item, Picture)]
    return reader, pictures, said


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_frames_that_lost_packets_over_udp_are_counted_and_reported(stream, no_waits, loss):
    """Nothing was said, although most frames were damaged."""
    with rtsp_server(stream, udp_loss=loss) as camera:
        reader, pictures, said = read(camera.url)
    assert any("client_port" in words for words in camera.asked) and len(pictures) > FRAMES // 3
    notes = [text for text in said if NOTE in text]
    if not loss:
        assert camera.lost == reader.damage.damaged == reader.damage.missing == 0 and not notes
        return
    assert camera.lost > 10 and len(notes) == 1 and notes[0].startswith(f"{reader.name}: ")
    assert reader.damage.damaged + reader.damage.missing > camera.lost / 10


def test_a_damaged_image_of_a_camera_is_counted(tmp_path, no_waits):
    import cv2

    images = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in numbered(40, 96, 128)]
    images[20] = images[20][:200] + bytes(len(images[20]) - 200)
    with jpeg_camera(images, 50) as url:
        reader, pictures, said = read(url)
    assert reader.damage.damaged == 1 and reader.damage.missing == 0
    assert sum(NOTE in text for text in said) == 1


def counts(times, corrupt=(), keys=(0,)) -> tuple[int, int]:
    damage = Damage(lambda text: None)
    for number, at in enumerate(times):
        damage.frame(at, number in corrupt, number in keys)
    return damage.damaged, damage.missing


def test_missing_frames_are_those_between_frames_of_a_regular_distance():
    regular = [number / 25 for number in range(100)]
    lost = {20, 21, 22, 50, 98}
    kept = [at for number, at in enumerate(regular) if number not in lost]
    assert counts(regular) == (0, 0) and counts(kept) == (0, len(lost))
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, len(kept))
    assert counts(np.array(kept) + jitter) == (0, len(lost))


def test_irregular_frames_and_those_before_the_first_key_frame_are_not_counted():
    slower = np.cumsum(np.random.default_rng(0).choice([0.04, 0.08, 0.12, 0.2], 200))
    assert counts(slower) == (0, 0)
    assert counts([number / 25 for number in range(30)], corrupt=range(12), keys=(10,)) == (2, 0)


def test_a_packet_that_cannot_be_decoded_is_not_also_missing():
    damage = Damage(lambda text: None)
    for number in range(40):
        if number == 30:
            damage.failed()
            continue
        damage.frame(number / 25, False, number == 0)
    assert (damage.damaged, damage.missing) == (1, 0)


def test_a_recording_that_a_server_sends_again_ends_the_reading(stream, no_waits):
    """It was read again and again, and the same prediction was counted each time."""
    data = stream.read_bytes()
    asked = []

    def answer(request) -> None:
        asked.append(request.path)
        request.send_response(200)
        request.end_headers()  # without a length: FFmpeg cannot know that it is a recording
        request.wfile.write(data)

    with web_server(answer) as url:
        reader, _, said = read(f"{url}/growing.ts")
    assert len(asked) == 2 and reader.connections == 2
    assert reader.lost == "the server sends the same recording from its beginning"
    assert sum("the connection was lost" in text for text in said) == 1


def test_another_recording_of_a_server_is_read(tmp_path, stream, no_waits):
    other = Path(write(tmp_path / "other.ts", noise(1), audio=tone(SECONDS), options={"g": "10", "bf": "0"}))
    parts = [stream.read_bytes(), other.read_bytes()]

    def answer(request) -> None:
        if not parts:
            request.send_error(404)
            return
        request.send_response(200)
        request.end_headers()
        request.wfile.write(parts.pop(0))

    with web_server(answer) as url:
        reader, _, _ = read(f"{url}/live.ts")
    assert reader.connections == 2 and reader.frames > 1.8 * FRAMES and "404" not in reader.lost


def test_a_recording_whose_connection_breaks_is_not_read_from_its_beginning(tmp_path, no_waits):
    """The error of the connection counted as that of a camera."""
    path = Path(write(tmp_path / "a.mkv", noise(2), audio=tone(SECONDS), options={"g": "10"}))
    data = path.read_bytes()

    def answer(request) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(data[: len(data) // 2])

    with web_server(answer) as url:
        reader, pictures, said = read(f"{url}/a.mkv")
    assert reader.connections == 1 and pictures and not said
    assert "after the beginning of a recording of 4." in reader.lost


def test_a_file_that_grows_while_it_is_played_is_reported(tmp_path, stream):
    path = tmp_path / "growing.ts"
    data = stream.read_bytes()
    path.write_bytes(data[: len(data) // 188 // 4 * 188])
    said: list[str] = []
    with LiveReader(str(path), report=said.append) as reader:
        items = iter(reader)
        next(items)
        with open(path, "ab") as file:
            file.write(data[len(data) // 188 // 4 * 188 :])
        for _ in items:
            pass
    assert said[-1] == f"{path}: {GROWN}"
    shutil.copy(stream, tmp_path / "whole.ts")
    _, _, said = read(str(tmp_path / "whole.ts"))
    assert not any(GROWN in text for text in said)


def test_reasons_why_a_connection_ended():
    assert why_ended(OSError(5, "Input/output error")) == ENDED
    assert why_ended(OSError(104, "Connection reset by peer")) == "Connection reset by peer"
    assert cut_short(1.0, 60.0, ENDED).endswith("a recording of 60.0 s (the server ended it)")
    assert cut_short(59.0, 60.0, ENDED) == ""


def test_closing_does_not_wait_for_a_server_that_says_nothing(stream):
    """It waited for up to six seconds for FFmpeg."""
    data = stream.read_bytes()

    def answer(request) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(data)
        request.wfile.flush()
        time.sleep(4)

    with web_server(answer) as url:
        reader = LiveReader(f"{url}/live.ts")
        reader.start()
        next(iter(reader))
        time.sleep(0.5)
        began = time.monotonic()
        reader.close()
        assert time.monotonic() - began < 2.5
