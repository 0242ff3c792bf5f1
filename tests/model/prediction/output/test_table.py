"""``predictions.csv`` beside the results of earlier commands in the same folder."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from types import SimpleNamespace

import pytest

from deiii import load
from deiii.__main__ import main
from deiii.model.prediction.export import export
from deiii.model.prediction.output import table
from deiii.model.prediction.output.json_files import replaced_note
from deiii.model.prediction.output.table import ORIGIN, origin, table_rows, update_table
from deiii.model.prediction.result import Prediction
from tests.helpers.second_process import before_the_lock

NETWORK = SimpleNamespace(classes=("happy", "sad"), attributes=(), members=(), source="runs/a", notes=())
MADE = {"weights": ["00"], "notes": [], "speech": False}


def predictions(*paths: str, value: float = 0.75) -> list[Prediction]:
    return [Prediction(path, 1.0, {}, {"happy": value, "sad": 1 - value}) for path in paths]


def update(out, found, network=NETWORK, made_with=MADE, people=False) -> list[str]:
    """Write the table; returns the lines for users."""
    lines: list[str] = []
    update_table(out, found, network, made_with, people, lines.append)
    return lines


def rows(out) -> dict[str, str]:
    """The probability of the first class of every file in the table."""
    with open(out / "predictions.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["p_happy"] for row in csv.DictReader(file)}


def test_rows_of_other_files_stay(tmp_path):
    """The second command dropped the rows of the first one, whose JSON files stayed."""
    assert update(tmp_path, predictions("a.mp4", "b,\r.mp4", "caf\udce9.mp4")) == []
    (line,) = update(tmp_path, predictions("c.mp4"))
    assert line == f"{tmp_path / 'predictions.csv'}: 3 rows of earlier predictions kept"
    (line,) = update(tmp_path, predictions("a.mp4", "caf\udce9.mp4", value=0.5))
    assert "2 rows" in line
    assert rows(tmp_path) == {
        "b,\r.mp4": "0.7500", "c.mp4": "0.7500", "a.mp4": "0.5000", "caf\\udce9.mp4": "0.5000",
    }  # fmt: skip


def test_the_same_command_writes_the_same_table(tmp_path):
    update(tmp_path, predictions("a.mp4", "b.mp4"))
    before = (tmp_path / "predictions.csv").read_bytes()
    assert update(tmp_path, predictions("a.mp4", "b.mp4")) == []
    assert (tmp_path / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"made_with": {**MADE, "weights": ["01"]}}, "it was made with another network"),
        ({"made_with": {**MADE, "speech": True}}, "or with other options"),
        ({"people": True}, "its columns are others"),
        ({"network": SimpleNamespace(**{**vars(NETWORK), "classes": ("sad", "happy")})}, "its columns are"),
    ],
)
def test_a_table_of_something_else_is_replaced_with_a_line(tmp_path, changes, reason):
    update(tmp_path, predictions("a.mp4"))
    (line,) = update(tmp_path, predictions("b.mp4"), **changes)
    assert line.startswith(f"{tmp_path / 'predictions.csv'}: the earlier table is replaced, because ")
    assert reason in line and list(rows(tmp_path)) == ["b.mp4"]


@pytest.mark.parametrize("text", ["", "\xff", "file\nx\n", "one,two\n"])
def test_what_is_no_such_table_is_replaced_with_a_line(tmp_path, text):
    (tmp_path / "predictions.csv").write_bytes(text.encode("latin-1"))
    (line,) = update(tmp_path, predictions("b.mp4"))
    assert "is replaced" in line and list(rows(tmp_path)) == ["b.mp4"]


@pytest.mark.parametrize("damage", [None, "{", "[]"])
def test_rows_of_which_nothing_tells_the_network_are_not_mixed(tmp_path, damage):
    update(tmp_path, predictions("a.mp4"))
    (tmp_path / ORIGIN).unlink()
    if damage is not None:
        (tmp_path / ORIGIN).write_text(damage)
    (line,) = update(tmp_path, predictions("b.mp4"))
    assert "is replaced" in line and list(rows(tmp_path)) == ["b.mp4"]


def test_a_row_that_is_not_whole_is_not_kept(tmp_path):
    update(tmp_path, predictions("a.mp4"))
    with open(tmp_path / "predictions.csv", "a", encoding="utf-8") as file:
        file.write("b.mp4,1")
    (line,) = update(tmp_path, predictions("c.mp4"))
    assert "not a table of predictions" in line


def test_two_processes_lose_no_row(tmp_path, monkeypatch):
    """The second one reads the table when the first one has written its own."""
    before_the_lock(monkeypatch, table, lambda: update(tmp_path, predictions("a.mp4")))
    update(tmp_path, predictions("b.mp4"))
    assert list(rows(tmp_path)) == ["a.mp4", "b.mp4"]


def test_threads_lose_no_row(tmp_path):
    threads = [threading.Thread(target=update, args=(tmp_path, predictions(f"{n}.mp4"))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(rows(tmp_path)) == {f"{n}.mp4" for n in range(4)}


def test_a_run_and_its_export_are_one_network(seen_run, tmp_path):
    run = load(seen_run / "run", device="cpu")
    folder = export(seen_run / "run", tmp_path / "out", program=False)
    assert origin(load(folder, device="cpu")) == origin(run)
    assert len(origin(run)["weights"][0]) == 64
    assert origin(run, speech=True) != origin(run)
    assert len(table_rows([], run)) == 1


def test_a_json_file_of_another_media_file_is_named(tmp_path):
    path = tmp_path / "c.json"
    media = tmp_path / "x" / "c.mp4"
    assert replaced_note(path, media) == ""
    path.write_text(json.dumps({"file": str(media)}))
    assert replaced_note(path, tmp_path / "y" / ".." / "x" / "c.mp4") == ""
    note = replaced_note(path, tmp_path / "y" / "c.mov")
    assert str(media) in note and str(tmp_path / "y" / "c.mov") in note and "is replaced" in note
    for text in ("", "[]", "{}", '{"file": 3}'):
        path.write_text(text)
        assert replaced_note(path, media) == ""


def test_commands_into_one_folder(seen_run, tmp_path, capsys):
    for name in ("x/c.mp4", "y/c.mp4", "y/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(seen_run / "raw/c0.mp4", tmp_path / name)
    words = ["predict", str(seen_run / "run"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, str(tmp_path / "x/c.mp4")]) == 0
    capsys.readouterr()
    assert main([*words, str(tmp_path / "y")]) == 0
    told = capsys.readouterr().out
    assert told.count("which has the same name") == 1 and str(tmp_path / "x/c.mp4") in told
    with open(tmp_path / "out/predictions.csv", newline="", encoding="utf-8") as file:
        found = [row["file"] for row in csv.DictReader(file)]
    assert found == [str(tmp_path / name) for name in ("x/c.mp4", "y/c.mp4", "y/d.mp4")]
