"""Refuse empty words, which a shell makes of unset variables in quotes: ``deiii evaluate "$RUN"``.

An empty name would mean the current folder.
"""

from __future__ import annotations

import argparse

OTHERWISE = ("settings",)  # words with a longer message of their own; see `deiii.data.config.suggest`


class EmptyWordError(ValueError):
    """A word of a command is empty; the message names it."""


def refuse_empty_words(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check that no name in a command line is empty.

    Args:
        parser: the parser of all commands.
        args: what it found.

    Raises:
        EmptyWordError: a positional word, or the value of an option, is empty or blank.
    """
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for action in commands.choices[args.command]._actions:
        if action.dest in OTHERWISE:
            continue
        value = getattr(args, action.dest, None)
        words = value if isinstance(value, list) else [value]
        if any(isinstance(word, str) and not word.strip() and word != action.default for word in words):
            name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
            raise EmptyWordError(
                f"the word for {name} is empty (is an environment variable not set?); give a value, or leave "
                "the word out"
            )
