"""Corrupted copies: noise, blur and rectangles by known answers, times and clean copies exactly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.corrupt.kinds import (
    Corruption,
    CorruptionError,
    add_noise,
    blur,
    change_speed,
    generator,
    occlude,
    parse_corruption,
    parse_corruptions,
)
from deiii.pipeline.corrupt.write import FaceBoxes, corrupted_copy, write_corrupted
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from tests.helpers.clips import write_audio

RATE = 16_000


@settings(max_examples=20)
@given(st.floats(-10, 40), st.integers(0, 99))
def test_noise_has_the_ratio(snr, seed):
    rng = np.random.default_rng(seed)
    clean = np.sin(np.arange(60_000) / 7).astype(np.float32) * 0.3
    noise = add_noise(clean, snr, rng).astype(np.float64) - clean
    found = 10 * np.log10(np.mean(clean.astype(np.float64) ** 2) / np.mean(noise**2))
    assert found == pytest.approx(snr, abs=0.15)
    assert abs(np.mean(noise)) < 0.05 * np.std(noise)
    assert not add_noise(np.zeros(9, np.float32), snr, rng).any()


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.5])
def test_speed_changes_length_and_pitch(factor):
    hertz = 440.0
    tone = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
    faster = change_speed(tone, RATE, factor)
    assert faster.dtype == np.float32 and len(faster) == pytest.approx(RATE / factor, abs=2)
    middle = faster[2000:-2000] * np.hanning(len(faster) - 4000)
    spectrum = np.abs(np.fft.rfft(middle, 1 << 18))
    assert np.argmax(spectrum) * RATE / (1 << 18) == pytest.approx(factor * hertz, abs=0.5)


def test_a_blur_spreads_an_edge_by_its_deviation():
    frame = np.zeros((9, 200, 3), np.uint8)
    frame[:, 100:] = 255
    edge = np.diff(blur(frame, 5.0, 100.0)[4, :, 0].astype(float))  # sigma 5 px
    x = np.arange(199)  # the derivative of a blurred edge is the kernel
    mean = (edge * x).sum() / edge.sum()
    assert np.sqrt((edge * (x - mean) ** 2).sum() / edge.sum()) == pytest.approx(5.0, rel=0.06)


@settings(max_examples=30)
@given(st.floats(0.05, 1.0), st.floats(0, 1), st.floats(0, 1))
def test_a_rectangle_covers_its_share_within_the_box(share, left, top):
    frame = np.zeros((200, 300, 3), np.uint8)
    covered = occlude(frame, share, np.array([50, 40, 160, 120]), (left, top))
    inside = covered[40:160, 50:210]
    assert (covered == 127).sum() == (inside == 127).sum() and not frame.any()
    assert (inside == 127).all(axis=2).mean() == pytest.approx(share, abs=0.02)


def test_a_box_beyond_the_frame_is_cut():
    covered = occlude(np.zeros((50, 50, 3), np.uint8), 1.0, np.array([-20, 30, 40, 40]), (0, 0))
    assert (covered[30:, :20] == 127).all() and (covered == 127).all(axis=2).sum() == 20 * 20


def test_random_numbers_depend_on_seed_clip_and_corruption_alone():
    noise = Corruption("noise", 20.0)
    one = generator(0, "a", noise).random(3).tolist()
    assert generator(0, "a", noise).random(3).tolist() == one
    for other in (
        generator(1, "a", noise),
        generator(0, "b", noise),
        generator(0, "a", Corruption("noise", 10.0)),
    ):
        assert other.random(3).tolist() != one


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("rain=3", "is not a corruption; there are noise=-20 to 60"),
        ("noise", "is not a corruption"),
        ("noise=loud", "'loud' is not a number"),
        ("noise=nan", "outside -20 to 60"),
        ("occlude=1.5", "outside 0.01 to 1"),
        ("compress=23.5", "whole number"),
    ],
)
def test_words_that_name_no_corruption(word, what):
    with pytest.raises(CorruptionError, match=what):
        parse_corruption(word)


def test_corruptions_are_sorted_by_kind_and_severity():
    words = ["blur=4", "noise=0", "blur=2", "noise=20", "noise=0.0"]
    assert [str(c) for c in parse_corruptions(words)] == ["noise=20", "noise=0", "blur=2", "blur=4"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """12 frames at uneven times and sound that begins 0.1 s later."""
    path = tmp_path_factory.mktemp("corrupt") / "a.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "bgr0"
        audio = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for i in range(12):
            image = np.full((48, 64, 3), 20 * i, np.uint8) + rng.integers(0, 9, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 40 * i + (i % 3)
            frame.time_base = Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        samples = (8000 * np.sin(np.arange(6400) / 5)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts = RATE, RATE // 10
        sound.time_base = Fraction(1, RATE)
        out.mux(audio.encode(sound))
        out.mux(audio.encode())
    return path


def test_a_copy_without_corruption_is_what_the_stages_read(source, tmp_path):
    copy = write_corrupted(source, tmp_path / "copy", None)
    wanted, found = list(read_video(source)), list(read_video(copy))
    assert [t for _, t in found] == pytest.approx([t for _, t in wanted], abs=2e-5)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(wanted, found, strict=True))
    (one, start_one, _), (two, start_two, _) = read_audio(source, RATE), read_audio(copy, RATE)
    assert start_two == pytest.approx(start_one, abs=1e-4)
    assert two[: len(one)] == pytest.approx(one, abs=1e-6)


def test_each_kind_changes_its_stream_alone(source, tmp_path):
    boxes = FaceBoxes(np.array([0.0]), np.array([[10, 10, 20, 20]], np.float32))
    clean, (sound, _, _) = list(read_video(source)), read_audio(source, RATE)
    for word in ("noise=10", "blur=20", "occlude=0.5", "compress=45"):
        copy = write_corrupted(source, tmp_path / word.split("=")[0], parse_corruption(word), faces=boxes)
        frames, (heard, _, _) = list(read_video(copy)), read_audio(copy, RATE)
        same_video = all(np.array_equal(a, b) for (a, _), (b, _) in zip(clean, frames, strict=True))
        same_audio = np.allclose(heard[: len(sound)], sound, atol=1e-6)
        assert (same_video, same_audio) == (word.startswith("noise"), not word.startswith("noise")), word
        again = write_corrupted(source, tmp_path / "again", parse_corruption(word), faces=boxes)
        assert np.array_equal(read_audio(again, RATE)[0], heard)


def test_another_speed_moves_all_times(source, tmp_path):
    copy = write_corrupted(source, tmp_path / "copy", Corruption("speed", 1.25))
    wanted, found = list(read_video(source)), list(read_video(copy))
    assert [t for _, t in found] == pytest.approx([t / 1.25 for _, t in wanted], abs=2e-5)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(wanted, found, strict=True))
    (one, start_one, _), (two, start_two, _) = read_audio(source, RATE), read_audio(copy, RATE)
    assert start_two == pytest.approx(start_one / 1.25, abs=1e-4)
    assert len(two) == pytest.approx(len(one) / 1.25, abs=2)


def test_a_temporary_copy_is_the_copy_and_is_removed(source, tmp_path):
    with corrupted_copy(str(source), "noise=10") as path:
        frames, (sound, _, _) = len(list(read_video(path))), read_audio(path, RATE)
    assert not Path(path).parent.exists()
    stored = write_corrupted(source, tmp_path / "copy", Corruption("noise", 10.0), 0, "a.mkv")
    assert frames == 12 and np.array_equal(sound, read_audio(stored, RATE)[0])


def test_sound_alone_becomes_a_wav_and_nothing_is_an_error(source, tmp_path):
    alone = tmp_path / "alone.wav"
    with av.open(str(alone), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 3200), 900, np.int16), format="s16", layout="mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    copy = write_corrupted(alone, tmp_path / "copy", Corruption("noise", 20.0))
    assert copy.suffix == ".wav" and len(read_audio(copy, RATE)[0]) == 3200
    (tmp_path / "nothing.mp4").write_bytes(b"no media")
    with pytest.raises(ClipError):
        write_corrupted(tmp_path / "nothing.mp4", tmp_path / "out", None)
    assert not list(tmp_path.glob("out*"))


def test_a_relative_path_that_begins_like_a_protocol_keeps_its_sound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "12:30/a.flac")
    copy = write_corrupted("12:30/a.flac", "out", Corruption("speed", 0.8))
    before, after = (len(read_audio(path, RATE)[0]) for path in ("12:30/a.flac", str(copy)))
    assert after == pytest.approx(before / 0.8, abs=2)


def test_the_reason_of_audio_that_cannot_be_read_is_kept(tmp_path):
    sound = np.zeros(RATE, np.float32)
    sound[100] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(ClipError, match="not finite"):
        write_corrupted(tmp_path / "a.wav", tmp_path / "out", Corruption("speed", 0.8))


def test_a_video_that_the_machine_cannot_read_is_no_copy_without_video(source, tmp_path, monkeypatch):
    """A copy with sound alone was made of it, and its missing face counted as an effect of the noise."""
    from deiii.pipeline.corrupt import write

    def failing(path):
        raise ClipError(Status.FAILED, "the file cannot be read: Input/output error")
        yield

    monkeypatch.setattr(write, "read_video", failing)
    with pytest.raises(ClipError, match="Input/output error"):
        write_corrupted(source, tmp_path / "copy", Corruption("noise", 20.0))
    assert not list(tmp_path.glob("copy*"))


def test_a_name_with_a_point_is_kept(tmp_path):
    source = tmp_path / "a.wav"
    soundfile.write(source, np.sin(np.arange(8000) / 7) * 0.3, RATE)
    assert write_corrupted(source, tmp_path / "talk.2", None) == tmp_path / "talk.2.wav"
    assert (tmp_path / "talk.2.wav").is_file()


@pytest.mark.parametrize(("level", "snr"), [(0.05, -20), (0.3, -20), (1.0, -20), (0.7, -10), (0.7, 0)])
def test_strong_noise_on_loud_audio_keeps_the_ratio(tmp_path, level, snr):
    """Samples of more than 8 times full scale are read as 16-bit integers, so that the copy was silence."""
    clean = (level * np.sqrt(2) * np.sin(np.arange(160_000) * 0.3)).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", clean, 16_000, subtype="FLOAT")
    with corrupted_copy(str(tmp_path / "loud.wav"), f"noise={snr}") as copy:
        samples, _, notes = read_audio(copy, 16_000)
    assert not notes
    gain = np.vdot(samples, clean) / np.vdot(clean, clean)
    noise = samples - gain * clean
    assert 10 * np.log10(np.mean((gain * clean) ** 2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.5)
    quiet = 8 / (level * np.sqrt(2) + 5 * level * 10 ** (-snr / 20))  # the copy's peak is 8 at most
    assert min(1.0, quiet) * 0.8 < gain < 1.1
