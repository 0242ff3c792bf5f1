"""Published forms of lists: each gives its parts, and what is left out of a split is named."""

from __future__ import annotations

import json

import pytest

from deiii.data.audit.lists import read_lists
from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.protocol import SplitError, match_clips
from deiii.data.corpora.scan import scan
from deiii.data.tools.text.part_names import part_of

MELD = "Sr No.,Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n"


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def short(protocol, fold=0):
    """The stems of the names in each part."""
    return {
        part: [name.split("/")[-1].split(".")[0] for name in names]
        for part, names in protocol.parts[fold].items()
    }


PARTS = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


@pytest.mark.parametrize(
    "text",
    [
        "{0}_face.npy;{0}_voice.wav;3;{1}\n",  # OpenDR's annotations.txt
        "/my clips/{0}.mp4 3 {1}\n",
        "{0}.mp4,{1}\n",
        "{0}\t{1}\tsad\n",
    ],
)
def test_a_column_of_parts_without_a_header(text, tmp_path):
    words = {"train": "training", "val": "validation", "test": "testing"}
    lines = [text.format(name, words[part]) for part, names in PARTS.items() for name in names]
    found = short(read_lists(write(tmp_path / "annotations.txt", "".join(lines))))
    assert {part: [name[0] for name in names] for part, names in found.items()} == PARTS


def test_bars_between_cells(tmp_path):
    """As in LJSpeech's metadata.csv; a list of Kaldi has one at the end of commands."""
    write(tmp_path / "lists/train.txt", "a.wav|Hello, you|0\nb.wav|Oh; no|1\n")
    write(tmp_path / "lists/test.txt", "c cat c.sph |\nd cat d.sph |\n")
    (parts,) = read_lists(tmp_path / "lists").parts
    assert parts == {"train": ("a.wav", "b.wav"), "test": ("c cat c.sph", "d cat d.sph")}


@pytest.mark.parametrize(
    "text",
    [
        'path,text\na.wav,Yes\nb.wav,"No\nc.wav,Oh\n',
        'path\ttext\na.wav\t"Yes\nb.wav\tNo\nc.wav\t"Oh\n',
        '"a.wav,sad\nb.wav,sad\nc.wav,sad\n',
    ],
)
def test_a_quotation_mark_that_is_not_closed_hides_no_rows(text, tmp_path):
    """The rows up to the next mark were part of one cell, and their clips were missing without a word."""
    write(tmp_path / "lists/test.csv", "d.wav,sad\n")
    write(tmp_path / "lists/train.csv", text)
    with pytest.raises(SplitError, match=r"train.csv cannot be read as a list: .* line [34] .* not closed"):
        read_lists(tmp_path / "lists")
    closed = 'path,text\na.wav,"Yes,\nyes"\nb.wav,"She said ""No"""\nc.wav,Oh\n'
    write(tmp_path / "lists/train.csv", closed)
    assert read_lists(tmp_path / "lists").parts[0]["train"] == ("a.wav", "b.wav", "c.wav")


JSON = {
    "folds by name": {f"fold{k}": PARTS for k in (1, 2)},
    "folds in order": [PARTS, PARTS],
    "the part of each clip": {name: part for part, names in PARTS.items() for name in names},
    "objects of clips": {part: {name: {"emo": "sad"} for name in names} for part, names in PARTS.items()},
}


@pytest.mark.parametrize("form", JSON)
def test_forms_of_json(form, tmp_path):
    found = read_lists(write(tmp_path / "lists.json", json.dumps(JSON[form])))
    assert len(found.parts) == (2 if form.startswith("folds") else 1)
    assert short(found, -1) == PARTS


def test_what_stands_beside_folds_is_refused(tmp_path):
    file = write(tmp_path / "lists.json", json.dumps({"fold1": PARTS, "extra": ["z"]}))
    with pytest.raises(SplitError, match="'extra' stands beside folds"):
        read_lists(file)


def test_kaldi_lists_its_recordings_in_wav_scp(tmp_path):
    for part, lines in {
        "train": "a /x/a.wav\nb sph2pipe -f wav /x/b.sph |\n", "test": "d\td.wav\n",
    }.items():  # fmt: skip
        write(tmp_path / part / "wav.scp", lines)
        write(tmp_path / part / "feats.scp", "z /x/raw.1.ark:13\n")
        write(tmp_path / part / "utt2spk", "a anna\n")
    assert short(read_lists(tmp_path)) == {"train": ["a", "b"], "test": ["d"]}


def test_meld_names_a_file_by_dialogue_and_utterance_and_its_part_by_the_folder(tmp_path):
    for part in ("train", "dev", "test"):
        write(tmp_path / f"{part}_sent_emo.csv", f'{MELD}1,"Oh,\nno",Joey,joy,0,3\n')
        write(tmp_path / f"{part}_splits/dia0_utt3.mp4", "")
    rows = "".join(f"{part}_splits/dia0_utt3.mp4,{part},joy\n" for part in ("train", "dev", "test"))
    write(tmp_path / "all/clips.csv", f"path,speaker,label\n{rows}")
    found = read_lists(tmp_path)
    assert short(found) == dict.fromkeys(("train", "val", "test"), ["dia0_utt3"])
    config = CorpusConfig(name="table", root=str(tmp_path), table=str(tmp_path / "all/clips.csv"))
    clips = match_clips(scan(config), found, 0)
    assert [[c.speaker for c in clips[part]] for part in ("train", "val", "test")] == [
        ["train"], ["dev"], ["test"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "column",
    ["audio_filepath", "fileName", "Video Path", "clip_name", "Dateiname", "relative_path", "videoId"],
)
@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_names_of_the_column_of_files(column, suffix, tmp_path):
    """The column may be behind others: of a name that is not known, the first column would be read."""
    rows = [{"duration": "1.5", column: f"{part}.wav", "split": part} for part in ("train", "test")]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    text = json.dumps(rows) if suffix == ".json" else "\n".join(lines)
    assert short(read_lists(write(tmp_path / f"l{suffix}", text))) == {"train": ["train"], "test": ["test"]}


def test_a_column_of_folders_beside_the_names_of_files(tmp_path):
    file = write(tmp_path / "l.csv", "path,filename,split\nx,a.wav,train\nx,b.wav,test\n")
    assert short(read_lists(file)) == {"train": ["a"], "test": ["b"]}


def test_a_line_of_json_may_hold_unicode_line_separators(tmp_path):
    for part in ("train", "test"):
        line = json.dumps({"file_name": f"{part}.wav", "text": "a\u2028b\u0085c"}, ensure_ascii=False)
        write(tmp_path / part / "metadata.jsonl", f"{line}\r\n")
    assert short(read_lists(tmp_path)) == {"train": ["train"], "test": ["test"]}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "cp1252"])
def test_encodings_of_spreadsheets(encoding, tmp_path, caplog):
    file = write(tmp_path / "l.csv", "\n\nFile Name;Split Set\né.wav;Train\nb.wav;Test\n", encoding)
    assert short(read_lists(file)) == {"train": ["é"], "test": ["b"]}
    assert ("Windows-1252" in caplog.text) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("data", "words"), [(b"PK\x03\x04\x14\0\x80", "workbook.* as CSV UTF-8"), (b"PAR1\x80\0", "Parquet")]
)
def test_a_workbook_is_named_with_the_remedy(data, words, tmp_path):
    (tmp_path / "l.xlsx").write_bytes(data)
    with pytest.raises(SplitError, match=words):
        read_lists(tmp_path / "l.xlsx")


def test_files_and_rows_in_no_part_are_named(tmp_path, caplog):
    write(tmp_path / "stats.json", "[1, 2]")
    write(tmp_path / "trainval.txt", "a\nb")
    write(tmp_path / "all.csv", "file,set\na,train\nb,holdout\nc,Test\nd,\n")
    assert short(read_lists(tmp_path)) == {"train": ["a"], "test": ["c"]}
    assert "2 rows left out, in no part: blank 1, holdout 1" in caplog.text
    assert "left out 2 files without clips in a part: stats.json (no list: 1 is neither" in caplog.text
    assert "trainval.txt" in caplog.text


def test_parts_that_are_joined_are_named(tmp_path, caplog):
    """MSP-Podcast has Test1 to Test3, on which scores are published separately."""
    rows = "a,Train\nb,Test1\nc,Test2\nd,Test2\n"
    file = write(tmp_path / "labels_consensus.csv", f"FileName,Split_Set\n{rows}")
    assert short(read_lists(file))["test"] == ["b", "c", "d"]
    assert "Test1 1, Test2 2 are joined to one part, test" in caplog.text


def test_words_that_name_no_part_are_not_taken_for_parts_that_are_joined(tmp_path, caplog):
    """The folder names the part; the column ``phase`` says something else."""
    for part in ("train", "test"):
        write(tmp_path / f"{part}.csv", f"file,phase\n{part}1,acted\n{part}2,spontaneous\n")
    assert short(read_lists(tmp_path)) == {"train": ["train1", "train2"], "test": ["test1", "test2"]}
    assert "joined" not in caplog.text


@pytest.mark.parametrize("text", [",,\n,,\n", ";\n", "file,split\n", "\n"])
def test_a_table_without_a_cell_or_with_a_header_alone_has_no_clips(text, tmp_path, caplog):
    """Exports of an empty sheet; rows of empty cells ended the command with an IndexError."""
    write(tmp_path / "val.csv", text)
    with pytest.raises(SplitError, match=r"none of 1 file \(val.csv \(no clips\)\) has clips in a part"):
        read_lists(tmp_path)
    write(tmp_path / "train.csv", "a\n")
    write(tmp_path / "test.csv", "b\n")
    assert short(read_lists(tmp_path)) == {"train": ["a"], "test": ["b"]}
    assert "left out 1 file without clips in a part: val.csv (no clips)" in caplog.text


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("trainlist01.txt", "train"), ("TestSet.csv", "test"), ("devFiles.csv", "val"), ("Test2", "test"),
        ("trainval.txt", None), ("train_val.txt", None), ("dataset.csv", None), ("x\\train.csv", "train"),
    ],
)  # fmt: skip
def test_names_of_parts_in_one_word(name, part):
    assert part_of(name) == part
