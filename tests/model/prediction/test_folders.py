"""Prediction for folders: every file in them is predicted or counted, and links are named."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from deiii import load
from deiii.__main__ import main
from deiii.data.corpora.files import MediaError
from deiii.model.prediction.files import FileOptions, predict_loaded
from deiii.model.prediction.names import without_results


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


def predicted(network, words, out: Path, **options) -> tuple[list[str], list[str]]:
    """Names of the predicted files, and the lines that are no predictions."""
    said: list[str] = []
    found = predict_loaded(network, words, out, FileOptions(**options), progress=False, report=said.append)
    return [Path(p.path).name for p in found], [text for text in said if "\n" not in text]


def test_other_files_are_counted_and_links_are_named(tmp_path, seen_run, network):
    """Text files and images in a folder got no outcome and no word."""
    folder = tmp_path / "clips"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    shutil.copy(seen_run / "raw/c0.mp4", folder / "a.mp4")
    shutil.copy(seen_run / "raw/c1.mp4", tmp_path / "disk/b.mp4")
    (folder / "disk").symlink_to(tmp_path / "disk")
    (folder / "sub/c.mp4").symlink_to("../a.mp4")
    for name in ("notes.txt", "sub/photo.jpg", "sub/more.txt", ".hidden"):
        (folder / name).touch()
    names, said = predicted(network, [str(folder)], folder / "out")
    assert names == ["a.mp4", "b.mp4", "c.mp4"]
    assert said[0].endswith(f"1 symbolic link is followed: disk (to {tmp_path}/disk, 1 recording)")
    assert said[1].endswith(f": {folder}/sub/c.mp4 is {folder}/a.mp4")
    left = "3 files without the suffix of audio or video were left out: 2 .txt, 1 .jpg"
    assert said[2:] == [left]
    # Results of the first command, in a folder of their own, are not counted; nor are those beside the media.
    assert predicted(network, [str(folder)], folder / "out")[1][2] == left
    (folder / "disk").unlink()
    shutil.rmtree(folder / "out")
    for _ in range(2):
        assert predicted(network, [str(folder)], folder, texts=["vtt", "tsv"])[1][1] == left


def test_a_file_that_is_named_has_an_outcome(tmp_path, seen_run, capsys):
    (tmp_path / "notes.txt").write_text("a note\n")
    words = ["predict", str(seen_run / "run"), str(tmp_path / "notes.txt"), str(seen_run / "raw/c0.mp4")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "left out" not in capsys.readouterr().out
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        assert [bool(row["label"]) for row in csv.DictReader(file)] == [False, True]


def test_overlays_of_an_earlier_command_are_no_recordings(tmp_path, seen_run, network):
    """The second command predicted for the videos that the first one drew."""
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(seen_run / "raw/c0.mp4", folder / "a.mp4")
    drawn = folder / "drawn"
    for number in range(2):
        names, said = predicted(network, [str(folder)], tmp_path / "out", overlay=f"{drawn}/")
        assert names == ["a.mp4"] and [path.name for path in drawn.iterdir()] == ["a.mp4"]
        assert any("1 video was left out because" in text for text in said) == bool(number)
    (folder / "a.mp4").unlink()
    with pytest.raises(MediaError, match="all media files lie in .*drawn/, the folder of the overlay videos"):
        predicted(network, [str(folder)], tmp_path / "out", overlay=f"{drawn}/")


def test_results_are_told_from_other_files_by_their_names(tmp_path):
    out = tmp_path.resolve()
    names = [
        "predictions.csv",
        "a.json",
        "a-timeline.csv",
        "a-person2.png",
        "b.json",
        "a.txt",
        "aa.vtt",
        "x/a.json",
    ]
    paths = [str(out / name) for name in names]
    left = without_results(paths, out, [out / "a.mp4"], ["a"])
    assert [str(Path(path).relative_to(out)) for path in left] == ["b.json", "a.txt", "aa.vtt", "x/a.json"]
    assert without_results(paths, out, [out.parent / "a.mp4"], ["a"]) == []
