"""Where the results of ``deiii predict`` go, and what its table holds for odd files and for nobody."""

from __future__ import annotations

import csv
import shutil

import pytest

from deiii import load
from deiii.__main__ import main
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.prediction.files import PERSON_COLUMNS, FileOptions, predict_loaded
from deiii.model.prediction.live.moments import LiveMoments
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
