"""Spellings in tables: what is one class, what is refused, and files whose names differ in normalisation."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.spelling import JOINERS, clean, fold_labels, spelling_key
from tests.helpers.clipmaker import SHARED, shared
from tests.helpers.clips import write_audio
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import write_rows

INVISIBLE = "\u200b\ufeff\u00ad\u2060\u200e\u202a\u180e\u034f\ufe0f" + JOINERS


def table(root: Path, rows, header=("path", "speaker", "label")):
    """A table of files that exist; a row without a path gets one."""
    numbered = [[row[0] or f"{n}.flac", *row[1:]] for n, row in enumerate(rows)]
    for path, *_ in numbered:
        (root / path).touch()
    write_rows(root, numbered, header)
    return scan(CorpusConfig(name="table", root=str(root)))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("HAPPY", "happy"),
        ("  very \u00a0\t happy\n", "very happy"),
        ("hap\u200bpy", "happy"),
        ("\ufeffhappy\u200e", "happy"),
        ("ＨＡＰＰＹ", "happy"),
        ("Straße", "strasse"),
        ("tre\u0300s", "tr\u00e8s"),
        ("1", "1"),
        ("1.0", "1"),
        ("01", "1"),
        ("+1.00", "1"),
        ("1,0", "1"),
        ("-0", "0"),
        ("0.5", "1/2"),
        ("٣", "3"),
        ("1e3", "1e3"),
        ("1_0", "1_0"),
        ("100000000000000000001", "100000000000000000001"),
        ("1.000000000000000000e+00", "1"),
        ("2.50E-01", "1/4"),
        ('="01"', "1"),
        ("'1", "1"),
        ("'90s", "'90s"),
        ("\u22121", "-1"),
        ("\u20131.0", "-1"),
        ("non\u2010happy", "non happy"),
        ("non\u2011happy", "non happy"),
        ("non_happy", "non happy"),
        ("s-1", "s 1"),
        ("1-2", "1-2"),
        ("happy.", "happy"),
        ("1.", "1"),
        ("happy?", "happy?"),
        ("valence-", "valence-"),
        ("'happy'", "happy"),
        ("\u201chappy.\u201d;", "happy"),
        ("?", "?"),
        ("don\u2019t", "don't"),
        ("KIZGIN", "kizgin"),
        ("k\u0131zg\u0131n", "kizgin"),
        ("S\u0130N\u0130RL\u0130", "sinirli"),
        ("\u0633\u0639\u064a\u0640\u062f", "\u0633\u0639\u064a\u062f"),
        ("1,000", "1,000"),
        ("0,500", "1/2"),
    ],
)
def test_keys(text, key):
    assert spelling_key(text) == key


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", *INVISIBLE])), min_size=5, max_size=5))
def test_case_and_invisible_characters_make_no_class(changes):
    text = "".join((c.upper() if up else c) + odd for c, (up, odd) in zip("happy", changes, strict=True))
    classes, notes = fold_labels([(2, "happy"), (3, "happy"), (4, text)])
    assert set(classes.values()) == {"happy"}
    assert bool(notes) == (text != "happy")
    assert all("(row 4)" in note for note in notes)


def test_the_report_of_seven_spellings(tmp_path, capsys):
    """HAPPY, Happy, happy, one with a zero-width space, 1, 1.0 and nan: two classes, and a row refused."""
    rows = [["Happy"], ["happy"], ["HAPPY"], ["hap\u200bpy"], ["1"], ["1.0"], ["nan"]]
    rows = [
        [f"{name}.flac", f"s{min(n // 2, 2) + 1}", *label]
        for n, (name, label) in enumerate(zip("abcdefg", rows, strict=True))
    ]
    if SHARED:
        assert Path(shared("media/reports/F13_labels.csv")).read_text() == "path,speaker,label\n" + "".join(
            ",".join([p, s, label]) + "\n" for n, (p, s, label) in enumerate(rows)
        )
    for path, *_ in rows:
        (tmp_path / path).touch()
    write_rows(tmp_path, rows)
    words = ["corpus.name=table", f"corpus.root={tmp_path}", f"cache={tmp_path / 'cache'}"]
    assert preprocess(*words) == 1
    told = capsys.readouterr().err
    assert "row 8: label is 'nan'" in told and "remove the row" in told
    corpus = table(tmp_path, rows[:-1])
    assert corpus.classes == ("1", "happy")
    assert [c.label for c in corpus.clips] == ["happy"] * 4 + ["1"] * 2
    assert len(corpus.notes) == 2
    for part in (
        "'Happy' (row 2)",
        "'HAPPY' (row 4)",
        "'hap\\u200bpy' (row 5)",
        "'1.0' (row 7)",
        "read as 'happy'",
    ):
        assert any(part in note for note in corpus.notes)


def test_the_most_frequent_spelling_names_the_class(tmp_path):
    rows = [["", "a", "Sad"], ["", "b", "Sad"], ["", "c", "sad"], ["", "d", "JOY"], ["", "e", "joy"]]
    assert table(tmp_path, rows).classes == ("Sad", "joy")


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "NA", "n/a", "#N/A", "<NA>", "null", "None", "NaT", "-inf", "#REF!"]
)
@pytest.mark.parametrize("column", ["label", "speaker", "fold"])
def test_missing_values_are_no_names(tmp_path, text, column):
    names = ("path", "speaker", "label", "fold")
    rows = [[f"{n}.flac", f"s{n}", "happy", "f1"] for n in range(4)]
    for row in (rows[1], rows[3]):
        row[names.index(column)] = text
    with pytest.raises(CorpusError, match=f"rows 3, 5: {column} is .* missing value"):
        table(tmp_path, rows, names)


def test_a_label_of_invisible_characters_is_blank(tmp_path):
    with pytest.raises(CorpusError, match="row 2: label is blank"):
        table(tmp_path, [["", "a", "\u200b \u2060"]])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1", "1.0"),
        ("Fold 1", "fold 1"),
        ("ann", "ａｎｎ"),
        ("7", "07"),
        ("ann-b", "ann\u2011b"),
        ("-1", "\u22121"),
        ("\u0131lgaz", "ILGAZ"),
    ],
)
@pytest.mark.parametrize("column", [1, 3])
def test_two_spellings_of_a_speaker_or_fold_are_refused(tmp_path, first, second, column):
    rows = [["", "anna", "x", "f1"], ["", "ben", "y", "f2"]]
    rows[0][column], rows[1][column] = first, second
    with pytest.raises(CorpusError, match="row 2.*row 3.*differ in spelling alone"):
        table(tmp_path, rows, ("path", "speaker", "label", "fold"))


def test_invisible_characters_in_a_speaker_are_left_out_and_told(tmp_path):
    corpus = table(tmp_path, [["", "anna", "x"], ["", "an\u200bna", "y"]])
    assert corpus.speakers == ("anna",)
    assert any("'an\\u200bna' is read as 'anna' (row 3)" in note for note in corpus.notes)


def test_letters_that_look_alike_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"'happy' \(row 2\) and 'h\\u0430ppy' \(row 3\) look alike"):
        table(tmp_path, [["", "a", "happy"], ["", "b", "h\u0430ppy"]])


@pytest.mark.parametrize(("first", "second"), [("\u064a", "\u06cc"), ("\u0643", "\u06a9")])
def test_arabic_and_persian_forms_of_a_letter_are_refused(tmp_path, first, second):
    with pytest.raises(CorpusError, match="look alike"):
        table(tmp_path, [["", "a", f"\u0634\u0627{first}"], ["", "b", f"\u0634\u0627{second}"]])


@pytest.mark.parametrize("other", ["1000", "1", "1.0"])
def test_a_number_that_can_mean_two_others_is_refused(tmp_path, other):
    with pytest.raises(CorpusError, match=r"'1,000' \(row 2\) can mean 1000 or 1, and .* \(row 3\)"):
        table(tmp_path, [["", "a", "1,000"], ["", "b", other]])
    assert table(tmp_path, [["", "a", "1,000"], ["", "b", "2"]]).classes == ("1,000", "2")


def test_a_number_that_a_spreadsheet_keeps_as_text_is_that_number(tmp_path):
    corpus = table(tmp_path, [["", "a", '="01"'], ["", "b", '="02"'], ["", "c", '="01"']])
    assert corpus.classes == ("01", "02")


def test_plain_tables_are_read_as_before(tmp_path):
    corpus = table(tmp_path, [["", "Anna B", "very happy"], ["", "ben", "neutral"], ["", "c", "α wave"]])
    assert corpus.classes == ("neutral", "very happy", "α wave") and corpus.notes == ()
    assert clean("Zoë") == "Zoë"


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_files_are_found_in_either_normalisation(tmp_path, capsys, on_disk, in_table):
    """As after unpacking on macOS: the real command finds the file and computes its features."""
    name = "Zoë/é motion.flac"
    disk = unicodedata.normalize(on_disk, name)
    write_audio(tmp_path / "raw" / disk, 0.3)
    write_rows(tmp_path / "raw", [[unicodedata.normalize(in_table, name), "zoe", "happy"]])
    words = ["corpus.name=table", f"corpus.root={tmp_path / 'raw'}", f"cache={tmp_path / 'cache'}"]
    corpus = scan(CorpusConfig(name="table", root=str(tmp_path / "raw")))
    assert corpus.clips[0].path == disk
    if on_disk == "NFD":
        assert preprocess(*words, "stages=[logmel]") == 0
        assert "missing" not in capsys.readouterr().out


def test_a_file_found_by_its_normalised_name_may_not_lead_out_of_the_root(tmp_path):
    outside = tmp_path / "outside.flac"
    outside.touch()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / unicodedata.normalize("NFD", "é.flac")).symlink_to(outside)
    write_rows(tmp_path / "raw", [["\u00e9.flac", "a", "x"]])
    with pytest.raises(CorpusError, match="row 2: .*outside corpus.root"):
        scan(CorpusConfig(name="table", root=str(tmp_path / "raw")))


def test_blanks_around_a_label_that_make_one_class_of_two_are_reported(tmp_path):
    corpus = table(
        tmp_path, [["", "s1", "happy"], ["", "s2", "happy "], ["", "s3", "\tsad"], ["", "s4", "\tsad"]]
    )
    assert corpus.classes == ("happy", "sad")
    assert [note.partition(": ")[2] for note in corpus.notes] == ["label 'happy ' (row 3) is read as 'happy'"]


def test_blanks_around_a_speaker_that_make_one_of_two_are_reported(tmp_path):
    corpus = table(
        tmp_path, [["", "anna", "a"], ["", " anna", "b"], ["", " ben", "a"], ["", "\u200bcleo", "a"]]
    )
    assert corpus.speakers == ("anna", "ben", "cleo")
    assert [note.partition(": ")[2] for note in corpus.notes] == [
        "speaker ' anna' is read as 'anna' (row 3)",
        "speaker '\\u200bcleo' is read as 'cleo' (row 5)",
    ]


def test_a_cell_with_several_labels_is_named(tmp_path):
    corpus = table(
        tmp_path, [["", "s1", "happy;sad"], ["", "s1", "happy"], ["", "s2", "sad"], ["", "s2", "a/b"]]
    )
    assert corpus.classes == ("a/b", "happy", "happy;sad", "sad")
    (note,) = corpus.notes
    assert "'happy;sad' (row 2) is a class of its own, beside happy, sad; give each clip one label" in note


def test_separators_and_signs_make_no_class(tmp_path):
    rows = [
        ["", "s1", "very happy"],
        ["", "s1", "very happy"],
        ["", "s2", "very_happy"],
        ["", "s2", "Very-happy."],
    ]
    corpus = table(tmp_path, rows)
    assert corpus.classes == ("very happy",)
    assert "'very_happy' (row 4), 'Very-happy.' (row 5) are read as 'very happy'" in corpus.notes[0]
