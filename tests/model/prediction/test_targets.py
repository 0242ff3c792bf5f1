"""Where the results of ``deiii predict`` go, and what they hold: odd files, nobody, figures of faces."""

from __future__ import annotations

import csv
import json
import shutil

import cv2
import pytest

from deiii import load
from deiii.__main__ import main
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.prediction.files import (
    FileOptions,
    describe,
    predict_loaded,
)
from deiii.model.prediction.live.moments import LiveMoments
from deiii.model.prediction.output.table import FACE_COLUMNS, PERSON_COLUMNS
from deiii.model.prediction.windows import media as of_media
from deiii.pipeline.faces.quality import describe_figures, face_figures
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import numbered, tone, write


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


def table(folder) -> list[dict]:
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["cr\rhere.wav", "lf\nhere.wav", 'a,"b".wav'])
def test_a_file_of_any_name_is_one_row_of_the_table(name, tmp_path, network):
    shutil.copy(write(tmp_path / "a.wav", audio=tone(0.6)), tmp_path / name)
    predict_loaded(network, [str(tmp_path / name)], tmp_path, progress=False, report=lambda text: None)
    assert [row["file"] for row in table(tmp_path)] == [str(tmp_path / name)]


def test_the_table_of_all_people_has_their_columns_where_nobody_is_visible(tmp_path, network):
    audio = write(tmp_path / "a.wav", audio=tone(0.6))
    options = FileOptions(people=True)
    predict_loaded(network, [audio], tmp_path, options, progress=False, report=lambda text: None)
    (row,) = table(tmp_path)
    assert [row[name] for name in PERSON_COLUMNS] == [""] * len(PERSON_COLUMNS) and row["label"]


@pytest.mark.parametrize("people", [False, True])
def test_the_figures_of_the_face_are_those_of_the_overview(people, tmp_path, seen_run, network):
    clip = seen_run / "raw/c0.mp4"
    (usual,) = network.predict_people(clip) if people else [network.predict(clip)]
    wanted = face_figures(usual.arrays["faces"], posed=False)
    assert wanted["sharpness"] > 0 and wanted["brightness"] > 0
    assert usual.face.figures == wanted and usual.face.yaw is None  # Haar measures no landmarks
    options = FileOptions(people=people)
    told: list[str] = []
    predict_loaded(network, [str(clip)], tmp_path, options, progress=False, report=told.append)
    assert f"face: {describe_figures(wanted)}" in told[0] and "yaw" not in told[0]
    tree = json.loads((tmp_path / "c0.json").read_text(encoding="utf-8"))
    face = (tree["people"][0] if people else tree)["face"]
    assert {name: face[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert [face[name] for name in ("yaw", "pitch", "roll")] == [None] * 3
    (row,) = table(tmp_path)
    written = {name: float(row[FACE_COLUMNS[name]]) for name in wanted}
    assert written == pytest.approx(wanted, abs=0.06)
    assert [row[FACE_COLUMNS[name]] for name in ("yaw", "pitch", "roll")] == [""] * 3


@pytest.mark.parametrize("people", [False, True])
def test_columns_of_the_table_keep_their_places_and_new_ones_are_the_last(people, tmp_path, network):
    audio = write(tmp_path / "a.wav", audio=tone(0.6))
    options = FileOptions(people=people)
    predict_loaded(network, [audio], tmp_path, options, progress=False, report=lambda text: None)
    (row,) = table(tmp_path)
    assert [*row] == [
        "file", "seconds", "label", "p_a", "p_b", "valence", "face_share", "face_quality", "notes",
        *["person", "first_s", "last_s", "visible_s", "follows_sound"] * people,
        "face_sharpness", "face_brightness", "head_yaw", "head_pitch", "head_roll",
    ]  # fmt: skip
    assert {row[name] for name in FACE_COLUMNS.values()} == {""}


@pytest.fixture(scope="module")
def posed(seen_run, test_data):
    """The network with YuNet, which measures landmarks."""
    weights = test_data / "weights/face_detection_yunet_2023mar.onnx"
    settings = ["faces.detector=yunet", f"faces.weights={weights}"]
    return load(seen_run / "run", device="cpu", overrides=settings, change_preprocessing=True)


def test_a_mirrored_face_looks_to_the_other_side_and_a_blurred_one_is_less_sharp(
    posed, test_data, tmp_path, monkeypatch
):
    frames = [rgb for rgb, _ in read_video(test_data / "media/grid/bbaf2n.mpg")][:20]
    ways = {
        "straight": lambda rgb: rgb,
        "mirrored": lambda rgb: rgb[:, ::-1],
        "blurred": lambda rgb: cv2.GaussianBlur(rgb, None, 2.0),
        "dark": lambda rgb: rgb // 2,
    }
    paths = {name: write(tmp_path / f"{name}.mp4", [way(f) for f in frames]) for name, way in ways.items()}
    found = {name: posed.predict(path) for name, path in paths.items()}
    straight, mirrored, blurred, dark = (found[name].face for name in ways)
    assert straight.yaw > 5 and mirrored.yaw < -5  # this speaker looks to the right edge of the image
    # YuNet finds other landmarks in the mirrored image; `head_pose` of mirrored landmarks is exact.
    meant = [-straight.yaw, straight.pitch, -straight.roll]
    assert [mirrored.yaw, mirrored.pitch, mirrored.roll] == pytest.approx(meant, abs=10)
    assert blurred.sharpness < straight.sharpness / 2
    assert dark.brightness == pytest.approx(straight.brightness / 2, abs=3)
    assert f"yaw {straight.yaw:+.0f}°, pitch" in describe(found["straight"])
    monkeypatch.setattr(of_media, "LONG_S", 0.2)  # the file is read in order
    monkeypatch.setattr(posed, "longest_s", 0.4)
    again = posed.predict(paths["straight"])
    assert "frames" not in again.arrays["faces"]
    assert again.face.figures == pytest.approx(straight.figures, abs=1e-6)


@pytest.mark.parametrize("how", ["slash", "folder", "no suffix"])
def test_a_folder_takes_the_overlay_of_a_single_file(how, tmp_path, seen_run, capsys):
    target = tmp_path / "overlays"
    if how == "folder":
        target.mkdir()
    words = ["predict", str(seen_run / "run"), str(seen_run / "raw/c1.mp4"), "--out", str(tmp_path / "out")]
    assert main([*words, "--overlay", str(target) + "/" * (how == "slash")]) == 0
    assert [path.name for path in target.iterdir()] == ["c1.mp4"]
    assert str(target / "c1.mp4") in capsys.readouterr().out


@pytest.mark.parametrize("live", [[], ["--live"]], ids=["files", "live"])
def test_an_overlay_is_not_written_under_the_name_of_another_kind_of_file(live, tmp_path, seen_run, capsys):
    words = ["predict", str(seen_run / "run"), *live, str(seen_run / "raw/c1.mp4"), "--out", str(tmp_path)]
    assert main([*words, "--overlay", str(tmp_path / "talk.wav")]) == 1
    assert f"write --overlay {tmp_path / 'talk.mp4'}" in capsys.readouterr().err
    assert not (tmp_path / "talk.wav").exists()


def test_a_file_without_usable_input_keeps_its_length(tmp_path, network):
    empty = write(tmp_path / "empty.mp4", numbered(25))
    found = network.predict(empty)
    assert not found.usable and found.seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "times",
    [{"hop_s": 0.0}, {"hop_s": -1.0}, {"hop_s": 1e-9}, {"hop_s": float("nan")}, {"window_s": 0.0},
     {"window_s": -1.0}, {"window_s": float("inf")}],
    ids=lambda times: "{}={}".format(*next(iter(times.items()))),
)  # fmt: skip
def test_windows_that_have_no_length_or_no_end_are_refused(times, seen_run, network):
    clip = seen_run / "raw/c1.mp4"
    (name,) = times
    for predict in (network.predict, network.predict_people, network.stream):
        with pytest.raises(ConfigError, match=name):
            predict(clip, **times)
    with pytest.raises(ConfigError, match=name):
        LiveMoments(network, str(clip), **times)


def test_the_command_refuses_a_hop_that_would_fill_the_memory(tmp_path, seen_run, capsys):
    words = ["predict", str(seen_run / "run"), "--out", str(tmp_path / "out"), "--hop", "1e-9"]
    for media in (["--live", str(seen_run / "raw/c1.mp4")], [str(seen_run / "raw/c1.mp4")]):
        assert main([*words, *media]) == 1
        assert "at least 0.001 s" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--vtt"], ["--timeline"], ["--same-speaker"], ["--segments", "speech"]])
def test_options_for_files_are_refused_with_live(option, seen_run, tmp_path, capsys):
    words = ["predict", str(seen_run / "run"), "--live", "0", "--out", str(tmp_path / "out")]
    assert main([*words, *option]) == 1
    told = capsys.readouterr().err
    assert f"leave {option[0]} out" in told and f"deiii predict {seen_run / 'run'} clip.mp4" in told
