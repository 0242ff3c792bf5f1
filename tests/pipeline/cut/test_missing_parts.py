"""What `deiii cut` states where a recording lacks video or audio, and the memory that it needs."""

import itertools
import tracemalloc

import numpy as np
import pytest

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.cut.cut import cut
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import VideoReader, read_video
from deiii.pipeline.media.writing.copies import audio_rate
from tests.helpers.clipmaker import numbered, tone, write

HEAD = "path,start,end,speaker,label\n"


def outcomes(folder, *rows):
    path = folder / "segments.csv"
    path.write_text(HEAD + "".join(f"{row},anna,happy\n" for row in rows))
    return [(row.status, row.reason, row.valid) for row in cut(path, folder / "out").rows]


def test_a_slow_video_without_sound_is_complete_up_to_the_end_of_its_last_frame(tmp_path):
    write(tmp_path / "slow.mp4", numbered(20), fps=2)
    assert outcomes(tmp_path, "slow.mp4,1,2", "slow.mp4,0,3.9", "slow.mp4,9,10") == [("ok", "", "1.000")] * 3
    (found,) = outcomes(tmp_path, "slow.mp4,9,12")
    assert found == (
        "ok_partial",
        "the recording ends 1.00 s after the begin of this segment of 3.00 s",
        "0.333",
    )


def test_a_frame_that_is_shown_for_long_is_no_end_of_the_recording(tmp_path):
    write(tmp_path / "gap.mp4", numbered(51), times=[n / 25 for n in range(50)] + [20.0])
    assert outcomes(tmp_path, "gap.mp4,1,4") == [("ok", "", "1.000")]


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ({"frames": numbered(50), "audio": tone(5.0)}, "the video ends 1.00 s after the begin"),
        ({"frames": numbered(75), "times": [2 + n / 25 for n in range(75)], "audio": tone(5.0)},
         "the video begins 1.00 s after the begin"),
        ({"frames": numbered(75) + numbered(50), "audio": tone(2.0)},
         "the audio ends 1.00 s after the begin"),
        ({"frames": numbered(75) + numbered(50), "audio": tone(3.0), "audio_at": 2.0},
         "the audio begins 1.00 s after the begin"),
    ],
)  # fmt: skip
def test_a_stream_that_covers_a_part_of_a_segment_is_named(tmp_path, media, words):
    write(tmp_path / "talk.mov", audio_codec="pcm_s16le", **media)
    complete, partial = outcomes(tmp_path, "talk.mov,1.2,1.8" if "ends" in words else "talk.mov,2.2,3",
                                 "talk.mov,1,4")  # fmt: skip
    assert complete == ("ok", "", "1.000")
    assert partial == ("ok_partial", f"{words} of this segment of 3.00 s", "1.000")


def test_the_reason_of_a_damaged_recording_says_that_it_is_cut_off(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(100)]
    path = tmp_path / "talk.mkv"
    write(path, frames, audio=tone(4.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    first, partial, gone = outcomes(tmp_path, "talk.mkv,0,1", "talk.mkv,1,3", "talk.mkv,3,4")
    assert first[0] == "ok"
    assert partial[0] == "ok_partial"
    assert gone[0] == "too_short"
    assert "the file is cut off" in partial[1]
    assert "the file is cut off" in gone[1]


def test_frames_that_were_decoded_with_damage_are_counted_in_their_segment(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(100)]
    path = tmp_path / "talk.mp4"
    write(path, frames, audio=tone(4.0))
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) * 6 // 10, 5003):
        data[at] ^= 1
    path.write_bytes(data)
    damaged = [time for frame, time in read_video(path).frames() if frame.raw.is_corrupt]
    assert damaged
    first, second = outcomes(tmp_path, "talk.mp4,0,1", "talk.mp4,1,4")
    assert first == ("ok", "", "1.000")
    assert second[:2] == ("ok_partial", f"{len(damaged)} of 75 video frames were decoded with damage")


def test_a_video_that_cannot_be_read_to_its_end_is_named(tmp_path, monkeypatch):
    write(tmp_path / "talk.mp4", numbered(75), audio=tone(3.0))

    class Broken(VideoReader):
        def frames(self):
            yield from itertools.islice(super().frames(), 50)
            raise ClipError(Status.UNREADABLE, "the file changed while it was read")

    monkeypatch.setattr("deiii.pipeline.cut.recording.read_video", lambda path, most_s: Broken(str(path)))
    first, second = outcomes(tmp_path, "talk.mp4,0,1", "talk.mp4,1,3")
    assert first == ("ok", "", "1.000")
    assert second[:2] == (
        "ok_partial",
        "the video ends 1.00 s after the begin of this segment of 2.00 s; the file changed while it was read",
    )


def test_the_audio_of_a_long_recording_without_video_is_written_while_it_is_read(tmp_path):
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(16_000 * 240).astype(np.float32)
    path = tmp_path / "talk.wav"
    write(path, audio=noise, audio_codec="pcm_s16le")
    outcomes(tmp_path, "talk.wav,0,1")  # loads what every call needs
    tracemalloc.start()
    found = outcomes(
        tmp_path, "talk.wav,0,239", "talk.wav,2,240", *(f"talk.wav,{n},{n + 3}" for n in range(200))
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(found) == {("ok", "", "1.000")}
    assert peak < 4_000_000  # the audio has 15 MB
    samples, _, _ = read_audio(tmp_path / "out/talk_0002000-0240000.wav", 16_000)
    np.testing.assert_array_equal(samples, read_audio(path, 16_000)[0][2 * 16_000 :])


def test_audio_of_an_unknown_codec_is_no_audio(tmp_path):
    path = tmp_path / "talk.mov"
    write(path, numbered(50), audio=tone(2.0), audio_codec="pcm_f32le")
    content = path.read_bytes()
    assert b"fl32" in content  # the name of the codec
    path.write_bytes(content.replace(b"fl32", b"zzzz"))
    assert audio_rate(str(path)) is None
    assert outcomes(tmp_path, "talk.mov,0,1") == [("ok", "", "1.000")]
