"""Ogg files with video: recordings that `cat` joined, and audio that begins later than the video.

The clips are VP8 with Opus or FLAC. Theora with Vorbis, Opus, FLAC and Speex was compared with files that
FFmpeg's encoders wrote.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.data.config.load import load_config
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.lengths import declared_seconds, declared_size
from deiii.pipeline.media.survey import joined_parts
from deiii.pipeline.media.video import read_video
from deiii.pipeline.streaming.file import FileStream
from tests.helpers.clipmaker import outcome_of
from tests.helpers.flash_beep import EVENTS, SECONDS, Clip, look_and_listen, write_clip

OPUS, FLAC = ("libvpx", "libopus"), ("libvpx", "flac")
LATE = 0.3  # s
KINDS = {
    "opus": Clip("ogg", codecs=OPUS),
    "flac": Clip("ogg", codecs=FLAC),
    "late": Clip("ogg", codecs=OPUS, audio_at=LATE),
    "late flac": Clip("ogg", codecs=FLAC, audio_at=LATE),
    "audio": Clip("ogg"),
}
JOINED = [("opus", "opus"), ("opus", "flac"), ("late", "flac", "opus"), ("flac", "late flac"),
          ("audio", "opus"), ("opus", "audio", "flac")]  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {name: write_clip(folder, clip, name).read_bytes() for name, clip in KINDS.items()}


def written(folder: Path, *parts: bytes) -> Path:
    path = folder / "clip.ogv"
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("name", ["opus", "flac", "late", "late flac"])
def test_one_recording(tmp_path, clips, name):
    seen = look_and_listen(written(tmp_path, clips[name]))
    assert seen.flashes == pytest.approx(EVENTS, abs=1e-6)
    assert seen.beeps == pytest.approx(EVENTS, abs=0.004)
    assert ("the audio begins 0.3 s after time 0" in seen.words) == ("late" in name)


@pytest.mark.parametrize("names", JOINED, ids=" + ".join)
def test_audio_and_video_of_joined_recordings_have_their_times(tmp_path, clips, names):
    path = written(tmp_path, *(clips[name] for name in names))
    begins = [part.begin for part in joined_parts(str(path))]
    # Opus ends with a whole packet of 20 ms, FLAC with one of 96 ms.
    assert begins == pytest.approx([n * SECONDS for n in range(len(names))], abs=0.15)
    seen = look_and_listen(path)
    visible = [
        begin + e for begin, name in zip(begins, names, strict=True) for e in EVENTS if name != "audio"
    ]
    assert seen.flashes == pytest.approx(visible, abs=1e-6)
    assert seen.beeps == pytest.approx([begin + e for begin in begins for e in EVENTS], abs=0.006)
    assert f"the file holds {len(names)} joined recordings; they were placed one behind" in seen.words
    assert ("the file has no video stream" in seen.words) == ("audio" in names)


def test_a_recording_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, clips):
    spoiled = clips["opus"].replace(b"OpusHead", b"XpusHead").replace(b"OVP80", b"XVP80")
    seen = look_and_listen(written(tmp_path, spoiled, clips["opus"]))
    assert seen.flashes == pytest.approx(EVENTS, abs=1e-6) and seen.beeps == pytest.approx(EVENTS, abs=0.004)
    assert "the video of the recording that begins at byte 0 was not read" in seen.words
    assert not outcome_of(lambda path: list(read_video(path)), written(tmp_path, spoiled, spoiled)).usable


def test_the_length_is_that_of_all_recordings(tmp_path, clips):
    path = written(tmp_path, clips["opus"], clips["audio"], clips["flac"])
    assert declared_seconds(path) == pytest.approx(3 * SECONDS, abs=0.2)
    assert declared_size(path)[1] == pytest.approx(2 * SECONDS, abs=0.2)  # of those with video
    config = load_config(overrides=["faces.detector=haar", "flow.method=dis"])
    with FileStream(path, config, ["faces"]) as file:
        assert file.has_video and file.expected_s() == pytest.approx(3 * SECONDS, abs=0.2)


def test_nothing_is_read_beyond_the_longest_time(tmp_path, clips):
    path = written(tmp_path, clips["opus"], clips["opus"], clips["opus"])
    reader = read_video(path, most_s=4.0)
    assert list(reader)[-1][1] == pytest.approx(4.0, abs=0.04)
    assert reader.notes == ["the video goes on beyond 4 s; the rest was left out"]
    assert read_audio(path, 16_000)[0].shape[0] / 16_000 == pytest.approx(3 * SECONDS, abs=0.1)
