"""Prediction from files: equal to evaluation, with notes on missing inputs and with an overlay video."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from deiii import load
from deiii.__main__ import main
from deiii.data.cache.outcomes import Outcome, Status
from deiii.model.prediction.export import export
from deiii.model.prediction.files import (
    FileOptions,
    MediaError,
    describe,
    find_media,
    predict_files,
    predict_loaded,
)
from deiii.model.prediction.names import unique_names
from deiii.model.prediction.overlay.layout import NARROWEST, Layout
from deiii.model.prediction.result import Prediction, notes_on
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import numbered, tone, write
from tests.helpers.clips import write_audio


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


def scored(seen_run) -> list[dict]:
    with open(seen_run / "run/predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_clip_of_the_corpus_gets_the_prediction_of_evaluation(seen_run, network):
    for row in scored(seen_run):
        found = network.predict(seen_run / f"raw/{row['clip']}.mp4")
        for name in network.classes:
            assert found.probabilities[name] == pytest.approx(float(row[f"p_{name}"]), abs=1e-4)
        assert found.attributes["valence"] == pytest.approx(float(row["valence_predicted"]), abs=1e-4)
        assert found.label == row["predicted"]


def test_network_and_prediction_are_printed_in_a_line(seen_run, network, tmp_path):
    classes = ", ".join(network.classes)
    assert (
        repr(network) == f"Predictor({str(seen_run / 'run')!r}: {classes}, valence from faces, flow, logmel)"
    )
    path = seen_run / "raw/c0.mp4"
    found = network.predict(path)
    numbers = (
        f"{found.label} {found.probabilities[found.label]:.3f}, valence {found.attributes['valence']:.3f}"
    )
    assert repr(found) == f"Prediction({str(path)!r}, {found.seconds:.1f} s: {numbers})"
    assert "no usable input; unusable: there is no such file" in repr(network.predict(tmp_path / "no.mp4"))


def test_contributions_add_up_to_the_prediction(seen_run, network):
    found = network.predict(seen_run / "raw/c0.mp4")
    assert set(found.contributions) == {found.label, "valence"}
    assert set(found.contributions[found.label]) == {"frames", "flow", "audio"}
    total = sum(found.contributions[found.label].values())
    assert total + 1 / 2 == pytest.approx(found.probabilities[found.label], abs=1e-5)
    low, high = network.task.ranges[0]
    total = sum(found.contributions["valence"].values())
    assert total + (low + high) / 2 == pytest.approx(found.attributes["valence"], abs=1e-5)


def test_heads_and_face_track_are_returned(seen_run, network):
    found = network.predict(seen_run / "raw/c0.mp4")
    assert set(found.heads) == {"video", "audio"}
    assert found.face.frames == 20 and found.face.share == 1 and found.face.quality == "good"
    assert found.notes == ()


def test_timeline_covers_the_recording(seen_run, network):
    found = network.predict(seen_run / "raw/c0.mp4", window_s=0.4, hop_s=0.1)
    t = found.timeline
    assert np.allclose(np.diff(t.time), 0.1) and t.time[0] == pytest.approx(0.05)
    assert t.time[-1] + 0.05 >= found.seconds - 0.1 and t.present.all()
    assert np.allclose(t.probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(t.probabilities[:, 0]) > 0  # it changes


def test_without_audio_the_prediction_is_from_video(tmp_path, seen_run, network):
    frames = [rgb for rgb, _ in read_video(seen_run / "raw/c0.mp4")]
    found = network.predict(write(tmp_path / "mute.mp4", frames))
    assert (
        found.usable
        and set(found.contributions["valence"]) == {"frames", "flow"}
        and "audio" not in found.heads
    )
    assert any("the file has no audio stream" in n for n in found.notes)
    assert "predicted from frames and flow alone" in found.notes


def test_without_a_face_the_prediction_is_from_audio(tmp_path, network):
    found = network.predict(write(tmp_path / "wall.mp4", numbered(20), audio=tone(0.8)))
    assert found.usable and set(found.contributions["valence"]) == {"audio"} and found.face is None
    assert found.notes[0].startswith("no face in ") and "predicted from audio alone" in found.notes
    assert found.notes[0].endswith("(a trained network fixes these settings)")


def test_without_usable_input_there_is_no_prediction(tmp_path, network):
    (tmp_path / "page.mp4").write_text("<!doctype html><p>log in")
    found = network.predict(tmp_path / "page.mp4")
    assert not found.usable and found.label is None and found.timeline is None
    assert "no prediction: no input is usable" in found.notes and "web page" in found.notes[0]


def test_a_long_recording_is_the_mean_of_windows(tmp_path, network):
    sound = write_audio(tmp_path / "long.flac", seconds=5.0)
    found = network.predict(sound)
    assert any("mean over" in n for n in found.notes)
    length = found.seconds / round(found.seconds / network.median_s)
    edges = np.arange(round(found.seconds / length) + 1) * length
    pairs = zip(edges[:-1], edges[1:], strict=True)
    each = [network.scorer(found.arrays, [pair], [], None) for pair in pairs]
    mean = np.mean([e.probabilities["fused"][0] for e in each], axis=0)
    assert list(found.probabilities.values()) == pytest.approx(mean.tolist(), abs=1e-5)


def test_command_writes_table_json_and_video(tmp_path, seen_run, capsys):
    clip = seen_run / "raw/c1.mp4"
    words = ["predict", str(seen_run / "run"), str(clip), "--out", str(tmp_path / "out")]
    assert main([*words, "--overlay", str(tmp_path / "over.mp4")]) == 0
    told = capsys.readouterr().out
    assert "face track good" in told and "contributions to" in told and "over.mp4" in told
    tree = json.loads((tmp_path / "out/c1.json").read_text())
    assert tree["label"] in "ab" and sum(tree["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert tree["timeline"]["steps"] and tree["outcomes"]["faces"]["status"] == "ok"
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == tree["label"] and float(row["face_share"]) == 1
    check_overlay(tmp_path / "over.mp4", clip)


def check_overlay(path, source) -> None:
    """Same times and audio as the source; the source's video frames above, the panel below."""
    theirs, ours = list(read_video(source)), list(read_video(path))
    assert [t for _, t in ours] == pytest.approx([t for _, t in theirs], abs=1e-3)
    width, height = theirs[0][0].shape[1::-1]
    left = (640 - width) // 2
    for (rgb, _), (drawn, _) in zip(theirs, ours, strict=True):
        assert drawn.shape[1] == 640 and drawn.shape[0] == height + 168
        corner = drawn[:20, left : left + 20].astype(int) - rgb[:20, :20]
        assert np.abs(corner).mean() < 12
    panel = ours[len(ours) // 2][0][height:]
    assert np.ptp(panel[12:132, 12:132].reshape(-1, 3), axis=0).min() > 30  # flow colours
    with av.open(str(path)) as container:
        heard = np.concatenate([f.to_ndarray().mean(0) for f in container.decode(audio=0)])
    with av.open(str(source)) as container:
        rate = container.streams.audio[0].rate
        meant = np.concatenate([f.to_ndarray().mean(0) for f in container.decode(audio=0)])
    assert len(heard) / 48000 == pytest.approx(len(meant) / rate, abs=0.05)

    def level(x, n):
        return np.sqrt(np.mean(x[: len(x) // n * n].reshape(n, -1) ** 2, axis=1))

    assert np.corrcoef(level(heard, 16), level(meant, 16))[0, 1] > 0.95


def test_one_bad_file_costs_only_itself(tmp_path, seen_run, capsys):
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    shutil.copy(seen_run / "raw/c2.mp4", folder / "b.mp4")
    words = ["predict", str(seen_run / "run"), str(folder), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(words) == 1
    told = capsys.readouterr()
    assert "no prediction for 1 of 2 files" in told.err and "git lfs pull" in told.out
    assert "b.mp4" not in told.out  # --quiet tells what failed, and where the results are
    assert told.out.splitlines()[-1].startswith(f"results: {tmp_path / 'out'}")
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(r["label"]) for r in rows] == [False, True]


def test_an_address_is_no_file_and_its_password_is_not_shown():
    with pytest.raises(MediaError, match="with --live") as caught:
        find_media(["rtsp://anna:geheim@camera/live"])
    assert "geheim" not in str(caught.value)


def test_media_are_found_and_named_apart(tmp_path):
    for name in ("a/1.mp4", "b/1.mp4", "b/2.webm", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = find_media([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [f.name for f in files] == ["1.mp4", "1.mp4", "2.webm"]
    assert unique_names(files) == ["a-1.mp4", "b-1.mp4", "2"]
    deep = ["anna/sad/1.mp4", "ben/sad/1.mp4", "ben/happy/1.mp4", "ben/sad/2.mp4"]
    found = ["anna-sad-1.mp4", "ben-sad-1.mp4", "happy-1.mp4", "2"]  # two folders where needed
    assert unique_names([tmp_path / name for name in deep]) == found
    assert unique_names([Path(name) for name in deep]) == found
    alike = [Path("a/b/1.mp4"), Path("a-b/1.mp4"), Path("c/b/1.mp4")]
    assert unique_names(alike) == ["000-a-b-1.mp4", "001-a-b-1.mp4", "c-b-1.mp4"]
    with pytest.raises(MediaError, match="does not exist"):
        find_media([str(tmp_path / "gone.mp4")])


def test_settings_of_the_network_cannot_be_changed(seen_run, capsys):
    words = ["predict", str(seen_run / "run"), str(seen_run / "raw/c0.mp4"), "model.width=64"]
    assert main(words) == 1
    assert "belongs to the trained network" in capsys.readouterr().err


def test_exported_folder_predicts_the_same(tmp_path, seen_run, network):
    folder = export(seen_run / "run", tmp_path / "exported", program=False)
    shutil.move(str(folder), str(tmp_path / "elsewhere"))
    again = load(tmp_path / "elsewhere", device="cpu").predict(seen_run / "raw/c0.mp4")
    assert again.probabilities == network.predict(seen_run / "raw/c0.mp4").probabilities


def test_an_unexpected_error_costs_only_its_file(tmp_path, network, monkeypatch):
    (tmp_path / "a.mp4").touch()
    write(tmp_path / "b.mkv", [np.zeros((48, 64, 3), np.uint8)] * 30, audio=tone(1.2))
    real = type(network).predict

    def strange(self, file, *more):
        if file.name == "a.mp4":
            raise KeyError("a geometry that nobody thought of")
        return real(self, file, *more)

    monkeypatch.setattr(type(network), "predict", strange)
    lines = []
    found = predict_loaded(network, [str(tmp_path)], tmp_path / "out", progress=False, report=lines.append)
    assert [p.usable for p in found] == [False, True]
    assert all(o.status == "failed" and "nobody thought of" in o.reason for o in found[0].outcomes.values())
    rows = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert len(rows) == 3 and (tmp_path / "out/a.json").is_file()


def test_an_overlay_that_cannot_be_drawn_is_reported(tmp_path, seen_run, capsys, monkeypatch):
    def broken(*words):
        raise ValueError("odd width")

    monkeypatch.setattr("deiii.model.prediction.files._draw", broken)
    words = [str(seen_run / "raw/c0.mp4"), str(seen_run / "raw/c1.mp4"), "--out", str(tmp_path / "out")]
    code = main(["predict", str(seen_run / "run"), *words, "--overlay", str(tmp_path / "videos"), "--quiet"])
    told = capsys.readouterr()
    assert code == 1 and told.err.count("no overlay video") == 1 and "c1.mp4" in told.err
    assert told.out.count("no overlay video: ValueError: odd width") == 2
    assert len((tmp_path / "out/predictions.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("package", ["PIL", "matplotlib"])
def test_an_overlay_without_its_packages_is_refused_before_the_work(tmp_path, seen_run, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match=package):
        options = FileOptions(overlay=str(tmp_path / "o.mp4"))
        predict_files(str(seen_run / "run"), [str(seen_run / "raw/c0.mp4")], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_an_overlay_does_not_replace_the_recording(tmp_path, seen_run, capsys):
    shutil.copy(seen_run / "raw/c0.mp4", tmp_path / "a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    for overlay in (tmp_path / "a.mp4", tmp_path / "." / "a.mp4"):
        words = ["predict", str(seen_run / "run"), str(tmp_path / "a.mp4"), "--overlay", str(overlay)]
        assert main([*words, "--out", str(tmp_path / "out")]) == 1
        assert "is an input file" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "a.mp4"), "--out", str(tmp_path)]) == 1
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize("wider", [-1, 1])
def test_an_overlay_of_a_video_of_odd_displayed_width(tmp_path, seen_run, capsys, wider):
    frames = [rgb for rgb, _ in read_video(seen_run / "raw/c0.mp4")]
    stored = frames[0].shape[1]
    sar = f"{stored + wider}/{stored}"
    path = write(tmp_path / "odd.mp4", frames, audio=tone(len(frames) / 25), sar=sar)
    height, width, _ = next(iter(read_video(path)))[0].shape
    assert width % 2
    words = ["predict", str(seen_run / "run"), path, "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--overlay", str(tmp_path / "over.mp4")]) == 0, capsys.readouterr().err
    drawn = [rgb for rgb, _ in read_video(tmp_path / "over.mp4")]
    assert len(drawn) > 1 and drawn[0].std() > 1


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (16384, 2), (3, 4096), (333, 187), (1281, 1), (1279, 719)])
def test_a_video_of_any_size_has_a_place_in_the_overlay(size):
    width, height = size
    layout = Layout(width, height)
    canvas = layout.place(np.full((height, width, 3), 255, np.uint8))
    assert canvas.shape == (layout.height, layout.width, 3)
    assert layout.width % 2 == layout.height % 2 == 0 and layout.width >= NARROWEST
    assert (canvas == 255).any()


def test_a_video_of_which_every_frame_is_used_is_not_called_incomplete():
    """The videos of iPhones are HLG: each was said to be usable in part."""
    remark = "HDR video (HLG) was tone-mapped to SDR"
    for status, note in (
        (Status.OK, f"video: {remark}"),
        (Status.OK_PARTIAL, f"only part of the video is usable: {remark}"),
    ):
        outcomes = {
            "faces": Outcome(status, remark),
            "flow": Outcome(Status.OK),
            "logmel": Outcome(Status.OK),
        }
        assert list(notes_on(outcomes, ["frames", "flow", "audio"])) == [note]


def test_control_characters_of_a_name_are_shown_as_escapes():
    prediction = Prediction("a\x1b[2J\nb.mp4", 1.5, {}, notes=("no prediction",))
    assert describe(prediction) == "a\\x1b[2J\\nb.mp4  (1.5 s)\n  note: no prediction"
