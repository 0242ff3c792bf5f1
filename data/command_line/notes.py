"""Notes of commands on their settings, on standard error.

>>> print_notes([])
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from deiii.data.config.checks.effects import without_effect
from deiii.data.config.load import find_config, named_settings, shipped_configs
from deiii.data.config.schema import Config
from deiii.data.config.words import is_config, is_override, requested_keys

SUFFIXES = (".yaml", ".yml")


def note_configs(config: Config, words: Sequence[str]) -> None:
    """Print notes on stderr on the configurations that the words name.

    They state which of two configurations of one name is read, and that the synthetic demonstration corpus is
    used where no word names a corpus.

    Args:
        config: the settings that the words describe.
        words: ``CONFIG`` and ``KEY=VALUE`` words.

    >>> from deiii.data.config.words import read_settings
    >>> note_configs(read_settings(["tiny", "corpus.name=ravdess"]), ["tiny", "corpus.name=ravdess"])
    """
    for word in words:
        here = [f"{word}{suffix}" for suffix in SUFFIXES if os.path.isfile(f"{word}{suffix}")]
        if here and word in shipped_configs():
            print_notes([f"{word} is the configuration that comes with deiii; to read yours, type {here[0]}"])
    if config.corpus.name == "synthetic" and not any(map(_names_corpus, words)):
        missing = "no corpus is named" if words else "no configuration was given"
        print_notes(
            [
                f"{missing}, so the synthetic demonstration corpus is used, which `deiii preprocess` "
                f"generates in {config.corpus.root}; for clips of your own, type `deiii init FOLDER`, which "
                "writes a configuration"
            ]
        )


def _names_corpus(word: str) -> bool:
    """Return whether a ``CONFIG`` or ``KEY=VALUE`` word states which corpus is used."""
    keys = [word.partition("=")[0]]
    if is_config(word) or not is_override(word):
        keys = list(named_settings(find_config(word)))
    return any(key == "corpus.name" or key.startswith("corpus.synthetic.") for key in keys)


def note_without_effect(config: Config, words: Sequence[str], sections: Sequence[str] = ()) -> None:
    """Print a note on stderr for each setting in the words that has no effect together with the others.

    Args:
        config: the settings that the words describe.
        words: ``CONFIG`` and ``KEY=VALUE`` words.
        sections: what the command reads (`deiii.data.config.checks.effects`); everything where empty.

    >>> from deiii.data.config.words import read_settings
    >>> note_without_effect(read_settings(["tiny"]), ["tiny"])
    """
    print_notes(without_effect(config, requested_keys(config, words), sections))


def print_notes(lines: Iterable[str]) -> None:
    """Print lines on stderr as notes."""
    for line in lines:
        print(f"note: {line}", file=sys.stderr)
