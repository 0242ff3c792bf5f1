"""Splits: no speaker crosses, whatever the corpus; folds cover; files travel; errors name the cause."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.config.schema import SplitConfig
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import PARTS, SplitError, load_protocol
from deiii.data.corpora.splits import Split, make_split, number_of_folds


def corpus(speakers, per_speaker=2, protocol="speakers", folds=None) -> Corpus:
    clips = [
        Clip(f"{s}/{i}", f"{s}/{i}.mp4", s, "x", fold=folds[s] if folds else None)
        for s in speakers
        for i in range(per_speaker)
    ]
    return Corpus("mine", ".", ("x",), tuple(sorted(clips, key=lambda c: c.id)), protocol=protocol)


RAVDESS = corpus([f"actor-{i:02d}" for i in range(1, 25)], protocol="ravdess-6fold")
CREMA_D = corpus([str(i) for i in range(1001, 1092)], protocol="crema_d-5fold")
names = st.lists(st.text("abAB 1ä-", min_size=1, max_size=4), min_size=3, max_size=20, unique=True)


def check(split: Split, source: Corpus) -> None:
    """Independent of the split's own checks: from clips alone."""
    speaker = {c.id: c.speaker for c in source.clips}
    parts = [{speaker[i] for i in getattr(split, part)} for part in PARTS]
    assert sum(len(p) for p in parts) == len(set().union(*parts)) == len(source.speakers)
    assert sorted(split.train + split.val + split.test) == sorted(speaker)
    assert all(parts)


@given(names, st.integers(0, 30), st.integers(0, 99), st.floats(0.01, 0.99))
def test_speakers_never_cross(speakers, fold, seed, share):
    source = corpus(speakers)
    config = SplitConfig(seed=seed, val_share=share)
    config.fold = fold % number_of_folds(source, config)
    check(make_split(source, config), source)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from("123456"), min_size=4), st.data()
)
def test_speakers_never_cross_by_column(folds, data):
    source = corpus(sorted(folds), folds=folds)
    config = SplitConfig(protocol=data.draw(st.sampled_from(["speakers", "msp_improv-loso"])))
    if len(set(folds.values())) < 2:
        with pytest.raises(SplitError, match="one fold only"):
            make_split(source, config)
        return
    for fold in range(number_of_folds(source, config)):
        config.fold = fold
        split = make_split(source, config)
        assert {folds[s] for s in split.speakers("test")} == {sorted(set(folds.values()))[fold]}
        if len(split.speakers("train") + split.speakers("val")) > 1:
            check(split, source)


@given(names, st.randoms(use_true_random=False))
def test_order_of_clips_does_not_matter(speakers, rng):
    source = corpus(speakers)
    shuffled = list(source.clips)
    rng.shuffle(shuffled)
    a = make_split(source, SplitConfig())
    b = make_split(replace(source, clips=tuple(shuffled)), SplitConfig())
    assert a == b
    assert a.digest == b.digest


@pytest.mark.parametrize(
    "source", [RAVDESS, CREMA_D, corpus("abcdefg")], ids=["ravdess", "crema_d", "speakers"]
)
def test_every_speaker_is_tested_once(source):
    n = number_of_folds(source, SplitConfig())
    splits = [make_split(source, SplitConfig(fold=f)) for f in range(n)]
    for split in splits:
        check(split, source)
    tested = [s for split in splits for s in split.speakers("test")]
    assert sorted(tested) == sorted(source.speakers)


def test_ravdess_folds_are_four_consecutive_actors():
    for fold in range(6):
        expected = tuple(f"actor-{4 * fold + i:02d}" for i in range(1, 5))
        assert make_split(RAVDESS, SplitConfig(fold=fold)).speakers("test") == expected


def test_crema_d_folds_are_consecutive():
    sizes = [len(make_split(CREMA_D, SplitConfig(fold=f)).speakers("test")) for f in range(5)]
    assert sizes == [18, 18, 18, 18, 19]
    listed = [s for fold in load_protocol("crema_d-5fold").folds for s in fold]
    assert listed == [str(i) for i in range(1001, 1092)]
    old = [make_split(CREMA_D, SplitConfig(fold=f, protocol="crema_d-5fold-19first")) for f in range(5)]
    assert [len(split.speakers("test")) for split in old] == [19, 18, 18, 18, 18]


def test_fixed_folds_stay_where_actors_are_absent():
    few = corpus(["actor-01", "actor-02", "actor-05", "actor-24"], protocol="ravdess-6fold")
    assert make_split(few, SplitConfig(fold=1)).speakers("test") == ("actor-05",)
    with pytest.raises(
        SplitError, match="no speaker of mine to test in fold 3.*none of them.*protocol=speakers"
    ):
        make_split(few, SplitConfig(fold=3))


def test_a_part_of_a_corpus_that_is_tested_whole_is_told_with_what_to_do():
    first = corpus([f"actor-0{i}" for i in range(1, 5)], protocol="ravdess-6fold")
    with pytest.raises(SplitError, match="to train with in fold 0.*actor-01.*all of them.*protocol=speakers"):
        make_split(first, SplitConfig())
    assert make_split(first, SplitConfig(protocol="speakers")).speakers("train")  # the remedy works
    with pytest.raises(SplitError, match="has 1 speaker;.*other people"):
        make_split(corpus(["actor-01"]), SplitConfig())


def test_seed_moves_validation_alone():
    splits = [make_split(CREMA_D, SplitConfig(seed=s)) for s in range(8)]
    assert len({s.test for s in splits}) == 1
    assert len({s.val for s in splits}) > 1
    assert make_split(CREMA_D, SplitConfig(seed=3)) == splits[3]


@pytest.mark.parametrize(("share", "n"), [(0.01, 1), (0.15, 3), (0.5, 10), (0.99, 19)])
def test_share_of_validation_speakers(share, n):
    assert len(make_split(RAVDESS, SplitConfig(val_share=share)).speakers("val")) == n


def test_a_share_of_zero_keeps_only_validation_speakers_that_are_listed():
    split = make_split(RAVDESS, SplitConfig(val_share=0))
    assert split.val == () and len(split.speakers("train")) == 20 and len(split.speakers("test")) == 4
    assert Split.from_json(split.to_json()) == split
    listed = "ravdess-opendr"
    assert make_split(RAVDESS, SplitConfig(val_share=0, protocol=listed)).speakers("val") == make_split(
        RAVDESS, SplitConfig(protocol=listed)
    ).speakers("val")


def test_a_known_split_does_not_drift():
    """Papers name splits by digest: a change of this value is a change of every published split."""
    split = make_split(RAVDESS, SplitConfig())
    assert split.speakers("val") == ("actor-14", "actor-18", "actor-22")
    assert split.digest == "a3aa892d6989f4fc5c0a181006dc3ed42fc1a9a9b0bf221d4655287d2155775d"


def test_sessions_sort_as_numbers():
    folds = {f"s{i}": f"session{i}" for i in range(1, 12)}
    source = corpus(sorted(folds), folds=folds)
    assert make_split(source, SplitConfig(fold=1)).speakers("test") == ("s2",)


@pytest.mark.parametrize(
    ("source", "config", "message"),
    [
        (corpus("a"), SplitConfig(), r"1 speaker;"),
        (corpus(""), SplitConfig(), r"0 speakers;"),
        (corpus("abcdef"), SplitConfig(fold=5), "folds 0 to 4"),
        (corpus("abcdef"), SplitConfig(fold=-1), "folds 0 to 4"),
        (corpus("abcdef"), SplitConfig(val_share=-0.1), "val_share"),
        (corpus("abcdef"), SplitConfig(val_share=1.0), "val_share"),
        (corpus("abcdef"), SplitConfig(protocol="../splits"), "there are .*crema_d-5fold"),
        (
            corpus("abcdef"),
            SplitConfig(protocol="msp_improv-loso"),
            "12 of 12 clips .* set split.protocol=speakers",
        ),
        (
            corpus("abcdef"),
            SplitConfig(protocol="ravdess-6fold"),
            r"lists 24 speakers .* not 6 speakers of mine: a, b, c, d, e and 1 more\. .*protocol=speakers",
        ),
        (
            replace(RAVDESS, name="ravdess", protocol="ravdess-6fold"),
            SplitConfig(protocol="crema_d-5fold"),
            r"lists 91 speakers \(1001, .*actor-01, .*set split.protocol=ravdess-6fold.*deiii splits import",
        ),
    ],
)
def test_refusals(source, config, message):
    with pytest.raises(SplitError, match=message):
        make_split(source, config)


def test_lists_of_other_clips_are_refused_with_the_names_of_both():
    message = r"no clip that the list train of fold 0 names \(.*its clips are a/0, .*deiii splits import"
    with pytest.raises(SplitError, match=message):
        make_split(corpus("abcdef"), SplitConfig(protocol="crema_d-emobox"))


def test_two_speakers_leave_no_validation():
    split = make_split(corpus("ab"), SplitConfig())
    assert [len(getattr(split, part)) for part in PARTS] == [2, 0, 2]


def test_speaker_in_two_folds_is_named():
    clips = (
        Clip("1", "1", "anna", fold="f1"),
        Clip("2", "2", "anna", fold="f2"),
        Clip("3", "3", "b", fold="f2"),
    )
    with pytest.raises(SplitError, match="several folds: anna"):
        make_split(Corpus("mine", ".", (), clips), SplitConfig())


def test_half_filled_fold_column_is_refused():
    clips = (Clip("1", "1", "a", fold="f1"), Clip("2", "2", "b", fold="f2"), Clip("3", "3", "c"))
    with pytest.raises(SplitError, match="1 of 3 clips of mine have none: 3; fill in the column fold"):
        make_split(Corpus("mine", ".", (), clips), SplitConfig())


def test_files_travel(tmp_path):
    split = make_split(CREMA_D, SplitConfig(fold=2, seed=7))
    split.save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json")
    assert again == split
    again.check(CREMA_D)
    with pytest.raises(SplitError, match="lacks"):
        again.check(RAVDESS)
    moved = replace(CREMA_D, clips=tuple(replace(c, speaker="1001") for c in CREMA_D.clips))
    with pytest.raises(SplitError, match="other speakers"):
        again.check(moved)


def edit(tree: dict, what: str) -> None:
    if what == "moved clip":
        speaker = min(tree["train"])
        tree["test"][speaker] = [tree["train"][speaker].pop()]
    elif what == "moved speaker":
        speaker = min(tree["train"])
        tree["test"][speaker] = tree["train"].pop(speaker)
    elif what == "dropped clip":
        tree["train"][min(tree["train"])].pop()
    elif what == "format":
        tree["format"] = "another"
    else:
        del tree[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("moved clip", "cross between train and test"),
        ("moved speaker", "changed after saving"),
        ("dropped clip", "changed after saving"),
        ("format", "has the format"),
        ("digest", "not a split file"),
        ("val", "not a split file"),
    ],
)
def test_edited_files_are_refused(tmp_path, what, message):
    tree = json.loads(make_split(RAVDESS, SplitConfig()).to_json())
    edit(tree, what)
    (tmp_path / "split.json").write_text(json.dumps(tree))
    with pytest.raises(SplitError, match=message):
        Split.load(tmp_path / "split.json")


@pytest.mark.parametrize(
    "text",
    [
        make_split(RAVDESS, SplitConfig()).to_json().replace('"fold": 0', '"fold": "x"'),
        make_split(RAVDESS, SplitConfig()).to_json().replace('"fold": 0', '"fold": 1e999'),
        "[" * 100_000,
    ],
    ids=["words", "infinite", "deep"],
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(SplitError, match=r"split\.json: not a split file"):
        Split.load(tmp_path / "split.json")


@given(st.text(max_size=40) | st.sampled_from(["[]", "1", "null", '{"format": 1}', '"deiii-split-1"']))
def test_other_files_are_refused(text):
    with pytest.raises(SplitError):
        Split.from_json(text)


def test_a_clip_in_two_parts_is_refused():
    with pytest.raises(SplitError, match="1 clip is in two parts of the split: a"):
        Split("mine", "p", 0, 2, ("a",), (), ("a",), {"a": "s"})


def test_parts_have_names():
    with pytest.raises(ValueError, match="train, val, test"):
        make_split(RAVDESS, SplitConfig()).speakers("dev")


def test_a_column_of_parts_is_no_column_of_folds():
    """Each of its parts would be tested in turn, with the others for training."""
    source = corpus(
        "abcdef", folds=dict(zip("abcdef", ["train", "Train", "train", "val", "test", "test"], strict=True))
    )
    with pytest.raises(SplitError, match=r"names parts \(Train, test, train, val\).*deiii splits import"):
        make_split(source, SplitConfig())
