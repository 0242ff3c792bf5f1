"""Several tables of segments, each of one recording, that are cut into one folder."""

import csv

import pytest

from deiii.__main__ import main
from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.scan import scan
from deiii.pipeline.cut import cut as cut_module
from deiii.pipeline.cut.cut import cut
from deiii.pipeline.cut.segments import SegmentError
from tests.helpers.clipmaker import numbered, write


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / name, numbered(50))
    return tmp_path


def table(folder, name, *rows, head="path,start,end,speaker,label"):
    path = folder / name
    path.write_text("\n".join([head, *rows, ""]))
    return path


def listed(folder, name="clips.csv"):
    with (folder / "out" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_clips_of_each_table_stay_listed(folder):
    cut(table(folder, "one.csv", "a.mp4,0,1,anna,happy"), folder / "out")
    second = table(folder, "two.csv", "b.mp4,0,1,2.5", "b.mp4,1,2,1", head="path,start,end,valence")
    assert cut(second, folder / "out").clips == 3
    assert [(row["path"][0], row["speaker"], row["valence"]) for row in listed(folder)] == [
        ("a", "anna", ""), ("b", "", "2.5"), ("b", "", "1"),
    ]  # fmt: skip
    assert [(row["table"], row["row"]) for row in listed(folder, "cut.csv")] == [
        ("one.csv", "2"), ("two.csv", "2"), ("two.csv", "3"),
    ]  # fmt: skip
    cut(table(folder, "two.csv", "b.mp4,0,1,ben,sad"), folder / "out")
    assert [row["speaker"] for row in listed(folder)] == ["anna", "ben"]
    corpus = scan(CorpusConfig(name="table", root=str(folder / "out")))
    assert [(clip.speaker, clip.label) for clip in corpus.clips] == [("anna", "happy"), ("ben", "sad")]


def test_a_stopped_call_keeps_the_clips_of_the_other_tables(folder, monkeypatch):
    cut(table(folder, "one.csv", "a.mp4,0,1,anna,happy"), folder / "out")
    second = table(folder, "two.csv", "b.mp4,0,1,ben,sad")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cut_module, "cut_recording", stop)
        cut(second, folder / "out")
    assert [row["speaker"] for row in listed(folder)] == ["anna"]
    cut(second, folder / "out")
    assert [row["speaker"] for row in listed(folder)] == ["anna", "ben"]


def test_recordings_of_one_name_in_two_folders_are_told_apart(folder, tmp_path_factory):
    cut(table(folder, "one.csv", "a.mp4,0,1,anna,happy"), folder / "out")
    before = (folder / "out/clips.csv").read_bytes()
    other = tmp_path_factory.mktemp("other")
    write(other / "a.mp4", numbered(40))
    with pytest.raises(SegmentError, match="clips of another recording a.mp4, of the folder"):
        cut(table(other, "two.csv", "a.mp4,0,1,ben,sad"), folder / "out")
    assert (folder / "out/clips.csv").read_bytes() == before


def test_a_folder_of_recordings_may_move(folder, tmp_path_factory):
    cut(table(folder, "one.csv", "a.mp4,0,1,anna,happy"), folder / "out")
    made = (folder / "out" / listed(folder)[0]["path"]).stat()
    other = tmp_path_factory.mktemp("other")
    (folder / "a.mp4").rename(other / "a.mp4")
    cut(table(other, "one.csv", "a.mp4,0,1,anna,happy"), folder / "out")
    assert (folder / "out" / listed(folder)[0]["path"]).stat().st_mtime_ns == made.st_mtime_ns


def test_a_clip_is_not_replaced_by_that_of_a_recording_with_another_suffix(folder):
    cut(table(folder, "one.csv", "a.mp4,0,1,anna,happy"), folder / "out")
    write(folder / "a.mkv", numbered(50))
    with pytest.raises(SegmentError, match=r"row 2: a_\S+ is a clip of a.mp4 already, and that of a.mkv"):
        cut(table(folder, "two.csv", "a.mkv,0,1,ben,sad"), folder / "out")


def test_values_changed_by_hand_are_kept_in_a_backup_and_named(folder, capsys):
    first = table(folder, "one.csv", "a.mp4,0,1,anna", "a.mp4,1,2,anna", head="path,start,end,speaker")
    assert main(["cut", str(first), str(folder / "out")]) == 0
    clips = folder / "out/clips.csv"
    assert main(["cut", str(first), str(folder / "out")]) == 0
    assert not (folder / "out/clips.csv.bak").exists()
    assert "other values" not in capsys.readouterr().out
    by_hand = clips.read_text().replace(",anna,a.mp4,0", ",ben,a.mp4,0")
    clips.write_text(by_hand)
    assert main(["cut", str(first), str(folder / "out")]) == 0
    assert (folder / "out/clips.csv.bak").read_text() == by_hand
    assert [row["speaker"] for row in listed(folder)] == ["anna", "anna"]
    name = listed(folder)[0]["path"]
    assert f"clips.csv has other values than before for 1 clip, first {name}:" in capsys.readouterr().out


def test_files_of_rows_that_the_table_no_longer_has_are_named(folder, capsys):
    out = folder / "out"
    table(folder, "one.csv", "a.mp4,0,1,anna,happy", "a.mp4,1,2,anna,sad")
    assert main(["cut", str(folder / "one.csv"), str(out)]) == 0
    left = listed(folder)[1]["path"]
    table(folder, "one.csv", "a.mp4,0,1,anna,happy")
    assert main(["cut", str(folder / "one.csv"), str(out)]) == 0
    line = f"1 file of earlier rows, which the table no longer has, first {out / left}"
    assert line in capsys.readouterr().out
    assert len(listed(folder)) == 1 and (out / left).is_file()
