"""The grammar of all commands: words that name runs or media, then settings; errors told in a line.

>>> split_words(["a.mp4", "ravdess", "faces.size=128", "my/own.yaml"])
(['a.mp4'], ['ravdess', 'faces.size=128', 'my/own.yaml'])
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deiii.data.config.load import load_config, shipped_configs
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.signals import INTERRUPTED, install_stop_handler

HELP = "YAML files, names of configs that come with deiii, and KEY=VALUE, in order: ravdess faces.size=128"
OVERRIDE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*=")
GO_ON = "run the same command to go on"


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Positional ``CONFIG`` and ``KEY=VALUE`` words."""
    parser.add_argument("settings", nargs="*", default=[], metavar="CONFIG|KEY=VALUE", help=HELP)


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line whose last positional words may also follow an option.

    Ends the process with status 2 and a message where words are left that no command takes.
    """
    args, rest = parser.parse_known_args(argv)
    more = next((name for name in ("settings", "words") if hasattr(args, name)), None)
    if rest and (more is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unknown arguments: {' '.join(rest)}; see `deiii {args.command} --help`")
    if rest and more:
        getattr(args, more).extend(rest)
    args.go_on = getattr(args, "go_on", GO_ON)
    return args


def is_override(word: str) -> bool:
    """Whether a word is ``key=value``; a path with a ``=`` in it is none.

    >>> is_override("train.lr=0.1"), is_override("/x/lr=0.1/a.yaml")
    (True, False)
    """
    return OVERRIDE.match(word) is not None


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Things (runs, media) and settings, each in their order.

    A file that exists is a thing, whatever its name, unless it is YAML.
    """
    things: list[str] = []
    settings: list[str] = []
    for word in words:
        is_yaml = word.endswith((".yaml", ".yml"))
        is_setting = is_yaml or (not Path(word).exists() and (is_override(word) or word in shipped_configs()))
        (settings if is_setting else things).append(word)
    return things, settings


def read_settings(words: Sequence[str]) -> Config:
    """The configuration that ``CONFIG … KEY=VALUE …`` describes."""
    for word in words:
        if "=" in word and not is_override(word) and not Path(word).is_file():
            raise ConfigError(f"a setting looks like key=value, not {word!r}")
    files = [w for w in words if not is_override(w)]
    return load_config(files, [w for w in words if is_override(w)])


def take_overrides(words: Sequence[str], allowed: Sequence[str], command: str) -> dict[str, str]:
    """The values of ``KEY=VALUE`` words for a command whose other settings are those of its run.

    Raises:
        ConfigError: for any other word.
    """
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not is_override(word) or key not in allowed:
            may = " and ".join(f"{name}=" for name in allowed)
            raise ConfigError(
                f"`deiii {command}` uses the settings of the run; only {may} may differ, not {word!r}"
            )
        found[key] = value
    return found


def run(main: Callable[[], int], go_on: str = GO_ON) -> int:
    """Run a command so that people see messages instead of traces, and Ctrl-C and SIGTERM end it alike.

    Args:
        main: the command.
        go_on: what to do after Ctrl-C.

    Returns:
        the exit status: the command's own, 1 for an error told in a line, 130 when interrupted.
    """
    install_stop_handler()
    try:
        return main()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is tidied up; let Python end
        print(f"\nstopped; what is finished is kept, {go_on}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        if type(error) in (ValueError, RuntimeError):  # not one of ours: a defect deserves its trace
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
