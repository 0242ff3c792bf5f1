"""The command ``deiii``: every command of preprocessing and training.

    deiii COMMAND [RUN | MEDIA ...] [CONFIG | KEY=VALUE ...] [--OPTION ...]

A CONFIG is a YAML file, or the bare name of one that comes with deiii (``ravdess``, ``base``).
KEY=VALUE changes one setting. Options are only for what is no setting.
"""

from __future__ import annotations

import argparse
import sys

from deiii.data.config.words import parse_arguments, run
from deiii.model import commands as model_commands
from deiii.pipeline import commands as pipeline_commands

GROUPS = (("Preprocessing", pipeline_commands), ("Training and prediction", model_commands))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``action``, the function that runs it."""
    parser = argparse.ArgumentParser(
        prog="deiii", formatter_class=argparse.RawDescriptionHelpFormatter, usage="deiii COMMAND [...]"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    listing: list[str] = []
    for title, room in GROUPS:
        before = set(commands.choices)
        room.add_commands(commands)
        helps = {a.dest: a.help for a in commands._choices_actions}
        listing += [f"{title}:"]
        listing += [f"  {name:<12} {helps[name]}" for name in commands.choices if name not in before]
        listing += [""]
    parser.description = f"{__doc__}\n" + "\n".join(listing)
    parser.epilog = "deiii COMMAND --help says more, e.g. deiii train --help"
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status (0 done, 1 an error, 130 interrupted)."""
    args = parse_arguments(build_parser(), argv)
    return run(lambda: args.action(args), args.go_on)


if __name__ == "__main__":
    sys.exit(main())
