"""SHA-256 digests of a corpus's media files, stored so that unchanged files need not be read again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from deiii.data.cache.identity import SOURCES
from deiii.data.cache.index import corpus_folder
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.progress import BAR_AFTER_S, progress_bar
from deiii.pipeline.stages.shard import source_digest

THREADS = 4  # files that are read at the same time


class MediaDigests:
    """Digests of media files by path, stored in ``sources.json`` with each file's size and times.

    A stored digest counts as long as size, modification time and change time of its file are the same. The
    change time counts because ``mv`` and ``cp -p`` keep the modification time, and files that were unpacked
    from one archive often share it. Entries of earlier versions lack it, so these files are read once more.

    Args:
        cache: the cache folder.
        corpus: the corpus; paths are relative to its root.

    >>> MediaDigests("cache", corpus).of(["anna/001.mp4"])  # doctest: +SKIP
    {'anna/001.mp4': '9f86d081884c7d65...'}
    """

    def __init__(self, cache: str | Path, corpus: Corpus):
        self.path = corpus_folder(cache, corpus.name) / SOURCES
        self.root = Path(corpus.root)
        self._stored = _read(self.path)
        self._begun = time.time_ns()
        self._current: dict[str, list] = {}  # path: [bytes, mtime in ns, SHA-256, ctime in ns]

    def of(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the SHA-256 of each media file; an empty text for a file that does not exist."""
        bar = progress_bar(
            desc="reading media files", unit="file", total=len(paths), delay=BAR_AFTER_S, leave=False
        )
        digests = {}
        with bar, ThreadPoolExecutor(THREADS) as pool:
            for path, digest in zip(paths, pool.map(self._digest, paths), strict=True):
                digests[path] = digest
                bar.update()
        return digests

    def _digest(self, path: str) -> str:
        try:
            stat = (self.root / path).stat()
        except OSError:
            return ""
        entry = self._stored.get(path)
        known = isinstance(entry, list) and len(entry) == 4 and entry == _entry(stat, entry[2])
        if entry is None or not known or not entry[2]:  # without a digest it could not be read before
            entry = _entry(stat, source_digest(self.root / path))
        self._current[path] = entry
        return entry[2]

    def save(self, computed: Mapping[str, str]) -> None:
        """Store the digests of this run; ``computed`` holds those that its shards recorded, by path.

        A file that changed after the run had begun is left out: its digest may be that of its earlier
        content. The next run reads it again. (A file system's clock may be some ms behind, but workers read
        no file in the first ms of a run.)
        """
        entries = dict(self._current)
        for path, digest in computed.items():
            if digest and path not in entries:
                with suppress(OSError):  # deleted since it was read
                    stat = (self.root / path).stat()
                    if max(stat.st_mtime_ns, stat.st_ctime_ns) <= self._begun:
                        entries[path] = _entry(stat, digest)
        entries = {path: entries[path] for path in sorted(entries)}
        if entries != self._stored:
            write_json(self.path, entries, indent=None)


def _entry(stat: os.stat_result, digest: str) -> list:
    """Return what is stored about a file; `deiii.data.cache.identity.recorded_media` reads it, too."""
    return [stat.st_size, stat.st_mtime_ns, digest, stat.st_ctime_ns]


def _read(path: Path) -> Mapping[str, Any]:
    """Return the stored entries; none if the file is missing or damaged, so media files are read again."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
