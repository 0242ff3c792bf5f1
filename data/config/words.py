"""The grammar that all commands share: runs or media files, then settings.

    deiii COMMAND [RUN | MEDIA ...] [CONFIG | KEY=VALUE ...] [--OPTION ...]

A CONFIG is the path of a YAML file, or the bare name of a config that comes with deiii.

>>> split_words(["a.mp4", "ravdess", "faces.size=128", "my/own.yaml"])
(['a.mp4'], ['ravdess', 'faces.size=128', 'my/own.yaml'])
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.config.checks.effects import changed_keys
from deiii.data.config.keys import all_keys, sections
from deiii.data.config.load import find_config, load_config, named_settings, shipped_configs
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.suggest import YAML, did_you_mean, near_name

HELP = "config files, bare names of configs that come with deiii (ravdess, tiny), and KEY=VALUE settings"
OPEN_ENDED = ("settings", "words", "runs")  # positional arguments that take any number of words
# Words that people try for a command, with the command that does it.
OTHER_WORDS = {
    "corpus": "synthesize", "generate": "synthesize", "extract": "preprocess", "features": "preprocess",
    "config": "settings", "configs": "settings", "report": "evaluate", "score": "evaluate",
    "test": "evaluate", "infer": "predict", "check": "doctor", "resume": "train", "fit": "train",
    "cv": "crossval", "tune": "sweep", "split": "splits", "draw": "inspect", "show": "inspect",
}  # fmt: skip
# Commands of the Makefile that run programs of the repository, not commands of deiii.
MAKE_ONLY = frozenset({"ablation", "demo", "emotional-av", "peers", "ravdess", "ravdess-speech", "setup"})
PAIR = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)\s*:\s*(\S.*)")  # a key and a value in the notation of YAML
OVERRIDE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*=")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help whose lines end between words: the name of an option or a file is never divided at its dashes."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(" ".join(text.split()), width).splitlines()


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Return text in lines of at most so many letters, which end between words only.

    >>> print(wrapped("give --change-preprocessing", 15))
    give
    --change-preprocessing
    """
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    action: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
    examples: Sequence[str],
    when_stopped: str,
) -> argparse.ArgumentParser:
    """Add a command to ``deiii``.

    Args:
        commands: what `argparse.ArgumentParser.add_subparsers` returned.
        name: the word that users type.
        action: runs the command and returns its exit status.
        help: one line for the list of all commands.
        description: what the command reads, does and writes.
        examples: command lines without ``deiii``, shown at the end of the command's help.
        when_stopped: printed after Ctrl-C: what is kept, and how to continue.

    Returns:
        The command's parser, to which its arguments are added.
    """
    lines = "\n".join(f"  deiii {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=help,
        description=wrapped(description, 79),
        epilog=f"examples:\n{lines}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(action=action, when_stopped=when_stopped)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print only errors, notes and the paths of the results: no progress, no reports",
    )
    return parser


def add_settings(parser: argparse.ArgumentParser, reads: Sequence[str] = ()) -> None:
    """Add the positional ``CONFIG`` and ``KEY=VALUE`` words; ``reads`` is as in `set_read_settings`."""
    parser.add_argument("settings", nargs="*", default=[], metavar="CONFIG|KEY=VALUE", help=HELP)
    set_read_settings(parser, reads or sections())


def set_read_settings(parser: argparse.ArgumentParser, reads: Sequence[str]) -> None:
    """State which settings a command reads. Without this, it reads none.

    Args:
        parser: the command's parser.
        reads: sections and dotted names, such as ``corpus`` and ``train.device``. Settings are proposed for
            an unknown option from these only.
    """
    parser.set_defaults(reads=tuple(reads))


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; options may stand anywhere between the words of a command.

    Args:
        parser: the parser of all commands; it stores the name of the chosen one as ``command``.
        argv: the words after ``deiii``; those of this process where not given.

    Returns:
        The arguments of the command, with ``action`` and ``when_stopped`` as `add_command` was given them.

    Raises:
        SystemExit: with status 2 and a message on stderr for an unknown command or option, and for words
            that the command does not take; with status 0 after ``--help``, ``--version`` and ``help``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        parser.print_help(sys.stderr)
        parser.exit(2, "\nerror: name a command\n")
    commands = _commands(parser)
    if words[0] == "help":
        words = [*(word for word in words[1:2] if word != "help"), "--help"]
    if not words[0].startswith("-") and words[0] not in commands:
        meant = OTHER_WORDS.get(words[0])
        hint = f"; did you mean {meant!r}?" if meant in commands else did_you_mean(words[0], commands)
        if words[0] in MAKE_ONLY:
            hint = "; it is a target of the Makefile in a clone of the repository"
        parser.exit(2, f"error: unknown command {words[0]!r}{hint}\n`deiii --help` lists all commands\n")
    args, rest = parser.parse_known_args(words)
    command = commands[args.command]
    for word in rest:
        if word.startswith("-"):
            hint = _hint(word, command)
            command.error(f"unknown option {word}{hint}")
    if rest:
        # argparse gives a list of positional words only those before the next option.
        name = next((name for name in OPEN_ENDED if hasattr(args, name)), None)
        if name is None:
            command.error(f"too many words: {' '.join(rest)}")
        setattr(args, name, [*getattr(args, name), *rest])
    return args


def _positional(command: argparse.ArgumentParser) -> dict[str, str]:
    """Return what the usage shows for each argument that is given without an option, by its name."""
    found = (action for action in command._actions if not action.option_strings)
    return {action.dest: str(action.metavar or action.dest) for action in found}


def _hint(word: str, command: argparse.ArgumentParser) -> str:
    """Return the end of a message on a word that begins with a dash and is not an option of a command."""
    name, _, value = word.lstrip("-").partition("=")
    if os.path.exists(word):
        return f"; write ./{word} for the file"
    key = name.replace("-", "_")
    positional = _positional(command)
    if key in positional:
        return f"; write {value or positional[key]} alone, at its place in the line above"
    reads = command.get_default("reads") or ()
    if word in command._option_string_actions:
        return f"; options follow the command: {command.prog} {word}"
    found = [one for one in all_keys() if key in (one, one.rpartition(".")[2])]
    written = [f"{one}={value or 'VALUE'}" for one in found if {one, one.partition(".")[0]} & set(reads)]
    if written:
        return f"; a setting has no dashes: {' or '.join(written)}"
    if "." in key and found:
        return f"; {key} is a setting, which `{command.prog}` does not read"
    known = {option.lstrip("-"): option for option in command._option_string_actions}
    near = near_name(name, known)
    if near:
        return f"; did you mean {known[near]!r}?"
    read = {one.rpartition(".")[2]: one for one in all_keys() if {one, one.partition(".")[0]} & set(reads)}
    near = near_name(key, read)
    return f"; a setting has no dashes: did you mean {read[near]}={value or 'VALUE'}?" if near else ""


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command by name."""
    found = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(found).choices)


def is_override(word: str) -> bool:
    """Return whether a word has the form ``key=value``; a path with a ``=`` further on does not.

    >>> is_override("train.lr=0.1"), is_override("/x/lr=0.1/a.yaml")
    (True, False)
    """
    return OVERRIDE.match(word) is not None


def is_config(word: str) -> bool:
    """Return whether a word names a config: a YAML file, or a bare name of one that comes with deiii.

    A word such as ``lr=0.1/a.yaml`` is a file if that file exists, and a setting otherwise.
    """
    if word.endswith(YAML):
        return os.path.isfile(word) or not is_override(word)
    return word in shipped_configs()


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate runs or media files from settings, keeping the order of each.

    YAML files are settings. Any other file or folder that exists is a run or media file, even where its
    name has the form ``key=value`` or is that of a config.
    """
    things: list[str] = []
    settings: list[str] = []
    for word in words:
        exists = not word.endswith(YAML) and os.path.exists(word)  # false for a word that is too long
        if not exists and (is_config(word) or is_override(word)):
            settings.append(word)
        else:
            things.append(word)
    return things, settings


def read_settings(words: Sequence[str]) -> Config:
    """Return the configuration that ``CONFIG`` and ``KEY=VALUE`` words describe.

    Configs are read first, in their order, then the overrides in theirs; later ones win.

    Raises:
        ConfigError: for a config that does not exist, an unknown setting or a value that is not allowed.
    """
    configs: list[str] = []
    overrides: list[str] = []
    for word in words:
        if is_override(word) and not is_config(word):
            overrides.append(word)
        elif "=" in word and not os.path.isfile(word):
            raise ConfigError(f"a setting has the form key=value, e.g. faces.size=128, not {word!r}")
        elif (pair := PAIR.fullmatch(word)) and not os.path.isfile(word):
            raise ConfigError(f"a setting has the form key=value; write {pair[1]}={pair[2]}, not {word!r}")
        else:
            configs.append(word)
    return load_config(configs, overrides)


def load_mixed(paths: Sequence[str]) -> list[Config]:
    """Return the configs of further corpora that ``mix`` names.

    Raises:
        ConfigError: as `load_config`, and for a config that names no corpus.
    """
    found = []
    for path in paths:
        try:
            found.append(load_config(path))
        except ConfigError as error:
            place = "" if os.path.isabs(path) else f"; mix is relative to the current folder, {os.getcwd()}"
            raise ConfigError(f"mix: {error}{place}") from None
        if not any(key.startswith("corpus.") for key in named_settings(find_config(path))):
            raise ConfigError(
                f"mix: {path} names no corpus; give configs with the settings corpus.name and root"
            )
    return found


def requested_keys(config: Config, words: Sequence[str]) -> list[str]:
    """Return the settings that the user gave with ``CONFIG`` and ``KEY=VALUE`` words.

    Configurations that come with deiii serve several corpora and networks, and a run's record holds every
    setting: their settings do not count as given by the user. In a copy of such a configuration for the same
    corpus, as `deiii init` writes it, the settings count whose values differ from those of the original.

    >>> requested_keys(Config(), ["tiny", "train.lr=0.1"])
    ['train.lr']
    """
    named: list[str] = []
    for word in words:
        if is_override(word) and not is_config(word):
            named.append(word.partition("=")[0])
        elif (file := find_config(word).resolve()) not in map(Path.resolve, shipped_configs().values()):
            own = named_settings(file)
            if len(own) < len(all_keys()) / 2 and (changed := changed_keys(config, Config(), own)):
                copied = _copied(own)
                named += [key for key in changed if key not in copied]
    return named


def _copied(own: Mapping[str, Any]) -> set[str]:
    """Return the settings of a config that come from one of deiii's, of which it is a copy; often none.

    A copy has the corpus and all settings of the original; some may have other values.
    """
    found: set[str] = set()
    for path in shipped_configs().values():
        theirs = named_settings(path)
        same = {key for key in theirs if key in own and own[key] == theirs[key]}
        if "corpus.name" in same and theirs.keys() <= own.keys():
            found |= same
    return found


def take_overrides(words: Sequence[str], allowed: Sequence[str], command: str) -> dict[str, str]:
    """Return the values of the few settings that a command accepts beside those of its run or corpus.

    Args:
        words: ``KEY=VALUE`` words; a later one wins over an earlier one of the same key.
        allowed: the keys that the command accepts.
        command: the command's name, for messages.

    Raises:
        ConfigError: for any other word, and for a key without a value.

    >>> take_overrides(["cache=/data"], ["cache"], "evaluate")
    {'cache': '/data'}
    """
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not is_override(word) or key not in allowed:
            names = " and ".join(f"{name}=" for name in allowed)
            raise ConfigError(f"`deiii {command}` accepts no other settings than {names}, not {word!r}")
        if not value:
            raise ConfigError(f"{word!r} has no value; write {key}=VALUE or leave it out")
        found[key] = value
    return found
