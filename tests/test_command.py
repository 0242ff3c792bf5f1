"""The command ``deiii`` as users meet it: its help, its speed, its exit statuses."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from deiii.__main__ import build_parser, main
from deiii.data.command_line.completion import words_of
from deiii.data.config.words import parse_arguments, split_words
from deiii.model.prediction.predictor import STREAM_HOP_S
from deiii.model.prediction.windows.units import HOP_S, MOST_WINDOWS, sliding_window
from tests.helpers.clips import audio_corpus
from tests.helpers.waiting import without_note

COMMANDS = (
    "init cut preprocess verify inspect overview synthesize settings encoders pack unpack fetch-cache "
    "export-features download doctor splits audit completion "
    "train evaluate predict compare export crossval sweep"
).split()


def deiii(*words: str, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "deiii", *words]
    done = subprocess.run(command, capture_output=True, text=True, **more)
    done.stderr = without_note(done.stderr)
    return done


def test_every_option_is_explained_with_its_default():
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "_choices_actions")]
    for name, parser in commands.choices.items():
        for action in parser._actions:
            assert action.help, (name, action)
            if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
                assert "(default: " in action.help, (name, action.option_strings, action.help)


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_help_divides_no_word_at_its_dashes(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "_choices_actions")]
    for parser in commands.choices.values():
        lines = parser.format_help().splitlines()
        assert [line for line in lines if re.search(r"[\w-]-$", line)] == []


def test_the_list_of_settings_divides_no_word_at_its_dashes(capsys):
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if re.search(r"[\w-]-$", line)] == []


def test_every_command_takes_quiet_and_completion_proposes_it():
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "_choices_actions")]
    for name, parser in commands.choices.items():
        assert "--quiet" in parser._option_string_actions, name
        assert "--quiet" in words_of(commands).options[name], name


def test_the_default_of_the_hop_is_that_of_the_help():
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "_choices_actions")]
    (hop,) = [a for a in commands.choices["predict"]._actions if "--hop" in a.option_strings]
    two_hours = sliding_window(7200.0, 1.6, None, None)[1]
    assert (HOP_S, MOST_WINDOWS, two_hours) == (0.2, 20000, 0.36)
    assert f"default: {HOP_S};" in hop.help
    assert f"{MOST_WINDOWS} windows, e.g. {two_hours} for two hours" in hop.help
    assert sliding_window(7200.04, 1.6, None, None)[1] == 0.37  # a multiple of 0.01 s, not 0.360002
    assert f"more than {HOP_S * MOST_WINDOWS:.0f} s" in hop.help and f"--live {STREAM_HOP_S}" in hop.help


def test_the_list_of_commands_is_complete():
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "_choices_actions")]
    assert list(commands.choices) == COMMANDS


def test_the_examples_of_the_main_help_parse():
    text = build_parser().format_help()
    examples = [shlex.split(line) for line in text.partition("\nexample")[2].splitlines()[1:]]
    assert [words[:2] for words in examples] == [["deiii", c] for c in ("preprocess", "train", "evaluate")]
    for words in examples:
        parse_arguments(build_parser(), words[1:])


def test_help_lists_every_command_with_a_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for command in COMMANDS:
        assert any(line.startswith(f"  {command} ") and len(line.split()) > 2 for line in lines), command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_description_and_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    description = text.partition("\n\n")[2].partition("\n\n")[0]
    assert description[0].isupper() and description.endswith(".") and len(description.split()) > 8
    assert max(map(len, text.splitlines())) <= 100
    examples = [shlex.split(line, comments=True) for line in text.partition("examples:\n")[2].splitlines()]
    assert examples
    for words in examples:
        assert words[:2] == ["deiii", command]
        args = parse_arguments(build_parser(), words[1:])
        words = getattr(args, "settings", [])  # after the first run, `evaluate` takes further ones there
        assert all(split_words([word])[1] or word.startswith("runs/") for word in words)


@pytest.mark.parametrize("code", ["import deiii", "from deiii.__main__ import main; main(['--help'])"])
def test_neither_import_nor_help_loads_what_is_slow(code):
    check = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
    check += "slow = {'torch', 'cv2', 'numba', 'dask', 'h5py', 'librosa', 'av'} & set(sys.modules)\n"
    check += "assert not slow, slow"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_lists_what_it_offers():
    offered = [name for name in dir(importlib.import_module("deiii")) if not name.startswith("__")]
    packages = {"data", "model", "pipeline", "runtime"}  # listed once they were imported
    assert sorted(set(offered) - packages) == [
        "Features",
        "extract",
        "from_pretrained",
        "load",
        "open_features",
        "open_split",
    ]


def test_a_misspelt_command_is_told_the_nearest_one():
    done = deiii("tarin", "configs/tiny.yaml")
    assert done.returncode == 2 and not done.stdout
    assert "unknown command 'tarin'; did you mean 'train'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_have_status_1_and_one_line():
    done = deiii("settings", "faces.sise=3")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "did you mean 'faces.size'" in done.stderr


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly():
    command = f"{sys.executable} -m deiii settings | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("corpus.name=") and without_note(done.stderr) == ""


def test_lost_work_is_told_where_the_reader_closes_the_pipe(tmp_path):
    """The error of the pipe was told as one of the cache folder."""
    corpus = audio_corpus(tmp_path / "clips", speakers=2)
    rows = [f"{clip.path},{clip.speaker},{clip.label}" for clip in corpus.clips]
    (tmp_path / "clips/clips.csv").write_text("\n".join(["path,speaker,label", *rows]))
    words = f"preprocess table corpus.root={tmp_path}/clips cache={tmp_path}/cache stages=[logmel] workers=1"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m deiii {words} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    said = "stopped; nothing reads the output any more; finished shards are kept: run the same command again"
    assert said in done.stderr and "error" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_stream_that_is_closed_from_the_start_ends_no_command(closed):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m deiii settings {closed}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and without_note(done.stderr) == ""
    assert done.stdout.startswith("corpus.name=") == (not closed.startswith(">"))


def test_an_environment_that_cannot_express_a_name_is_told_its_remedy(tmp_path):
    (tmp_path / "clips.csv").write_text("path,speaker,label\n\u7b11.mp4,a,b\n", encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["preprocess", "table", f"corpus.root={tmp_path}", f"cache={tmp_path}/cache", "stages=[logmel]"]
    done = deiii(*words, env=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    note, error = done.stderr.splitlines()
    assert note.startswith("note: this environment writes file names in ascii") and "PYTHONUTF8=1" in note
    assert error.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["train", "train.run=runs/none"], "add --resume to the same command"),
        (["preprocess"], "finished shards are kept: run the same command again"),
        (["settings"], "nothing was changed"),
    ],
)
def test_ctrl_c_says_how_to_continue(words, remedy, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("deiii.model.commands.read_settings", interrupt)
    monkeypatch.setattr("deiii.pipeline.commands.read_settings", interrupt)
    assert main(words) == 130
    assert remedy in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"deiii {metadata.version('deiii')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_not_abbreviated_and_help_is_a_command(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--hel"])
    assert caught.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["help", command])
    assert caught.value.code == 0
    assert f"deiii {command}" in capsys.readouterr().out


def test_files_named_like_modules_are_not_taken_for_them(tmp_path):
    """`python -m` searches the current folder first."""
    for name in ("argparse", "random", "dataclasses", "yaml", "numpy", "select", "types"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')\n")
    found = deiii("settings", "faces.size=96", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_of_openmp_that_wait_sleep_soon_unless_the_user_chose(given, monkeypatch, capsys):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for name in names:
        monkeypatch.setenv(name, "")  # so that the variable is as before after the test
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["settings"]) == 0
    assert {n: os.environ[n] for n in names if n in os.environ} == (given or {"GOMP_SPINCOUNT": "3000"})
