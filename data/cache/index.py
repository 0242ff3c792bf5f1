"""The folders of a cache: the clip table, and each stage's folder with its index.

``cache/<corpus>/clips.json`` holds the clip table, so that training needs no raw corpus.
``cache/<corpus>/<stage>-<key>/index.json`` is written last. It lists the finished shards with the byte
offsets of their fields, so that opening a stage of thousands of shards opens one file. Both files carry a
digest of themselves and are refused if they were edited or damaged.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.outcomes import Status
from deiii.data.cache.shards import (
    KINDS,
    ClipRow,
    FieldLayout,
    Shard,
    ShardInfo,
    read_info,
    structure_digest,
)
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.differences import clip_digest, label_digest
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.os_errors import explain

INDEX = "index.json"
PACKED = "packed.json"  # takes the place of the index in an archive (`deiii.data.cache.packed`)
TABLE = "clips.json"
FORMAT = 2  # format of the clip table and of `deiii.data.cache.identity`; shards have another
INDEX_FORMAT = 3


class CacheError(ValueError):
    """A cache folder is missing, unfinished or damaged; the message has the command."""


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard as the index lists it.

    Attributes:
        name: name of the file, without ``.h5``.
        structure: SHA-256 of the file's bytes outside its arrays
            (`deiii.data.cache.shards.structure_digest`).
        bytes: size of the file.
        digest: digest of the shard's content, whatever the file's layout
            (`deiii.data.cache.shards.content_digest`).
        fields: place, type and shape of each array in the file.
        clips: rows and outcome of each clip.
    """

    name: str
    structure: str
    bytes: int
    digest: str
    fields: Mapping[str, FieldLayout]
    clips: tuple[ClipRow, ...]

    def open(self, folder: str | Path) -> Shard:
        """Map the shard into memory at the places that the index states, without HDF5.

        Raises:
            CacheError: if the file is missing or has another size.
        """
        path = Path(folder) / f"{self.name}.h5"
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise CacheError(f"{path} is missing; run `deiii preprocess` to rebuild it") from None
        if size != self.bytes:
            raise CacheError(f"{path} has {size} bytes, its index states {self.bytes}; run `deiii verify`")
        info = ShardInfo("", "", "", self.digest, self.bytes, self.fields, self.clips)
        return Shard(path, info)


@dataclass
class StageIndex:
    """The finished result of one stage.

    Attributes:
        stage: its name.
        key: its key (`deiii.data.cache.recipes`).
        provenance: the settings that it was computed with.
        shards: its finished shards.
    """

    stage: str
    key: str
    provenance: Mapping[str, Any]
    shards: list[ShardRecord] = field(default_factory=list)

    def __repr__(self) -> str:
        size = f"{counted(len(self.clips), 'clip')} in {counted(len(self.shards), 'shard')}"
        return f"StageIndex({self.stage}-{self.key}: {size})"

    @property
    def clips(self) -> dict[str, ClipRow]:
        """Each clip's row, by clip id."""
        return {row.id: row for shard in self.shards for row in shard.clips}

    @property
    def content_digest(self) -> str:
        """SHA-256 over the names and content digests of all shards, as 64 hex digits.

        It changes if arrays or outcomes of clips are computed anew with another result, and if the clips are
        divided into other shards.
        """
        names = sorted((shard.name, shard.digest) for shard in self.shards)
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def corpus_folder(cache: str | Path, corpus_name: str) -> Path:
    """Return the folder of a corpus in a cache: ``cache/<corpus>``."""
    return Path(cache) / corpus_name


def stage_folder(cache: str | Path, corpus_name: str, stage: str, key: str) -> Path:
    """Return the folder of a stage's shards: ``cache/<corpus>/<stage>-<key>``."""
    return corpus_folder(cache, corpus_name) / f"{stage}-{key}"


def remedy_for(folder: str | Path, otherwise: str) -> str:
    """Return what to do about a cache or archive in which nothing is found: often another folder is meant.

    Args:
        folder: the folder that was named; perhaps it lies in the cache that is meant, or holds it.
        otherwise: what to do if no cache is there.

    >>> remedy_for("cache/table-clips", "run `deiii preprocess`")     # doctest: +SKIP
    'name the folder cache instead'
    """
    folder = Path(folder)
    meant = next((path.parent.parent for path in sorted(folder.glob(f"*/*/{TABLE}"))), None)
    if (folder / TABLE).exists():
        meant = folder.parent
    elif (folder / INDEX).exists() or (folder / PACKED).exists():
        meant = folder.parent.parent
    return f"name the folder {meant} instead" if meant else otherwise


def record_shard(path: str | Path) -> ShardRecord:
    """Return the index entry of a finished shard file, which is read."""
    info = read_info(path)
    return record_of(path, info, structure_digest(path, info.fields))


def record_of(path: str | Path, info: ShardInfo, structure: str) -> ShardRecord:
    """Return the index entry of a shard file of which everything is known."""
    return ShardRecord(Path(path).stem, structure, info.bytes, info.digest, info.fields, info.clips)


def write_index(folder: str | Path, index: StageIndex) -> None:
    """Write the index of a stage; from then on the stage counts as finished."""
    tree = {
        "format": INDEX_FORMAT,
        "stage": index.stage,
        "key": index.key,
        "provenance": index.provenance,
        "shards": [_shard_tree(s) for s in sorted(index.shards, key=lambda s: s.name)],
    }
    write_sealed(Path(folder) / INDEX, tree)


def read_index(folder: str | Path) -> StageIndex:
    """Read the index of a finished stage.

    Raises:
        CacheError: if there is none, or it is damaged; the message has the command.
    """
    path = Path(folder) / INDEX
    try:
        tree = read_sealed(path, INDEX_FORMAT)
        shards = [_shard_from(t) for t in tree["shards"]]
        return StageIndex(tree["stage"], tree["key"], tree["provenance"], shards)
    except FileNotFoundError:
        if (path.parent / PACKED).is_file():
            archive = path.parents[2]
            raise CacheError(
                f"{path.parent} is in the packed form, which cannot be trained on; "
                f"run `deiii unpack {shlex.quote(str(archive))} CACHE` and use cache=CACHE"
            ) from None
        otherwise = "run `deiii preprocess` with the same settings, or name the cache with cache=FOLDER"
        remedy = remedy_for(path.parents[2], otherwise)
        raise CacheError(f"no finished features in {path.parent}; {remedy}") from None
    except CacheError:
        raise
    except PermissionError as error:
        raise CacheError(explain(error)) from None
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise CacheError(f"{path} is damaged ({error}); run `deiii preprocess` to rebuild it") from None


def write_sealed(path: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON whose first entry, ``digest``, is the SHA-256 of the rest of the text."""
    rest = json.dumps(tree, allow_nan=False, ensure_ascii=False)[1:] + "\n"
    write_text(path, f'{{"digest": "{hashlib.sha256(rest.encode()).hexdigest()}", {rest}')


def read_sealed(path: Path, version: int = FORMAT) -> dict[str, Any]:
    """Read JSON that `write_sealed` wrote, with this version of the format.

    Raises:
        CacheError: for another format.
        ValueError: if it is not JSON, or does not match its digest.
        OSError: if it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("it is not a JSON object")
    if tree.get("format") != version:
        raise CacheError(
            f"{path} has format {tree.get('format')}, this version reads {version}; run `deiii preprocess` "
            "with the same settings, which keeps intact shards"
        )
    rest = text.split(", ", 1)[-1]
    if tree.pop("digest", None) != hashlib.sha256(rest.encode()).hexdigest():
        raise ValueError("its text does not match its digest: it was edited, or damaged on the disk")
    return tree


def read_packed(folder: str | Path) -> StageIndex:
    """Read the list of shards of a packed stage; its records hold names and digests only.

    Raises:
        CacheError: if it cannot be read.
    """
    path = Path(folder) / PACKED
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        names = [(Path(s["name"]).name, s["digest"]) for s in tree["shards"]]
        if not names or not all(name for name, _ in names):
            raise ValueError("it lists no shards, or one without a name")
        if not isinstance(tree["provenance"], dict):
            raise ValueError("its provenance is not a JSON object")
        shards = [ShardRecord(name, "", 0, digest, {}, ()) for name, digest in names]
        return StageIndex(tree["stage"], tree["key"], tree["provenance"], shards)
    except PermissionError as error:
        raise CacheError(explain(error)) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{path} is damaged ({error}); pack the cache again") from None


def _shard_tree(shard: ShardRecord) -> dict:
    tree = asdict(shard)
    tree["fields"] = {n: [f.offset, f.dtype, list(f.shape)] for n, f in shard.fields.items()}
    tree["clips"] = [[c.id, c.start, c.stop, c.status, c.reason, c.fraction, c.source] for c in shard.clips]
    return tree


def _shard_from(tree: Mapping[str, Any]) -> ShardRecord:
    """Read and check one shard of an index. Raises ValueError, KeyError or TypeError if it is malformed."""
    name = tree["name"]
    if Path(name).name != name:
        raise ValueError(f"shard name {name!r} leaves its folder")
    clips = tuple(ClipRow(*row) for row in tree["clips"])
    rows = 0
    for clip in clips:
        Status(clip.status)  # raises ValueError for an unknown one
        if clip.start != rows or clip.stop < clip.start:
            raise ValueError(f"the clips of {name!r} do not follow one another")
        rows = clip.stop
    fields = {n: FieldLayout(int(o), str(d), tuple(map(int, s))) for n, (o, d, s) in tree["fields"].items()}
    for field_name, layout in fields.items():
        if np.dtype(layout.dtype).kind not in KINDS:  # objects would be read as addresses in memory
            raise ValueError(f"field {field_name!r} of {name!r} has the type {layout.dtype}")
        if min(layout.shape, default=0) < 0 or not layout.shape or layout.shape[0] != rows:
            raise ValueError(f"field {field_name!r} of {name!r} has the shape {layout.shape}")
        if layout.offset < 0 or layout.offset + layout.nbytes > tree["bytes"]:
            raise ValueError(f"field {field_name!r} of {name!r} lies outside its file")
    return ShardRecord(name, tree["structure"], tree["bytes"], tree["digest"], fields, clips)


def write_table(cache: str | Path, corpus: Corpus) -> None:
    """Write the clip table of a corpus beside its features."""
    save_corpus(corpus_folder(cache, corpus.name) / TABLE, corpus)


def read_table(cache: str | Path, corpus_name: str) -> Corpus:
    """Read the clip table of a cached corpus.

    Raises:
        CacheError: if there is none, or it is damaged; the message has the command.
    """
    return load_corpus(corpus_folder(cache, corpus_name) / TABLE)


def save_corpus(path: Path, corpus: Corpus) -> None:
    """Write a clip table as sealed JSON, with the digests of its clips and of its labels."""
    tree = {"format": FORMAT, **asdict(corpus)}
    del tree["notes"], tree["divided"]
    for clip in tree["clips"]:
        if not clip["sex"]:  # an empty sex is not written, as in tables of earlier versions
            del clip["sex"]
    tree |= {"clip_digest": clip_digest(corpus), "label_digest": label_digest(corpus)}
    write_sealed(path, tree)


def load_corpus(path: Path) -> Corpus:
    """Read the clip table that `save_corpus` wrote.

    Raises:
        CacheError: if there is none, or it is damaged; the message has the command.
    """
    try:
        tree = read_sealed(path)
        clips = tuple(
            Clip(
                **{
                    **c,
                    "soft": tuple(c["soft"]) if c["soft"] is not None else None,
                    "votes": {channel: tuple(votes) for channel, votes in c.get("votes", {}).items()},
                }
            )
            for c in tree["clips"]
        )
        return Corpus(
            name=tree["name"],
            root=tree["root"],
            classes=tuple(tree["classes"]),
            clips=clips,
            ranges={name: (low, high) for name, (low, high) in tree["ranges"].items()},
            protocol=tree["protocol"],
            labels=tree["labels"],
            votes=tree.get("votes", ""),
            base=tree.get("base", ""),
        )
    except PermissionError as error:
        raise CacheError(explain(error)) from None
    except FileNotFoundError:
        remedy = "run `deiii preprocess` first, or name the folder of the features with cache=FOLDER"
        raise CacheError(f"no clip table {path}; {remedy_for(path.parent.parent, remedy)}") from None
    except CacheError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise CacheError(f"{path} is damaged ({error}); run `deiii preprocess` to rebuild it") from None
