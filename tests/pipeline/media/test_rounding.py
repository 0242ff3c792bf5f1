"""Timestamps that a container or a recorder rounded to 5 ms and more: no gap smaller than the rounding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile  # comes with librosa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.clock import Clock, clock_remarks
from deiii.pipeline.media.survey import survey
from deiii.pipeline.media.timestamps import find_rounding
from tests.helpers.flash_beep import (
    EVENTS,
    FPS,
    Clip,
    flv_tags,
    look_and_listen,
    set_flv_stamp,
    write_clip,
)

UNITS = [1 / 10, 1 / 20, 1 / 25, 1 / 30, 1 / 50, 1 / 100, 1 / 200]  # s
STEPS = [1024 / 48000, 1152 / 44100, 1024 / 16000, 0.018, 1 / 30, 1 / 24]  # s: frames of audio and video
HOW = {"nearest": np.round, "down": np.floor, "up": np.ceil}


def rounded(begins, unit, how):
    return [float(HOW[how](round(t / unit, 9)) * unit) for t in begins]


def times_of(stamps, unit, step, exact=None):
    """The times that a clock gives items with rounded timestamps, and the clock."""
    found = find_rounding(stamps, unit, [step])
    clock = Clock(step, 0.03, rounding=found)
    placed = [one for i, stamp in enumerate(stamps) for one in clock.add(i, stamp, exact or step)]
    return [time for _, time in placed + clock.finish()], clock, found


@settings(max_examples=150, deadline=None)
@given(
    unit=st.sampled_from(UNITS),
    step=st.sampled_from(STEPS),
    start=st.floats(0, 3),
    how=st.sampled_from(sorted(HOW)),
    count=st.integers(40, 300),
)
def test_items_follow_each_other_where_they_were_before_the_rounding(unit, step, start, how, count):
    right = start + step * np.arange(count)
    stamps = rounded(right, unit, how)
    # A distance that occurs once is a gap to everybody: 24 frames/s at 40 ms have one of 80 ms in every 24.
    assume(min(Counter(np.round(np.diff(stamps) / unit)).values()) > 1)
    found, clock, rounding = times_of(stamps, unit, step)
    assert clock_remarks(clock, "audio") == [] and clock.gaps == []
    if rounding is None:  # the timestamps are as good as exact
        assert np.abs(np.array(stamps) - np.array(stamps)[0] - step * np.arange(count)).max() <= 0.5 * unit
        return
    assert rounding.unit == pytest.approx(unit)
    assert np.diff(found) == pytest.approx(step, abs=0.03)
    # Rounding down and up moves all items by half a unit, which the timestamps alone do not tell.
    moved = {"nearest": 0.0, "down": -0.5, "up": 0.5}[how] * unit
    spread = len(set(np.round((right / unit) % 1, 4)))  # how many places between two multiples are met
    assert np.abs(found - right - moved).max() <= unit / min(spread, count) + 0.006


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("step", STEPS)
def test_a_gap_longer_than_the_rounding_stays_and_a_wrong_timestamp_moves_nothing(unit, step):
    right = step * np.arange(150)
    right[70:] += 0.4
    stamps = rounded(right, unit, "nearest")
    stamps[30] += 2.0
    found, clock, rounding = times_of(stamps, unit, step)
    if rounding is None:
        assert round(step / unit) == pytest.approx(step / unit)
        return
    assert np.abs(found - right).max() <= unit / 2 + 0.031
    assert len(clock.gaps) == 1 and clock.outliers == 1


@pytest.mark.parametrize(
    ("step", "unit"), [(0.04, 0.02), (0.02, 0.02), (0.1, 0.1), (0.06, 0.02), (1 / 30, 1 / 30)]
)
def test_durations_that_are_multiples_of_the_unit_are_not_rounded(step, unit):
    assert find_rounding([step * i for i in range(100)], unit / 10, [step]) is None


def test_what_does_not_lie_around_a_line_is_not_rounded():
    rng = np.random.default_rng(0)
    assert find_rounding(np.cumsum(rng.choice([0.04, 0.08], 100)).tolist(), 0.001, [0.04]) is None
    assert find_rounding(np.cumsum(rng.choice([0.02, 0.06], 100)).tolist(), 1 / 48000, [0.02]) is None


def test_a_millisecond_is_no_rounding():
    for step in STEPS:
        assert find_rounding(rounded(step * np.arange(200), 0.001, "nearest"), 0.001, [step]) is None


def flv(folder: Path, unit: float, clip: Clip, kinds=(8, 9), start: float = 0.0) -> Path:
    """A flash-and-beep FLV file whose timestamps of these kinds (8 audio, 9 video) are rounded."""
    path = write_clip(folder, clip)
    data = bytearray(path.read_bytes())
    for at, kind, stamp in flv_tags(data):
        if kind in kinds:
            set_flv_stamp(data, at, round((stamp + start) / unit) * unit)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("unit", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("kinds", [(8,), (8, 9)], ids=["audio", "both"])
@pytest.mark.parametrize("codecs", [("libx264", "aac"), ("flv1", "libmp3lame")], ids=["aac", "mp3"])
def test_flashes_and_beeps_of_a_file_with_rounded_timestamps(tmp_path, unit, kinds, codecs):
    path = flv(tmp_path, unit, Clip("flv", codecs=codecs), kinds)
    seen = look_and_listen(path)
    assert seen.words == ""
    assert seen.flashes == pytest.approx(EVENTS, abs=max(1 / FPS, unit / 2))
    assert seen.beeps == pytest.approx(EVENTS, abs=0.02 + 0.1 * unit)
    samples, _, missing = read_audio(path, 16000)
    assert missing == 0 and not np.any(np.convolve(samples[8000:9600] == 0, np.ones(160), "valid") == 160)


@pytest.mark.parametrize(
    "suffix", ["mkv", "flv", "mp4", "ts", "mpg", "avi", "wav", "mp3", "ogg", "flac", "webm"]
)
def test_right_files_are_not_rounded(tmp_path, suffix):
    found = survey(str(write_clip(tmp_path, Clip(suffix))))
    assert all(times is None or times.rounding is None for times in (found.video, found.audio))


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("rate", [8000, 12_000, 16_000, 24_000, 48_000])
def test_blocks_of_several_lengths_are_not_rounded_timestamps(tmp_path, rate, codec):
    """Vorbis begins with shorter blocks: noise at 16 kHz must not be 52 ms late."""
    noise = 0.1 * np.random.default_rng(0).normal(size=round(3.137 * rate))
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise, rate, format="OGG", subtype=codec)
    samples, start, _ = read_audio(path, rate)
    assert start == pytest.approx(0.0, abs=1e-4) and len(samples) == pytest.approx(len(noise), abs=2)
    n = 2 * len(noise)
    match = np.fft.irfft(np.fft.rfft(samples, n) * np.conj(np.fft.rfft(noise, n)))
    assert np.argmax(match) in (0, 1, n - 1)  # the lag in samples at which both agree best


@pytest.mark.parametrize(
    "outliers", [{24: 1.0, 25: 1.0, 26: 1.0, 68: 2.0}, {1: 1.0, 2: 1.0, 3: 1.0, 72: 1.5}]
)
def test_wrong_timestamps_that_equal_others_are_no_rounding(tmp_path, outliers):
    """Their distance from these, 0, is no distance of rounded timestamps; each is a multiple of the step."""
    seen = look_and_listen(write_clip(tmp_path, Clip("webm", outliers=outliers)))
    assert seen.flashes == pytest.approx(EVENTS, abs=0.001) and seen.beeps == pytest.approx(EVENTS, abs=0.001)
    assert "4 timestamps of the video are wrong" in seen.words
