"""The outcomes of a corpus whose cache is complete and cannot be written."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deiii.data.cache.identity import IDENTITY, identity_of, owners
from deiii.data.cache.index import CacheError, StageIndex, read_index, read_table, stage_folder
from deiii.data.cache.integrity import find_defects
from deiii.data.cache.recipes import recipes
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import writable_folder
from deiii.pipeline.preprocess.claim import recorded_folder, shared_recordings
from deiii.pipeline.preprocess.media_digests import MediaDigests
from deiii.pipeline.preprocess.summary import Summary, summarise
from deiii.pipeline.preprocess.survey import unchanged_shards

READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def require_cache(cache: str | Path) -> None:
    """Check that a cache can be written, unless it has the folder of a corpus, which may be complete.

    Raises:
        OSError: the folder cannot be made or written; the error names it.

    >>> require_cache("cache")  # doctest: +SKIP
    """
    try:
        writable_folder(cache)
    except OSError as error:
        if error.errno not in READ_ONLY or not any(Path(cache).glob(f"*/{IDENTITY}")):
            raise


def finished_before(config: Config, corpus: Corpus, report: Callable[[str], None]) -> Summary | None:
    """Return the outcomes of a corpus if its cache is complete; ``None`` if a run has something to write.

    Nothing is written, and no lock is held: a run that computes shards first removes the index of their
    stage. A corpus that was moved counts as complete, too; the cache then keeps its former place.

    Args:
        config: settings; ``check`` sets whether every byte of the shards is compared with its digest.
        corpus: the scanned corpus.
        report: called with a line that states why nothing was written, and with one for each media file that
            is in the corpus under several speakers or labels.

    >>> finished_before(config, corpus, print) is None  # doctest: +SKIP
    True
    """
    start = time.monotonic()
    held = owners(config.cache, corpus.name)
    name = recorded_folder(config, corpus, identity_of(config.corpus, corpus), held, lambda line: None)
    if name is None:
        return None
    if name != corpus.name:
        corpus = replace(corpus, name=name, base=corpus.name)
    try:
        if replace(read_table(config.cache, name), root=corpus.root) != corpus:
            return None
        indices = _finished_indices(config, corpus)
    except CacheError:
        return None
    if indices is None:
        return None
    report(f"{config.cache} cannot be written; all features of {corpus.title} are in it")
    for line in shared_recordings(corpus, indices):
        report(line)
    shards = sum(len(index.shards) for index in indices.values())
    seconds = time.monotonic() - start
    return summarise(config.cache, corpus, indices, seconds, 0, shards, writes=False)


def _finished_indices(config: Config, corpus: Corpus) -> dict[str, StageIndex] | None:
    """Return the index of each stage; ``None`` if a shard is missing, damaged or out of date."""
    plans = plan_shards(corpus, config.corpus.clips_per_shard)
    digests = MediaDigests(config.cache, corpus)
    indices = {}
    for stage, recipe in recipes(config).items():
        folder = stage_folder(config.cache, corpus.name, stage, recipe.key)
        indices[stage] = read_index(folder)
        records = {record.name: record for record in indices[stage].shards}
        if list(records) != [plan.name for plan in plans]:
            return None
        if find_defects([(folder, record) for record in records.values()], config.check == "bytes"):
            return None
        pairs = [(plan, records[plan.name]) for plan in plans]
        if len(unchanged_shards(pairs, digests, config.retry)) < len(plans):
            return None
    return indices
