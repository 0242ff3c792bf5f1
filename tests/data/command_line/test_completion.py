"""Completion scripts: in a real bash and zsh they complete commands, options, settings and values."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from deiii.__main__ import build_parser
from deiii.data.command_line.completion import SHELLS, script, setting_values, words_of
from deiii.data.config.keys import all_keys
from deiii.data.config.words import _commands

ASK = r"""
source "$1"
COMP_LINE="$2"; COMP_POINT=${#COMP_LINE}
read -ra COMP_WORDS <<< "$COMP_LINE"
[[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_deiii
printf '%s\n' "${COMPREPLY[@]}"
"""


# The functions of zsh's completion system, which need an editor, print what they are given.
ASK_ZSH = r"""
compdef() { }
compset() { }
compadd() { while [[ "$1" != -- ]]; do shift; done; shift; printf '%s\n' "$@" }
_describe() { printf '%s\n' "${(@)${(P)2}%%:*}" }
_files() { echo FILES }
source "$1"
words=(${(z)2}); [[ "$2" == *" " ]] && words+=("")
CURRENT=${#words}
_deiii
"""


def words():
    parser = build_parser()
    (commands,) = [a for a in parser._actions if hasattr(a, "_choices_actions")]
    return words_of(commands)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell, words()), encoding="utf-8")
    return folder


def completed(scripts, line: str, cwd=None) -> set[str]:
    """What bash proposes at the end of a line."""
    command = ["bash", "--noprofile", "--norc", "-c", ASK, "ask", str(scripts / "bash"), line]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@bash
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deiii tr", {"train"}),
        ("deiii pre", {"preprocess", "predict"}),
        ("deiii help cross", {"crossval"}),
        ("deiii train --res", {"--resume"}),
        ("deiii train ravd", {"ravdess", "ravdess_audio", "ravdess_speech", "ravdess_voices"}),
        ("deiii train tiny faces.si", {"faces.size="}),
        ("deiii train tiny flow.method=", {"dis", "raft", "tvl1"}),
        ("deiii preprocess flow.method=r", {"raft"}),
        ("deiii train model.conformer=", {"true", "false"}),
        ("deiii completion ", {"bash", "zsh", "fish"}),
        ("deiii completion b", {"bash"}),
        ("deiii export-features out tiny --to w", {"webdataset"}),
        ("deiii splits ", {"list", "import"}),
        ("deiii train train.lr=", set()),
        ("deiii train 'flow.method=", set()),
        (r"deiii train it\'s.yaml faces.si", {"faces.size="}),
    ],
)
def test_bash(line, expected, scripts, tmp_path):
    assert completed(scripts, line, tmp_path) == expected


@bash
@pytest.mark.parametrize(
    ("typed", "files"),
    [
        ("ra", {"ravdess_mine.yaml", "raw/"}),  # beside names of configs; a folder goes on
        ("ca", {r"ca\ b.yaml", r"ca\'s.yaml"}),
        ("zo", None),  # bash itself completes the others, with quotes and slashes
        (r"zo\ r", None),
        ('"zo r', None),
        ("'zo r", None),
    ],
)
def test_bash_proposes_files_beside_settings_as_they_are_typed(typed, files, scripts, tmp_path):
    for name in ("ravdess_mine.yaml", "ca b.yaml", "ca's.yaml", "zone.yaml", "zo ra.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "raw").mkdir()
    command = [
        "bash",
        "--noprofile",
        "--norc",
        "-c",
        ASK,
        "ask",
        str(scripts / "bash"),
        f"deiii train {typed}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    found = set(filter(None, done.stdout.split("\n")))
    assert not done.stderr and (found > files if files else not found), found


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        ("deiii ", {"train", "help"}, {"train.csv"}),
        ("deiii help tr", {"train"}, {"train.csv"}),
        ("deiii train tr", {"train.lr=", "train.csv"}, {"train"}),
        ("deiii splits ", {"list", "import"}, {"train.csv"}),
    ],
)
def test_fish(line, expected, absent, scripts, tmp_path, monkeypatch):
    (tmp_path / "train.csv").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    command = ["fish", "-N", "-c", f"source {scripts / 'fish'}; complete -C '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    found = {one.partition("\t")[0] for one in done.stdout.splitlines()}
    assert done.returncode == 0 and expected <= found and not absent & found, (found, done.stderr)


@bash
def test_bash_knows_every_command_and_setting(scripts, tmp_path):
    assert completed(scripts, "deiii ", tmp_path) == {*_commands(build_parser()), "help"}
    assert {f"{key}=" for key in all_keys()} <= completed(scripts, "deiii settings ", tmp_path)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        ("deiii ", {"train", "predict", "help"}, {"FILES"}),
        ("deiii predict --", {"--people", "--vtt"}, {"FILES", "--resume"}),
        ("deiii predict run clip --people ", {"one", "all"}, {"FILES"}),
        ("deiii completion ", {"bash", "zsh", "fish"}, {"FILES"}),
        ("deiii train tiny flow.method=", {"dis", "raft", "tvl1"}, {"FILES", "tiny"}),
        ("deiii train tiny corpus.root=", {"FILES"}, {"tiny"}),
        ("deiii train ", {"ravdess", "tiny", "faces.size=", "FILES"}, {"--resume"}),
        ("deiii pack ", {"FILES"}, {"tiny"}),
    ],
)
def test_zsh(line, expected, absent, scripts):
    command = ["zsh", "-f", "-c", ASK_ZSH, "ask", str(scripts / "zsh"), line]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    found = set(done.stdout.split())
    assert expected <= found and not absent & found, found


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_read_without_an_error(shell, scripts):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run([shell, "-n", str(scripts / shell)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_every_shell_names_every_command(scripts):
    for shell in SHELLS:
        text = (scripts / shell).read_text()
        assert all(name in text for name in _commands(build_parser()))


def test_values_are_those_that_settings_allow():
    values = setting_values()
    assert set(values) >= set(all_keys())
    assert values["train.launch"] == ("auto", "eager", "compile", "graph") and values["train.lr"] == ()


def test_printing_a_script_loads_nothing_slow():
    check = "import sys\nfrom deiii.__main__ import main\nassert main(['completion', 'bash']) == 0\n"
    check += "slow = {'torch', 'cv2', 'numba', 'dask', 'h5py', 'av'} & set(sys.modules)\nassert not slow\n"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
