"""Ogg files that hold several recordings, also of other codecs, rates and numbers of channels.

The recordings are written by libsndfile, which is independent of FFmpeg. Their length is no whole number of
packets.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deiii.data.cache.outcomes import Status
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.formats.ogg import ogg_links
from deiii.pipeline.media.streaming.audio import AudioReader
from tests.helpers.clipmaker import outcome_of
from tests.helpers.flash_beep import look_and_listen

BEEPS = (0.2, 0.7)  # s
SECONDS = 1.137
Kind = tuple[str, int, int]  # codec, rate in Hz, number of channels
KINDS: list[Kind] = [
    ("VORBIS", 44_100, 2),
    ("VORBIS", 16_000, 1),
    ("VORBIS", 8_000, 1),
    ("OPUS", 48_000, 1),
    ("OPUS", 48_000, 2),
    ("FLAC", 48_000, 2),
    ("FLAC", 16_000, 1),
]
PAIRS = [(a, b) for number, (a, b) in enumerate(product(KINDS, KINDS)) if number % 4 == 1 or a == b]
NAMED = "joined recordings; they were placed one behind the other"


def recording(folder: Path, kind: Kind, noise: float = 0.0) -> bytes:
    """An Ogg file of two beeps; noise makes it larger."""
    codec, rate, channels = kind
    time = np.arange(round(SECONDS * rate)) / rate
    beeps = 0.5 * sum(((time >= e) & (time < e + 0.12)) * np.sin(2000 * np.pi * time) for e in BEEPS)
    wave = (beeps + noise * np.random.default_rng(0).normal(size=len(time)))[:, None].repeat(channels, 1)
    if codec != "FLAC":
        soundfile.write(folder / "part.ogg", wave, rate, format="OGG", subtype=codec)
        return (folder / "part.ogg").read_bytes()
    soundfile.write(folder / "part.flac", wave, rate)
    with av.open(str(folder / "part.flac")) as source, av.open(str(folder / "part.ogg"), "w") as out:
        copy = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return (folder / "part.ogg").read_bytes()


def write(folder: Path, *parts: bytes) -> Path:
    path = folder / "joined.ogg"
    path.write_bytes(b"".join(parts))
    return path


def expected(count: int) -> list[float]:
    return [n * SECONDS + e for n in range(count) for e in BEEPS]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_recording_has_its_times(tmp_path, first, second):
    path = write(tmp_path, recording(tmp_path, first), recording(tmp_path, second))
    seen = look_and_listen(path, has_video=False)
    assert seen.beeps == pytest.approx(expected(2), abs=0.004)
    assert f"the file holds 2 {NAMED}" in seen.words
    assert ("the sample rate of the audio changes" in seen.words) == (first[1] != second[1])
    assert ("the number of audio channels changes" in seen.words) == (first[2] != second[2])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), noise=st.sampled_from([0.0, 0.02]))
def test_any_recordings_are_read_alike_whole_and_in_parts(tmp_path, kinds, noise):
    path = write(tmp_path, *(recording(tmp_path, kind, noise) for kind in kinds))
    seen = look_and_listen(path, has_video=False)
    assert seen.beeps == pytest.approx(expected(len(kinds)), abs=0.006)
    assert (NAMED in seen.words) == (len(kinds) > 1)
    whole, start, _ = read_audio(path, 16_000)
    parts = np.concatenate(list(AudioReader(path, 16_000)))
    assert len(parts) == pytest.approx(len(whole), abs=2 * len(kinds)) and start == pytest.approx(0, abs=1e-6)
    assert len(whole) / 16_000 == pytest.approx(len(kinds) * SECONDS, abs=0.035)
    n = min(len(parts), len(whole))
    assert np.abs(parts[:n] - whole[:n]).max() < 0.02 + noise


def test_a_recording_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path):
    """In the middle: its headers are spoiled, so that no decoder can be opened."""
    whole = recording(tmp_path, ("VORBIS", 16_000, 1))
    spoiled = bytearray(recording(tmp_path, ("OPUS", 48_000, 1)))
    at = spoiled.find(b"OpusHead")
    spoiled[at : at + 8] = b"XpusHead"
    seen = look_and_listen(write(tmp_path, whole, bytes(spoiled), whole), has_video=False)
    assert seen.beeps == pytest.approx(expected(2), abs=0.006)
    assert f"the recording that begins at byte {len(whole)} was not read: " in seen.words
    outcome = outcome_of(read_audio, write(tmp_path, bytes(spoiled), bytes(spoiled)), 16_000)
    assert outcome.status in (Status.NO_AUDIO, Status.UNREADABLE)


@pytest.mark.parametrize("between", [b"\0" * 5000, b"TAG" + b"x" * 125, b"OggX" * 20_000])
def test_bytes_between_recordings_hide_none(tmp_path, between):
    parts = [recording(tmp_path, kind) for kind in (KINDS[1], KINDS[3])]
    path = write(tmp_path, parts[0], between, parts[1])
    assert [link.audio for link in ogg_links(str(path))] == [("Vorbis", 1, 16_000), ("Opus", 1, 48_000)]
    assert look_and_listen(path, has_video=False).beeps == pytest.approx(expected(2), abs=0.006)


def test_a_recording_that_is_cut_off_ends_where_its_bytes_end(tmp_path):
    parts = [recording(tmp_path, kind, 0.02) for kind in (KINDS[0], KINDS[3])]
    page = parts[1].rfind(b"OggS")  # the last one, of the last 0.1 s
    seen = look_and_listen(write(tmp_path, parts[0], parts[1][: page + 30]), has_video=False)
    assert seen.beeps == pytest.approx(expected(2), abs=0.006)
    seen = look_and_listen(write(tmp_path, parts[0], parts[1][: page // 2]), has_video=False)
    assert seen.beeps == pytest.approx(expected(1), abs=0.006)
    assert f"begins at byte {len(parts[0])} was not read: it cannot be opened" in seen.words


def test_other_files_have_no_recordings_in_a_chain(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    assert ogg_links(str(tmp_path / "a.wav")) == ogg_links(str(tmp_path / "gone.ogg")) == []


@pytest.mark.parametrize("kind", [("VORBIS", 16_000, 1), ("OPUS", 48_000, 1), ("FLAC", 16_000, 2)], ids=str)
def test_a_file_may_end_at_any_byte_of_a_first_page(tmp_path, kind):
    whole = recording(tmp_path, kind)
    path = tmp_path / "cut.ogg"
    for size in range(27, 120):
        path.write_bytes(whole[:size])
        assert ogg_links(str(path))[0].start == 0
        path.write_bytes(whole + whole[:size])
        first, _ = ogg_links(str(path))
        assert (first.start, first.end) == (0, len(whole))
    path.write_bytes(whole[:37])
    assert outcome_of(read_audio, path, 16_000).status is Status.UNREADABLE
