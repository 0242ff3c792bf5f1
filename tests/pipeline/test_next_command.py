"""After ``deiii preprocess``: the command that trains on the features, where it can start."""

from __future__ import annotations

import shlex

import pytest

from deiii.__main__ import main
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.download import SOURCES
from deiii.data.corpora.scan import scan
from deiii.pipeline.next_command import (
    next_line,
    preprocessing_command,
    training_command,
    training_obstacle,
)

SPEECH = "stages=[logmel,speech]"


def corpus(labels: str = "ababab", speakers: str = "112233") -> Corpus:
    """Return a corpus with a clip for each letter; ``-`` is a clip without a label."""
    pairs = zip(labels, speakers, strict=True)
    clips = [Clip(f"c{n}", f"c{n}.mp4", s, None if x == "-" else x) for n, (x, s) in enumerate(pairs)]
    return Corpus("mine", "/clips", tuple(sorted(set(labels) - {"-"})), tuple(clips))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["table", "tiny", "corpus.root=/clips"], "table tiny corpus.root=/clips train.run=runs/table"),
        (["table", "corpus.root=/my clips"], "table 'corpus.root=/my clips' train.run=runs/table"),
        (["table", "train.run=runs/a"], "table train.run=runs/a"),
        (["corpus.name=table", "corpus.root=/c"], "corpus.name=table corpus.root=/c train.run=runs/mine"),
        (["table", "workers=2", "max_failed=0.5", "cluster.size=3"], "table train.run=runs/table"),
        (["table", "retry=true", "clip_timeout=9", "clip_memory_gb=1"], "table train.run=runs/table"),
        (["table", "cache=/c", "faces.size=96"], "table cache=/c faces.size=96 train.run=runs/table"),
        (
            ["table", "stages=[logmel]", "model.video=false", "model.flow=false"],
            "table 'stages=[logmel]' model.video=false model.flow=false train.run=runs/table",
        ),
        # Encoders that were computed become inputs of the network, unless the words choose the inputs.
        (
            ["table", SPEECH, "model.video=false", "model.flow=false"],
            f"table '{SPEECH}' model.video=false model.flow=false 'model.audio=[logmel,speech]' "
            "train.run=runs/table",
        ),
        (
            ["table", SPEECH, "model.video=[]", "model.audio=[logmel]"],
            f"table '{SPEECH}' 'model.video=[]' 'model.audio=[logmel]' train.run=runs/table",
        ),
        (
            ["table", SPEECH, "model.video=[]", "model.extra=[]"],
            f"table '{SPEECH}' 'model.video=[]' 'model.extra=[]' train.run=runs/table",
        ),
        (["emotional_av"], "emotional_av train.run=runs/emotional_av"),
        (["ravdess_speech"], "ravdess_speech train.run=runs/ravdess_speech"),
    ],
)
def test_the_command_has_the_settings_that_training_uses(words, command):
    config = read_settings([word for word in words if not word.startswith("cluster")])
    told = training_command(config, words, corpus())
    assert told == f"deiii train {command}"
    read_settings(shlex.split(told)[2:])


def test_after_another_corpus_with_a_runs_preprocessing_the_run_is_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("corpus: {name: table, root: /a}\n")
    words = ["runs/a/config.yaml", "corpus.root=/my clips", "cache=/c", "workers=2"]
    config = read_settings(words)
    trained = next_line(config, words, corpus())
    assert trained.endswith(
        "deiii train runs/a/config.yaml 'corpus.root=/my clips' cache=/c train.run=runs/config"
    )
    (folder / "run.json").touch()  # without it, the folder is no run
    told = next_line(config, words, corpus(speakers="111111"))  # too few to train on
    assert told.endswith(": deiii evaluate runs/a --on runs/a/config.yaml 'corpus.root=/my clips' cache=/c")
    again = next_line(config, words[:1], corpus())  # the corpus of the run itself
    assert ": deiii train runs/a/config.yaml " in again


def test_no_command_is_named_that_would_end_with_an_error():
    ready, logmel = read_settings(["table"]), read_settings(["table", "stages=[logmel]"])
    assert training_command(ready, ["table"], corpus())
    assert not training_command(ready, ["table"], corpus(labels="------"))
    assert not training_command(ready, ["table"], corpus(labels="aaa-aa"))
    assert not training_command(ready, ["table"], corpus(speakers="111222"))
    assert not training_command(logmel, ["table", "stages=[logmel]"], corpus())


WITHOUT_VALIDATION = ["split.val_share=0", "train.monitor=last"]


@pytest.mark.parametrize(
    ("words", "labels", "speakers", "reason"),
    [
        ([], "ababab", "112233", ""),
        (["stages=[logmel]"], "ababab", "112233", "the network also reads faces, flow: add them to stages"),
        (["stages=[logmel]", "model.video=false", "model.flow=false"], "ababab", "112233", ""),
        ([], "------", "112233", "no clip has a label: label clips with two classes or more"),
        ([], "aaa-aa", "112233", "all labels are equal: label clips with two classes or more"),
        (["model.classes=false", "model.attributes=[valence]"], "------", "112233", ""),
        ([], "ababab", "111222", "2 speakers cannot be divided into training, validation and test"),
        (WITHOUT_VALIDATION, "ababab", "111222", ""),
        (WITHOUT_VALIDATION, "ababab", "111111", "1 speaker cannot be divided into training and test"),
        ([*WITHOUT_VALIDATION, "split.protocol=all-speakers"], "ababab", "111111", ""),
    ],
)
def test_the_obstacle_is_named(words, labels, speakers, reason):
    config, found = read_settings(["table", *words]), corpus(labels, speakers)
    obstacle = training_obstacle(config, found)
    assert obstacle.startswith(reason) and bool(obstacle) == bool(reason)
    assert bool(training_command(config, ["table", *words], found)) == (not reason)


def test_a_preprocess_after_which_nothing_can_be_trained_names_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deiii.pipeline.preprocess.graph.preprocess", lambda *_: None)
    monkeypatch.setattr("deiii.pipeline.commands._report", lambda *_: 0)
    (tmp_path / "a.wav").touch()
    (tmp_path / "clips.csv").write_text("path,speaker,label\na.wav,s0,a\n")
    words = ["table", f"corpus.root={tmp_path}", f"cache={tmp_path / 'cache'}", "workers=1"]
    assert main(["preprocess", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("no network can be trained with these settings: all labels are equal: ")
    assert out.count("\n") == 1
    assert main(["preprocess", *words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("status", "page", "begin"),
    [(0, True, "next, after a look at the overview: "), (0, False, "next: "), (1, True, "")],
)
def test_a_preprocess_that_succeeds_ends_with_the_command_and_a_quiet_one_does_not(
    status, page, begin, tmp_path, monkeypatch, capsys
):
    """A cache that was unpacked has no page; where it cannot be written, none is made."""
    monkeypatch.setattr("deiii.pipeline.preprocess.graph.preprocess", lambda *_: None)
    monkeypatch.setattr("deiii.pipeline.commands._report", lambda *_: status)  # 1: too many clips failed
    pairs = [(speaker, label) for speaker in range(3) for label in "ab"]
    for speaker, label in pairs:
        (tmp_path / f"{speaker}{label}.wav").touch()
    rows = [f"{speaker}{label}.wav,s{speaker},{label}\n" for speaker, label in pairs]
    (tmp_path / "clips.csv").write_text("path,speaker,label\n" + "".join(rows))
    words = ["table", f"corpus.root={tmp_path}", f"cache={tmp_path / 'cache'}"]
    if page:
        (tmp_path / "cache/table-clips").mkdir(parents=True)
        (tmp_path / "cache/table-clips/overview.html").write_text("a page")
    assert main(["preprocess", *words, "workers=1"]) == status
    command = shlex.join(["deiii", "train", *words, "train.run=runs/table"])
    assert capsys.readouterr().out == (f"{begin}{command}\n" if status == 0 else "")
    assert main(["preprocess", *words, "workers=1", "--quiet"]) == status
    assert capsys.readouterr().out == ""


def test_the_run_folder_of_a_config_of_ones_own_stays(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"corpus: {{name: table}}\ntrain: {{run: {tmp_path}/mine}}\n")
    assert training_command(read_settings([str(path)]), [str(path)], corpus()) == f"deiii train {path}"


@pytest.mark.parametrize(
    ("name", "part", "file"),
    [
        ("ravdess", None, "01-01-06-01-02-01-12.mp4"),
        ("ravdess", "video-speech", "01-01-06-01-02-01-12.mp4"),
        ("ravdess", "video-song", "01-02-05-01-02-01-12.mp4"),
        ("ravdess", "audio-speech", "03-01-06-01-02-01-12.wav"),
        ("ravdess", "audio-song", "03-02-05-01-02-01-12.wav"),
        ("crema_d", None, "1001_DFA_ANG_XX.flv"),
        ("crema_d", "video", "1001_DFA_ANG_XX.flv"),
        ("crema_d", "audio", "1001_DFA_ANG_XX.wav"),
    ],
)
def test_the_command_after_a_download_reads_the_part_that_was_downloaded(name, part, file, tmp_path):
    assert part is None or part in SOURCES[name].parts
    (tmp_path / file).touch()
    command = shlex.split(preprocessing_command(name, part, str(tmp_path)))
    assert command[:2] == ["deiii", "preprocess"]
    config = read_settings(command[2:])
    assert [clip.path for clip in scan(config.corpus).clips] == [file]
    assert file.endswith(".wav") == (config.stages == ["logmel"])
