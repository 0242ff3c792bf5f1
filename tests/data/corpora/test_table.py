"""CSV tables: what is read, what is refused with its row, and paths that must not leave the root."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, CorpusError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.table import Root, attribute_ranges
from tests.helpers.layouts import decodes, place


def scan_text(root: Path, text: str, encoding: str = "utf-8"):
    (root / "clips.csv").write_bytes(text.encode(encoding))
    return scan(CorpusConfig(name="table", root=str(root), table="clips.csv"))


@pytest.fixture
def root(tmp_path):
    assert decodes(place(tmp_path, "a/one.mp4"))[0] == 5
    place(tmp_path, "a/two.flac")
    return tmp_path


def test_reads_a_table(root):
    corpus = scan_text(
        root,
        "path,speaker,label,valence,arousal,dominance,fold,remark\n"
        "a/two.flac,bea,sad,-0.5,0.25,,f2,x\n"
        "a/one.mp4,anna,happy,0.5,,0,f1,\n",
    )
    one, two = corpus.clips
    assert (one.id, one.path, one.speaker, one.label, one.fold) == (
        "a/one",
        "a/one.mp4",
        "anna",
        "happy",
        "f1",
    )
    assert one.attributes == {"valence": 0.5, "dominance": 0.0}
    assert two.attributes == {"valence": -0.5, "arousal": 0.25}
    assert corpus.classes == ("happy", "sad")
    assert (corpus.name, corpus.protocol) == ("table-clips", "speakers")
    assert set(corpus.ranges.values()) == {(-1.0, 1.0)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheet_spellings(root, encoding, end):
    text = end.join(
        ["Path , SPEAKER,label", '"a/one.mp4"," Änne ","very, happy"', "", ",,", "a\\two.flac,b,sad", ""]
    )
    one, two = scan_text(root, text, encoding).clips
    assert (one.speaker, one.label) == ("Änne", "very, happy")
    assert two.path == "a/two.flac"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a/one.mp4,,happy", "row 2: speaker is blank; write one name per person"),
        ("a/one.mp4, ,happy", "row 2: speaker is blank"),
        (",anna,happy", "row 2: path is blank"),
        ("a/one.mp4,anna,", "row 2: label is blank"),
        ("a/one.mp4,anna", "row 2: 2 cells"),
        ("a/one.mp4,anna,happy\na/one.mp4,bea,sad", "row 3: a/one.mp4 is named before, in row 2; remove one"),
        ("a/one.mp4,anna,happy\n./a//one.mp4,bea,sad", "row 3: a/one.mp4 is named before, in row 2"),
        ("a/one.mp4,anna,happy\nb.mp4,Anna,sad", r"'anna' \(row 2\) and 'Anna' \(row 3\) differ in spelling"),
        ("../one.mp4,anna,happy", "row 2: path"),
        ("a/../../one.mp4,anna,happy", "row 2: path"),
        ("/etc/passwd,anna,happy", "row 2: .*outside corpus.root"),
        ("C:\\one.mp4,anna,happy", "row 2: .*outside corpus.root"),
        (".,anna,happy", "row 2: path"),
        ("a/one\0.mp4,anna,happy", "row 2"),
        ('"a/one.mp4,anna,happy', "row 2"),
        ("absent.mp4,anna,happy", "none of its files exists"),
        ("a/one.mp4,anna,happy\npath,speaker,label\nb.mp4,b,sad", "row 3: the header is there again"),
        ("a/one.mp4,anna,happy\n\ufeffPath, Speaker,LABEL,\nb.mp4,b,sad", "row 3: the header is there again"),
        ("a/one.mp4,anna,very, happy", "row 2: 4 cells, the header has 3; quote cells"),
        ('a/one.mp4, "anna, b", "happy"', "row 2: a quoted cell begins with a blank"),
        ("", "no rows"),
    ],
)
def test_bad_rows(root, rows, message):
    with pytest.raises(CorpusError, match=message):
        scan_text(root, "path,speaker,label\n" + rows)


def test_a_name_with_a_colon_is_no_windows_path(root):
    (root / "a:b.mp4").touch()
    assert scan_text(root, "path,speaker,label\na:b.mp4,anna,happy\n").clips[0].path == "a:b.mp4"


def test_empty_cells_behind_the_header_are_none(root):
    assert len(scan_text(root, "path,speaker,label,,\na/one.mp4,anna,happy,,\na/two.flac,b,sad\n").clips) == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "high", "NaN", "1_0", "True", '"0,5"'])
def test_bad_numbers(root, value):
    with pytest.raises(CorpusError, match="row 2: valence"):
        scan_text(root, f"path,speaker,label,valence\na/one.mp4,anna,happy,{value}")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label", "no column speaker"),
        ("path;speaker;label", "semicolons"),
        ("path\tspeaker\tlabel", "tabs"),
        ("path,speaker,label,valance", "'valance'; did you mean 'valence'"),
        ("path,speaker,label,label", "'label' is there twice"),
        ("", "no column path, speaker, label"),
    ],
)
def test_bad_headers(root, header, message):
    with pytest.raises(CorpusError, match=message):
        scan_text(root, header + "\na/one.mp4,anna,happy\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"path";"speaker";"label"\n"a/one.mp4";"anna";"x"\n', "separated by semicolons"),
        (b"path|speaker|label\na/one.mp4|anna|x\n", "separated by semicolons, tabs or bars"),
        (b'"path"|"speaker"|"label"\n"a/one.mp4"|"anna"|"x"\n', "separated by semicolons, tabs or bars"),
        (b"sep=,\npath,speaker,label\na/one.mp4,anna,x\n", "row 1: the line sep="),
        (b"sep=;\npath;speaker;label\na/one.mp4;anna;x\n", "row 1: the line sep="),
        ("path,speaker,label\na/one.mp4,anna,x\n".encode("utf-16"), "save it as CSV UTF-8"),
        ("path,speaker,label\na/one.mp4,anna,x\n".encode("utf-16-le"), "save the table as CSV UTF-8"),
        (b"PK\x03\x04" + bytes(60), "save the table as CSV UTF-8"),
    ],
)
def test_files_that_are_no_csv_with_commas_in_utf8(root, content, message):
    (root / "clips.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        scan(CorpusConfig(name="table", root=str(root), table="clips.csv"))


def test_signs_for_minus(root):
    corpus = scan_text(root, "path,speaker,label,valence\na/one.mp4,anna,happy,\u22120.5\na/two.flac,b,x,0\n")
    assert corpus.clips[0].attributes == {"valence": -0.5}


def test_not_utf8(root):
    with pytest.raises(CorpusError, match="not UTF-8"):
        scan_text(root, "path,speaker,label\na/one.mp4,Änne,happy", "latin-1")


def test_attributes_without_classes(root):
    corpus = scan_text(root, "path,speaker,label,arousal\na/one.mp4,anna,,3\n")
    assert corpus.classes == ()
    assert corpus.clips[0].label is None
    assert corpus.ranges == {"arousal": (1.0, 5.0)}


def test_a_missing_file_is_left_to_the_stages(root):
    corpus = scan_text(root, "path,speaker,label\na/one.mp4,anna,happy\na/gone.mp4,bea,sad\n")
    assert [c.id for c in corpus.clips] == ["a/gone", "a/one"]


def test_ids_keep_suffixes_where_clips_differ_in_nothing_else(root):
    rows = ["a.mp4", "a.wav", "b.mp4", "a.mp4.wav", "a/one.mp4"]
    text = "path,speaker,label\n" + "".join(f"{p},anna,happy\n" for p in rows)
    ids = {c.path: c.id for c in scan_text(root, text).clips}
    assert ids == {
        "a.mp4": "a.mp4",
        "a.wav": "a.wav",
        "b.mp4": "b",
        "a.mp4.wav": "a.mp4.wav",
        "a/one.mp4": "a/one",
    }


def test_absolute_paths_inside_the_root(root, tmp_path_factory):
    corpus = scan_text(root, f"path,speaker,label\n{root}/a/one.mp4,anna,happy\n")
    assert corpus.clips[0].path == "a/one.mp4"
    link = tmp_path_factory.mktemp("link") / "corpus"
    link.symlink_to(root)
    (root / "clips.csv").write_text(f"path,speaker,label\n{root}/a/one.mp4,a,x\n{link}/a/two.flac,b,y\n")
    corpus = scan(CorpusConfig(name="table", root=str(link), table="clips.csv"))
    assert [c.path for c in corpus.clips] == ["a/one.mp4", "a/two.flac"]


def test_links_may_not_lead_out(root, tmp_path_factory):
    outside = place(tmp_path_factory.mktemp("outside"), "secret.mp4")
    (root / "file.mp4").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    (root / "inside.mp4").symlink_to(root / "a" / "one.mp4")
    for path in ("file.mp4", "folder/secret.mp4"):
        with pytest.raises(CorpusError, match="row 2: .*leads outside"):
            scan_text(root, f"path,speaker,label\n{path},anna,happy\n")
    assert scan_text(root, "path,speaker,label\ninside.mp4,anna,happy\n").clips[0].path == "inside.mp4"


@given(st.text(alphabet="ab./\\:~ ", max_size=12))
def test_no_spelling_leaves_the_root(text):
    root = Root(Path("/somewhere/corpus"))
    try:
        path = root.relative(text)
    except CorpusError:
        return
    inside = Path("/somewhere/corpus", path).resolve()
    assert Path("/somewhere/corpus") in inside.parents
    assert root.relative(path) == path


def test_where_the_table_lies(root, tmp_path_factory, monkeypatch):
    here = tmp_path_factory.mktemp("here")
    (here / "mine.csv").write_text("path,speaker,label\na/one.mp4,here,happy\n")
    (root / "mine.csv").write_text("path,speaker,label\na/one.mp4,root,happy\n")
    config = CorpusConfig(name="table", root=str(root), table="mine.csv")
    monkeypatch.chdir(here)
    assert scan(config).speakers == ("here",)
    (here / "mine.csv").unlink()
    assert scan(config).speakers == ("root",)
    (root / "mine.csv").unlink()
    with pytest.raises(CorpusError, match="no table mine.csv"):
        scan(config)
    with pytest.raises(CorpusError, match="corpus.table names no CSV"):
        scan(CorpusConfig(name="table", root=str(root)))


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        ([0.0, 1.0], (0.0, 1.0)),
        ([-0.1, 0.1], (-1.0, 1.0)),
        ([1.0, 5.0], (1.0, 5.0)),
        ([1.0, 5.1], (1.0, 7.0)),
        ([2.0, 9.0], (1.0, 9.0)),
    ],
)
def test_ranges_are_standard_ones_not_the_observed(values, bounds):
    clips = [Clip(str(v), "p", "s", attributes={"valence": v}) for v in values]
    assert attribute_ranges(clips) == {"valence": bounds}


@pytest.mark.parametrize("values", [[0.5, 5.0], [-2.0, 0.0], [0.0, 100.0]])
def test_other_ranges_are_refused(values):
    clips = [Clip(str(v), "p", "s", attributes={"valence": v}) for v in values]
    with pytest.raises(CorpusError, match="rescale"):
        attribute_ranges(clips)


def test_a_speaker_has_one_sex(root):
    rows = "path,speaker,label,sex\na/one.mp4,anna,sad,F\nb.mp4,ben,sad,Mann\na/two.flac,anna,happy,{}\n"
    with pytest.raises(CorpusError, match="speaker anna is female in row 2 and male in row 4; correct one"):
        scan_text(root, rows.format("male"))
    corpus = scan_text(root, rows.format(""))
    assert [clip.sex for clip in corpus.clips] == ["female", "", ""]
    (note,) = corpus.notes
    assert note.endswith("sex 'Mann' is not understood and left out; write female or male (row 3)")


@pytest.mark.parametrize("column", ["start", "Onset", "duration", "end_s", "Begin Time"])
def test_segments_of_one_recording_are_refused_with_the_remedy(root, column):
    rows = "a/one.mp4,anna,happy,0\na/one.mp4,anna,sad,2.5"
    remedy = f"row 3: .* in row 2; the column {column.lower()} suggests.*`deiii cut .*clips.csv OUT`"
    with pytest.raises(CorpusError, match=remedy):
        scan_text(root, f"path,speaker,label,{column}\n{rows}")


def test_control_characters_in_a_path_are_refused_with_the_remedy(root):
    with pytest.raises(CorpusError, match=r"row 3: path 'a\\nb.mp4' holds control .*; rename the file"):
        scan_text(root, 'path,speaker,label\n"a\nb.mp4",anna,happy\n')


def test_an_unknown_speaker_is_named(root):
    (note,) = scan_text(root, "path,speaker,label\na/one.mp4,Unknown,x\na/two.flac,Unknown,x\n").notes
    assert "speaker 'Unknown' (2 clips) counts as one person" in note


@pytest.mark.parametrize(("one", "other"), [("s01", "s1"), ("Actor_1", "actor 01"), ("1-002", "01-2")])
def test_a_speaker_with_and_without_zeros_before_the_number_is_refused(root, one, other):
    with pytest.raises(CorpusError, match="differ in spelling alone"):
        scan_text(root, f"path,speaker,label\na/one.mp4,{one},x\na/two.flac,{other},x\n")


@pytest.mark.parametrize(("one", "other"), [("s10", "s1"), ("s100", "s1"), ("1.05", "1.5"), ("x0", "x")])
def test_other_zeros_in_the_names_of_speakers_count(root, one, other):
    assert (
        len(scan_text(root, f"path,speaker,label\na/one.mp4,{one},x\na/two.flac,{other},x\n").speakers) == 2
    )
