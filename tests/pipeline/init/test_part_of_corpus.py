"""`deiii init` on a part of a published corpus, and on folders that say something else than file names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import make_split, number_of_folds
from tests.data.corpora.published.test_msp_improv import build, line
from tests.pipeline.init.test_folders import touch


def ravdess(actors, kind: str = "01-01", suffix: str = "mp4") -> list[str]:
    return [f"Actor_{a:02d}/{kind}-{e:02d}-01-01-01-{a:02d}.{suffix}" for a in actors for e in (3, 4)]


def crema_d(actors) -> list[str]:
    return [f"VideoFlash/{a}_DFA_{e}_XX.flv" for a in actors for e in ("ANG", "SAD")]


def wrote(here: Path, paths: list[str], capsys) -> tuple[str, str]:
    """Return the text of the written config and the output."""
    clips = touch(here / "c", *paths)
    assert main(["init", str(clips), "--yes"]) == 0
    return Path("c.yaml").read_text(encoding="utf-8"), capsys.readouterr().out


@pytest.mark.parametrize(
    ("paths", "told", "preset"),
    [
        (ravdess(range(1, 7)), "18 of the 24 actors of ravdess are missing", " tiny"),
        (ravdess(range(1, 24)), "1 of the 24 actors of ravdess is missing", " tiny"),
        (ravdess(range(2, 7), "03-01", "wav"), "19 of the 24 actors of ravdess are missing", ""),
        (ravdess(range(1, 4), "01-02"), "20 of the 23 actors of ravdess are missing", " tiny"),
        (crema_d(range(1001, 1007)), "85 of the 91 actors of crema_d are missing", " tiny"),
    ],
)
def test_a_part_of_a_corpus_gets_folds_of_the_speakers_in_it(paths, told, preset, here, capsys):
    text, out = wrote(here, paths, capsys)
    assert f"note: {told}, so the published folds (" in out and "are not used" in out
    assert text.splitlines()[1] == f"#   deiii preprocess c.yaml{preset}"
    for claim in ("24 actors,", "1,440", "91 actors,", "7,442", "ravdess_audio", "6fold", "crema_d-5fold"):
        assert claim not in text
    assert "# Licence: " in text and "# Get it: " in text
    config = load_config("c.yaml")
    assert config.split.protocol == "speakers"
    corpus = scan(config.corpus)
    assert len(corpus.clips) == len(paths)
    folds = [
        make_split(corpus, replace(config.split, fold=n))
        for n in range(number_of_folds(corpus, config.split))
    ]
    assert sorted(s for fold in folds for s in fold.speakers("test")) == sorted(corpus.speakers)
    sizes = [len(fold.speakers("test")) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (ravdess(range(1, 25)), "ravdess"),
        (ravdess([a for a in range(1, 25) if a != 18], "01-02"), "ravdess"),  # actor 18 sang no songs
        (crema_d(range(1001, 1092)), "crema_d"),
    ],
)
def test_a_whole_corpus_keeps_its_published_folds(paths, name, here, capsys):
    text, out = wrote(here, paths, capsys)
    assert "missing" not in out
    assert load_config("c.yaml").split == load_config(name).split
    assert "# Get it: " in text


def test_two_actors_get_a_training_that_can_start(here, capsys):
    _, out = wrote(here, ravdess((1, 2)), capsys)
    words = re.search(r"deiii train (.*)", out)[1].split()
    config = load_config(words[:2], words[2:])
    split = make_split(scan(config.corpus), config.split)
    assert len(split.speakers("train")) == len(split.speakers("test")) == 1


@pytest.mark.parametrize(("sessions", "missing"), [(6, 0), (4, 4)])
def test_sessions_stay_whole_and_missing_actors_are_told(sessions, missing, here, capsys):
    """Actors of one session hear each other, so the protocol of sessions is right for a part, too."""
    root = here / "c"
    ids = [f"S01A-{sex}0{n}-P-{sex}M01" for n in range(1, sessions + 1) for sex in "FM"]
    build(root, {clip_id: line(clip_id) for clip_id in ids})
    assert main(["init", str(root), "--yes"]) == 0
    out, text = capsys.readouterr().out, Path("c.yaml").read_text(encoding="utf-8")
    assert load_config("c.yaml").split == load_config("msp_improv").split
    assert (f"note: {missing} of the 12 actors of msp_improv are missing" in out) == bool(missing)
    assert ("12 actors in 6 sessions" in text) == (not missing)


def test_folders_that_say_something_else_than_the_file_names_are_told(here, capsys):
    """RAVDESS names the clips, but the folders name other people and other labels."""
    paths = [
        f"{person}/{label}/01-01-{e:02d}-01-01-0{n}-{actor:02d}.mp4"
        for person, actors in {"anna": (1, 2), "ben": (3, 4), "cleo": (5, 6)}.items()
        for e, label in enumerate(("happy", "sad"), start=3)
        for n in (1, 2)
        for actor in actors
    ]
    _, out = wrote(here, paths, capsys)
    assert "note: folders look like names of the speaker and the label; they are not used" in out
    assert "--layout speaker/label/clip reads the folders" in out
    layout = re.search(r"--layout \S+", out)[0].split()
    assert main(["init", str(here / "c"), "--yes", "--force", *layout]) == 0
    assert scan(load_config("c.yaml").corpus).speakers == ("anna", "ben", "cleo")


@pytest.mark.parametrize(
    "paths",
    [
        ravdess(range(1, 7)),
        [f"AudioVisualClip/{s}/{e}01.avi" for s in ("DC", "JE") for e in ("a", "sa")],
        [f"subject {s}/{e}/sentence 1/s{s}_{e[:2]}_1.avi" for s in (1, 2) for e in ("anger", "sadness")],
        crema_d(range(1001, 1004)),
        [f"{e}/{path.split('/')[1]}" for path in ravdess((1, 2)) for e in ["happy", "sad"]
         if {"happy": "-03-", "sad": "-04-"}[e] in path],
    ],
)  # fmt: skip
def test_folders_that_agree_with_the_file_names_are_not_told(paths, here, capsys):
    assert "folders look like" not in wrote(here, paths, capsys)[1]
