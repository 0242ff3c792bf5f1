"""Matroska and WebM: block timestamps below zero and the delay of Opus keep audio and video together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.helpers.flash_beep import EVENTS, SECONDS, Clip, look_and_listen, write_clip

MASTERS = {0x18538067, 0x1F43B675, 0xA0, 0x1654AE6B, 0xAE}  # segment, cluster, block group, tracks, track
SIMPLE_BLOCK, BLOCK, CODEC_DELAY = 0xA3, 0xA1, 0x56AA
VIDEO, AUDIO = 1, 2  # numbers of the tracks


def number(data: bytes, at: int, keep: bool) -> tuple[int, int]:
    """An EBML number and its length in bytes; ids keep the bit that states the length (RFC 8794)."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return value if keep else value & ((1 << 7 * length) - 1), length


def elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, begin and size of the body of each element, also of those inside others."""
    while at < end:
        name, length = number(data, at, True)
        size, more = number(data, at + length, False)
        body = at + length + more
        size = end - body if size == (1 << 7 * more) - 1 else size  # unknown
        yield name, body, size
        if name in MASTERS:
            yield from elements(data, body, body + size)
        at = body + size


def earlier(path: Path, milliseconds: int, tracks: set[int]) -> None:
    """Make the block timestamps of some tracks less, below zero at the beginning."""
    data = bytearray(path.read_bytes())
    for name, body, _ in elements(bytes(data), 0, len(data)):
        if name in (SIMPLE_BLOCK, BLOCK):
            track, length = number(data, body, False)
            place = slice(body + length, body + length + 2)
            stamp = int.from_bytes(data[place], "big", signed=True) - milliseconds * (track in tracks)
            data[place] = stamp.to_bytes(2, "big", signed=True)
    path.write_bytes(data)


KINDS = [
    Clip("webm"),
    Clip("mkv"),
    Clip("mkv", b_frames=2),
    Clip("mkv", codecs=("libx264", "libmp3lame")),
    Clip("mkv", codecs=("libx264", "libopus")),
    Clip("mkv", codecs=("libx264", "pcm_s16le")),
]


@pytest.mark.parametrize(
    ("tracks", "milliseconds"),
    [({VIDEO, AUDIO}, 20), ({AUDIO}, 100), ({VIDEO}, 100)],
    ids=["both", "audio", "video"],
)
@pytest.mark.parametrize("clip", KINDS, ids=lambda c: f"{c.suffix} {c.codecs or ''} {c.b_frames}")
def test_timestamps_below_zero_move_audio_and_video_by_what_they_say(tmp_path, clip, tracks, milliseconds):
    path = write_clip(tmp_path, clip)
    before = look_and_listen(path)
    earlier(path, milliseconds, tracks)
    seen = look_and_listen(path)
    assert len(seen.flashes) == len(seen.beeps) == len(EVENTS)
    lags = [np.subtract(found.beeps, found.flashes) for found in (before, seen)]
    moved = milliseconds / 1000 * ((VIDEO in tracks) - (AUDIO in tracks))
    assert lags[1] - lags[0] == pytest.approx([moved] * len(EVENTS), abs=0.002)


@pytest.mark.parametrize("nanoseconds", [0, 2_500_000, 6_500_000, 13_000_000])
def test_the_declared_delay_of_opus_is_taken_from_its_timestamps(tmp_path, nanoseconds):
    path = write_clip(tmp_path, Clip("webm"))
    data = bytearray(path.read_bytes())
    places = [(b, s) for name, b, s in elements(bytes(data), 0, len(data)) if name == CODEC_DELAY]
    (body, size), declared = places[0], 6_500_000  # what libopus needs
    assert int.from_bytes(data[body : body + size], "big") == declared
    data[body : body + size] = nanoseconds.to_bytes(size, "big")
    path.write_bytes(data)
    seen = look_and_listen(path)
    assert np.subtract(seen.beeps, seen.flashes) == pytest.approx((declared - nanoseconds) / 1e9, abs=0.002)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_time_0_of_vorbis_from_an_ogg_file_is_its_first_sample(tmp_path, rate):
    """Its first packet, 3 to 32 ms long, has no samples; the muxer moves the video by its length."""
    time = np.arange(round(SECONDS * rate)) / rate
    wave = 0.5 * sum(((time >= e) & (time < e + 0.12)) * np.sin(2000 * np.pi * time) for e in EVENTS)
    wave += 0.02 * np.random.default_rng(0).normal(size=len(time))  # more than one page
    soundfile.write(tmp_path / "audio.ogg", wave, rate, format="OGG", subtype="VORBIS")
    video = write_clip(tmp_path, Clip("mkv", codecs=("libx264", "pcm_s16le")))
    with (
        av.open(str(video)) as seen,
        av.open(str(tmp_path / "audio.ogg")) as heard,
        av.open(str(tmp_path / "both.mkv"), "w") as out,
    ):
        sources = [seen.streams.video[0], heard.streams.audio[0]]
        targets = [out.add_stream_from_template(stream) for stream in sources]
        packets = [p for source in sources for p in source.container.demux(source) if p.size]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            packet.stream = targets[packet.stream.type == "audio"]
            out.mux(packet)
    found = look_and_listen(tmp_path / "both.mkv")
    assert found.flashes == pytest.approx(EVENTS, abs=0.001)
    assert found.beeps == pytest.approx(EVENTS, abs=0.003)
