"""The cache folder of a corpus: found, or taken, before the first shard is written.

A folder belongs to the corpus that its ``corpus.json`` names. A folder without any result belongs to no
corpus, unless a run holds its lock: the run that wrote its ``corpus.json`` was killed before its first shard.

>>> with claimed_folder(load_config("table"), corpus) as mine:       # doctest: +SKIP
...     mine.name
'table-clips-1a2b3c4d'
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from deiii.data.cache.identity import (
    IDENTITY,
    Identity,
    identity_of,
    owners,
    recorded_identity,
    write_identity,
)
from deiii.data.cache.index import INDEX, TABLE, CacheError, StageIndex, corpus_folder, read_index
from deiii.data.cache.shards import ShardError, read_info
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.tools.counts import examples
from deiii.data.tools.progress import say
from deiii.data.tools.writer_lock import Locked, writer_lock
from deiii.pipeline.stages.shard import source_digest

THREADS = 4  # number of threads that read media files
AT_ONCE = 32  # files between two looks whether one differs


@contextmanager
def claimed_folder(config: Config, corpus: Corpus, report: Callable[[str], None] = say) -> Iterator[Corpus]:
    """Hold the cache folder of a corpus in the block; the folder is recorded as this corpus's.

    If the block ends with an error before the folder has any result, the record is removed, so that another
    corpus of this name can have the folder.

    Args:
        config: names the cache, and the table of the corpus if it has one.
        corpus: clip table of the corpus as scanned.
        report: called with a line if the corpus was moved, gets another folder than one of its name, or if
            another run must end first.

    Yields:
        the corpus with the name of its folder.
    """
    mine = identity_of(config.corpus, corpus)
    while True:
        found = _claim(config, corpus, mine, report)
        folder = corpus_folder(config.cache, found.name)
        with writer_lock(folder, report):
            if recorded_identity(config.cache, found.name) != mine:
                continue  # another run took the folder between the two locks
            try:
                yield found
            except BaseException:
                if not _has_results(folder):
                    (folder / IDENTITY).unlink(missing_ok=True)
                raise
            return


def _claim(config: Config, corpus: Corpus, mine: Identity, report: Callable[[str], None]) -> Corpus:
    """Return the corpus with the name of its own cache folder, which is recorded as this corpus's."""
    base = corpus.name
    with writer_lock(config.cache, report):
        held = {
            name: identity
            for name, identity in owners(config.cache, base).items()
            if identity.same_place(mine) or _in_use(corpus_folder(config.cache, name))
        }
        name = recorded_folder(config, corpus, mine, held, report) or _free_folder(held, base, mine)
        if recorded_identity(config.cache, name) != mine:
            write_identity(config.cache, name, mine)
    if name == base:
        return corpus
    return replace(corpus, name=name, base=base)


def _has_results(folder: Path) -> bool:
    """Return whether a corpus's folder has a shard, an index, a clip table, or a damaged one set aside."""
    found = itertools.chain(
        folder.glob(f"{TABLE}*"), *(folder.glob(f"*-*/{name}") for name in ("*.h5", "*.damaged", INDEX))
    )
    return next(found, None) is not None


def _in_use(folder: Path) -> bool:
    """Return whether a corpus's folder has results or a run holds it (unknown without file locks)."""
    if _has_results(folder):
        return True
    without_locks: list[str] = []
    try:
        with writer_lock(folder, without_locks.append, wait=False):
            return bool(without_locks)
    except Locked:
        return True


def own_folder(config: Config, corpus: Corpus) -> Corpus:
    """Return the corpus with the name of the folder that `claimed_folder` gave it, without claiming one."""
    mine = identity_of(config.corpus, corpus)
    for name, identity in owners(config.cache, corpus.name).items():
        if identity.same_place(mine):
            return corpus if name == corpus.name else replace(corpus, name=name, base=corpus.name)
    return corpus


def recorded_folder(
    config: Config,
    corpus: Corpus,
    mine: Identity,
    held: Mapping[str, Identity],
    report: Callable[[str], None],
) -> str | None:
    """Return the folder that is this corpus's already; ``None`` if there is none.

    Args:
        config: names the cache.
        corpus: clip table of the corpus as scanned.
        mine: its identity.
        held: identities of the folders of its name.
        report: called with a line if the corpus was moved, or if another one has its name.

    >>> recorded_folder(config, corpus, mine, owners("cache", corpus.name), print)  # doctest: +SKIP
    'table-clips'
    """
    same = [name for name, identity in held.items() if identity.same_place(mine)]
    exact = [name for name in same if held[name].table == mine.table]
    if same:
        return (exact or same)[0]
    for name, identity in held.items():
        if identity.clips != mine.clips:
            continue
        if identity.root == mine.root or _same_media(config.cache, name, identity, corpus):
            report(
                f"{mine.table or mine.root} has the clips of {identity.table or identity.root}: "
                f"the features in {corpus_folder(config.cache, name)} are used"
            )
            return name
    if held:
        taken = ", ".join(f"{config.cache}/{n} is of {i.table or i.root}" for n, i in held.items())
        report(f"another corpus has this one's name: {taken}. This corpus gets a folder of its own")
    return None


def _free_folder(held: Mapping[str, Identity], base: str, mine: Identity) -> str:
    """Return the plain name, or one with a digest of clips and place if another corpus has the plain one."""
    if base not in held:
        return base
    for number in itertools.count():
        text = "\n".join([mine.clips, mine.root, mine.table, str(number)])
        name = f"{base}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        if name not in held:
            return name
    raise AssertionError("endless")


def _same_media(cache: str | Path, name: str, other: Identity, corpus: Corpus) -> bool:
    """Return whether the media files are those of the corpus that a folder belongs to.

    They are compared with what the folder's shards record, else with the files at the other corpus's root.
    Missing files are not compared. If no file can be compared, the corpus counts as moved if its former root
    is gone.
    """
    recorded = recorded_sources(corpus_folder(cache, name))
    former = Path(other.root)
    known: list[tuple[Path, str | Path]] = []
    for clip in corpus.clips:
        before = recorded.get(clip.id) or (former / clip.path if former.is_dir() else "")
        if before:
            known.append((Path(corpus.root) / clip.path, before))
    equal = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(known), AT_ONCE):
            for before, now in pool.map(_both_digests, known[start : start + AT_ONCE]):
                if before and now and now != before:
                    return False
                equal += bool(before and now)
    return equal > 0 or not recorded and not former.is_dir()


def _both_digests(pair: tuple[Path, str | Path]) -> tuple[str, str]:
    path, before = pair
    return source_digest(before) if isinstance(before, Path) else before, source_digest(path)


def recorded_sources(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each clip's media file, by clip id, as recorded in the shards of a folder."""
    found: dict[str, str] = {}
    for stage in sorted(path for path in folder.glob("*-*") if path.is_dir()):
        if (stage / INDEX).is_file():
            with suppress(CacheError):
                found |= {i: row.source for i, row in read_index(stage).clips.items() if row.source}
                continue
        for path in sorted(stage.glob("*.h5")):  # a run that was cut off
            with suppress(ShardError, OSError):
                found |= {row.id: row.source for row in read_info(path).clips if row.source}
    return found


def shared_recordings(corpus: Corpus, indices: Mapping[str, StageIndex]) -> list[str]:
    """Return a line for each media file that is in the corpus under several speakers or labels.

    Args:
        corpus: the clips.
        indices: the finished stages by name; they record the SHA-256 of each clip's media file.
    """
    sources = {i: row.source for index in indices.values() for i, row in index.clips.items()}
    by_digest: dict[str, list[Clip]] = {}
    for clip in corpus.clips:
        if digest := sources.get(clip.id):
            by_digest.setdefault(digest, []).append(clip)
    lines = []
    for clips in by_digest.values():
        speakers = {clip.speaker for clip in clips}
        labels = {clip.label for clip in clips}
        if len(speakers) > 1 or len(labels) > 1:
            named = examples((f"{c.path} (speaker {c.speaker}, label {c.label})" for c in clips), 4)
            what = "speakers" if len(speakers) > 1 else "labels"
            lines.append(f"one recording under several {what}: {named}")
    return lines
