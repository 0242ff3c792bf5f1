"""Foreign lists: every published form gives the same protocol; what cannot be read is refused."""

from __future__ import annotations

import json

import pytest

from deiii.data.audit.lists import fold_of, read_lists, write_protocol
from deiii.data.corpora.protocol import SplitError, load_protocol
from deiii.data.tools.text.part_names import part_of

TRAIN, VAL, TEST = ["a-1", "a-2", "b-1"], ["c-1"], ["d-1", "d-2"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def plain(names, separator=" "):
    return "".join(f"/data/x/{name}.wav{separator}3\n" for name in names)


def headed(names):
    return "label,FileName\n" + "".join(f"sad,{name}.wav\n" for name in names)


def jsonl(names):
    return "".join(json.dumps({"key": f"set-{n}", "wav": f"a/{n}.wav", "emo": "x"}) + "\n" for n in names)


def by_key(names):
    return json.dumps({f"set-{n}": {"wav": f"a/{n}.wav"} for n in names})


FORMS = {
    "csv with blanks": ("{part}.csv", plain),
    "csv with commas": ("{part}.csv", lambda names: plain(names, ",")),
    "csv with semicolons": ("my_{part}_list.csv", lambda names: plain(names, ";")),
    "tsv": ("{part}.tsv", lambda names: plain(names, "\t")),
    "text": ("{part}.txt", lambda names: "\n".join(names)),
    "header": ("split_{part}.csv", headed),
    "json lines": ("{part}/data.jsonl", jsonl),
    "json of objects": ("{part}.json", by_key),
    "json of names": ("{part}.json", json.dumps),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("words", [("train", "val", "test"), ("training", "dev", "testing")])
def test_a_list_for_each_part(tmp_path, form, words):
    name, text = FORMS[form]
    for word, names in zip(words, (TRAIN, VAL, TEST), strict=True):
        write(tmp_path / "lists" / name.format(part=word), text(names))
    found = read_lists(tmp_path / "lists")
    assert found.validation == "given" and found.kind == "clips"
    short = [
        [c.split("/")[-1].removesuffix(".wav") for c in found.parts[0][p]] for p in ("train", "val", "test")
    ]
    assert short == [TRAIN, VAL, TEST]
    write_protocol(tmp_path / "p.yaml", found)
    assert load_protocol(str(tmp_path / "p.yaml")) == found


def test_folds_in_folders_and_in_names(tmp_path):
    for fold in (1, 2, 10):
        write(tmp_path / f"a/fold_{fold}/train.csv", plain([f"t{fold}"]))
        write(tmp_path / f"a/fold_{fold}/test.csv", plain([f"s{fold}"]))
        write(tmp_path / f"b/x_train_fold{fold}.csv", plain([f"t{fold}"]))
        write(tmp_path / f"b/x_test_fold{fold}.csv", plain([f"s{fold}"]))
    for folder in "ab":
        found = read_lists(tmp_path / folder)
        assert [fold["test"][0][-6:] for fold in found.parts] == ["s1.wav", "s2.wav", "10.wav"]
        assert found.validation == "speakers"


def test_a_table_with_a_column_for_the_part(tmp_path):
    rows = [(n, p) for names, p in ((TRAIN, "Train"), (VAL, "Development"), (TEST, "Test")) for n in names]
    text = "FileName,angry,Split_Set\n" + "".join(f"{n}.wav,0.5,{p}\n" for n, p in rows)
    for fold in (1, 2):
        write(tmp_path / f"lists/labels_consensus_{fold}.csv", text)
    found = read_lists(tmp_path / "lists")
    assert len(found.parts) == 2
    assert found.parts[1]["val"] == ("c-1.wav",)
    write(tmp_path / "one.csv", text)
    assert read_lists(tmp_path / "one.csv").parts == found.parts[:1]


def test_a_column_for_the_fold(tmp_path):
    write(tmp_path / "all.csv", "path,split,fold\na,train,0\nb,test,0\nb,train,1\na,test,1\n")
    assert [fold["test"] for fold in read_lists(tmp_path / "all.csv").parts] == [("b",), ("a",)]


def test_two_forms_of_one_list_agree_or_are_refused(tmp_path):
    write(tmp_path / "l/fold_1/train.json", by_key(TRAIN))
    write(tmp_path / "l/fold_1/train.jsonl", jsonl(TRAIN))
    write(tmp_path / "l/fold_1/test.jsonl", jsonl(TEST))
    assert len(read_lists(tmp_path / "l").parts) == 1
    write(tmp_path / "l/fold_1/train.json", by_key(TRAIN[:2]))
    with pytest.raises(SplitError, match=r"train\.json and .*train\.jsonl list different clips"):
        read_lists(tmp_path / "l")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no list"),
        ({"readme.txt": "hello"}, r"none of 1 file \(readme.txt\) has clips"),
        ({"train.csv": "a\n"}, "no test part"),
        ({"train.csv": "a\n", "test.csv": ""}, "no test part"),
        ({"train.json": "{", "test.csv": "a\n"}, "train.json cannot be read as a list"),
        ({"train.json": "[[1]]", "test.csv": "a\n"}, "neither a name nor an object"),
        ({"train.json": "3", "test.csv": "a\n"}, "neither a list nor an object"),
    ],
)
def test_what_is_no_split_is_refused(tmp_path, files, message):
    (tmp_path / "l").mkdir()
    for name, text in files.items():
        write(tmp_path / "l" / name, text)
    with pytest.raises(SplitError, match=message):
        read_lists(tmp_path / "l")


@pytest.mark.parametrize(
    ("name", "part"),
    [("train.csv", "train"), ("x_Test_fold_1.jsonl", "test"), ("dev-2.txt", "val"), ("contest.csv", None)],
)
def test_names_of_parts(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("path", "fold"),
    [("fold_1/train.csv", 1), ("a/split03/test.csv", 3), ("label_consensus_5.csv", 5), ("train.csv", None)],
)
def test_numbers_of_folds(path, fold):
    assert fold_of(path) == fold


@pytest.mark.parametrize("cells", [("fold1", "fold2"), ("1.0", "2.0"), ("Session_1", "Session_2")])
def test_folds_in_a_column_need_not_be_plain_numbers(tmp_path, cells):
    rows = [f"{clip}.wav,{part},{fold}" for fold, (a, b) in zip(cells, ("xy", "yx"), strict=True)
            for clip, part in ((a, "train"), (b, "test"))]  # fmt: skip
    write(tmp_path / "all.csv", "\n".join(["path,split,fold", *rows]))
    assert [fold["test"] for fold in read_lists(tmp_path / "all.csv").parts] == [("y.wav",), ("x.wav",)]


def test_a_fold_that_is_no_number_is_refused(tmp_path):
    write(tmp_path / "all.csv", "path,split,fold\nx.wav,train,A\ny.wav,test,A\n")
    with pytest.raises(SplitError, match="'A' is not a number"):
        read_lists(tmp_path / "all.csv")


def test_blanks_in_names_of_a_list_without_separators(tmp_path):
    write(tmp_path / "train.txt", "my clips/anna 1.mp4\nmy clips/anna 2.MP4 sad\n")
    write(tmp_path / "test.txt", "my clips/ben 1.mp4\n")
    (parts,) = read_lists(tmp_path).parts
    assert parts["train"] == ("my clips/anna 1.mp4", "my clips/anna 2.MP4")
    assert parts["test"] == ("my clips/ben 1.mp4",)


def test_a_row_whose_cell_names_no_part_is_not_in_the_part_of_the_files_name(tmp_path):
    write(tmp_path / "test_list.csv", "path,split\na.wav,train\nb.wav,test\nc.wav,holdout\nd.wav,\n")
    assert read_lists(tmp_path / "test_list.csv").parts[0]["test"] == ("b.wav",)


def test_clips_of_the_same_name_in_several_parts_are_counted(tmp_path):
    """MELD numbers the dialogues of each part from 0."""
    for part, count in (("train", 4), ("dev", 2), ("test", 3)):
        write(tmp_path / f"{part}.csv", "path\n" + "".join(f"dia{n}_utt0.mp4\n" for n in range(count)))
    assert read_lists(tmp_path, "meld").about == "1 foreign fold of 9 clips"


def test_clips_of_several_folds_are_counted_once(tmp_path):
    for fold in (1, 2):
        write(tmp_path / f"fold{fold}" / "train.csv", "path\n" + "".join(f"{fold}{n}.wav\n" for n in "abc"))
        write(
            tmp_path / f"fold{fold}" / "test.csv", "path\n" + "".join(f"{3 - fold}{n}.wav\n" for n in "abc")
        )
    assert read_lists(tmp_path, "p").about == "2 foreign folds of 6 clips"
