"""The command ``deiii``: one sub-command for each step from raw clips to a trained network."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports at this place would run before `_leave_out_current_folder`
    import argparse

    from deiii.data.command_line.entry import Command

DESCRIPTION = """deiii turns raw clips into cached features and trains an emotion classifier on them.

  deiii COMMAND [RUN | MEDIA ...] [CONFIG | KEY=VALUE ...] [--OPTION ...]

CONFIG     a YAML file, or the bare name of a config that comes with deiii (ravdess, tiny)
KEY=VALUE  one setting, e.g. faces.size=128; `deiii settings` lists all of them
--OPTION   an option of the command; `deiii help COMMAND` lists them
"""
EPILOG = """example, from nothing to an evaluated network:
  deiii preprocess synthetic
  deiii train synthetic tiny train.run=runs/demo
  deiii evaluate runs/demo"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``deiii``; each of its commands sets ``action``, the function that runs it."""
    import argparse

    from deiii.data.tools.machine import package_versions
    from deiii.model.commands import add_commands as add_model_commands
    from deiii.pipeline.commands import add_commands as add_pipeline_commands

    parser = argparse.ArgumentParser(
        prog="deiii",
        usage="deiii COMMAND ...",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"deiii {package_versions('deiii')['deiii']}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="deiii"
    )
    groups = (("Preprocessing", add_pipeline_commands), ("Training and prediction", add_model_commands))
    listing = ""
    for title, add_commands in groups:
        before = set(commands.choices)
        add_commands(commands)
        listing += f"\n{title}:\n"
        for choice in commands._choices_actions:
            if choice.dest not in before:
                listing += f"  {choice.dest:<15} {choice.help}\n"
    parser.description = DESCRIPTION + listing
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words of the command; those of this process if they are not given, in which case the program
            is expected to end with the command (`run`).

    Returns:
        the exit status: the command's own, 0 if all went well; 1 after an error; 130 after Ctrl-C, SIGTERM
        or SIGHUP.

    Raises:
        SystemExit: with status 2 for words that are no command, with 0 after a help text.
    """
    from deiii.data.command_line.entry import run

    # Before PyTorch is loaded, which reads it once. By default, a thread of GNU's OpenMP that waits keeps its
    # core busy for 300,000 rounds before it sleeps, which delays training beside other programs. Fewer rounds
    # help there; on an idle machine, no difference was found (`benchmarks/busy_train.py`).
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "3000"
    return run(partial(_parse, argv), ends_program=argv is None)


def _parse(argv: Sequence[str] | None) -> Command:
    # Imported here, where `run` handles Ctrl-C already.
    from deiii.data.command_line.empty_words import refuse_empty_words
    from deiii.data.command_line.entry import Command
    from deiii.data.config.words import parse_arguments

    parser = build_parser()
    args = parse_arguments(parser, argv)
    refuse_empty_words(parser, args)
    return Command(partial(_act, args), args.when_stopped, args.debug)


def _act(args: argparse.Namespace) -> int:
    """Run the command that was parsed; with ``--quiet``, without progress bars and reports."""
    from deiii.data.command_line.repeated_warnings import each_warning_once
    from deiii.data.tools.progress import loading_note, quietly

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    note = loading_note("loading libraries and data ...") if first else nullcontext()
    with quietly(args.quiet), note, each_warning_once():
        status: int = args.action(args)
    return status


def _leave_out_current_folder() -> None:
    """Import no module from the current folder, which ``python -m deiii`` searches first.

    A file ``random.py`` or ``yaml.py`` in it would be taken for Python's own module.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was deleted, which `run` reports
        return
    if not sys.flags.safe_path and sys.path[:1] == [here] and not __file__.startswith(f"{here}{os.sep}"):
        del sys.path[0]


if __name__ == "__main__":
    _leave_out_current_folder()
    sys.exit(main())
