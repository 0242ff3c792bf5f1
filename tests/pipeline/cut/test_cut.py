"""Clips that are cut out of recordings, compared with the recording itself."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.scan import scan
from deiii.pipeline.cut import cut as cut_module
from deiii.pipeline.cut.cut import cut
from deiii.pipeline.cut.segments import SegmentError
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.copies import audio_rate
from tests.helpers.clipmaker import needs_shared, shared, tone, write

RATE = 16_000
HEAD = "path,start,end,speaker,label\n"


def recording(path, seconds=4.0, audio_at=0.0, **more):
    """A recording in which every frame and every sample differs."""
    rng = np.random.default_rng(7)
    frames = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(round(25 * seconds))]
    noise = (0.5 * rng.standard_normal(round(RATE * seconds))).clip(-1, 1)
    return write(path, frames, audio=noise, rate=RATE, audio_at=audio_at, audio_codec="pcm_s16le", **more)


def table(folder, *rows):
    path = folder / "segments.csv"
    path.write_text(HEAD + "".join(f"{row},anna,happy\n" for row in rows))
    return path


def frames_of(path, begin=0.0, end=np.inf):
    found = [(rgb, time) for rgb, time in read_video(path) if begin - 5e-4 <= time < end - 5e-4]
    return np.stack([rgb for rgb, _ in found]), np.array([time for _, time in found])


def samples_of(path, begin=0.0, end=None, rate=RATE):
    samples, start, _ = read_audio(path, rate)
    first = round(start * rate)
    stop = None if end is None else max(0, round(end * rate) - first)
    return samples[max(0, round(begin * rate) - first) : stop], max(0.0, start - begin)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("audio_at", [0.0, 0.75])
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (1.0, 2.2), (0.98, 3.011), (3.5, 4.0)])
def test_a_clip_without_loss_has_the_frames_and_samples_of_its_segment(tmp_path, audio_at, begin, end):
    source = recording(tmp_path / "talk.mov", audio_at=audio_at)
    result = cut(table(tmp_path, f"talk.mov,{begin},{end}"), tmp_path / "out", crf=None)
    late = audio_at - begin
    assert [row.status for row in result.rows] == ["ok" if late < 0.1 else "ok_partial"]
    assert result.rows[0].reason.startswith(f"the audio begins {late:.2f} s after" if late > 0.1 else "")
    clip = tmp_path / "out" / result.rows[0].clip
    wanted, times = frames_of(source, begin, end)
    found, clip_times = frames_of(clip)
    np.testing.assert_array_equal(found, wanted)
    sound, offset = samples_of(source, begin, end)
    zero = min(times[0] - begin, offset)  # the clock of a file begins with its first frame or sample
    np.testing.assert_allclose(clip_times, times - begin - zero, atol=2e-5)
    clip_sound, clip_offset = samples_of(clip)
    np.testing.assert_array_equal(clip_sound, sound)
    assert clip_offset == pytest.approx(offset - zero, abs=1e-4)


def test_compressed_frames_are_close_to_those_of_the_recording(tmp_path):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = [np.repeat(np.roll(ramp, n)[None, :, None], 48, 0).repeat(3, 2) for n in range(50)]
    source = write(tmp_path / "talk.mp4", frames, audio=tone(2.0))
    result = cut(table(tmp_path, "talk.mp4,0.4,1.6"), tmp_path / "out")
    found, _ = frames_of(tmp_path / "out" / result.rows[0].clip)
    wanted, _ = frames_of(source, 0.4, 1.6)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 3


def test_overlapping_segments_of_a_long_table_are_each_complete(tmp_path):
    recording(tmp_path / "talk.mov")
    rows = [f"talk.mov,{n / 10:.1f},{n / 10 + 0.5:.1f}" for n in range(35)]
    result = cut(table(tmp_path, *reversed(rows)), tmp_path / "out", crf=None)
    assert {row.status for row in result.rows} == {"ok"}
    assert [row.row for row in result.rows] == list(range(2, 37))
    for row in result.rows[::9]:
        begin, end = float(row.begin_s), float(row.end_s)
        np.testing.assert_array_equal(
            frames_of(tmp_path / "out" / row.clip)[0], frames_of(tmp_path / "talk.mov", begin, end)[0]
        )
        np.testing.assert_array_equal(
            samples_of(tmp_path / "out" / row.clip)[0], samples_of(tmp_path / "talk.mov", begin, end)[0]
        )


def test_the_table_of_clips_is_a_corpus_and_every_row_has_an_outcome(tmp_path):
    recording(tmp_path / "talk.mov")
    write(tmp_path / "voice.wav", audio=tone(2.0), audio_codec="pcm_s16le")
    (tmp_path / "page.mp4").write_text("<html>not a video</html>")
    segments = table(
        tmp_path, "talk.mov,1,2", "talk.mov,3.5,9", "talk.mov,30,31", "voice.wav,0.5,1", "gone.mp4,0,1",
        "page.mp4,0,1",
    )  # fmt: skip
    result = cut(segments, tmp_path / "out")
    recorded = rows_of(tmp_path / "out/cut.csv")
    assert [row["status"] for row in recorded] == [
        "ok", "ok_partial", "too_short", "ok", "missing", "not_media",
    ]  # fmt: skip
    assert all(row["reason"] for row in recorded if row["status"] != "ok")
    assert float(recorded[1]["valid"]) == pytest.approx(0.5 / 5.5, abs=0.02)
    assert [row.row for row in result.failed] == [4, 6, 7]
    corpus = scan(CorpusConfig(name="table", root=str(tmp_path / "out")))
    assert [clip.path for clip in corpus.clips] == sorted(row["clip"] for row in recorded if row["clip"])
    assert {clip.speaker for clip in corpus.clips} == {"anna"}
    assert recorded[3]["clip"].endswith(".wav")


def test_the_reason_of_an_audio_file_says_nothing_of_a_video(tmp_path):
    write(tmp_path / "voice.wav", audio=tone(2.0), audio_codec="pcm_s16le")
    rows = cut(table(tmp_path, "voice.wav,0,1", "voice.wav,1,3", "voice.wav,5,6"), tmp_path / "out").rows
    assert [row.status for row in rows] == ["ok", "ok_partial", "too_short"]
    assert not any("video" in row.reason for row in rows)


def test_a_repeated_call_keeps_finished_clips_and_cuts_changed_recordings_again(tmp_path, monkeypatch):
    for name in ("a.mov", "b.mov"):
        recording(tmp_path / name)
    segments = table(tmp_path, "a.mov,0,1", "b.mov,0,1")
    cut(segments, tmp_path / "out")
    before = (tmp_path / "out/clips.csv").read_bytes()
    read = []
    original = cut_module.cut_recording
    monkeypatch.setattr(cut_module, "cut_recording", lambda p, *a: read.append(p.name) or original(p, *a))
    cut(segments, tmp_path / "out")
    assert read == []
    assert (tmp_path / "out/clips.csv").read_bytes() == before
    recording(tmp_path / "b.mov", seconds=3.0)
    cut(table(tmp_path, "a.mov,0,1", "b.mov,0,1", "a.mov,2,3"), tmp_path / "out")
    assert read == ["a.mov", "b.mov"]
    assert len(rows_of(tmp_path / "out/clips.csv")) == 3


def test_a_stopped_call_leaves_no_unfinished_file_and_can_be_continued(tmp_path, monkeypatch):
    for name in ("a.mov", "b.mov"):
        recording(tmp_path / name)
    segments = table(tmp_path, "a.mov,0,1", "b.mov,0,3")

    def stop(self, *_):
        if self.segment.recording == "b.mov":
            raise KeyboardInterrupt
        return add(self, *_)

    add = cut_module.cut_recording.__globals__["ClipFile"].add_frame
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("deiii.pipeline.cut.clip_file.ClipFile.add_frame", stop)
        cut(segments, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".lock", "a_0000000-0001000.mov", "cut.csv"]
    assert [row.status for row in cut(segments, tmp_path / "out").rows] == ["ok", "ok"]


def test_a_segment_before_the_sound_begins_says_so(tmp_path):
    recording(tmp_path / "talk.mov", audio_at=1.5)
    (row,) = cut(table(tmp_path, "talk.mov,0,1"), tmp_path / "out").rows
    assert (row.status, row.reason) == ("ok_partial", "without audio: the recording has none in this segment")
    assert len(frames_of(tmp_path / "out" / row.clip)[0]) == 25


def test_folders_that_hold_other_things_are_refused(tmp_path):
    recording(tmp_path / "talk.mov", seconds=1.0)
    segments = table(tmp_path, "talk.mov,0,1")
    with pytest.raises(SegmentError, match="is the folder of the recordings"):
        cut(segments, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/clips.csv").write_text("mine")
    with pytest.raises(SegmentError, match="was not written by"):
        cut(segments, tmp_path / "out")


def test_a_rotated_recording_without_sound_is_cut_upright(tmp_path):
    frames = [np.full((48, 64, 3), 10 * n, np.uint8) for n in range(25)]
    write(tmp_path / "talk.mp4", frames)
    result = cut(table(tmp_path, "talk.mp4,0.2,0.8"), tmp_path / "out", crf=None)
    assert result.rows[0].status == "ok"
    found, times = frames_of(tmp_path / "out" / result.rows[0].clip)
    assert len(found) == 15
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-4)


@needs_shared
@pytest.mark.parametrize("name", ["media/grid/bbaf2n.mpg", "media/emotional_av/01-01-01_01.mp4"])
def test_real_recordings_keep_their_sound_and_times(tmp_path, name):
    source = shared(name)
    (tmp_path / "in").mkdir()
    link = tmp_path / "in" / source.rsplit("/", 1)[1]
    link.symlink_to(source)
    result = cut(table(tmp_path / "in", f"{link.name},0.5,1.5"), tmp_path / "out")
    assert result.rows[0].status == "ok"
    clip = tmp_path / "out" / result.rows[0].clip
    wanted, times = frames_of(source, 0.5, 1.5)
    found, clip_times = frames_of(clip)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 3
    rate = audio_rate(source)
    wanted_sound, _ = samples_of(source, 0.5, 1.5, rate)
    np.testing.assert_array_equal(samples_of(clip, rate=rate)[0], wanted_sound)
    np.testing.assert_allclose(clip_times - clip_times[0], times - times[0], atol=1e-4)


FULL = """
import pathlib, resource, sys
import numpy as np
from deiii.pipeline.cut.clip_file import ClipFile
from deiii.pipeline.cut.segments import Segment
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
clip = ClipFile(Segment(2, "a.mov", 0.0, 1.0, {}), pathlib.Path(sys.argv[1]), 16000, 12)
try:
    for i in range(40):
        clip.add_frame(np.random.default_rng(i).integers(0, 255, (48, 64, 3)).astype(np.uint8), i / 25)
    clip.finish()
except OSError as error:
    clip.discard()
    print(error.filename)
"""


def test_a_disk_without_room_is_an_error_that_names_the_clip(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a.mov'}\n"), done.stderr[-300:]
    assert not list(tmp_path.iterdir())


def test_a_record_that_was_cut_off_is_named(tmp_path):
    recording(tmp_path / "a.mp4", 1.0)
    segments = table(tmp_path, "a.mp4,0,0.5", "a.mp4,0.5,1")
    cut(segments, tmp_path / "out")
    record = tmp_path / "out/cut.csv"
    record.write_text(record.read_text().rpartition(",ok,")[0])
    with pytest.raises(SegmentError, match=r"cut\.csv is damaged; remove it"):
        cut(segments, tmp_path / "out")
