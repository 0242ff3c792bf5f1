"""A table of the user is used or named in a note; nothing that it says is left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan
from deiii.pipeline.init import folder_tables
from deiii.pipeline.init.found import InitError
from deiii.pipeline.init.look import look
from tests.pipeline.init.test_command import KNOWN, in_terminal
from tests.pipeline.init.test_folders import touch

# As in the corpus Java-SED: actor, sentence, emotion (01 is neutral), trial.
NAMES = [f"{actor}-01-{emotion}_01.mp4" for actor in ("01", "02", "03") for emotion in ("01", "03")]
PEOPLE = ("Jürgen", "Änne", "Zoë")
LABELS = ("Wut", "Freude")
ROWS = [(name, PEOPLE[n // 2], LABELS[n % 2]) for n, name in enumerate(NAMES)]


def write(path: Path, rows, head="Datei;Person;Emotion", encoding="cp1252") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\r\n".join([head, *map(";".join, rows)]).encode(encoding))
    return path


def about(found, *words: str) -> list[str]:
    """Return the notes that contain all the words."""
    return [note for note in found.notes if all(word in note for word in words)]


@pytest.fixture
def root(tmp_path):
    return touch(tmp_path / "clips", *NAMES).resolve()


def test_a_table_wins_over_names_that_a_pattern_fits(root, tmp_path, monkeypatch, capsys):
    write(root / "Clips Kollegin.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "Clips Kollegin.csv (Windows-1252): path from 'Datei', speaker from 'Person'" in printed
    assert "are also those of the corpus java_sed, which is not used; `deiii preprocess java_sed" in printed
    corpus = scan(load_config("clips.yaml").corpus)
    assert {(c.path, c.speaker, c.label) for c in corpus.clips} == set(ROWS)


def test_without_a_table_the_names_are_read_without_a_note(root):
    found = look(root)
    assert found.config == "java_sed" and not found.notes


def test_the_question_shows_the_table_and_the_corpus(root):
    write(root / "Clips Kollegin.csv", ROWS)
    status, shown = in_terminal(["yes", "cpu", "mine"], root.parent, str(root))
    assert status == 0, shown
    asked = shown[: shown.index("Is that right?")]
    assert "Clips Kollegin.csv" in asked and "java_sed" in asked
    assert "Zoë: 2" in asked


@pytest.mark.parametrize("name", ["ravdess", "crema_d"])
def test_names_that_are_certain_are_kept_and_the_table_is_named(name, tmp_path):
    clips = touch(tmp_path / "c", *KNOWN[name]).resolve()
    write(clips / "my table.csv", [(path, "x", "calm") for path in KNOWN[name]])
    found = look(clips)
    assert found.config == name and not found.rows
    here = len(KNOWN[name])
    (note,) = about(found, "my table.csv is not used")
    assert f"names {here} of {here} recordings; --table 'my table.csv' reads it" in note


def test_the_tables_of_crema_d_are_no_tables_of_the_user(tmp_path):
    clips = touch(tmp_path / "c", *KNOWN["crema_d"]).resolve()
    ids = [Path(path).stem for path in KNOWN["crema_d"]]
    write(clips / "SentenceFilenames.csv", [("1", stem) for stem in ids], "Stimulus_Number;Filename")
    write(
        clips / "processedResults/summaryTable.csv",
        [(stem, "A", "A") for stem in ids],
        "FileName;VoiceVote;label",
    )
    found = look(clips)
    assert found.config == "crema_d" and not found.notes


@pytest.mark.parametrize(
    ("head", "rows", "says"),
    [
        ("Datei;Person;Emotion", ROWS[:2], "it names 2 of 6 recordings; --table t.csv reads it"),
        ("Datei;Emotion", [(p, e) for p, _, e in ROWS], "it names 6 of 6 recordings; --table t.csv reads it"),
        ("Datei;Person;Emotion", [(p, "", e) for p, _, e in ROWS], "it names 6 of 6 recordings"),
        ("Datei;Person;Stimmung2", ROWS, "t.csv: no column for label among Datei, Person, Stimmung2"),
        ("Aufnahme;Person;Emotion", ROWS, "t.csv: no column for path among Aufnahme, Person, Emotion"),
        ("Datei;Person;Emotion", [*ROWS, (NAMES[0], "Zoë", "Trauer")], f"row 8 names {NAMES[0]} again"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_describe_the_recordings_is_named_beside_the_corpus(head, rows, says, root):
    write(root / "t.csv", rows, head)
    found = look(root)
    assert found.config == "java_sed" and not found.rows
    assert about(found, "t.csv", says, "not used"), found.notes


def test_of_two_tables_the_one_that_describes_the_recordings_wins_over_the_names(root):
    write(root / "ratings.csv", [(p, "calm") for p in (*NAMES, "gone.mp4")], "Datei;Emotion")
    write(root / "Clips.csv", ROWS)
    found = look(root)
    assert found.sources == (root / "Clips.csv",)
    assert about(found, "ratings.csv is not used, although it gives 6 clips another")


def test_joined_parts_describe_the_recordings_together(root):
    write(root / "train.csv", ROWS[:3])
    write(root / "test.csv", ROWS[3:])
    assert len(look(root).rows) == len(NAMES)
    write(root / "test.csv", [*ROWS[3:], (NAMES[0], "Zoë", "Wut")])
    found = look(root)
    assert found.config == "java_sed" and len(about(found, "is not used")) == 2


def test_the_other_of_two_tables_is_named(tmp_path):
    clips = touch(tmp_path / "c", "a.mp4", "b.mp4", "c.mp4").resolve()
    rows = [("a.mp4", "x", "happy"), ("b.mp4", "y", "sad"), ("c.mp4", "z", "sad")]
    write(clips / "first.csv", rows)
    write(clips / "same.csv", rows[:2])
    found = look(clips)
    assert found.sources == (clips / "first.csv",) and not found.notes
    write(clips / "second.csv", [("a.mp4", "x", "sad"), rows[1]])
    (note,) = look(clips).notes
    assert note == (
        f"the table {clips}/second.csv is not used, although it gives 1 clip another speaker, label or "
        "value; it names 2 of 3 recordings; --table second.csv reads it"
    )


def test_a_table_beside_deiii_s_own_is_named_if_it_differs(tmp_path):
    clips = touch(tmp_path / "c", "a.mp4", "b.mp4").resolve()
    (clips / "clips.csv").write_text("path,speaker,label\na.mp4,x,happy\nb.mp4,y,sad\n")
    table = write(clips / "Kollegin.csv", [("a.mp4", "x", "happy"), ("b.mp4", "y", "sad")])
    assert look(clips).table == str(clips / "clips.csv") and not look(clips).notes
    write(table, [("a.mp4", "x", "angry"), ("b.mp4", "y", "sad")])
    found = look(clips)
    assert found.table == str(clips / "clips.csv")
    assert about(found, "Kollegin.csv is not used, although it gives 1 clip another")


def test_recordings_that_deiii_s_own_table_leaves_out_are_named(tmp_path):
    clips = touch(tmp_path / "c", "a.mp4", "b.mp4", "a.wav", "new.mp4").resolve()
    (clips / "clips.csv").write_text("path,speaker,label\na.mp4,x,happy\nb.mp4,y,sad\n")
    (clips / "cut.csv").write_text("table,row,recording,clip,status\ns.csv,2,talk.mp4,a.mp4,ok\n")
    (clips / "predict").mkdir()
    (clips / "predict/predictions.csv").write_text("file,seconds,label\na.mp4,1.5,sad\n")
    assert look(clips).notes == ("1 recording not in the table, and not used: new.mp4",)


def test_predictions_of_a_network_are_no_labels(tmp_path):
    clips = touch(tmp_path / "c", "anna/happy/a.mp4", "ben/sad/b.mp4").resolve()
    header = "file,seconds,label,p_happy,p_sad,face_share,face_quality,notes,face_sharpness"
    rows = [
        f"{clips / name},1.50,sad,0.1,0.9,1.000,good,,80.0" for name in ("anna/happy/a.mp4", "ben/sad/b.mp4")
    ]
    for name in ("predictions.csv", "predict/Other name.csv"):
        (clips / name).parent.mkdir(exist_ok=True)
        (clips / name).write_text("\n".join([header, *rows]))
    found = look(clips)
    assert {row.path: (row.speaker, row.label) for row in found.rows} == {
        "anna/happy/a.mp4": ("anna", "happy"),
        "ben/sad/b.mp4": ("ben", "sad"),
    }
    for name in ("predictions.csv", "predict/Other name.csv"):
        assert about(found, f"{name} is not used: its labels are predictions of a network")
    # A table of other origin with the same name is a table of labels.
    (clips / "predictions.csv").write_text(
        "file,speaker,label\nanna/happy/a.mp4,x,angry\nben/sad/b.mp4,y,calm\n"
    )
    assert {row.label for row in look(clips).rows} == {"angry", "calm"}


@pytest.mark.parametrize(("place", "typed"), [("../Clips.csv", "{}"), ("a/b/c/Clips.csv", "a/b/c/Clips.csv")])
def test_a_table_in_the_parent_or_in_a_deep_folder_is_named_and_can_be_read(place, typed, root):
    table = write(root / place, ROWS).resolve()
    found = look(root)
    assert found.config == "java_sed"
    typed = typed.format(table)
    assert about(found, f"the table {table} is not used", f"--table {typed} reads it")
    assert len(look(root, table=typed).rows) == len(NAMES)


def test_a_table_in_a_folder_below_is_used(root):
    write(root / "labels/Clips.csv", ROWS)
    assert len(look(root).rows) == len(NAMES)


def test_tables_elsewhere_that_are_large_or_of_other_recordings_are_not_named(root, monkeypatch):
    write(root.parent / "others.csv", [(f"x{path}", *more) for path, *more in ROWS])
    (root.parent / "notes.csv").write_text("a,b\n1,2\n")
    assert not look(root).notes
    write(root.parent / "Clips.csv", ROWS)
    monkeypatch.setattr(folder_tables, "MAX_BYTES_ELSEWHERE", 10)
    assert not look(root).notes


def test_a_table_that_lacks_a_column_is_named_beside_folders_that_are_read(tmp_path):
    paths = [f"{p}/{e}/{n}.mp4" for p in ("anna", "ben") for e in ("happy", "sad") for n in (1, 2)]
    clips = touch(tmp_path / "c", *paths).resolve()
    write(clips / "persons.csv", [(path, "x") for path in paths], "Datei;Person")
    (clips / "readme.txt").write_text("Recorded in 2020, with a camera.\n")
    found = look(clips, layout=None)
    assert found.how.startswith("layout") and len(found.notes) == 1
    assert about(found, "not used: ", "persons.csv: no column for label among Datei, Person")


def test_a_spreadsheet_is_named_unless_a_table_is_used(root):
    (root / "Clips.xlsx").write_bytes(b"PK")
    assert about(look(root), "the spreadsheet", "Clips.xlsx is not read; save it as CSV")
    write(root / "Clips.csv", ROWS)
    assert not about(look(root), "xlsx")


def test_a_spreadsheet_is_named_where_nothing_else_tells_the_labels(tmp_path):
    """The error named --layout alone, as if the sheet with speakers and labels were not there."""
    clips = touch(tmp_path / "c", *(f"rec_{n:03d}.mp4" for n in range(12))).resolve()
    (clips / "Clips.xlsx").write_bytes(b"PK")
    (clips / "notes.txt").write_text("Recorded in 2020, with a camera.\n")
    (clips / "about.txt").write_text("Twelve recordings.\n")
    with pytest.raises(InitError, match="the spreadsheet .*Clips.xlsx is not read; save it as CSV"):
        look(clips)


def test_a_file_that_cannot_be_opened_is_named_and_stops_nothing(root, monkeypatch):
    def refuse(table, media):
        raise PermissionError(13, "Permission denied", str(table))

    write(root / "t.csv", ROWS)
    monkeypatch.setattr(folder_tables, "read_foreign", refuse)
    found = look(root)
    assert found.config == "java_sed" and about(found, "t.csv cannot be opened: Permission denied")


def test_many_tables_get_a_few_notes(tmp_path):
    clips = touch(tmp_path / "c", *KNOWN["ravdess"]).resolve()
    for n in range(6):
        write(clips / f"t{n}.csv", [(path, "x", "calm") for path in KNOWN["ravdess"]])
    notes = look(clips).notes
    assert len(notes) == 4 and notes[-1] == "3 other tables not used"


def test_a_video_and_its_audio_count_once(root):
    touch(root, *[name.replace(".mp4", ".wav") for name in NAMES])
    write(root / "t.csv", ROWS)
    assert len(look(root).rows) == len(NAMES)
