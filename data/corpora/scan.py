"""Read the clips of a corpus with its adapter; the name of its folder in a cache.

>>> from deiii.data.config.schema import CorpusConfig
>>> corpus = scan(CorpusConfig(name="ravdess", root="raw/ravdess"))  # doctest: +SKIP
>>> len(corpus.clips)                                                # doctest: +SKIP
1440
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePath

from deiii.data.config.plugins import CORPORA, installed, load_plugin
from deiii.data.config.schema import Config, CorpusConfig
from deiii.data.corpora.clips import Corpus, CorpusError, CorpusSettingError, readable_name
from deiii.data.corpora.files import holds_archives, passed_over
from deiii.data.tools.atomic_files import short_name
from deiii.data.tools.counts import counted

# Modules by name, imported on first use: a scan of RAVDESS does not need the code of the synthetic corpus.
ADAPTERS = {
    "synthetic": "deiii.data.corpora.synthetic",
    "ravdess": "deiii.data.corpora.published.ravdess",
    "crema_d": "deiii.data.corpora.published.crema_d",
    "msp_improv": "deiii.data.corpora.published.msp_improv",
    "iemocap": "deiii.data.corpora.published.iemocap",
    "table": "deiii.data.corpora.table",
    "pattern": "deiii.data.corpora.pattern",
}

LONGEST_PART = 220  # bytes of a table's or corpus's name in that of its cache folder; file systems allow 255
NAMED_ALIKE = ("table", "pattern")  # corpora of different people whose speakers may have the same names
WITH_RATERS = ("crema_d",)  # corpora with several kinds of labels
# Raised when corrupted copies of a kind are made in another way, so that their features get a new folder.
# compress 2: x264 without the macroblock tree, with which the same clip had different bytes now and then.
# noise 2: copies with a peak of more than 8 times full scale are made quieter; they were read as silence.
COPY_VERSIONS = {"compress": 2, "noise": 2}
PUBLISHED_AS_ARCHIVES = ("ravdess", "crema_d", "msp_improv", "iemocap")  # some of which may still be packed
_log = logging.getLogger(__name__)


def scan(config: CorpusConfig) -> Corpus:
    """Return the clips of the corpus that ``config.name`` and ``config.root`` name.

    No media file is opened; a clip that cannot be decoded gets an outcome in preprocessing.

    Raises:
        CorpusError: if folder, file names or label files are not as their publisher provides them; the
            message states what was expected, with an example, and what was found.
        CorpusSettingError: for an unknown name, or labels of a kind that the corpus does not have.
    """
    if config.labels != "acted" and config.name in ADAPTERS and config.name not in WITH_RATERS:
        raise CorpusSettingError(
            f"corpus.labels={config.labels} is for {', '.join(WITH_RATERS)}; {config.name} has labels of one "
            "kind, leave corpus.labels out"
        )
    corpus = _adapter(config.name)(config)
    root = Path(config.root)
    if config.name in PUBLISHED_AS_ARCHIVES and holds_archives(root):
        found = counted(len(corpus.clips), "clip")
        _log.warning("%s: %s under %s; %s", config.name, found, root, passed_over(root))
    return replace(corpus, name=cache_name(config))


def _adapter(name: str) -> Callable[[CorpusConfig], Corpus]:
    """Return the function that reads a corpus: deiii's own, or one that a package adds to `CORPORA`."""
    if name in ADAPTERS:
        return import_module(ADAPTERS[name]).scan
    if name in installed(CORPORA):
        return load_plugin(CORPORA, name)
    raise CorpusSettingError(
        f"unknown corpus {name!r}; there are {', '.join([*ADAPTERS, *installed(CORPORA)])}. An adapter of "
        "another package needs that package installed"
    )


def scan_again(config: CorpusConfig) -> Corpus | None:
    """Return the clips of a corpus that was preprocessed before; ``None`` where it is not there any more.

    Labels come from the corpus as it is now; media files need not be there.

    Raises:
        CorpusError: the table is there and cannot be read.
    """
    if not Path(config.root).is_dir():
        return None
    try:
        if config.name != "table":
            return replace(_adapter(config.name)(config), name=cache_name(config))
        table = import_module(ADAPTERS["table"])
        table.find_table(config.table, Path(config.root))
    except CorpusError:
        return None  # nothing to compare with
    return replace(table.scan(config, media=False), name=cache_name(config))


def cache_name(config: CorpusConfig) -> str:
    """Return the name of a corpus's folder in a cache; it depends on settings, not on the corpus's files.

    Selections of different clips (RAVDESS's speech and song, two tables) have different folders. The kinds of
    labels of CREMA-D share one, because their clips and features are the same.

    >>> cache_name(CorpusConfig(name="ravdess", modality="audio-only"))
    'ravdess-audio-only-speech'
    >>> cache_name(CorpusConfig(name="crema_d", corrupt="speed=0.9"))
    'crema_d-speed-0_9'
    >>> cache_name(CorpusConfig(name="crema_d", corrupt="compress=40"))
    'crema_d-compress-40-v2'
    """
    if config.corrupt:
        version = copy_version(config.corrupt.partition("=")[0])
        words = config.corrupt.replace("=", "-") + (f"-v{version}" if version > 1 else "")
        return f"{cache_name(replace(config, corrupt=''))}-{_plain(words)}"
    if config.name == "synthetic":
        return f"synthetic-{config.synthetic.task}"
    if config.name == "ravdess":
        return f"ravdess-{config.modality}-{config.channel}"
    if config.name == "table":
        return f"table-{_plain(PurePath(config.table or 'clips.csv').stem)}"
    if config.name == "pattern":
        return f"pattern-{_plain(config.title)}"
    return config.name


def copy_version(kind: str) -> int:
    """Return the version of the way in which corrupted copies of a kind are made.

    >>> copy_version("compress"), copy_version("blur")
    (2, 1)
    """
    return COPY_VERSIONS.get(kind, 1)


def title_of(config: CorpusConfig, name: str = "", root: str = "") -> str:
    """Return the name by which people know the corpus that settings name.

    Args:
        config: settings of the corpus.
        name: its name in a cache; by default that of the settings.
        root: folder of its media files; by default that of the settings.

    >>> title_of(CorpusConfig(name="table", root="/data/theatre", corrupt="speed=0.9"))
    'theatre, speed=0.9'
    >>> title_of(CorpusConfig(name="crema_d"))
    'crema_d'
    """
    if config.name != "table":
        return name or cache_name(config)
    text = readable_name("table-", root or config.root, config.table or "clips.csv")
    return f"{text}, {config.corrupt}" if config.corrupt else text


def _plain(text: str) -> str:
    """Return text as part of a folder's name; a long one is cut.

    Two corpora whose names are cut to the same text get two folders, as two corpora of one name do.
    """
    return short_name(re.sub(r"[^A-Za-z0-9_-]+", "_", text), LONGEST_PART)


def same_people(a: CorpusConfig, b: CorpusConfig) -> bool:
    """Return whether equal names of speakers in two corpora mean the same persons.

    This holds for two selections of one published corpus, such as RAVDESS's speech and song, and for two
    tables of one folder.
    """
    if a.name != b.name:
        return False
    return a.name not in NAMED_ALIKE or Path(a.root).resolve() == Path(b.root).resolve()


def scan_corpus(config: Config) -> Corpus:
    """Return the corpus that the settings name; the synthetic corpus is completed first.

    Raises:
        CorpusError: as `scan`.
    """
    if config.corpus.name == "synthetic":
        from deiii.data.corpora.synthetic import make

        make(Path(config.corpus.root), config.corpus.synthetic, workers=config.workers)
    return scan(config.corpus)
