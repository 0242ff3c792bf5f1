"""Protocols: published ones are what their sources say; lists of clips fit; errors name the cause."""

from __future__ import annotations

import re
import unicodedata

import pytest

from deiii.data.config.schema import SplitConfig
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import (
    Protocol,
    SplitError,
    clip_key,
    load_protocol,
    match_clips,
    protocol_names,
)
from deiii.data.corpora.splits import Split, make_split, number_of_folds

ACTORS = [str(i) for i in range(1001, 1092)]
RAVDESS_ACTORS = [f"actor-{i:02d}" for i in range(1, 25)]


def corpus_of(speakers: list[str], protocol: str) -> Corpus:
    clips = tuple(Clip(s, f"{s}.mp4", s, "x") for s in speakers)
    return Corpus("mine", ".", ("x",), clips, protocol=protocol)


def parts_of(name: str, speakers: list[str]) -> list[tuple[set[str], set[str], set[str]]]:
    corpus = corpus_of(speakers, name)
    splits = [make_split(corpus, SplitConfig(fold=f)) for f in range(number_of_folds(corpus, SplitConfig()))]
    return [tuple(set(split.speakers(p)) for p in ("train", "val", "test")) for split in splits]


@pytest.mark.parametrize("name", protocol_names())
def test_protocols_load_and_name_their_source(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    if name in ("speakers", "one-speaker-out", "all-speakers", "crema_d-5fold-19first"):
        assert not protocol.source
        return
    assert set(protocol.source) == {"repository", "commit", "files", "sha256"}
    assert re.fullmatch("https://github.com/[^/]+/[^/]+", protocol.source["repository"])
    assert re.fullmatch("[0-9a-f]{40}", protocol.source["commit"])
    assert re.fullmatch("[0-9a-f]{64}", protocol.source["sha256"])
    assert len(protocol.known_for) > 20


def test_crema_d_folds_follow_the_rule_of_their_source():
    """The rule in HiCMAE's script: (split - 1) * 18 <= actor - 1001 < split * 18, one more in the last."""
    for fold, (_, _, test) in enumerate(parts_of("crema_d-5fold", ACTORS)):
        last = (fold + 1) * 18 + (fold == 4)
        assert test == {s for s in ACTORS if fold * 18 <= int(s) - 1001 < last}


def test_emo_superb_validates_on_the_next_fold():
    tests = [test for _, _, test in parts_of("crema_d-5fold", ACTORS)]
    for fold, (train, val, test) in enumerate(parts_of("crema_d-emosuperb", ACTORS)):
        assert test == tests[fold]
        assert val == tests[(fold + 1) % 5]
        assert train == set(ACTORS) - test - val


def test_vavl_draws_63_14_and_14_actors():
    found = parts_of("crema_d-vavl", ACTORS)
    assert [(len(a), len(b), len(c)) for a, b, c in found] == [(63, 14, 14)] * 5
    often = {s: sum(s in test for _, _, test in found) for s in ACTORS}
    assert max(often.values()) == 3 and min(often.values()) == 0  # no cross-validation


@pytest.mark.parametrize("name", ["msp_improv-emosuperb", "msp_improv-vavl"])
def test_sessions_stay_whole(name):
    speakers = [f"{sex}{i:02d}" for i in range(1, 7) for sex in "FM"]
    found = parts_of(name, speakers)
    for parts in found:
        assert all({f"F{s[1:]}", f"M{s[1:]}"} <= part for part in parts for s in part)
    tested = set().union(*(test for _, _, test in found))
    assert set(speakers) - tested == ({"F04", "M04"} if name == "msp_improv-vavl" else set())


@pytest.mark.parametrize("name", ["ravdess-6fold", "ravdess-luna_jimenez-5fold", "ravdess-emobox-6fold"])
def test_ravdess_folds_test_every_actor_once(name):
    tests = [test for _, _, test in parts_of(name, RAVDESS_ACTORS)]
    assert sorted(s for test in tests for s in test) == RAVDESS_ACTORS


def test_one_published_split():
    ((train, val, test),) = parts_of("ravdess-opendr", RAVDESS_ACTORS)
    assert test == {"actor-05", "actor-10", "actor-16", "actor-19"}
    assert val == {"actor-11", "actor-13", "actor-18", "actor-22"}
    assert len(train) == 16


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AudioWAV/1001_DFA_ANG_XX.wav", "1001_dfa_ang_xx"),
        ("a/b/Actor_01/01-01-06-01-02-01-01.mp4", "03-01-06-01-02-01-01"),
        ("face_aligned\\x", "x"),
        ("a.b.mp4", "A.B"),
        (unicodedata.normalize("NFD", "Jörg.wav"), unicodedata.normalize("NFC", "Jörg")),
    ],
)
def test_names_of_one_clip(one, other):
    assert clip_key(one) == clip_key(other)


@pytest.mark.parametrize(("one", "other"), [("a-1", "a-2"), ("01-01-06-01-02-01-01", "01-01-06-01-02-02-01")])
def test_names_of_two_clips(one, other):
    assert clip_key(one) != clip_key(other)


CLIPS = Corpus(
    "mine", ".", ("x",), tuple(Clip(f"{s}-{i}", f"{s}/{i}.mp4", s, "x") for s in "abcde" for i in range(2))
)


def write(path, folds: str, **more: str) -> SplitConfig:
    extra = "".join(f"{key}: {value}\n" for key, value in more.items())
    path.write_text(f"name: mine\nabout: my lists\nkind: clips\n{extra}folds:\n{folds}", encoding="utf-8")
    return SplitConfig(protocol=str(path))


def test_lists_of_clips_become_a_split(tmp_path):
    config = write(
        tmp_path / "mine.yaml", "  - {train: [x/a-0.wav, a-1, b-0], val: [c-0], test: [d-0, q-7]}\n"
    )
    split = make_split(CLIPS, config)
    assert (split.train, split.val, split.test) == (("a-0", "a-1", "b-0"), ("c-0",), ("d-0",))
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_lists_without_validation_get_speakers_of_training(tmp_path):
    config = write(tmp_path / "mine.yaml", "  - {train: [a-0, a-1, b-0, c-0], test: [d-0]}\n")
    split = make_split(CLIPS, config)
    assert len(split.speakers("val")) == 1
    assert {*split.train, *split.val} == {"a-0", "a-1", "b-0", "c-0"}


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ("  - {train: [a-0, b-0], val: [c-0], test: [a-1]}\n", "speakers cross between train and test: a"),
        ("  - {train: [a-0], val: [c-0], test: [c-0]}\n", "1 clip is in two parts of the split: c-0"),
    ],
)
def test_shared_speakers_and_clips_are_refused_unless_allowed(tmp_path, folds, message):
    config = write(tmp_path / "mine.yaml", folds)
    with pytest.raises(SplitError, match=f"{message}.*split.leaks=allow"):
        make_split(CLIPS, config)
    config.leaks = "allow"
    split = make_split(CLIPS, config)
    assert split.leaks
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_folders_of_listed_names_may_be_decomposed():
    names = ("Zoë/1", "Jörg/1")
    paths = [unicodedata.normalize("NFD", f"{name}.mp4") for name in names]  # as macOS returns them
    corpus = Corpus("mine", ".", ("x",), tuple(Clip(p[:-4], p, p[:-6], "x") for p in paths))
    protocol = Protocol("p", "", "clips", parts=({"train": names[:1], "test": names[1:]},))
    found = match_clips(corpus, protocol, 0)
    assert {part: [clip.path for clip in clips] for part, clips in found.items()} == {
        "train": paths[:1],
        "test": paths[1:],
    }


def test_a_name_that_fits_two_clips_needs_its_folder():
    clips = (Clip("a/1", "a/1.mp4", "a", "x"), Clip("b/1", "b/1.mp4", "b", "x"))
    corpus = Corpus("mine", ".", ("x",), clips)
    near = Protocol("p", "", "clips", parts=({"train": ("b/1.wav",), "test": ("raw/a/1",)},))
    assert {p: [c.id for c in found] for p, found in match_clips(corpus, near, 0).items()} == {
        "train": ["b/1"],
        "test": ["a/1"],
    }
    with pytest.raises(SplitError, match="'1' fits several clips of mine: a/1, b/1"):
        match_clips(corpus, Protocol("p", "", "clips", parts=({"test": ("1",)},)), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "not a protocol: it needs the keys name, about, kind"),
        ("", "not a protocol: it needs the keys name, about, kind"),
        ("{name: a, kind: fixed}", "not a protocol: it needs the keys about$"),
        ("{name: a, about: b, kind: speakers, folds: 3, fold: 1}", "it has the unknown keys fold$"),
        (
            "corpus: {name: table}",
            "unknown keys corpus; it is a config, which names a corpus and not a split",
        ),
        ("name: a\nabout: b\nkind: clips\n", "needs a list of folds"),
        ("name: a\nabout: b\nkind: other\nfolds: [[a], [b]]\n", "unknown kind 'other'"),
        ("name: a\nabout: b\nkind: parts\nfolds: [{dev: [a]}]\n", "not dev"),
        ("name: a\nabout: b\nkind: parts\nfolds: [{train: [a]}]\n", "no test part"),
        ("name: a\nabout: b\nkind: parts\nfolds: [{test: a}]\n", "a fold is a list of names"),
        (
            "name: a\nabout: b\nkind: parts\nvalidation: given\nfolds: [{test: [a], val: [b]},{test: [b]}]\n",
            "validation: given, but fold 1 has no list val.*validation: speakers",
        ),
        (
            "name: a\nabout: b\nkind: speakers\nvalidation: given\nfolds: 3\n",
            "a protocol of the kind speakers has no list val",
        ),
        ("name: a\nabout: b\nkind: fixed\nfolds: [[{}]]\n", "a fold is a list of names"),
        ("name: [a]\nabout: b\nkind: fixed\nfolds: [[a]]\n", "are text"),
        ("name: a\nabout: b\nkind: speakers\nfolds: 1\n", "2 or more"),
        ("name: a\nabout: b\nkind: all\nfolds: 3\n", "the kind all has no folds"),
        ("name: a\nabout: b\nkind: all\nfolds: [[a]]\n", "the kind all has no folds"),
        ("name: a\nabout: b\nkind: all\nvalidation: given\n", "the kind all has no list val"),
        ("name: !!python/object:os.system {}\n", "not a protocol"),
        ("a: [", "not a protocol"),
    ],
)
def test_malformed_protocols_are_refused(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(SplitError, match=message):
        load_protocol(str(path))


def test_a_missing_file_and_an_unknown_name(tmp_path):
    with pytest.raises(SplitError, match="no protocol file"):
        load_protocol(str(tmp_path / "p.yaml"))
    with pytest.raises(SplitError, match="'; there are .*crema_d-5fold"):
        load_protocol("../protocols/speakers")
    with pytest.raises(SplitError, match="no protocol 'ravdess-6folds'; did you mean 'ravdess-6fold'. there"):
        load_protocol("ravdess-6folds")


@pytest.mark.parametrize("kind", ["fixed", "parts"])
def test_speakers_that_yaml_takes_for_numbers_or_booleans_are_names(tmp_path, kind):
    """YAML 1.1 reads 010 as 8, 07 as 7, no as false and 1:30 as 90."""
    speakers = ["07", "08", "010", "no", "1:30", "1_0", "0x1", "null"]
    test, rest = ", ".join(speakers[:4]), ", ".join(speakers[4:])
    folds = f"[[{test}], [{rest}]]" if kind == "fixed" else f"[{{test: [{test}]}}, {{test: [{rest}]}}]"
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nabout: ours\nkind: {kind}\nfolds: {folds}\n")
    found = parts_of(str(path), speakers)
    assert [part[2] for part in found] == [set(speakers[:4]), set(speakers[4:])]


def test_speakers_are_found_in_other_spellings(tmp_path):
    """As a protocol that was written on another system, or by hand."""
    path = tmp_path / "mine.yaml"
    names = unicodedata.normalize("NFD", "[Zo\u00eb, 1], [anna, BEN]")
    path.write_text(f"name: mine\nabout: ours\nkind: fixed\nfolds: [{names}]\n", encoding="utf-8")
    assert parts_of(str(path), ["Zo\u00eb", "01", "Anna", "ben"])[0][2] == {"Zo\u00eb", "01"}


def test_the_number_of_folds_is_a_number(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nabout: ours\nkind: speakers\nfolds: 3\n")
    assert load_protocol(str(path)).n_folds == 3
    for folds in ("three", "1", "yes", "2.5"):
        path.write_text(f"name: mine\nabout: ours\nkind: speakers\nfolds: {folds}\n")
        with pytest.raises(SplitError):
            load_protocol(str(path))


def test_a_misspelt_test_speaker_is_not_trained_on(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nabout: mine\nkind: parts\nfolds: [{test: [ana]}]\n")
    with pytest.raises(SplitError, match="names speakers that .* lacks: ana; correct the names"):
        parts_of(str(path), ["anna", "ben", "cleo"])
    path.write_text("name: mine\nabout: mine\nkind: parts\nfolds: [{test: [anna, dora], train: [ben]}]\n")
    ((train, _, test),) = parts_of(str(path), ["anna", "ben", "cleo"])
    assert (train, test) == ({"ben"}, {"anna"})


def test_speakers_in_two_parts_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nabout: mine\nkind: parts\nfolds: [{test: [a], val: [a, b], train: [c]}]\n")
    with pytest.raises(SplitError, match="names speakers in two parts: a; name each once"):
        parts_of(str(path), ["a", "b", "c"])


def test_listed_training_speakers_do_not_become_validation_speakers(tmp_path):
    """Where the corpus lacks the validation speakers that a protocol lists."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nabout: mine\nkind: parts\nfolds: [{test: [a], val: [x], train: [b, c]}]\n")
    assert parts_of(str(path), ["a", "b", "c"]) == [({"b", "c"}, set(), {"a"})]
