"""Record which corpus a cache folder belongs to: two corpora of one name get two folders.

``cache/<corpus>/corpus.json`` is written before the first shard. It names the folder's corpus by its place
(root and table) and by the digest of its clips. A corpus is the same if it is at the same place, whatever was
edited there, or if it has the same clips and media files at another place
(`deiii.pipeline.preprocess.claim` compares them). The first corpus of a name gets the plain folder,
``table-clips``; another one gets ``table-clips-1a2b3c4d``.

>>> from deiii.data.config.load import load_config
>>> find_corpus(load_config("ravdess")).name                     # doctest: +SKIP
'ravdess-audio-video-speech'
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deiii.data.cache.index import (
    CacheError,
    corpus_folder,
    read_sealed,
    read_table,
    write_sealed,
)
from deiii.data.config.schema import Config, CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.differences import clip_digest, differences
from deiii.data.corpora.scan import cache_name, scan_again
from deiii.data.corpora.table import find_table
from deiii.data.corpora.targets.classes import map_classes
from deiii.data.tools.atomic_files import file_sha256
from deiii.data.tools.counts import examples
from deiii.data.tools.processes.made_folders import make_folder

IDENTITY = "corpus.json"
SOURCES = "sources.json"  # size, modification time, SHA-256 and change time of each media file
DECODERS = "decoders.json"  # major versions of libavcodec that decoded the shards of each stage
READ_BYTES = 2 * 2**30  # most bytes of media files that are read to compare them
THREADS = 8  # threads that examine media files
FORMAT = 2  # the same number as for the clip table (`deiii.data.cache.index.FORMAT`)
SUFFIX = re.compile(r"-[0-9a-f]{8}")


@dataclass(frozen=True)
class Identity:
    """The place and the clips of a corpus.

    Attributes:
        root: absolute path without links.
        table: absolute path of the CSV without links; empty for a corpus that has none, or if unknown.
        clips: `clip_digest` of the corpus; empty if unknown.
    """

    root: str
    table: str = ""
    clips: str = ""

    def same_place(self, other: Identity) -> bool:
        """Return whether root and table are the same; an unknown table counts as the same."""
        tables = {self.table, other.table} - {""}
        return self.root == other.root and len(tables) < 2


def place_of(config: CorpusConfig, root: str | None = None) -> Identity:
    """Return the place that settings name, without its clips; ``root`` replaces ``config.root``."""
    folder = Path(config.root if root is None else root)
    table = ""
    if config.name == "table":
        try:
            table = os.path.realpath(find_table(config.table, folder))
        except CorpusError:
            pass  # it is not on this machine
    return Identity(os.path.realpath(folder), table)


def identity_of(config: CorpusConfig, corpus: Corpus) -> Identity:
    """Return the identity of a scanned corpus."""
    return replace(place_of(config, corpus.root), clips=clip_digest(corpus))


def write_identity(cache: str | Path, name: str, identity: Identity) -> None:
    """Record the corpus that a folder belongs to."""
    folder = corpus_folder(cache, name)
    make_folder(folder)
    write_sealed(folder / IDENTITY, {"format": FORMAT, **asdict(identity)})


def recorded_identity(cache: str | Path, name: str) -> Identity | None:
    """Return the identity in a folder's ``corpus.json``; ``None`` if there is none or it is damaged."""
    try:
        tree = read_sealed(corpus_folder(cache, name) / IDENTITY)
        return Identity(str(tree["root"]), str(tree["table"]), str(tree["clips"]))
    except (CacheError, ValueError, KeyError, TypeError, RecursionError, OSError):
        return None


def read_identity(cache: str | Path, name: str) -> Identity | None:
    """Return the identity of the corpus that a folder belongs to; ``None`` if it is not recorded.

    A cache of an earlier version has no ``corpus.json``; its clip table names the root as it was given.
    """
    if found := recorded_identity(cache, name):
        return found
    try:
        corpus = read_table(cache, name)
    except CacheError:
        return None
    return Identity(os.path.realpath(corpus.root), "", clip_digest(corpus))


def folders_of(cache: str | Path, base: str) -> list[str]:
    """Return the folders in which corpora of one name may be, the plain one first."""
    others = [p.name for p in Path(cache).glob(f"{base}-*") if SUFFIX.fullmatch(p.name[len(base) :])]
    return [name for name in [base, *sorted(others)] if (Path(cache) / name).is_dir()]


def owners(cache: str | Path, base: str) -> dict[str, Identity]:
    """Return the identities of the folders of one name.

    Left out are folders without a record, and those of corpora whose own name ends like a digest.
    """
    found = {name: read_identity(cache, name) for name in folders_of(cache, base)}
    return {
        name: identity
        for name, identity in found.items()
        if identity is not None and (name == base or not _is_plain(cache, name, identity))
    }


def _is_plain(cache: str | Path, name: str, identity: Identity) -> bool:
    """Return whether what looks like a digest in a folder's name is part of its corpus's own name.

    The table clips-20240101.csv has the folder ``table-clips-20240101``, which is not a folder of clips.csv.
    """
    if identity.table:
        return cache_name(CorpusConfig(name="table", table=identity.table)) == name
    try:
        return name.startswith("pattern-") and not read_table(cache, name).base
    except CacheError:
        return False


def find_corpus(config: Config, folder: str | None = None) -> Corpus:
    """Return the clip table of the preprocessed corpus that the settings name, with its classes mapped.

    Where the corpus is on this machine, its labels and clips as they are now are compared with those in the
    cache. Where it is not, as on a machine for training, the cache is enough.

    Args:
        config: names the corpus and the cache.
        folder: the folder in the cache, if it is known, as for a run. If the cache does not have it, the
            folder of the corpus is looked for.

    Raises:
        CacheError: the corpus is not in the cache, several might be meant, or it was changed since it was
            preprocessed; says what changed and what to run.
        CorpusError: the corpus's table cannot be read any more, or ``corpus.classes`` does not fit it.
    """
    name, identity = _located(config, folder)
    corpus = read_table(config.cache, name)
    now = _current(config, identity, corpus)
    if now is not None:
        _refuse_replaced_media(config.cache, name, now)
    if now is None or now.labels != corpus.labels:  # other functions report changed labels
        return map_classes(corpus, config.corpus.classes)
    if changed := differences(corpus, now):
        raise CacheError(
            f"{identity.table or identity.root} was changed since it was preprocessed: "
            f"{'; '.join(changed)}. Run `deiii preprocess` with the same settings; features that do not "
            "depend on the change are kept"
        )
    return map_classes(corpus, config.corpus.classes)


def latest_corpus(config: Config, folder: str | None = None) -> Corpus:
    """Return the clips and labels as they are now, or those in the cache if the corpus is elsewhere.

    Arguments and errors are those of `find_corpus`, but for a corpus that was changed.
    """
    name, identity = _located(config, folder)
    corpus = read_table(config.cache, name)
    return map_classes(_current(config, identity, corpus) or corpus, config.corpus.classes)


def _located(config: Config, folder: str | None) -> tuple[str, Identity]:
    base = cache_name(config.corpus)
    held = owners(config.cache, base)
    if not held:
        read_table(config.cache, base)  # raises the error for a missing or damaged table
    name = folder if folder is not None and folder in held else _choose(config, held)
    here = place_of(config.corpus)
    if name in held and os.path.isdir(here.root):  # the corpus may have been moved
        return name, replace(held[name], root=here.root, table=here.table)
    return name, held[name]


def _current(config: Config, identity: Identity, cached: Corpus) -> Corpus | None:
    """Return the corpus as it is now; ``None`` where the one of that identity is not on this machine."""
    here = place_of(config.corpus)
    if not identity.same_place(here) or not os.path.isdir(here.root):
        return None
    now = scan_again(config.corpus)
    if now is None or config.corpus.name == "table":
        return now
    # These corpora are lists of their media files, which may be deleted once they are preprocessed.
    there = {clip.id for clip in now.clips}
    gone = (clip for clip in cached.clips if clip.id not in there)
    return replace(now, clips=tuple(sorted([*now.clips, *gone], key=lambda clip: clip.id)))


def _choose(config: Config, held: Mapping[str, Identity]) -> str:
    here = place_of(config.corpus)
    same = [name for name, identity in held.items() if identity.same_place(here)]
    if same:
        exact = [name for name in same if held[name].table == here.table]
        return (exact or same)[0]
    known = ", ".join(f"{i.table or i.root} ({config.cache}/{name})" for name, i in held.items())
    if os.path.isdir(here.root):
        for name in held:
            if _relative_root(config.cache, name, here.root):
                return name
        if name := _moved(config, held):
            return name
        raise CacheError(
            f"{here.table or here.root} is not preprocessed in {config.cache}, which has {known}; run "
            "`deiii preprocess` with the same settings. If the corpus was moved or copied, this compares the "
            "media files, keeps the features of files that are the same, and computes the others"
        )
    if len(held) == 1:
        return next(iter(held))
    raise CacheError(
        f"{config.cache} has several corpora of this name: {known}. There is nothing at "
        f"corpus.root={config.corpus.root}, so it is not clear which one is meant; set corpus.root (and "
        "corpus.table) to one of them"
    )


def _moved(config: Config, held: Mapping[str, Identity]) -> str:
    """Return the folder of the corpus that was moved here (same clips and media); empty if there is none."""
    now = scan_again(config.corpus)
    if now is None:
        return ""
    for name, identity in held.items():
        if identity.clips == clip_digest(now):
            same, replaced, unknown = compare_media(config.cache, name, now.root, now.clips)
            if same and not replaced and not unknown:
                return name
    return ""


def compare_media(
    cache: str | Path, name: str, root: str | Path, clips: Iterable[Clip]
) -> tuple[int, list[str], list[str]]:
    """Compare media files with what preprocessing recorded of them.

    A file with the same size and modification time counts as unchanged; one with another size has changed. Of
    the others the SHA-256 is compared, if they have at most 2 GiB together. Missing files are not compared.

    Args:
        cache: the cache folder.
        name: name of the corpus's folder in it.
        root: folder that holds the files now.
        clips: clips to compare.

    Returns:
        how many are the same, the paths of those that were replaced, and of those that were not read.
    """
    recorded = recorded_media(cache, name)
    paths = [clip.path for clip in clips if clip.path in recorded]

    def look(path: str) -> os.stat_result | None:
        try:
            return os.stat(os.path.join(root, path))
        except OSError:
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(paths, pool.map(look, paths), strict=True))
    there = {path: stat for path, stat in found.items() if stat is not None}
    replaced = [path for path, stat in there.items() if stat.st_size != recorded[path][0]]
    touched = [p for p, s in there.items() if p not in replaced and s.st_mtime_ns != recorded[p][1]]
    if sum(there[path].st_size for path in touched) > READ_BYTES:
        return len(there) - len(replaced) - len(touched), replaced, touched
    replaced += [p for p in touched if file_sha256(os.path.join(root, p)) != recorded[p][2]]
    return len(there) - len(replaced), replaced, []


def recorded_media(cache: str | Path, name: str) -> dict[str, list[Any]]:
    """Return size, modification time in ns and SHA-256 of a preprocessed corpus's media files, by path.

    There are none where nothing is recorded.
    """
    try:
        tree = json.loads((corpus_folder(cache, name) / SOURCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = tree.items() if isinstance(tree, dict) else ()
    return {str(p): e[:3] for p, e in entries if isinstance(e, list) and len(e) in (3, 4)}


def _refuse_replaced_media(cache: str | Path, name: str, now: Corpus) -> None:
    _, replaced, unknown = compare_media(cache, name, now.root, now.clips)
    changed = replaced or unknown
    if changed:
        what = "replaced" if replaced else "changed or copied"
        raise CacheError(
            f"{len(changed)} media file{'s' if len(changed) > 1 else ''} of {now.root} "
            f"{'were' if len(changed) > 1 else 'was'} {what} since preprocessing ({examples(changed)}). Run "
            "`deiii preprocess` with the same settings; it computes again only what differs"
        )


def _relative_root(cache: str | Path, name: str, root: str) -> bool:
    """Return whether an earlier version recorded a root like this one relative to an unknown folder."""
    if (corpus_folder(cache, name) / IDENTITY).exists():
        return False
    given = read_table(cache, name).root
    return not os.path.isabs(given) and root.endswith(os.sep + os.path.normpath(given))


def read_decoders(folder: Path) -> dict[str, list[int]]:
    """Return the major versions of libavcodec that decoded the shards of each stage of a corpus.

    They are in the order of their use, keyed by the name of the stage's folder (`record_decoder` of
    `deiii.pipeline.stages.decoder_record` writes them). Stages of an earlier deiii have none, and there are
    none if the file is missing or damaged.

    >>> read_decoders(Path("no-such-folder"))
    {}
    """
    try:
        tree = json.loads((folder / DECODERS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = tree.items() if isinstance(tree, dict) else ()
    return {s: v for s, v in entries if isinstance(v, list) and all(isinstance(n, int) for n in v)}
