"""The clips of a corpus: which adapter reads it, and the name of its cache folder.

>>> from deiii.data.config.schema import CorpusConfig
>>> corpus = scan(CorpusConfig(name="ravdess", root="raw/ravdess"))  # doctest: +SKIP
>>> len(corpus.clips)                                                # doctest: +SKIP
1440
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePath

from deiii.data.config.schema import Config, CorpusConfig
from deiii.data.corpora.clips import Corpus, CorpusError

# By name, imported on first use: a scan of RAVDESS needs nothing of the drawing code.
ADAPTERS = {
    "synthetic": "deiii.data.corpora.synthetic",
    "ravdess": "deiii.data.corpora.ravdess",
    "crema_d": "deiii.data.corpora.crema_d",
    "msp_improv": "deiii.data.corpora.msp_improv",
    "table": "deiii.data.corpora.table",
}


def scan(config: CorpusConfig) -> Corpus:
    """The clips of the corpus that ``config.name`` and ``config.root`` name.

    Nothing is decoded: a clip that cannot be used says so later, as its recorded outcome.

    Raises:
        CorpusError: where folder, file names or label files are not as the corpus publishes them;
            the message says what was expected and what was found, with an example.
    """
    if config.name not in ADAPTERS:
        raise CorpusError(f"unknown corpus {config.name!r}; there are {', '.join(ADAPTERS)}")
    corpus = import_module(ADAPTERS[config.name]).scan(config)
    return replace(corpus, name=cache_name(config))


def cache_name(config: CorpusConfig) -> str:
    """The name of a corpus's cache folder, known without the corpus at hand.

    Selections with different clips (RAVDESS's speech and song, two tables) get different folders;
    CREMA-D's two kinds of label share one, since their clips and features are the same.

    >>> cache_name(CorpusConfig(name="ravdess", modality="audio-only"))
    'ravdess-audio-only-speech'
    """
    if config.name == "synthetic":
        return f"synthetic-{config.synthetic.task}"
    if config.name == "ravdess":
        return f"ravdess-{config.modality}-{config.channel}"
    if config.name == "table":
        return "table-" + re.sub(r"[^A-Za-z0-9_-]+", "_", PurePath(config.table or "clips.csv").stem)
    return config.name


def scan_corpus(config: Config) -> Corpus:
    """The configured corpus; the synthetic one is drawn first where it is not there."""
    if config.corpus.name == "synthetic":
        from deiii.data.corpora.synthetic import make

        make(Path(config.corpus.root), config.corpus.synthetic, workers=config.workers)
    return scan(config.corpus)
