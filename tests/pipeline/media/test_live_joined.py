"""Live sources: recordings are played once, also joined ones; a file begins when its frames are taken.

A source of which nothing arrives is an error.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.address import LiveError
from deiii.pipeline.media.streaming.live import AudioPiece, LiveReader, Picture
from tests.helpers.clipmaker import numbered, tone, write
from tests.helpers.media_server import folder_server, web_server

pytestmark = pytest.mark.usefixtures("nothing_is_late")
SECONDS, FRAMES = 1.2, 30


def test_joined_recordings_are_played_one_after_the_other(tmp_path):
    """Their timestamps begin again; the second one was lost, and its audio came at once."""
    part = Path(write(tmp_path / "one.ts", numbered(FRAMES, 96, 128), audio=tone(SECONDS)))
    path = tmp_path / "joined.ts"
    path.write_bytes(2 * part.read_bytes())
    with LiveReader(str(path)) as reader:
        items = list(reader)
    times = [item.time_s for item in items if isinstance(item, Picture)]
    assert reader.dropped == 0 and len(times) == 2 * FRAMES
    assert times[-1] == pytest.approx(2 * SECONDS, abs=0.15)
    assert max(b - a for a, b in zip(times[:-1], times[1:], strict=True)) < 0.2
    pieces = [item for item in items if isinstance(item, AudioPiece)]
    ends = [item.time_s + len(item.samples) / item.rate for item in pieces]
    assert ends[-1] == pytest.approx(2 * SECONDS, abs=0.2)


def test_a_file_does_not_begin_before_its_frames_are_asked_for(tmp_path):
    """An overlay is prepared after the source is opened; half of the frames were dropped meanwhile."""
    path = write(tmp_path / "one.mp4", numbered(FRAMES, 96, 128), audio=tone(SECONDS))
    with LiveReader(str(path)) as reader:
        assert reader.has_video and reader.has_audio  # known before
        time.sleep(SECONDS / 2)
        taken = time.monotonic()
        pictures = [item for item in reader if isinstance(item, Picture)]
    assert reader.dropped == 0 and len(pictures) == FRAMES
    assert all(taken <= picture.arrived for picture in pictures)


def test_a_file_whose_frames_nobody_takes_can_be_closed(tmp_path):
    path = write(tmp_path / "one.mp4", numbered(FRAMES, 96, 128), audio=tone(SECONDS))
    with LiveReader(str(path)) as reader:
        began = time.monotonic()
    assert time.monotonic() - began < 2 and reader.frames == 0


def test_a_transport_stream_of_a_server_without_ranges_is_played_once(tmp_path):
    """FFmpeg knows no duration without seeking; the recording was opened again and again."""
    part = Path(write(tmp_path / "one.ts", numbered(FRAMES, 96, 128), audio=tone(SECONDS)))
    asked = []

    def answer(request):
        asked.append(request.path)
        data = part.read_bytes()
        request.send_response(200 if len(asked) < 4 else 404)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    with web_server(answer) as url, LiveReader(f"{url}/one.ts") as reader:
        pictures = [item for item in reader if isinstance(item, Picture)]
    assert reader.connections == len(asked) == 1 and not reader.lost
    assert len(pictures) == FRAMES


@pytest.mark.parametrize("with_ranges", [False, True])
def test_an_index_at_the_end_needs_a_server_with_ranges(tmp_path, with_ranges, monkeypatch):
    """Of eight connections nothing arrived, and nothing was raised."""
    monkeypatch.setattr(live, "WAITS_S", (0.02, 0.05))
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 96, 128, 3), np.uint8)
    path = Path(write(tmp_path / "late.mp4", list(frames)))
    data = path.read_bytes()
    assert data.find(b"mdat") < data.find(b"moov") and len(data) > 100_000
    with folder_server(tmp_path, ranges=with_ranges) as url, LiveReader(f"{url}/late.mp4") as reader:
        if with_ranges:
            assert len(list(reader)) == FRAMES
            return
        with pytest.raises(LiveError, match="gave no video frame and no audio: .*byte ranges.*faststart"):
            list(reader)
        assert reader.connections == 3


def test_a_source_that_is_closed_before_a_frame_came_is_no_error(tmp_path):
    path = Path(write(tmp_path / "one.ts", numbered(FRAMES, 96, 128), audio=tone(SECONDS)))
    with LiveReader(str(path)) as reader:
        reader.close()
        assert list(reader) == []
