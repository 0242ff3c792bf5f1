"""Notes of commands on their settings, on standard error.

>>> print_notes([])
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from deiii.data.config.checks.effects import without_effect
from deiii.data.config.schema import Config
from deiii.data.config.words import requested_keys


def note_default_corpus(config: Config, words: Sequence[str]) -> None:
    """Print a note that the synthetic corpus is used, on stderr, where no word names a corpus.

    >>> from deiii.data.config.words import read_settings
    >>> note_default_corpus(read_settings(["tiny", "corpus.name=ravdess"]), ["tiny", "corpus.name=ravdess"])
    """
    if config.corpus.name == "synthetic" and not any("synthetic" in word for word in words):
        print(
            "note: no corpus is named, so the synthetic one is used; name a configuration, such as ravdess, "
            "or table for clips of your own",
            file=sys.stderr,
        )


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
