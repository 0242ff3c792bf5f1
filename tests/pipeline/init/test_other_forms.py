"""A table in another form than deiii's: the refusal names the command that reads it, and the command does."""

from __future__ import annotations

import re
import shlex

import pytest

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.scan import scan
from tests.pipeline.init.test_folders import touch

PEOPLE = ("Jürgen", "Änne", "Zoë")
ROWS = [(f"{p}/{n}.mp4", p, ("Wut", "Freude")[n], ("0.25", "-0.5")[n]) for p in PEOPLE for n in (0, 1)]
PLAIN = "\n".join(map(",".join, [("path", "speaker", "label", "valence"), *ROWS])) + "\n"
FORMS = {
    "semicolons": (PLAIN.replace(",", ";"), "utf-8-sig"),
    "tabs": (PLAIN.replace(",", "\t"), "utf-8"),
    "a line for spreadsheets": ("sep=,\n" + PLAIN, "utf-8"),
    "UTF-16": (PLAIN, "utf-16"),
    "Windows-1252": (PLAIN, "cp1252"),
    "decimal commas": (PLAIN.replace("0.25", '"0,25"').replace("-0.5", '"-0,5"'), "utf-8"),
    "folders of Windows": (PLAIN.replace("\n", "\nD:\\Korpus\\", 6).replace("/", "\\"), "utf-8"),
    "folders of another machine": (PLAIN.replace("\n", "\n/home/eva/korpus/", 6), "utf-8"),
    "no suffixes": (PLAIN.replace(".mp4", ""), "utf-8"),
    "other names of columns": (PLAIN.replace("path,speaker,label", "file,actor,emotion"), "utf-8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_command_that_a_refusal_names_reads_the_table(form, tmp_path, monkeypatch, capsys):
    root = touch(tmp_path / "my clips", *(row[0] for row in ROWS))
    text, encoding = FORMS[form]
    (root / "clips.csv").write_bytes(text.encode(encoding))
    with pytest.raises(CorpusError) as refused:
        scan(load_config("table", [f"corpus.root={root}"]).corpus)
    command = re.search(r"`deiii (init .*)` reads tables in other forms", str(refused.value))
    assert command, refused.value
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(command[1]), "--yes", "--config", "mine"]) == 0, capsys.readouterr().err
    found = scan(load_config("mine.yaml").corpus).clips
    assert {(c.path, c.speaker, c.label, c.attributes["valence"]) for c in found} == {
        (path, speaker, label, float(valence)) for path, speaker, label, valence in ROWS
    }


def test_init_does_not_name_itself_as_the_remedy(tmp_path, monkeypatch, capsys):
    root = touch(tmp_path / "clips", "a/1.mp4", "b/2.mp4", "c/3.mp4")
    rows = "a/1.mp4,a,x\nb/2.mp4,b,y\nc/3.mp4,c,x\nD:\\gone\\4.mp4,a,y\n"
    (root / "labels.csv").write_text("file,actor,emotion\n" + rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes"]) == 1
    said = capsys.readouterr().err
    assert "D:/gone/4.mp4 lies outside corpus.root" in said
    assert "reads tables in other forms" not in said and "/tmp" not in said.replace(str(tmp_path), "")


def test_notes_name_the_table_that_was_written(tmp_path, monkeypatch, capsys):
    """They named a file in a temporary folder, which was removed before the user read its name."""
    root = touch(tmp_path / "clips", *(f"{p}/{e}/1.mp4" for p in "abc" for e in ("happy", "sad")))
    (root / "c" / "sad").rename(root / "c" / "Sad")
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes", "--layout", "speaker/label/clip"]) == 0
    assert f"note: {root.resolve() / 'clips.csv'}: label 'Sad' (row 6) is read as 'sad'" in (
        capsys.readouterr().out
    )


def test_joined_tables_say_once_what_holds_for_all(tmp_path, monkeypatch, capsys):
    names = {part: [f"{part}/{n}.mp4" for n in range(3)] for part in ("train", "dev", "test")}
    root = touch(tmp_path / "clips", *(name for some in names.values() for name in some))
    for part, some in names.items():
        rows = "".join(f"{name},{n},happy,hello\n" for n, name in enumerate(some))
        (root / f"{part}.csv").write_text("file,actor,emotion,words\n" + rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes"]) == 0
    assert capsys.readouterr().out.count("columns not used: words") == 1


def test_a_column_without_a_cell_does_not_divide_the_clips(tmp_path, monkeypatch, capsys):
    root = touch(tmp_path / "clips", "1.mp4", "2.mp4", "3.mp4")
    rows = "".join(f"{n}.mp4,s{n},happy\n" for n in (1, 2, 3))
    (root / "labels.csv").write_text("file,actor,emotion,remark\n" + rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes"]) == 0
    out = capsys.readouterr().out
    assert "columns not used: remark" in out and "divides the clips" not in out


def test_a_table_of_intervals_without_labels_is_for_cut(tmp_path, capsys):
    root = touch(tmp_path / "mosei", "Videos/a.mp4", "Videos/b.mp4")
    rows = "a,0.0,1.5,-1\na,1.5,3,2\nb,0,2,0.33\n"
    (root / "labels.csv").write_text("video,start_time,end_time,sentiment\n" + rows, encoding="utf-8")
    assert main(["init", str(root), "--yes"]) == 1
    said = capsys.readouterr().err
    assert "no column for label among video, start_time, end_time, sentiment" in said
    assert f"`deiii cut {root.resolve() / 'labels.csv'} OUT`" in said
