"""An unknown option is answered with what the command has or reads, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.__main__ import build_parser, main
from deiii.data.config.keys import all_keys, sections
from deiii.data.config.words import MAKE_ONLY, _commands


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "runs/a", "a.mp4", "--start", "600"], "unknown option --start\n"),
        (["predict", "runs/a", "a.mp4", "--end=90"], "unknown option --end=90\n"),
        (
            ["predict", "runs/a", "--train.start=b"],
            "train.start is a setting, which `deiii predict` does not",
        ),
        (["predict", "runs/a", "--fps=25"], "a setting has no dashes: faces.fps=25\n"),
        (["predict", "runs/a", "--device", "cpu"], "or appearance.device=VALUE or train.device=VALUE\n"),
        (["preprocess", "tiny", "--epochs", "3"], "unknown option --epochs\n"),
        (["preprocess", "tiny", "--workers=3"], "a setting has no dashes: workers=3\n"),
        (["preprocess", "tiny", "--wokers", "3"], "a setting has no dashes: did you mean workers=VALUE?\n"),
        (["train", "tiny", "--epoch=3"], "a setting has no dashes: did you mean train.epochs=3?\n"),
        (["synthesize", "--seed=3"], "a setting has no dashes: corpus.synthetic.seed=3\n"),
        (["verify", "--cache", "c"], "a setting has no dashes: cache=VALUE\n"),
        (["evaluate", "runs/a", "--cache=c"], "a setting has no dashes: cache=c\n"),
        (["evaluate", "runs/a", "--epochs=3"], "unknown option --epochs=3\n"),
        (["evaluate", "runs/a", "--seed=3"], "a setting has no dashes: corpus.synthetic.seed=3\n"),
        (["download", "ravdess", "--root=r"], "a setting has no dashes: corpus.root=r\n"),
        (["train", "tiny", "--epochs=3"], "a setting has no dashes: train.epochs=3\n"),
        (["export", "runs/a", "b", "--fold=1"], "unknown option --fold=1\n"),
        (["init", "clips", "--pattern=x"], "unknown option --pattern=x\n"),
        (["init", "clips", "--labels", "x"], "unknown option --labels\n"),
        (
            ["cut", "a.csv", "b", "--faces.size=64"],
            "faces.size is a setting, which `deiii cut` does not read\n",
        ),
        (["export-features", "a", "--to=npz", "--fold=1"], "a setting has no dashes: split.fold=1\n"),
    ],
)
def test_a_setting_is_proposed_only_if_the_command_reads_it(words, says, capsys):
    """`deiii predict --start 600` was told to write train.start=VALUE, which names a run."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_every_command_that_takes_settings_states_which_it_reads():
    for name, command in _commands(build_parser()).items():
        shown = [str(action.metavar) for action in command._actions if not action.option_strings]
        takes = any("=" in metavar for metavar in shown)
        assert takes == bool(command.get_default("reads")), name
        keys = {*all_keys(), *sections()}
        assert set(command.get_default("reads") or ()) <= keys, name


def test_a_command_of_make_is_answered_with_make(capsys):
    makefile = (Path(__file__).parents[3] / "Makefile").read_text()
    for name in MAKE_ONLY:
        assert f"\n{name}:" in makefile and name not in _commands(build_parser())
        with pytest.raises(SystemExit) as caught:
            main([name])
        assert caught.value.code == 2
        assert f"{name!r}; it is a target of the Makefile" in capsys.readouterr().err
