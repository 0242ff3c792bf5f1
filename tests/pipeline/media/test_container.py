"""Decoding: audio on the clock of the video, and one outcome for each kind of bad file."""

import contextlib
import copy
import errno
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from deiii.data.cache.outcomes import ClipError, Status
from deiii.data.config.schema import Config
from deiii.pipeline.media import container as media
from deiii.pipeline.media import survey
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.samples import track
from deiii.pipeline.media.video import read_video
from deiii.pipeline.stages.clip import run_clip
from tests.helpers.clipmaker import needs_shared, numbered, outcome_of, shared, tone, write


def test_audio_shares_the_video_clock(tmp_path):
    frames = [np.full((48, 64, 3), 250 if i == 20 else 10, np.uint8) for i in range(50)]
    click = np.zeros(16000)
    click[4800:4960] = 0.9  # 0.3 s into the audio, which starts at 0.5 s
    path = write(tmp_path / "late.mkv", frames, audio=click, audio_at=0.5)
    flash = next(t for rgb, t in read_video(path) if rgb.mean() > 128)
    samples, start, missing = read_audio(path, 16000)
    click_s = start + np.flatnonzero(np.abs(samples) > 0.3)[0] / 16000
    assert flash == pytest.approx(0.8, abs=1e-3)
    assert click_s == pytest.approx(0.8, abs=0.01)
    assert start == pytest.approx(0.5, abs=0.07)  # AAC may prepend its priming
    assert missing == 0


def test_audio_is_exact_and_resampled(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((2, 2, 48000, 0, "NONE", ""))
        left = np.round(tone(0.5, 1000, 48000) * 32767).astype("<i2")
        out.writeframes(np.stack([left, left // 3], axis=1).tobytes())
    samples, start, _ = read_audio(tmp_path / "a.wav", 48000)
    expected = np.stack([left, left // 3]).astype(np.float32).mean(axis=0) / 32768
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert start == 0 and samples.dtype == np.float32
    low, _, _ = read_audio(tmp_path / "a.wav", 16000)
    np.testing.assert_allclose(low[200:-200], expected[::3][200:-200], atol=2e-3)


def test_gap_in_the_audio_is_filled_with_silence(tmp_path):
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16000, layout="mono")
        for at in [*range(0, 8000, 1000), *range(16000, 24000, 1000)]:
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 1000), 8000, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    notes = []
    samples, _, missing = read_audio(path, 16000, notes)
    assert missing == pytest.approx(0.5, abs=0.01) and "0.50 s of audio" in notes[0]
    assert len(samples) == pytest.approx(24000, abs=100)
    assert not samples[8300:15700].any() and samples[:7900].all() and samples[16300:23900].all()


BAD = {
    "empty": b"",
    "zeros": bytes(4096),
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "html": b"\n<!DOCTYPE html><html><body>log in</body></html>",
    "zip": b"PK\x03\x04" + bytes(100),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "tiff": b"II*\0" + bytes(100),
    "xz": b"\xfd7zXZ\0" + bytes(100),
    "rar": b"Rar!\x1a\x07\x01\0" + bytes(100),
    "of macOS": b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + bytes(4000),
    "numpy": b"\x93NUMPY\x01\0" + bytes(100),
    "office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "program": b"\x7fELF\x02\x01\x01" + bytes(100),
    "python": b"import os\n\n\ndef f():\n    return 1\n",
    "table": "path,speaker,label\nc0.mp4,Zoë,happy\n".encode() * 200,
    "utf-16": "path,speaker,label\nc0.mp4,anna,happy\n".encode("utf-16"),
    "subtitles": b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n2\n00:00:02,000 --> 00:00:03,000\nyou\n",
    "webvtt": b"WEBVTT\n\n00:00.000 --> 00:02.000\nhello\n",
    "json": b'{"a": [1, 2, 3]}\n',
    "one letter": b"a",
}


TEXTS = ("python", "table", "utf-16", "subtitles", "webvtt", "json", "one letter")


@pytest.mark.parametrize("kind", BAD)
def test_not_media(tmp_path, kind):
    path = tmp_path / "clip.mp4"
    path.write_bytes(BAD[kind])
    for outcome in (outcome_of(read_video, path), outcome_of(read_audio, path, 16000)):
        assert outcome.status is Status.NOT_MEDIA and outcome.reason
        assert ("is text" in outcome.reason) == (kind in TEXTS)
        assert str(tmp_path) not in outcome.reason  # shards must not depend on the folder of the corpus


def test_missing_folder_and_noise(tmp_path):
    assert outcome_of(read_video, tmp_path / "none.mp4").status is Status.MISSING
    assert outcome_of(read_video, tmp_path).status is Status.UNREADABLE
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(20000))
    assert outcome_of(read_video, noise).status in (Status.UNREADABLE, Status.NOT_MEDIA)


def test_missing_streams(tmp_path):
    video_only = write(tmp_path / "v.mp4", numbered(3))
    audio_only = write(tmp_path / "a.mp4", audio=tone(0.5))
    assert outcome_of(read_audio, video_only, 16000).status is Status.NO_AUDIO
    assert outcome_of(read_video, audio_only).status is Status.NO_VIDEO


def test_cut_off(tmp_path):
    whole = tmp_path / "a.mp4"
    write(whole, [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(50)])
    data = whole.read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: len(data) // 2])  # without the index at its end
    outcome = outcome_of(read_video, tmp_path / "b.mp4")
    assert outcome.status is Status.UNREADABLE and "cut off" in outcome.reason


@needs_shared
def test_damaged_files_keep_the_frames_that_decode(tmp_path):
    data = bytearray(Path(shared("media/grid/bbaf2n.mpg")).read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = bytes(4000)
    (tmp_path / "hole.mpg").write_bytes(data)
    got = [t for _, t in read_video(tmp_path / "hole.mpg")]
    assert 60 <= len(got) <= 75 and np.all(np.diff(got) > 0)
    (tmp_path / "half.mpg").write_bytes(data[: len(data) // 3])
    assert 15 <= len(list(read_video(tmp_path / "half.mpg"))) <= 30


def test_cut_off_with_the_index_at_the_front(tmp_path):
    whole = tmp_path / "a.mp4"
    frames = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(50)]
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for rgb in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode())
    data = whole.read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: len(data) // 2])
    reader = read_video(tmp_path / "b.mp4")
    count = len(list(reader))
    assert 10 < count < 40 and reader.share == pytest.approx(count / 50, abs=0.1)
    assert any("cut off" in note for note in reader.notes)


def test_damage_is_concealed_the_same_way_every_time(tmp_path):
    """Frames equal those of a single-threaded decoder; with more threads they differ from run to run."""
    frames = [np.random.default_rng(i // 4).integers(0, 255, (96, 128, 3), np.uint8) for i in range(40)]
    data = Path(write(tmp_path / "a.mp4", frames)).read_bytes()
    damaged = 0
    for n in range(12):
        broken, rng = bytearray(data), np.random.default_rng(n)
        for at in rng.integers(len(data) // 8, len(data) // 2, 20):
            broken[at] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{n}.mp4"
        path.write_bytes(broken)
        reader = read_video(path)
        ours = [rgb for rgb, _ in reader]
        damaged += bool(reader.notes)
        with av.open(str(path)) as container:
            stream, theirs = container.streams.video[0], []
            stream.codec_context.thread_type = "NONE"
            for packet in container.demux(stream):
                with contextlib.suppress(av.error.InvalidDataError):
                    theirs += [f.to_ndarray(format="rgb24") for f in packet.decode()]
        assert len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))
    assert damaged > 6


def test_impossible_headers_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", numbered(30), audio=tone(1.2))
    with monkeypatch.context() as patch:
        patch.setattr(media, "MAX_PIXELS", 1000)
        assert "64x48" in outcome_of(read_video, write(tmp_path / "b.mp4", numbered(3))).reason
    for module in (media, track):
        monkeypatch.setattr(module, "MAX_SECONDS", 0.5)
    assert "cut it into clips" in outcome_of(read_audio, path, 16000).reason
    reader = read_video(path)
    assert len(list(reader)) == 13 and "left out" in reader.notes[0]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_cut_off_matroska_is_noted_for_video_and_audio(tmp_path, share):
    frames = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(75)]
    data = Path(write(tmp_path / "a.mkv", frames, audio=tone(3.0))).read_bytes()
    notes = []
    read_audio(tmp_path / "a.mkv", 16000, notes)
    whole = read_video(tmp_path / "a.mkv")
    assert len(list(whole)) == 75 and not whole.notes and not notes
    (tmp_path / "b.mkv").write_bytes(data[: int(share * len(data))])
    reader = read_video(tmp_path / "b.mkv")
    count = len(list(reader))
    samples, _, _ = read_audio(tmp_path / "b.mkv", 16000, notes)
    assert any("cut off" in n for n in reader.notes) and reader.share == pytest.approx(count / 75, abs=0.1)
    assert any("cut off" in n for n in notes) and len(samples) < 0.8 * 48000


def test_eight_channels(tmp_path):
    """Reading 8 planar channels crashes PyAV 18, so the reader asks for packed samples."""
    path = tmp_path / "8.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=48000, layout="7.1")
        wave = np.arange(1, 9, dtype=np.int16)[None] * np.full((4800, 1), 1000, np.int16)
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="7.1")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    samples, _, _ = read_audio(path, 48000)
    np.testing.assert_allclose(samples, 4500 / 32768, atol=1e-4)
    assert len(samples) == 4800


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EIO, "failed"), (errno.ESTALE, "failed"), (errno.EACCES, "failed"), (errno.ELOOP, "unreadable")],
)
def test_an_error_of_disk_or_network_is_tried_again(tmp_path, monkeypatch, number, status):
    """It is not kept as the clip's own, and at all first clips it ends the run."""
    path = write(tmp_path / "a.mp4", numbered(3))

    def broken(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("builtins.open", broken)
    outcome = run_clip("faces", str(path), Config()).outcome
    monkeypatch.undo()
    assert outcome.status == status and os.strerror(number) in outcome.reason
    assert ("the next run tries again" in outcome.reason) == (status == "failed") == bool(outcome.error)
    error = copy.copy(ClipError(outcome.status, outcome.reason, outcome.error))
    assert error.outcome == outcome and error.outcome.error == outcome.error


@pytest.mark.parametrize(
    ("suffix", "codec", "mark", "after"),
    [("w64", "pcm_s16le", "d628db04c10000", 0), ("asf", "libmp3lame", "8ee400c00c205365", 24)],
)
def test_a_size_of_64_bits_may_be_unknown(tmp_path, suffix, codec, mark, after):
    """A recorder that cannot go back leaves the largest number in the header."""
    samples = tone(1.0, rate=44_100)
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=44_100, layout="mono")
        form, length = stream.codec_context.format.name, stream.codec_context.frame_size or 44_100
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for piece in av.AudioResampler(form, "mono", 44_100, frame_size=length).resample(frame):
            out.mux(stream.encode(piece))
        out.mux(stream.encode())
    data = path.read_bytes()
    at = data.index(bytes.fromhex(mark)) + len(mark) // 2 + after
    assert int.from_bytes(data[at : at + 8], "little") == len(data)
    path.write_bytes(data[:at] + b"\xff" * 8 + data[at + 8 :])
    notes = []
    found, _, _ = read_audio(path, 44_100, notes)
    assert len(found) == pytest.approx(len(samples), abs=2 * 1152) and notes == []


class Growing:
    """A container as PyAV reads it where another stream appears: an IndexError follows the last packet."""

    def __init__(self, container):
        self._container = container

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self, *streams):
        yield from self._container.demux(*streams)
        raise IndexError("list index out of range")


@pytest.mark.parametrize("kept", [media.KEPT_BYTES, 0], ids=["packets are kept", "the file is read twice"])
def test_a_stream_that_appears_while_the_file_is_read(tmp_path, monkeypatch, kept):
    path = write(tmp_path / "clip.ts", numbered(30), audio=tone(1.2, rate=16000))
    frames = [(rgb.tobytes(), time) for rgb, time in read_video(path)]
    samples, *_ = read_audio(path, 16000)
    opened = av.open
    monkeypatch.setattr(media.av, "open", lambda *a, **k: Growing(opened(*a, **k)))
    monkeypatch.setattr(media, "KEPT_BYTES", kept)
    monkeypatch.setattr(survey, "_surveys", {})
    assert [(rgb.tobytes(), time) for rgb, time in read_video(path)] == frames and len(frames) == 30
    np.testing.assert_array_equal(read_audio(path, 16000)[0], samples)
