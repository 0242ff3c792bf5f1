"""Contact sheets and videos: what they show, when, and for which clips."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.config.schema import Config, LogMelConfig, SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.extract import Features, extract
from deiii.pipeline.inspect.clip_video import STAGE, _Canvas, draw_video
from deiii.pipeline.inspect.contact_sheet import draw_contact_sheet
from deiii.pipeline.inspect.source_frames import FOUND, INVALID, source_frames
from tests.helpers.clipmaker import tone, write
from tests.helpers.clips import write_audio
from tests.helpers.shared_worker import preprocess

FRAMES = render_frames(plan_clip(SyntheticConfig(speakers=1, clips_per_class=1, seconds=0.8), 0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip with a face in all frames but the last six, and a tone that begins at 0.3 s."""
    folder = tmp_path_factory.mktemp("clip")
    frames = [*FRAMES[:14], *[np.full_like(FRAMES[0], 128)] * 6]
    sound = np.concatenate([np.zeros(4800), tone(0.5, 900.0)])
    return write(folder / "a.mp4", frames, audio=sound)


@pytest.fixture(scope="module")
def features(clip):
    return extract(clip, Config())


def has(rgb, colour, near=40):
    return bool((np.abs(rgb.astype(int) - colour).max(axis=-1) < near).any())


def test_source_frames_show_box_and_validity(features):
    rows = list(source_frames(features, None, 192))
    assert len(rows) == 20
    for n, (rgb, time) in enumerate(rows):
        assert time == pytest.approx(n / 25, abs=1e-6)
        assert has(rgb, FOUND) == (n < 14) and has(rgb[:3], INVALID) == (n >= 14)


def test_video_keeps_times_and_audio(features, tmp_path):
    draw_video(features, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(video=0))
    np.testing.assert_allclose([f.time for f in frames], np.arange(20) / 25, atol=1e-3)
    shown = [f.to_ndarray(format="rgb24") for f in frames]
    stage = (slice(40, 40 + STAGE[1]), slice(16, 16 + STAGE[0]))
    # Grey is 92 levels from this green. H.264 keeps a tint of the box of up to 22 levels in later frames.
    assert has(shown[5][stage], FOUND) and not has(shown[17][stage], FOUND)
    with av.open(str(tmp_path / "a.mp4")) as container:
        parts = [(f.time, f.to_ndarray().mean(axis=0)) for f in container.decode(audio=0)]
    rate = 48000
    sound = np.concatenate([p for _, p in parts])
    begin = parts[0][0] + np.flatnonzero(np.abs(sound) > 0.1)[0] / rate
    assert begin == pytest.approx(0.3, abs=0.03)


def test_logmel_is_in_the_middle_at_its_time(features, tmp_path):
    """The middle of the log-mel is dark before the tone begins, and bright afterwards."""
    draw_video(features, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    columns = [rgb[520:640, 646:652].max(axis=(0, 2)).mean() for rgb in shown]
    assert max(columns[:6]) < 140 and min(columns[9:18]) > 180


def test_video_of_a_clip_without_video_or_audio(tmp_path):
    nothing = {"faces": Outcome(Status.NO_VIDEO, "the file has no video stream", 0.0)}
    audio_only = write(tmp_path / "s.m4a", audio=tone(0.5))
    alone = extract(audio_only, Config())
    assert alone.frames is None and alone.logmel is not None
    draw_video(alone, tmp_path / "s.mp4")
    with av.open(str(tmp_path / "s.mp4")) as container:
        assert len(list(container.decode(video=0))) == pytest.approx(13, abs=1)
    video_only = write(tmp_path / "v.mp4", FRAMES[:3])
    draw_video(Features(video_only, nothing), tmp_path / "v-seen.mp4")
    with av.open(str(tmp_path / "v-seen.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3 and not container.streams.audio


@pytest.mark.parametrize("kind", ["missing", "damaged", "text", "empty", "page", "archive"])
def test_a_file_without_media_gives_one_line_and_no_picture(tmp_path, capsys, kind):
    content = {
        "damaged": b"\0\0\0\x18ftypmp42 and nothing more", "text": b"no media\n", "empty": b"",
        "page": b"<!DOCTYPE html><html></html>", "archive": b"PK\x03\x04" + bytes(60),
    }  # fmt: skip
    path = tmp_path / f"{kind}.mp4"
    if kind in content:
        path.write_bytes(content[kind])
    assert main(["inspect", str(path), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {path} cannot be drawn: ") and printed.err.count("\n") == 1
    reason = printed.err.split(": ", 2)[2]
    assert reason.strip() and reason.count(reason[:20]) == 1 and len(reason) < 300, reason
    assert not printed.out and not (tmp_path / "out").exists()


def test_files_of_a_folder_are_drawn(clip, tmp_path, capsys):
    (tmp_path / "clips/deep").mkdir(parents=True)
    (tmp_path / "clips/deep/a.mp4").write_bytes(Path(clip).read_bytes())
    (tmp_path / "clips/notes.txt").write_text("no clip")
    assert main(["inspect", str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--no-video"]) == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]
    (tmp_path / "none").mkdir()
    assert main(["inspect", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "holds no media files" in capsys.readouterr().err


def test_clips_that_an_earlier_command_drew_are_not_drawn(clip, tmp_path, capsys, monkeypatch):
    shutil.copy(clip, tmp_path / "b.mov")
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        assert main(["inspect", "."]) == 0
        found = capsys.readouterr()
        assert found.err == "" and sorted(path.name for path in Path("inspect").iterdir()) == [
            "b.mp4",
            "b.png",
        ]
        assert ("1 video was left out because inspect is the folder of the drawn clips" in found.out) == bool(
            number
        )


def test_contact_sheet_without_face_or_audio(tmp_path):
    nothing = Outcome(Status.NO_FACE, "no face in 3 frames", 0.0)
    draw_contact_sheet(Features("a.mp4", {"faces": nothing}), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_worst_clips_come_first(tmp_path, capsys):
    """Three clips with a face in all, half and a quarter of their frames, and one that is missing."""
    empty = np.full_like(FRAMES[0], 128)
    root = tmp_path / "raw"
    root.mkdir()
    for name, seen in {"all": 16, "half": 8, "quarter": 4}.items():
        write(root / f"{name}.mp4", [*FRAMES[:seen], *[empty] * (16 - seen)], audio=tone(0.64))
    rows = "".join(f"{name}.mp4,anna,a\n" for name in ("all", "half", "quarter", "gone"))
    (root / "clips.csv").write_text(f"path,speaker,label\n{rows}")
    settings = ["corpus.name=table", f"corpus.root={root}", f"cache={tmp_path / 'cache'}"]
    assert preprocess(*settings, "max_failed=0.5") == 0
    capsys.readouterr()
    out = tmp_path / "out"
    assert main(["inspect", "--worst", "3", "--out", str(out), "--no-video", *settings]) == 0
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert names == ["gone", "quarter", "half"]
    assert {p.name for p in out.iterdir()} == {"worst.png", "gone.png", "quarter.png", "half.png"}
    # Clips that came after preprocessing have no outcome: they do not count as usable.
    page = tmp_path / "page.html"
    (root / "clips.csv").write_text(f"path,speaker,label\n{rows}late.mp4,anna,a\n")
    for command in (["inspect", "--worst", "3", "--out", str(out)], ["overview", "--out", str(page)]):
        assert main([*command, *settings]) == 1
        told = capsys.readouterr().err
        assert "lacks 1 clip of the corpus (late)" in told and "run `deiii preprocess`" in told
    # A page counts the clips that are there now.
    (root / "clips.csv").write_text("path,speaker,label\nall.mp4,anna,a\n")
    assert main(["overview", "--out", str(page), *settings]) == 0
    assert "1 clip of 1 speaker" in page.read_text(encoding="utf-8")
    shown = re.sub("<style>.*?</style>|<script.*?</script>", "", page.read_text("utf-8"), flags=re.S)
    assert "missing" not in shown


def test_the_worst_clips_need_the_stage_of_faces(tmp_path, capsys):
    (tmp_path / "clips.csv").write_text("path,speaker,label\na.flac,anna,a\n")
    write_audio(tmp_path / "a.flac", 0.4, 200)
    settings = ["corpus.name=table", f"corpus.root={tmp_path}", f"cache={tmp_path / 'cache'}"]
    settings += ["stages=[logmel]"]
    assert preprocess(*settings) == 0
    assert main(["inspect", "--worst", "3", "--out", str(tmp_path / "out"), *settings]) == 1
    assert "has no faces; name media files instead" in capsys.readouterr().err


def test_inspect_without_media_is_an_error(capsys):
    assert main(["inspect"]) == 1
    assert "--worst" in capsys.readouterr().err


def test_a_clip_that_cannot_be_drawn_does_not_end_the_command(tmp_path, capsys, monkeypatch):
    from deiii.pipeline import extract as module

    real = module.extract

    def strange(path, config):
        if "bad" in str(path):
            raise KeyError("a geometry that nobody thought of")
        return real(path, config)

    monkeypatch.setattr("deiii.pipeline.inspect.clips.extract", strange)
    write(tmp_path / "good.mkv", [np.zeros((48, 64, 3), np.uint8)] * 10, audio=tone(0.4))
    (tmp_path / "bad.mp4").touch()
    words = [
        str(tmp_path / "bad.mp4"),
        str(tmp_path / "good.mkv"),
        "--out",
        str(tmp_path / "out"),
        "--no-video",
    ]
    assert main(["inspect", *words]) == 1
    told = capsys.readouterr()
    assert f"error: {tmp_path / 'bad.mp4'} cannot be drawn: KeyError" in told.err
    assert (tmp_path / "out/good.png").is_file()


def test_contact_sheet_shows_what_frozen_encoders_give(tmp_path):
    """A feature that rises over the clip turns from blue to red; without encoders the picture is shorter."""
    rising = np.linspace(-1, 1, 50)[:, None, None] * np.ones((50, 2, 30))
    more = {"speech": {"states": rising.astype(np.float16), "time": np.arange(50) * 0.04}}
    fine = Outcome(Status.OK)
    draw_contact_sheet(Features("a.mp4", {"speech": fine}, more=more), tmp_path / "a.png")
    draw_contact_sheet(Features("a.mp4", {"speech": fine}), tmp_path / "b.png")
    with_row, without = (cv2.imread(str(tmp_path / f"{n}.png"))[..., ::-1].astype(int) for n in "ab")
    assert with_row.shape[0] > without.shape[0]
    row = with_row[-with_row.shape[0] // 6]  # RGB of a line of pixels through the last picture
    difference = row[:, 0] - row[:, 2]
    coloured = np.flatnonzero(np.abs(difference) > 60)
    assert difference[coloured[0]] < 0 < difference[coloured[len(coloured) // 2 + 50]]


def test_inspect_tells_how_well_the_face_is_seen(clip, tmp_path, capsys):
    assert main(["inspect", str(clip), "--out", str(tmp_path / "sheets")]) == 0
    told = capsys.readouterr().out
    found = re.search(r"; face (\d+) px wide, sharpness (\d+), brightness (\d+);", told)
    assert found and 60 < int(found[1]) < 160 and int(found[2]) > 0 and 20 < int(found[3]) < 230
    assert "yaw" not in told  # Haar measures no landmarks


def test_inspect_tells_the_direction_of_a_real_face(test_data, tmp_path, capsys):
    weights = test_data / "weights/face_detection_yunet_2023mar.onnx"
    words = [str(test_data / "media/grid/lrwp9a.mpg"), "faces.detector=yunet", f"faces.weights={weights}"]
    assert main(["inspect", *words, "--out", str(tmp_path)]) == 0
    assert re.search(r"yaw [+-]\d+°, pitch [+-]\d+°, roll [+-]\d+°", capsys.readouterr().out)


def test_a_single_row_of_audio_is_drawn(tmp_path):
    config = Config(logmel=LogMelConfig(hop_ms=1000.0))
    one = extract(write_audio(tmp_path / "a.flac", 0.4), config)
    assert one.logmel is not None and len(one.logmel) == 1
    states = {"states": np.zeros((1, 2, 30), np.float16), "time": np.array([0.1])}
    draw_contact_sheet(replace(one, more={"speech": states}), tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).std() > 1
    shown = _Canvas(one).draw(0, None, 0.0)
    blank = _Canvas(replace(one, logmel=None, audio_time=None)).draw(0, None, 0.0)
    assert not (shown[-190:-120, 620:660] == blank[-190:-120, 620:660]).all()
