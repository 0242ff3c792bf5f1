"""Written videos keep frame times, carry the audio on the same clock, and are complete or absent."""

from __future__ import annotations

import subprocess
import sys

import av
import numpy as np
import pytest

from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.video_writer import AHEAD, VideoWriter
from tests.helpers.clipmaker import level, numbered, tone, write


def copied(source, path):
    with VideoWriter(path, 64, 48, audio=source) as video:
        for rgb, time in read_video(source):
            video.add(rgb, time)
    return path


def test_frames_and_their_times_survive(tmp_path):
    times = [0.0, 0.04, 0.11, 0.15, 0.4, 0.44]
    source = write(tmp_path / "in.mp4", numbered(60)[::10], times=times)
    found = list(read_video(copied(source, tmp_path / "out.mp4")))
    assert [t for _, t in found] == pytest.approx(times, abs=1e-4)
    assert [round(level(rgb) / 10) for rgb, _ in found] == list(range(6))


@pytest.mark.parametrize("at", [0.0, 0.3])
def test_audio_keeps_its_time(tmp_path, at):
    """A burst of 0.2 s at a known time, in an audio stream that begins after the video."""
    sound = np.zeros(16000)
    sound[8000:11200] = tone(0.2)
    source = write(tmp_path / "in.mkv", numbered(50), audio=sound, audio_at=at)
    samples, start, _ = read_audio(copied(source, tmp_path / "out.mp4"), 16000)
    loud = np.flatnonzero(np.abs(samples) > 0.1) / 16000 + start
    meant, begin, _ = read_audio(source, 16000)
    wanted = np.flatnonzero(np.abs(meant) > 0.1) / 16000 + begin
    assert loud[0] == pytest.approx(wanted[0], abs=0.03) and loud[-1] == pytest.approx(wanted[-1], abs=0.03)
    assert wanted[0] == pytest.approx(0.5 + at, abs=0.03)


def test_a_source_without_audio_gives_a_video_without_audio(tmp_path):
    source = write(tmp_path / "in.mp4", numbered(5))
    with av.open(str(copied(source, tmp_path / "out.mp4"))) as container:
        assert not container.streams.audio


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
        video.add(numbered(1)[0], 0.0)
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("after", [0, 30], ids=["at the end of the block", "at a later frame"])
def test_an_error_of_the_encoding_thread_reaches_the_caller(tmp_path, monkeypatch, after):
    def full(self, frame, time_s):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_write", full)
    frames = numbered(1)[0]
    added = 0
    with pytest.raises(OSError, match="No space left"), VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
        for i in range(1 + after):
            video.add(frames, i / 25)
            added += 1
    assert added == (1 if not after else AHEAD)
    assert not list(tmp_path.iterdir())


def test_a_frame_may_be_overwritten_after_it_was_added(tmp_path):
    frames = numbered(60)[::10]
    picture = np.zeros_like(frames[0])
    with VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
        for i, frame in enumerate(frames):
            picture[:] = frame
            video.add(picture, i / 25)
    assert [round(level(rgb) / 10) for rgb, _ in read_video(tmp_path / "out.mp4")] == list(range(6))


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "out.mp4", 65, 48)


@pytest.mark.parametrize(("shape", "kind"), [((48, 66, 3), np.uint8), ((48, 64, 3), np.float32)])
def test_frames_of_another_size_or_type_are_refused(tmp_path, shape, kind):
    with pytest.raises(ValueError, match="64x48 px"), VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
        video.add(np.zeros(shape, kind), 0.0)


def test_colours_survive(tmp_path):
    """Pure colours side by side: another matrix or range, or planes that are exchanged, would be seen."""
    colours = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (40, 90, 200),
        (255, 255, 255),
        (0, 0, 0),
    ]
    frames = [
        np.repeat(np.array([left, right], np.uint8)[None], 48, axis=0).repeat(32, axis=1)
        for left, right in zip(colours, colours[1:], strict=False)
    ]
    with VideoWriter(tmp_path / "out.mp4", 64, 48) as video:
        for i, frame in enumerate(frames):
            video.add(frame, i / 25)
    for (found, _), frame in zip(read_video(tmp_path / "out.mp4"), frames, strict=True):
        away = np.abs(found.astype(int) - frame)
        assert away[:, :30].max() <= 6 and away[:, 34:].max() <= 6


FULL = """
import resource, sys
import numpy as np
from deiii.pipeline.media.writing.video_writer import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with VideoWriter(sys.argv[1], 64, 48) as video:
        for i in range(40):
            video.add(np.random.default_rng(i).integers(0, 255, (48, 64, 3)).astype(np.uint8), i / 25)
except OSError as error:
    print(error.filename)
"""


@pytest.mark.parametrize("room", [0, 100, 5000], ids=["none", "for a part of the header", "for some frames"])
def test_a_disk_without_room_is_an_error_that_names_the_file(tmp_path, room):
    """FFmpeg ended the process by SIGSEGV where a frame followed a header that could not be written."""
    path = tmp_path / "out.mp4"
    command = [sys.executable, "-c", FULL, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr[-300:]
    assert not list(tmp_path.iterdir())
