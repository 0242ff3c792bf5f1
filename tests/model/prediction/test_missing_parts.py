"""What is missing where a network is deployed ends the command; no media file is blamed for it."""

from __future__ import annotations

import json
import shutil

import pytest

from deiii import extract, load, runtime
from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.tools.weights import WeightsError
from deiii.model.prediction import with_onnx
from deiii.model.prediction.export import export
from deiii.model.prediction.files import predict_loaded
from deiii.model.prediction.manifest import ExportError
from tests.helpers.clips import write_audio

YUNET = "face_detection_yunet_2023mar.onnx"
RAFT = "raft_small_C_T_V2-01064c6d.pth"


@pytest.fixture(scope="module")
def exported(seen_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    return export(seen_run / "run", folder, program=False, onnx=True)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A machine without weights, on which no download succeeds."""
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path / "weights"))
    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)

    def refuse(source):
        raise WeightsError(f"could not download {source.url}; set DEIII_WEIGHTS_DIR")

    monkeypatch.setattr("deiii.data.tools.weights._download", refuse)


@pytest.mark.parametrize(
    ("setting", "file", "name"),
    [
        ("faces.detector=yunet", YUNET, "c0.mp4"),
        ("faces.detector=yunet", YUNET, "gone.mp4"),
        ("flow.method=raft", RAFT, "c0.mp4"),
    ],
)
def test_missing_weights_end_the_command(offline, seen_run, tmp_path, capsys, setting, file, name):
    """It predicted from the audio alone with exit status 0, and asked for a report on the media file."""
    media = shutil.copy(seen_run / "raw/c0.mp4", tmp_path / "c0.mp4")
    words = [str(media), setting, "--change-preprocessing", "--out", str(tmp_path / "out")]
    assert main(["predict", str(seen_run / "run"), *words]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: could not download") and file in told.err
    assert told.err.count("\n") == 1 and "report it" not in told.err + told.out
    assert not list((tmp_path / "out").glob("*.json"))
    network = load(seen_run / "run", "cpu", [setting], change_preprocessing=True)
    for call in (
        lambda: network.predict(tmp_path / name),
        lambda: predict_loaded(network, [str(media)], tmp_path / "out", progress=False, report=print),
        lambda: extract(tmp_path / name, load_config(overrides=[setting])),
    ):
        with pytest.raises(WeightsError, match=file):
            call()


@pytest.mark.parametrize("name", ["gone.mp4", "a.flac"])
def test_weights_of_a_stage_that_a_file_does_not_reach_are_not_missing(offline, seen_run, tmp_path, name):
    write_audio(tmp_path / "a.flac")
    network = load(seen_run / "run", "cpu", ["flow.method=raft"], change_preprocessing=True)
    found = network.predict(tmp_path / name)
    assert found.usable == (name == "a.flac") and RAFT not in json.dumps(found.notes)


def test_weights_that_are_not_there_end_inspect(offline, seen_run, tmp_path, capsys):
    words = ["faces.detector=yunet", "--out", str(tmp_path / "out")]
    assert main(["inspect", str(seen_run / "raw/c0.mp4"), *words]) == 1
    assert YUNET in (told := capsys.readouterr()).err and "cannot be drawn" not in told.err


def test_a_setting_that_needs_pytorch_is_refused(exported, seen_run, tmp_path, monkeypatch, capsys):
    """The error was said to be one of the media file: No module named 'torch'; please report it."""
    monkeypatch.setattr(with_onnx, "has_torch", lambda: False)
    words = ["predict", str(exported), str(seen_run / "raw/c0.mp4"), "flow.method=raft", "--backend", "onnx"]
    assert main([*words, "--change-preprocessing", "--out", str(tmp_path / "out")]) == 1
    assert "the network reads flow of RAFT, which needs PyTorch; install it" in capsys.readouterr().err


def test_a_name_that_is_no_folder_says_what_it_is(exported, tmp_path):
    """Both were said to be folders without an export."""
    with pytest.raises(ExportError, match=f"there is no folder {tmp_path}/gone; check the path"):
        runtime.load(tmp_path / "gone")
    with pytest.raises(ExportError, match=f"model.onnx is a file; name the exported folder .*: {exported}$"):
        runtime.load(exported / "model.onnx")


def test_a_damaged_manifest_is_named(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / "deiii.json").write_text("{")
    with pytest.raises(ExportError, match=r"holds no usable export \(deiii\.json is damaged: Expecting"):
        runtime.load(folder)


@pytest.mark.parametrize("content", ["", "hello\n", "version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_holds_no_media_is_not_said_to_be_a_video(exported, tmp_path, content):
    (tmp_path / "a.wav").write_text(content)
    found = runtime.load(exported).predict(tmp_path / "a.wav")
    assert found.notes[0].startswith("unusable: ")
    assert "video" not in json.dumps(found.notes)
