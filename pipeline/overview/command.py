"""The command ``deiii overview``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deiii.data.command_line.entry import NOTHING_DONE
from deiii.data.config.schema import Config
from deiii.data.config.words import add_command, add_settings, read_settings
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.os_errors import explain


def add_overview(commands: argparse._SubParsersAction) -> None:
    """Add the command to ``deiii``'s parser."""
    sub = add_command(
        commands,
        "overview",
        _overview,
        help="write a page about a preprocessed corpus",
        description="Write one HTML page about a preprocessed corpus: outcomes with reasons, distributions "
        "of length, frame rate, face width, loudness and flow, speakers and labels, duplicates, and "
        "pictures of random, badly tracked and unusual clips that can be filtered. It needs no server. "
        "`deiii preprocess` also writes it.",
        examples=[
            "overview ravdess cache=/data/cache",
            "overview table tiny corpus.root=/clips --out a.html",
        ],
        when_stopped=NOTHING_DONE,
    )
    add_settings(sub)
    sub.add_argument("--out", metavar="HTML", help="file to write (default: overview.html in the cache)")


def _overview(args: argparse.Namespace) -> int:
    from deiii.data.cache.index import CacheError, corpus_folder
    from deiii.data.corpora.scan import scan
    from deiii.data.corpora.targets.classes import map_classes
    from deiii.pipeline.overview.page import PAGE, write_overview
    from deiii.pipeline.preprocess.claim import own_folder

    config = read_settings(args.settings)
    corpus = own_folder(config, scan(config.corpus))
    map_classes(corpus, config.corpus.classes)  # refuses unknown classes; the page shows those of the corpus
    try:
        path = write_overview(config, corpus, Path(args.out) if args.out else None)
    except OSError as error:
        if args.out:
            raise
        folder = corpus_folder(config.cache, corpus.name)
        if Path(str(error.filename)) not in (folder, folder / PAGE):
            raise
        raise CacheError(f"{explain(error)}; --out writes the page elsewhere") from None
    print(f"overview: {path}")
    return 0


def own_page(config: Config, corpus: Corpus) -> Path:
    """Return the path in the cache of the page about a corpus, which may not exist."""
    from deiii.pipeline.overview.page import PAGE
    from deiii.pipeline.preprocess.claim import own_folder

    return Path(config.cache) / own_folder(config, corpus).name / PAGE


def print_overview(config: Config, corpus: Corpus) -> None:
    """Write the page about the corpus and print its path; a page that cannot be written is not a failure."""
    from deiii.pipeline.overview.page import write_overview
    from deiii.pipeline.preprocess.claim import own_folder

    try:
        print(f"overview: {write_overview(config, own_folder(config, corpus))}")
    except Exception as error:  # the caches are complete; a page about them must not make the run fail
        why = explain(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        print(f"the overview was not written: {why}; `deiii overview` writes it", file=sys.stderr)
