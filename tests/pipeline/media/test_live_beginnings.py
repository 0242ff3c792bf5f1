"""Servers that send a recording again from its beginning, and cameras whose connections begin alike."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.beginnings import Beginnings, StartsAgain
from deiii.pipeline.media.streaming.live import LiveReader
from tests.helpers.clipmaker import write
from tests.helpers.media_server import web_server

AGAIN = "the server sends the same recording from its beginning"
FRAMES = 60


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(live, "WAITS_S", (0.02, 0.05))


def packets(contents: Iterable[bytes], begin: int = 0, kind: str = "video") -> list[av.Packet]:
    container = av.open("/dev/null", "w", format="mpegts")
    stream = container.add_stream(
        "mpeg2video" if kind == "video" else "mp2", rate=25 if kind == "video" else 16000
    )
    made = []
    for number, content in enumerate(contents):
        packet = av.Packet(content)
        packet.stream, packet.time_base = stream, Fraction(1, 25)
        packet.pts = packet.dts = begin + number
        made.append(packet)
    return made


def starts_again(*connections: list[av.Packet]) -> list[bool]:
    beginnings, found = Beginnings(), []
    for connection in connections:
        try:
            passed = list(beginnings.watched(connection))
        except StartsAgain:
            found.append(True)
        else:
            found.append(False)
            assert passed == connection
    return found


MOVING = [bytes([n]) * 500 for n in range(30)]
STILL = [b"key" * 500, *(b"same" + bytes([n]) for n in range(40))]  # the frame number alone changes


def test_the_same_data_at_other_times_are_no_recording():
    assert starts_again(packets(MOVING), packets(MOVING)) == [False, True]
    assert starts_again(packets(MOVING), packets(MOVING, 90), packets(MOVING, 90)) == [False, False, True]


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_ten_packets_with_new_content_decide_before_the_connection_ends(kind):
    beginnings, passed = Beginnings(), []
    list(beginnings.watched(packets(MOVING, kind=kind)))
    with pytest.raises(StartsAgain):
        for packet in beginnings.watched(packets(MOVING, kind=kind)):
            passed.append(packet)
    assert len(passed) == 9


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_packets_that_are_all_the_same_decide_at_the_end_of_the_connection(kind):
    one = [b"silence" * 60] * 40
    short, whole = packets(one[:30], kind=kind), packets(one, kind=kind)
    assert starts_again(whole, short, packets(one[:30], kind=kind)) == [False, False, True]


def test_a_still_picture_decides_at_the_end_of_the_connection():
    cut = packets(STILL[:-1])
    assert starts_again(packets(STILL), cut, packets(STILL)) == [False, False, True]
    moves = packets([*STILL, *MOVING])
    assert starts_again(packets([*STILL, *MOVING[::-1]]), moves, moves) == [False, False, True]


def test_small_packets_of_audio_count():
    """A second of speech in a telephone codec is 50 packets of 20 to 32 bytes."""
    speech = [np.random.default_rng(n).bytes(20) for n in range(30)]
    first, second = packets(speech, kind="audio"), packets([*speech[:12], *speech], kind="audio")
    assert starts_again(first, second) == [False, True]


def test_connections_without_packets_or_with_few_are_not_compared():
    assert starts_again([], [], packets(STILL[:9]), packets(STILL[:9])) == [False] * 4


def still(path: Path, begin_s: float = 0.0, seed: int = 0) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), np.uint8)
    times = [begin_s + number / 25 for number in range(FRAMES)]
    return Path(write(path, [picture] * FRAMES, times, options={"g": "250", "bf": "0"})).read_bytes()


def read(parts: list[bytes]) -> LiveReader:
    def answer(request) -> None:
        if not parts:
            request.send_error(404)
            return
        request.send_response(200)
        request.end_headers()
        request.wfile.write(parts.pop(0))

    with web_server(answer) as url, LiveReader(f"{url}/live.ts") as reader:
        list(reader)
    return reader


def test_a_camera_that_shows_a_still_picture_is_read_again(tmp_path):
    """Its connections had the same data, and counted as one recording."""
    parts = [still(tmp_path / f"{n}.ts", begin_s=3.0 * n) for n in range(3)]
    reader = read(list(parts))
    assert reader.connections == 3 and reader.frames == 3 * FRAMES and AGAIN not in reader.lost
    assert parts[0] != parts[1]


def test_a_camera_without_a_clock_that_shows_a_still_picture_is_read_again(tmp_path):
    """Each of its connections begins at time 0; they are of unequal lengths."""
    whole = still(tmp_path / "a.ts")
    packets_of_ts = len(whole) // 188
    reader = read([whole[: 188 * (packets_of_ts - n)] for n in (30, 0, 60)])
    assert reader.connections == 3 and AGAIN not in reader.lost


def test_a_still_recording_that_is_sent_again_ends_the_reading(tmp_path):
    whole = still(tmp_path / "a.ts")
    reader = read([whole] * 5)
    assert reader.connections == 2 and reader.lost == AGAIN
