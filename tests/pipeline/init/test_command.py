"""`deiii init` as it is typed: what it writes, what it refuses, what it asks."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import make_split
from deiii.data.tools.atomic_files import write_text
from tests.helpers.tables import read_rows
from tests.pipeline.init.test_folders import every, touch

RAVDESS = [f"Actor_{a:02d}/01-01-{e:02d}-01-01-01-{a:02d}.mp4" for a in (1, 2, 3) for e in (3, 4)]
KNOWN = {
    "ravdess": RAVDESS,
    "crema_d": [f"VideoFlash/{a}_DFA_{e}_XX.flv" for a in (1001, 1002) for e in ("ANG", "SAD")],
    "savee": [f"AudioVisualClip/{s}/{e}01.avi" for s in ("DC", "JE") for e in ("a", "sa")],
    "enterface": [f"subject {s}/anger/sentence 1/s{s}_an_1.avi" for s in (1, 2, 3)],
    "emodb": [f"wav/{s}a01{e}a.wav" for s in ("03", "08") for e in "WF"],
    "tess": [f"OAF_{e}/{s}_back_{e}.wav" for s in ("OAF", "YAF") for e in ("angry", "sad")],
    "mead": [
        f"M00{s}/video/{c}/angry/level_1/00{n}.mp4"
        for s in (3, 5)
        for n in (1, 2)
        for c in ("front", "left_30")
    ],
}


def test_the_written_files_are_read_by_deiii_and_the_printed_commands_parse(here, capsys):
    clips = touch(here / "my clips", *every("{p}/{e}/{n}.mp4"))
    assert main(["init", str(clips), "--yes"]) == 0
    out = capsys.readouterr().out
    rows = read_rows(clips / "clips.csv")
    assert [tuple(row.values()) for row in rows[:2]] == [
        ("anna/angry/1.mp4", "anna", "angry"), ("anna/angry/2.mp4", "anna", "angry"),
    ]  # fmt: skip
    config = load_config("my_clips.yaml")
    corpus = scan(config.corpus)
    assert len(corpus.clips) == 18 and corpus.speakers == ("anna", "ben", "cleo")
    assert make_split(corpus, config.split).speakers("test")
    assert "speakers: 3 (anna: 6 clips, ben: 6, cleo: 6)" in out
    assert "labels: 3 (angry: 6 clips, happy: 6, sad: 6)" in out
    assert "deiii train my_clips.yaml tiny train.run=runs/my_clips" in out
    train = re.search(r"deiii (train .*)", out)[1].split()[1:]
    assert load_config(train[:2], train[2:]).train.run == "runs/my_clips"


@pytest.mark.parametrize("people", [1, 2])
def test_too_few_speakers_get_a_remedy_and_a_training_that_can_start(people, here, capsys):
    names = ("anna", "ben")[:people]
    clips = touch(
        here / "few", *[f"{p}/{e}/{n}.mp4" for p in names for e in ("happy", "sad") for n in (1, 2)]
    )
    assert main(["init", str(clips), "--yes", "--layout", "speaker/label/clip"]) == 0
    out = capsys.readouterr().out
    assert "add clips of other people to the folder" in out
    train = re.search(r"deiii (train .*)", out)
    assert (train is not None) == (people == 2)
    if train is None:
        assert "deiii evaluate" not in out
        return
    words = train[1].split()[1:]
    assert {"split.val_share=0", "train.monitor=last"} <= set(words)
    config = load_config(words[:2], words[2:])
    split = make_split(scan(config.corpus), config.split)
    assert len(split.speakers("train")) == 1 and len(split.speakers("test")) == 1


@pytest.mark.parametrize(("people", "said"), [(2, False), (3, True), (9, True), (10, False)])
def test_few_speakers_are_told_the_cross_validation_of_the_written_config(people, said, here, capsys):
    clips = touch(here / "few", *[f"p{n:02d}/{e}/1.mp4" for n in range(people) for e in ("happy", "sad")])
    assert main(["init", str(clips), "--yes", "--layout", "speaker/label/clip"]) == 0
    found = re.search(
        r"with \d+ speakers, the score of one .*; `deiii (crossval .*)` scores every fold",
        capsys.readouterr().out,
    )
    assert (found is not None) == said
    if found is None:
        return
    _, *words = found[1].split()
    assert words == ["few.yaml", "tiny", "train.run=runs/few-crossval"]
    config = load_config(words[:2], words[2:])
    corpus = scan(config.corpus)
    folds = [make_split(corpus, replace(config.split, fold=n)) for n in range(min(5, people))]
    assert sorted(speaker for fold in folds for speaker in fold.speakers("test")) == list(corpus.speakers)


def test_no_cross_validation_is_proposed_that_cannot_be_done(here, capsys):
    clips = touch(here / "few", *[f"{e}/{n}.mp4" for e in ("happy", "sad") for n in (1, 2)])
    assert main(["init", str(clips), "--yes", "--layout", "label/clip"]) == 0
    assert "crossval" not in capsys.readouterr().out


def test_sound_alone_asks_for_log_mel_alone(here):
    clips = touch(here / "voices", *every("{p}/{e}/{n}.wav"))
    assert main(["init", str(clips), "--yes"]) == 0
    config = load_config("voices.yaml")
    assert config.stages == ["logmel"] and not config.model.video and not config.model.flow


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_corpora_that_deiii_knows_are_recognised(name, here, capsys):
    clips = touch(here / "c", *KNOWN[name])
    assert main(["init", str(clips), "--yes"]) == 0
    assert f"the corpus {name}, by its file names" in capsys.readouterr().out
    mine, shipped = load_config("c.yaml"), load_config(name)
    assert mine.corpus.root == str(clips.resolve())
    if name in ("ravdess", "crema_d"):  # a few actors, who are not in every published fold
        shipped.split.protocol = "speakers"
    assert mine.faces == shipped.faces and mine.split == shipped.split
    shipped.corpus.root = mine.corpus.root
    assert mine.corpus == shipped.corpus
    assert not (clips / "clips.csv").exists() and scan(mine.corpus).clips


def test_ravdess_sound_is_its_own_config(here):
    clips = touch(here / "c", *[p.replace("/01-", "/03-").replace(".mp4", ".wav") for p in RAVDESS])
    assert main(["init", str(clips), "--yes"]) == 0
    config = load_config("c.yaml")
    assert config.corpus.modality == "audio-only" and not config.model.video
    assert len(scan(config.corpus).clips) == 6


def test_other_kinds_of_ravdess_are_counted(here, capsys):
    """Two videos among many recordings of sound: a note says how many the config leaves out."""
    sounds = [p.replace("/01-", "/03-").replace(".mp4", ".wav") for p in RAVDESS]
    clips = touch(here / "c", *sounds, RAVDESS[0])
    assert main(["init", str(clips), "--yes"]) == 0
    told = capsys.readouterr().out
    assert f"{len(sounds)} recordings with corpus.modality=audio-only corpus.channel=speech" in told


def test_nothing_is_overwritten_without_force(here, capsys):
    clips = touch(here / "clips", *every("{p}/{e}/{n}.mp4"))
    (here / "work/clips.yaml").write_text("mine")
    assert main(["init", str(clips), "--yes"]) == 1
    assert "clips.yaml exists; add --force" in capsys.readouterr().err
    assert (here / "work/clips.yaml").read_text() == "mine" and not (clips / "clips.csv").exists()
    assert main(["init", str(clips), "--yes", "--force"]) == 0
    before = (clips / "clips.csv").read_bytes()
    touch(clips, "dan/happy/1.mp4")
    assert main(["init", str(clips), "--yes", "--layout", "speaker/label/clip"]) == 1
    assert (clips / "clips.csv").read_bytes() == before
    assert main(["init", str(clips), "--yes", "--layout", "speaker/label/clip", "--force"]) == 0
    assert b"dan/happy/1.mp4" in (clips / "clips.csv").read_bytes()


def test_a_disk_with_room_for_one_file_gets_neither_and_the_same_command_works_later(
    here, capsys, monkeypatch
):
    clips = touch(here / "clips", *every("{p}/{e}/{n}.mp4"))
    written = []

    def full(path, text):
        if Path(path).parent in (clips, Path(), Path.cwd()):
            written.append(path)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, text)

    real = write_text
    words = ["init", str(clips), "--yes"]
    with monkeypatch.context() as patch:
        patch.setattr("deiii.pipeline.init.write.write_text", full)
        assert main(words) == 1
    assert "no space left" in capsys.readouterr().err
    assert not (clips / "clips.csv").exists() and not list((here / "work").iterdir())
    assert main(words) == 0


def test_a_table_that_was_read_is_never_overwritten(here):
    clips = touch(here / "clips", "a.mp4", "b.mp4", "c.mp4")
    foreign = "file;actor;emotion\na.mp4;x;happy\nb.mp4;y;sad\nc.mp4;z;sad\n".encode("utf-16")
    (clips / "clips.csv").write_bytes(foreign)
    for force in ([], ["--force"]):
        assert main(["init", str(clips), "--yes", *force]) == 0
        assert (clips / "clips.csv").read_bytes() == foreign
        assert scan(load_config("clips.yaml").corpus).speakers == ("x", "y", "z")


def test_a_table_that_deiii_would_refuse_is_not_written(here, capsys):
    clips = touch(here / "clips", "a.mp4", "b.mp4")
    (clips / "t.csv").write_text("file,actor,emotion\na.mp4,x,happy\nb.mp4,y,nan\n")
    assert main(["init", str(clips), "--yes"]) == 1
    err = capsys.readouterr().err
    assert "stands for a missing value" in err and "t.csv" in err and len(err.splitlines()) == 1
    assert not (clips / "clips.csv").exists() and not os.listdir()


def test_attributes_are_learned(here):
    clips = touch(here / "clips", "a.mp4", "b.mp4", "c.mp4")
    (clips / "t.csv").write_text("file;actor;arousal\na.mp4;x;0,5\nb.mp4;y;-1\nc.mp4;z;0\n")
    assert main(["init", str(clips), "--yes"]) == 0
    config = load_config("clips.yaml")
    assert config.model.attributes == ["arousal"] and not config.model.classes


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--yes"], "deiii init FOLDER --yes"),
        ([], "no terminal"),
        (["/none", "--yes"], "should be a folder"),
        (["/none"], "should be a folder"),
    ],
)
def test_what_is_missing_is_said(words, remedy, here, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["init", *words]) == 1
    assert remedy in capsys.readouterr().err


def in_terminal(answers: list[str], cwd, *words: str) -> tuple[int, str]:
    """Run `deiii init` in a pseudo-terminal and type the answers; returns its status and what it showed."""
    main_end, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deiii", "init", *words],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        cwd=cwd,
    )
    os.close(other_end)
    shown = ""
    for answer in [*answers, None]:
        while answer is None or not re.search(r"\?[^\n]*\] $|\. \[yes\] $|table\.  ?$", shown):
            try:
                data = os.read(main_end, 4096).decode()
            except OSError:  # the other end was closed
                break
            shown += data
        if answer is not None:
            os.write(main_end, f"{answer}\n".encode())
            shown += "\n"
    os.close(main_end)
    return process.wait(), shown


def test_four_questions_in_a_terminal(tmp_path):
    touch(tmp_path / "clips", *every("{p}/{e}/{n}.mp4", emotions=("stressed", "relaxed")))
    status, shown = in_terminal(["clips", "speaker/label/clip", "yes", "gpu", "mine"], tmp_path)
    assert status == 0, shown
    assert [n for n in range(1, 9) if f"{n}/4" in shown] == [1, 2, 3, 4]
    assert "it is not clear which part" in shown and "deiii preprocess mine.yaml base" in shown
    rows = read_rows(tmp_path / "clips/clips.csv")
    assert {(row["speaker"], row["label"]) for row in rows} == {
        (p, e) for p in ("anna", "ben", "cleo") for e in ("stressed", "relaxed")
    }
    assert (tmp_path / "mine.yaml").is_file()


def test_three_questions_where_the_folder_is_named(tmp_path):
    touch(tmp_path / "clips", *every("{p}/{e}/{n}.mp4", emotions=("happy", "sad")))
    status, shown = in_terminal(["yes", "cpu", "mine"], tmp_path, "clips")
    assert status == 0 and (tmp_path / "mine.yaml").is_file(), shown
    assert [n for n in range(1, 9) if f"{n}/3" in shown] == [1, 2, 3] and "/4" not in shown


def test_answers_that_are_not_understood_are_asked_again(tmp_path):
    """A wrong answer does not end the command and does not change what was found."""
    touch(tmp_path / "clips", *every("{p}/{e}/{n}.mp4", emotions=("happy", "sad")))
    answers = [
        "clips",
        "ja",
        "no",
        "missing.csv",
        "speaker/label/label/clip",
        "YES",
        "a big one",
        "CPU",
        "mine",
    ]
    status, shown = in_terminal(answers, tmp_path)
    assert status == 0, shown
    for answer in ("ja", "no"):
        assert f"{answer} is neither a layout nor a table: a layout has the word label" in shown
    assert "there is no table missing.csv" in shown and "has the word label twice" in shown
    assert "type cpu or gpu" in shown and "deiii preprocess mine.yaml tiny" in shown
    assert {row["speaker"] for row in read_rows(tmp_path / "clips/clips.csv")} == {"anna", "ben", "cleo"}


@pytest.mark.parametrize(
    ("name", "stages"),
    [("AudioWAV/1001_DFA_ANG_XX.wav", ["logmel"]), ("Actor_01/02-01-06-01-02-01-01.mp4", ["faces", "flow"])],
)
def test_a_known_corpus_with_one_of_sound_and_video_gets_the_stages_it_has(name, stages, here):
    root = here / "clips"
    touch(root, name)
    assert main(["init", str(root), "--yes", "--config", "one.yaml"]) == 0
    config = load_config("one.yaml")
    assert list(config.stages) == stages
    assert (config.model.video, config.model.flow, config.model.audio) == (
        "faces" in stages, "flow" in stages, "logmel" in stages,
    )  # fmt: skip


def test_a_folder_with_a_blank_is_quoted_in_the_command_to_type(here, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    clips = touch(here / "my clips", "anna/happy/1.mp4", "ben/sad/2.mp4")
    assert main(["init", str(clips)]) == 1
    assert f"deiii init '{clips}' --yes" in capsys.readouterr().err
