"""Live sources: joined recordings, and a recording of a server that cannot seek, are played once."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.pipeline.media.streaming.live import AudioPiece, LiveReader, Picture
from tests.helpers.clipmaker import numbered, tone, write
from tests.helpers.media_server import web_server

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
