"""The words of a command line: which are runs or media, which are settings, and what mistakes say."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from deiii.__main__ import build_parser, main
from deiii.data.command_line.notes import note_configs
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import (
    OTHER_WORDS,
    _commands,
    add_command,
    add_settings,
    is_config,
    is_override,
    parse_arguments,
    read_settings,
    split_words,
    take_overrides,
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with files whose names look like settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.mp4").touch()
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips.csv").write_text("path,speaker,label\n")
    (tmp_path / "ravdess_audio").mkdir()
    (tmp_path / "own.yaml").write_text("faces: {size: 64}\n")
    (tmp_path / "lr=0.1").mkdir()
    (tmp_path / "lr=0.1/run.yaml").write_text("faces: {size: 80}\n")
    (tmp_path / "lr=0.1/clip.mp4").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("train.lr=0.1", True),
        ("workers=8", True),
        ("corpus.table=a=b.csv", True),
        ("cache=", True),
        ("a=b.mp4", True),  # in form alone; split_words looks whether there is such a file
        ("faces.size", False),
        ("=1", False),
        (".size=1", False),
        ("faces.=1", False),
        ("2x=1", False),
        ("faces size=1", False),
        ("/x/lr=0.1/a.yaml", False),
        ("./lr=0.1", False),
        ("runs/lr=0.1", False),
        ("", False),
    ],
)
def test_form_of_an_override(word, expected):
    assert is_override(word) is expected


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        # runs and media
        ("clip.mp4", "thing"),
        ("a=b.mp4", "thing"),  # a file of this name exists
        ("lr=0.1", "thing"),  # a folder of this name exists
        ("lr=0.1/clip.mp4", "thing"),
        ("ravdess_audio", "thing"),  # a folder of this name exists
        ("absent.mp4", "thing"),
        ("runs/latest", "thing"),
        ("/x/lr=0.1/absent.mp4", "thing"),
        ("ravdes", "thing"),
        # settings
        ("c=d.mp4", "setting"),  # no file of this name exists
        ("faces.size=128", "setting"),
        ("ravdess", "setting"),
        ("own.yaml", "setting"),
        ("absent.yaml", "setting"),
        ("absent.yml", "setting"),
        ("lr=0.1/run.yaml", "setting"),
        ("/x/lr=0.1/a.yaml", "setting"),
    ],
)
def test_split_words(folder, word, kind):
    assert split_words([word]) == (([word], []) if kind == "thing" else ([], [word]))


def test_a_word_may_be_longer_than_the_name_of_a_file():
    words = [f"corpus.classes={{{','.join(f'class{n}: a' for n in range(99))}}}", f"http://a/{'b' * 300}"]
    assert split_words(words) == ([words[1]], [words[0]])
    assert len(read_settings(words[:1]).corpus.classes) == 99


def test_split_words_keeps_the_order_of_each_kind(folder):
    words = ["b.mp4", "tiny", "a.mp4", "workers=1", "own.yaml", "c.mp4"]
    assert split_words(words) == (["b.mp4", "a.mp4", "c.mp4"], ["tiny", "workers=1", "own.yaml"])


def test_configs_are_files_or_bare_names(folder):
    assert is_config("ravdess") and is_config("own.yaml") and is_config("absent.yaml")
    assert is_config("lr=0.1/run.yaml") and not is_config("lr=0.1/absent.yaml")
    assert not is_config("ravdes") and not is_config("clip.mp4")


def test_settings_are_read_from_files_bare_names_and_overrides(folder):
    assert read_settings(["own.yaml"]).faces.size == 64
    assert read_settings(["lr=0.1/run.yaml"]).faces.size == 80
    assert read_settings([str(folder / "lr=0.1/run.yaml")]).faces.size == 80
    assert read_settings(["lr=0.1/run.yaml", "own.yaml"]).faces.size == 64  # the later file wins
    assert read_settings(["faces.size=96", "own.yaml"]).faces.size == 96  # overrides win over files
    assert read_settings(["faces.size=96", "faces.size=48"]).faces.size == 48  # the later override wins
    assert read_settings(["ravdess"]).corpus.name == "ravdess"
    assert read_settings([]) == read_settings(())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ravdes"], "no such config file: ravdes; did you mean 'ravdess'"),
        (["absent.yaml"], "no such config file: absent.yaml"),
        (["lr=0.1"], "unknown setting 'lr'; did you mean 'train.lr'"),
        (["train.lr"], "train.lr is a setting, which needs a value: train.lr=VALUE"),
        (["clips.csv"], "clips.csv is a table, not a config file; write table corpus.table=clips.csv"),
        (["clips"], "clips is a folder, not a config file"),
        (["faces.sise=3"], "did you mean 'faces.size'"),
        (["=3"], "has the form key=value, e.g. faces.size=128, not '=3'"),
        (["/x/lr=0.1/absent.mp4"], "has the form key=value"),
        (["lr=0.1/absent.yaml"], "unknown setting 'lr'"),
        (["train.lr=[1,2"], r"'train.lr=\[1,2' lacks the closing \]; a value with spaces needs quotes"),
        (["corpus.classes={calm:"], r"lacks the closing \}"),
        (
            ["model.video=[frames,", "flow]"],
            r"flow\] is part of a list; the shell divides",
        ),
        (["model.channels=[8,", "16,", "32]"], "16, is part of a list"),
        (["a" * 300], "no such config file: aaa"),  # longer than a file's name can be
        ([f"{'a' * 300}.yaml"], "no such config file: aaa"),
        ([f"-x={'a' * 300}"], "has the form key=value"),
        ([f"train.lr: {'1' * 300}"], "has the form key=value; write train.lr=1"),
    ],
)
def test_wrong_settings_name_the_remedy(folder, words, message):
    with pytest.raises(ConfigError, match=message):
        read_settings(words)


def test_take_overrides():
    allowed = ["cache", "train.device"]
    assert take_overrides([], allowed, "evaluate") == {}
    assert take_overrides(["cache=/a", "train.device=cpu"], allowed, "evaluate") == {
        "cache": "/a",
        "train.device": "cpu",
    }
    assert take_overrides(["cache=/a", "cache=/b=c"], allowed, "evaluate") == {"cache": "/b=c"}
    for word in ("train.lr=1", "runs/other", "cache", "ravdess"):
        with pytest.raises(ConfigError, match=f"evaluate.*cache= and train.device=, not '{word}'"):
            take_overrides([word], allowed, "evaluate")
    with pytest.raises(ConfigError, match="'cache=' has no value"):
        take_overrides(["cache="], allowed, "evaluate")


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    """Three commands: settings only; media and settings; a fixed number of words."""
    whole = argparse.ArgumentParser(prog="deiii")
    commands = whole.add_subparsers(dest="command", required=True)
    texts = {"help": "h", "description": "d", "examples": ["x"], "when_stopped": "start again"}
    train = add_command(commands, "train", lambda args: 0, **texts)
    add_settings(train)
    train.add_argument("--resume", action="store_true")
    train.add_argument("--out", default="there")
    predict = add_command(commands, "predict", lambda args: 0, **texts)
    predict.add_argument("run")
    predict.add_argument("words", nargs="+")
    predict.add_argument("--out", default="there")
    pack = add_command(commands, "pack", lambda args: 0, **texts)
    pack.add_argument("cache")
    pack.add_argument("archive")
    return whole


@pytest.mark.parametrize(
    "line",
    [
        "train --resume --out here a b=1",
        "train a --resume b=1 --out here",
        "train a b=1 --out here --resume",
        "train --out here a --resume b=1",
        "train --out=here a b=1 --resume",
    ],
)
def test_options_may_stand_between_words(parser, line):
    args = parse_arguments(parser, line.split())
    assert args.settings == ["a", "b=1"] and args.resume and args.out == "here"
    assert args.when_stopped == "start again" and args.action(args) == 0


@pytest.mark.parametrize("line", ["predict run a --out here b", "predict --out here run a b"])
def test_options_may_stand_between_media(parser, line):
    args = parse_arguments(parser, line.split())
    assert (args.run, args.words, args.out) == ("run", ["a", "b"], "here")


def test_a_command_line_leaves_nothing_behind_for_the_next(parser):
    assert parse_arguments(parser, ["train", "--resume", "a"]).settings == ["a"]
    assert parse_arguments(parser, ["train", "--resume"]).settings == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tarin", "unknown command 'tarin'; did you mean 'train'?"),
        ("tarin a --resume", "unknown command 'tarin'; did you mean 'train'?"),
        ("zzz", "unknown command 'zzz'\n`deiii --help` lists all commands"),
        ("train --rezume", "unknown option --rezume; did you mean '--resume'?"),
        ("train a --zzz", "unknown option --zzz\n"),
        ("train --ouut=3", "unknown option --ouut=3; did you mean '--out'?"),
        ("train --resum", "unknown option --resum; did you mean '--resume'?"),
        ("train --ou=3", "unknown option --ou=3; did you mean '--out'?"),
        ("--debug train a", "unknown option --debug; options follow the command: deiii train --debug"),
        (f"train --{'a' * 300}", "unknown option --aaa"),
        ("pack a b c", "too many words: c"),
        ("pack a", "required: archive"),
        ("", "name a command"),
    ],
)
def test_wrong_command_lines_end_with_status_2_and_a_hint(parser, capsys, line, message):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(parser, line.split())
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


@pytest.mark.parametrize(
    ("line", "shown"),
    [("help", "usage: deiii"), ("help help", "usage: deiii"), ("help train", "usage: deiii train")],
)
def test_help_is_a_word_too(parser, capsys, line, shown):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(parser, line.split())
    assert caught.value.code == 0
    assert shown in capsys.readouterr().out


def test_help_for_an_unknown_command_names_the_nearest(parser, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(parser, ["help", "tarin"])
    assert caught.value.code == 2
    assert "did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "cache=x"], True),
        (["cache=x/synthetic"], True),
        (["corpus.root=raw/synthetic"], True),
        (["synthetic"], False),
        (["corpus.synthetic.speakers=3"], False),
        (["ravdess"], False),
        (["corpus.name=table"], False),
    ],
)
def test_the_synthetic_corpus_is_noted_where_no_word_asks_for_it(words, said, capsys):
    note_configs(read_settings(words), words)
    printed = capsys.readouterr()
    assert printed.err.startswith("note: no corpus is named") is said and not printed.out
    assert said or not printed.err


def test_a_word_with_a_place_of_its_own_needs_no_option(capsys):
    with pytest.raises(SystemExit):
        main(["export-features", "ravdess", "--out", "features", "--to", "npz"])
    assert "unknown option --out; write OUT alone, at its place in the line above" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--train.lr=0.1", "unknown option --train.lr=0.1; a setting has no dashes: train.lr=0.1"),
        ("-clip.mp4", "unknown option -clip.mp4; write ./-clip.mp4 for the file"),
        ("--wrost", "unknown option --wrost; did you mean '--worst'?"),
        ("--epochs", "unknown option --epochs; a setting has no dashes: train.epochs=VALUE"),
        ("--lr=0.1", "a setting has no dashes: train.lr=0.1"),
        ("-train.weight-decay=0.1", "a setting has no dashes: train.weight_decay=0.1"),
        ("--size=3", "a setting has no dashes: corpus.synthetic.size=3 or faces.size=3"),
        ("--qqqq", "unknown option --qqqq\n"),
    ],
)
def test_a_word_with_a_dash_that_is_no_option(word, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-clip.mp4").touch()
    with pytest.raises(SystemExit):
        main(["inspect", word])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("word", ["train.lr:0.1", "train.lr: 0.1"])
def test_a_setting_in_the_form_of_yaml(word):
    with pytest.raises(ConfigError, match="write train.lr=0.1, not 'train.lr:"):
        read_settings([word])


@pytest.mark.parametrize(("word", "command"), [("report", "evaluate"), ("corpus", "synthesize")])
def test_a_word_for_a_command_is_told_the_command_that_does_it(word, command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([word])
    assert caught.value.code == 2
    assert f"unknown command {word!r}; did you mean {command!r}?" in capsys.readouterr().err


def test_every_other_word_leads_to_a_command_and_is_none():
    names = set(_commands(build_parser()))
    assert set(OTHER_WORDS.values()) <= names and not set(OTHER_WORDS) & names


def test_names_are_suggested_whatever_their_case():
    with pytest.raises(ConfigError, match="no such config file: RAVDESS; did you mean 'ravdess'"):
        read_settings(["RAVDESS"])
