"""The command ``deiii``: one sub-command for each step from raw clips to a trained network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from deiii.data.config.words import parse_arguments, run
from deiii.model import commands as model_commands
from deiii.pipeline import commands as pipeline_commands

DESCRIPTION = """deiii turns raw clips into cached features and trains an emotion classifier on them.

  deiii COMMAND [RUN | MEDIA ...] [CONFIG | KEY=VALUE ...] [--OPTION ...]

CONFIG     a YAML file, or the bare name of a config that comes with deiii (ravdess, tiny)
KEY=VALUE  one setting, e.g. faces.size=128; `deiii settings` lists all of them
--OPTION   what is not a setting; `deiii COMMAND --help` lists a command's options
"""
EPILOG = """example, from nothing to an evaluated network:
  deiii preprocess synthetic
  deiii train synthetic tiny train.run=runs/demo
  deiii evaluate runs/demo"""
GROUPS = (("Preprocessing", pipeline_commands), ("Training and prediction", model_commands))


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``deiii``; each of its commands sets ``action``, the function that runs it."""
    parser = argparse.ArgumentParser(
        prog="deiii",
        usage="deiii COMMAND ...",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="deiii"
    )
    listing = ""
    for title, group in GROUPS:
        before = set(commands.choices)
        group.add_commands(commands)
        listing += f"\n{title}:\n"
        for choice in commands._choices_actions:
            if choice.dest not in before:
                listing += f"  {choice.dest:<12} {choice.help}\n"
    parser.description = DESCRIPTION + listing
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 an error, 130 interrupted by Ctrl-C or SIGTERM."""
    args = parse_arguments(build_parser(), argv)
    return run(lambda: args.action(args), args.go_on)


if __name__ == "__main__":
    sys.exit(main())
