"""Tables with other separators, encodings and column names become deiii's table."""

from __future__ import annotations

import codecs
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.tools.text.decoding import DecodeError, decode
from deiii.pipeline.cut.segments import SegmentError, read_segments
from deiii.pipeline.init.foreign_table import read_foreign
from deiii.pipeline.init.found import UNKNOWN, InitError
from deiii.pipeline.init.look import look
from deiii.pipeline.init.media import Media
from deiii.pipeline.init.table_text import read_table
from tests.pipeline.init.test_folders import touch

CLIPS = [
    ("anna/1.mp4", "anna", "happy"),
    ("anna/2.mp4", "anna", "sad"),
    ("ben/3.mp4", "ben", "happy"),
    ("ben/4.mp4", "ben", "sad"),
]


@pytest.fixture
def root(tmp_path):
    return touch(tmp_path, *[path for path, *_ in CLIPS])


def table(rows, separator=",", ends="\n") -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator, lineterminator=ends).writerows(rows)
    return buffer.getvalue()


def triples(found) -> list[tuple[str, str, str]]:
    return [(row.path, row.speaker, row.label) for row in found.rows]


ENCODINGS = {
    "UTF-8": "utf-8", "BOM": "utf-8-sig", "UTF-16": "utf-16", "UTF-16 without mark": "utf-16-le",
    "big-endian": "utf-16-be", "UTF-32": "utf-32",
}  # fmt: skip


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", sorted(ENCODINGS)[:5])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_separator_encoding_and_line_ends(separator, encoding, ends, root):
    rows = [("File", "Actor", "Emotion"), *CLIPS]
    (root / "labels.csv").write_bytes(table(rows, separator, ends).encode(ENCODINGS[encoding]))
    assert triples(look(root)) == CLIPS


def test_windows_letters_are_read_and_named(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    rows = [("file", "speaker", "emotion"), ("a.mp4", "André", "happy"), ("b.mp4", "Jürgen", "sad")]
    (tmp_path / "t.csv").write_bytes(table(rows, ";").encode("cp1252"))
    found = look(tmp_path)
    assert [row.speaker for row in found.rows] == ["André", "Jürgen"]
    assert "Windows-1252" in found.notes[0]


@pytest.mark.parametrize(
    "header",
    [
        ("path", "speaker", "label"), ("file", "actor", "emotion"), ("filename", "subject", "emotion"),
        ("File Name", "Speaker ID", "Class"), ("filePath", "speakerID", "Emotion_Label"),
        ("wav_path", "spk_id", "emo"), ("Datei", "Sprecher", "Klasse"), (" PATH ", "Participant", "category"),
    ],
)  # fmt: skip
def test_names_of_columns(header, root):
    (root / "meta.csv").write_text(table([(*header, "notes"), *[(*row, "x") for row in CLIPS]]))
    assert triples(look(root)) == CLIPS


@pytest.mark.parametrize(
    "written",
    [
        lambda root, path: str(root / path),
        lambda root, path: path.replace("/", "\\"),
        lambda root, path: f"./{path}",
        lambda root, path: path.split("/")[-1],
        lambda root, path: path.split("/")[-1].removesuffix(".mp4"),
        lambda root, path: f"C:\\data\\corpus\\{path}".replace("/", "\\"),
        lambda root, path: f"/home/somebody/corpus/{path}",
        lambda root, path: path.upper(),
    ],
)
def test_paths_as_others_write_them(written, root):
    rows = [(written(root.resolve(), path), speaker, label) for path, speaker, label in CLIPS]
    (root / "meta.csv").write_text(table([("file", "actor", "emotion"), *rows]))
    assert triples(look(root)) == CLIPS


def test_paths_relative_to_the_folder_of_the_table(tmp_path):
    touch(tmp_path, "wavs/a.wav", "wavs/b.wav", "old/a.wav")
    (tmp_path / "wavs/meta.csv").write_text("file,actor,emotion\na.wav,x,happy\nb.wav,y,sad\n")
    assert [row.path for row in look(tmp_path).rows] == ["wavs/a.wav", "wavs/b.wav"]


def test_a_name_that_several_files_have_is_refused(tmp_path):
    touch(tmp_path, "a/1.wav", "b/1.wav")
    (tmp_path / "meta.csv").write_text("file,emotion\n1.wav,happy\n1.wav,sad\n")
    with pytest.raises(InitError, match=r"row 2: '1.wav' may be a/1.wav, b/1.wav"):
        look(tmp_path, table="meta.csv")


def test_attributes_with_a_decimal_comma_and_a_fold(root):
    rows = [("file", "actor", "V", "A", "fold", "emotion")]
    rows += [(p, s, "0,5", "-0.25", f"f{s}", e) for p, s, e in CLIPS]
    (root / "meta.csv").write_text(table(rows, ";"))
    assert [dict(row.more) for row in look(root).rows][:1] == [
        {"valence": "0.5", "arousal": "-0.25", "fold": "fanna"}
    ]


def test_without_a_speaker_column_speakers_are_unknown(root):
    (root / "meta.csv").write_text(table([("file", "emotion"), *[(p, e) for p, _, e in CLIPS]]))
    found = look(root)
    assert all(row.speaker.startswith(UNKNOWN) for row in found.rows)
    assert "speaker of a clip is not known" in found.notes[-1]
    assert triples(look(root, speaker="^[^/]+")) == CLIPS


def test_without_a_header_emotions_and_files_are_found(root):
    (root / "meta.csv").write_text(table([(s, p, e) for p, s, e in CLIPS]))
    assert triples(look(root)) == CLIPS


def test_lists_of_parts_are_joined(root):
    for part, rows in (("train", CLIPS[:2]), ("test", CLIPS[2:])):
        (root / f"{part}.csv").write_text(table([("file", "actor", "emotion"), *rows]))
    found = look(root)
    assert sorted(triples(found)) == CLIPS
    assert "deiii splits import" in found.notes[-1]


def test_files_that_are_absent_and_recordings_not_listed_are_named(root):
    rows = [("file", "actor", "emotion"), *CLIPS[:3], ("gone.mp4", "cleo", "sad")]
    (root / "meta.csv").write_text(table(rows))
    notes = " ".join(look(root).notes)
    assert "1 file of the table not there: gone.mp4" in notes
    assert "1 recording not in the table, and not used: ben/4.mp4" in notes


def test_a_row_that_contradicts_another_is_refused_and_a_repeated_one_left_out(root):
    rows = [("file", "actor", "emotion"), *CLIPS, CLIPS[0]]
    (root / "meta.csv").write_text(table(rows))
    assert triples(look(root)) == CLIPS
    (root / "meta.csv").write_text(table([*rows, ("anna/1.mp4", "anna", "sad")]))
    with pytest.raises(InitError, match="row 7 names anna/1.mp4 again"):
        look(root, table="meta.csv")


@pytest.mark.parametrize("text", ["", "hello\n", 'path;label\n"open;x\n', "a,b\n1,2\n"])
def test_what_is_no_table_of_recordings_is_passed_over(text, root):
    (root / "readme.txt").write_text(text)
    (root / "meta.csv").write_text(table([("file", "actor", "emotion"), *CLIPS]))
    assert triples(look(root)) == CLIPS
    with pytest.raises(InitError, match="readme.txt"):
        look(root, table="readme.txt")


def test_a_table_that_deiii_reads_is_left_alone(root):
    (root / "clips.csv").write_text(table([("path", "speaker", "label"), *CLIPS]))
    found = look(root)
    assert found.table == str((root / "clips.csv").resolve()) and not found.rows


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cc", "Cs", "Zs"]),
                min_size=1, max_size=6)  # fmt: skip


@given(
    st.lists(st.tuples(cells, cells, cells), min_size=2, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_cells_survive(rows, separator, encoding):
    """A table that the csv module wrote is read as it was, whatever its cells hold."""
    if encoding == "utf-8" and rows[0][0].startswith("\ufeff"):
        return  # that is a byte-order mark
    if any(sign in cell for row in rows for cell in row for sign in ",;\t|\u2028\u2029\x85"):
        return  # which of two signs is the separator is then a guess
    data = table([("path", "speaker", "label"), *rows], separator).encode(encoding)
    text, _ = decode(data)
    stripped = [[cell.strip() for cell in row] for row in rows]
    assert read_table(text)[1:] == [row for row in stripped if any(row)]


def test_marks_are_not_confused():
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF32_LE):
        name = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-32-le"
        assert decode(mark + "pfad".encode(name))[0] == "pfad"
    with pytest.raises(DecodeError, match="zero bytes"):
        decode(b"abc\0def and more text that is Latin")


def test_a_table_with_a_row_that_cannot_be_read_is_not_replaced_by_a_guess(root):
    """Folders and names would give other speakers than the table."""
    rows = [("path", "speaker", "label"), *((path, "one person", label) for path, _, label in CLIPS)]
    (root / "labels.csv").write_text(table([*rows, ("anna/1.mp4", "one person", "angry")]))
    with pytest.raises(InitError, match=r"labels.csv: row 6 names anna/1.mp4 again.*correct the table, or"):
        look(root)


def test_a_row_with_more_cells_than_the_header_is_refused(root):
    """A decimal comma without quotes; cells that are empty do no harm."""
    rows = [("file", "emotion", "actor", "valence"), *((p, e, a, "1", "5") for p, a, e in CLIPS)]
    (root / "labels.csv").write_text(table(rows))
    with pytest.raises(InitError, match="row 2 has 5 cells, the header has 4; quote cells"):
        look(root)
    rows = [("file", "emotion", "actor", "valence"), *((p, e, a, "1", "") for p, a, e in CLIPS)]
    (root / "labels.csv").write_text(table(rows))
    assert [row.more for row in look(root).rows] == [{"valence": "1"}] * 4


def test_the_sex_of_speakers_is_kept(root):
    rows = [("file", "emotion", "actor", "gender"), *((p, e, a, "female") for p, a, e in CLIPS)]
    (root / "labels.csv").write_text(table(rows))
    assert [row.more for row in look(root).rows] == [{"sex": "female"}] * 4


def test_columns_that_are_not_used_are_named(root):
    parts = ("train", "dev", "test", "train")
    rows = [("file", "emotion", "actor", "Set", "weather")]
    rows += [(p, e, a, part, "rain") for (p, a, e), part in zip(CLIPS, parts, strict=True)]
    (root / "labels.csv").write_text(table(rows))
    notes = "\n".join(look(root).notes)
    assert "the column 'Set' divides the clips and is not used" in notes and "splits import" in notes
    assert "columns not used: weather" in notes


def test_joined_lists_are_compared_with_all_recordings_and_with_each_other(root):
    head = ("path", "speaker", "label")
    (root / "train.csv").write_text(table([head, *CLIPS[:2]]))
    (root / "test.csv").write_text(table([head, *CLIPS[2:]]))
    found = look(root)
    assert len(found.rows) == len(CLIPS) and not any("not used" in note for note in found.notes)
    (root / "test.csv").write_text(table([head, *CLIPS[2:], (CLIPS[1][0], "ben", "happy")]))
    with pytest.raises(InitError, match=f"names {CLIPS[1][0]} again"):
        look(root)


@pytest.mark.parametrize(
    ("columns", "cells"),
    [(("train", "val", "test"), ("1", "0", "0")), (("control",), ("yes",)), (("a", "d"), ("hello", "x"))],
)
def test_columns_that_only_sound_like_attributes_are_none(columns, cells, root):
    rows = [("file", "speaker", "emotion", *columns), *((*clip, *cells) for clip in CLIPS)]
    (root / "t.csv").write_text(table(rows))
    assert not any(row.more for row in look(root).rows)


@pytest.mark.parametrize("second", ["happy", "sad"])
def test_segments_of_a_recording_are_refused_with_the_command_that_cuts_them(tmp_path, second):
    (tmp_path / "talk.mp4").write_bytes(b"x")
    table = tmp_path / "segments.csv"
    table.write_text(
        f"file;onset;offset;actor;emotion\ntalk.mp4;0;1;anna;happy\ntalk.mp4;1;2;anna;{second}\n"
    )
    with pytest.raises(InitError, match=r"row 3 names talk.mp4 again; .*`deiii cut .*segments.csv OUT`"):
        read_foreign(table, Media(["talk.mp4"], tmp_path))


def test_meld_names_a_file_by_dialogue_and_utterance(tmp_path):
    """The files of the parts have the same names, in folders of their own."""
    paths = [f"{part}_splits/dia0_utt{n}.mp4" for part in ("dev", "test", "train") for n in (0, 1)]
    touch(tmp_path, *paths)
    for part in ("train", "dev", "test"):
        rows = [(n, "Oh", ("Joey", "Ross")[n], ("joy", "anger")[n], 0, n) for n in (0, 1)]
        head = ("Sr No.", "Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
        (tmp_path / f"{part}_sent_emo.csv").write_text(table([head, *rows]), encoding="utf-8")
    wanted = [
        (path, "Ross" if "utt1" in path else "Joey", "anger" if "utt1" in path else "joy") for path in paths
    ]
    assert triples(look(tmp_path)) == wanted


def test_folders_of_parts_are_no_labels(tmp_path):
    touch(tmp_path, "train_splits/dia0_utt0.mp4", "dev_splits/dia0_utt0.mp4", "testSet/dia0_utt0.mp4")
    with pytest.raises(InitError, match="it is not clear which part of the paths is the label"):
        look(tmp_path)


def test_the_columns_and_unknown_speakers_of_msp_podcast(root):
    rows = [
        ("1.mp4", "A", "3.5", "2.0", "4.0", "12", "Train"),
        ("2.mp4", "X", "3", "2", "4", "Unknown", "Test1"),
        ("3.mp4", "N", "3", "2", "4", "12", "Test2"),
        ("4.mp4", "N", "3", "2", "4", "Unknown", "Test2"),
    ]
    head = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Split_Set")
    (root / "labels_consensus.csv").write_text(table([head, *rows]), encoding="utf-8")
    found = look(root)
    assert [row.label for row in found.rows] == ["A", "X", "N", "N"]
    assert found.rows[0].more == {"valence": "2.0", "arousal": "3.5", "dominance": "4.0"}
    speakers = [row.speaker for row in found.rows]
    assert speakers[0] == speakers[2] == "12" and len(set(speakers)) == 3
    assert all(name.startswith(UNKNOWN) for name in speakers[1::2])


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', " SEP=; ", "sep=;\t"])
def test_a_line_that_states_the_separator_is_read(line):
    assert read_table(f"{line}\na,b;c\n1;2\n") == [["a,b", "c"], ["1", "2"]]


def test_a_stated_separator_may_be_a_tab():
    assert read_table("sep=\t\npath\tlabel\tnote\na\tb\tc\n") == [["path", "label", "note"], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [("sep=;", "no line follows"), ("sep=;\n \n", "no line follows"), ('sep=;\n"a;b\n', "end of")],
)
def test_a_stated_separator_without_a_table_is_refused(tmp_path, text, words):
    with pytest.raises(InitError, match=words):
        read_table(text)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InitError, match=f"a.csv: .*{words}"):
        read_foreign(tmp_path / "a.csv", Media(["a.mp4"], tmp_path))
    with pytest.raises(SegmentError, match=f"a.csv: .*{words}"):
        read_segments(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "text",
    [
        "ben/3.mp4,happy\ncarl/7.mp4,sad\ncarl/8.mp4,sad\ncarl/9.mp4,sad\n",  # of another corpus
        "no.1,happy,anna/1.mp4\nno.2,sad,anna/2.mp4\nno.3,sad\n",  # the last row has no recording
    ],
)
def test_a_table_without_header_and_without_recordings_is_none(root, text):
    (root / "list.csv").write_text(text)
    with pytest.raises(
        InitError, match=r"list.csv: it has no header, and no column .*; write path,speaker,label"
    ):
        look(root, table="list.csv")
    assert look(root, layout="label/clip").how == "layout label/clip"
