"""The folders around the shards: clip table, stage folders and their indices.

``cache/<corpus>/clips.json`` holds the clip table, so training needs no raw corpus.
``cache/<corpus>/<stage>-<key>/index.json`` is written last and lists the finished shards with
the byte offsets of their fields: opening a cache of thousands of shards opens one file. Both
carry a digest of themselves, so that an edited or rotten one is refused instead of believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.outcomes import Status
from deiii.data.cache.shards import KINDS, ClipRow, FieldLayout, Shard, ShardInfo, read_info
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.tools.atomic_files import file_sha256, write_text

INDEX = "index.json"
PACKED = "packed.json"  # in the packed form (`deiii.data.cache.packed`) it stands where the index stands here
TABLE = "clips.json"
FORMAT = 2  # of index and clip table; a shard has its own


class CacheError(ValueError):
    """A cache folder is missing, unfinished or damaged; the message says what to run."""


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard as the index lists it; ``sha256`` is of the whole file."""

    name: str
    sha256: str
    bytes: int
    digest: str
    fields: Mapping[str, FieldLayout]
    clips: tuple[ClipRow, ...]

    def open(self, folder: str | Path) -> Shard:
        """Map the shard using the index alone; HDF5 is not asked again."""
        path = Path(folder) / f"{self.name}.h5"
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise CacheError(f"{path} is missing; run `make preprocess` to rebuild it") from None
        if size != self.bytes:
            raise CacheError(f"{path} has {size} bytes, its index says {self.bytes}; run `deiii verify`")
        info = ShardInfo("", "", "", self.digest, self.bytes, self.fields, self.clips)
        return Shard(path, info)


@dataclass
class StageIndex:
    """One stage's finished result."""

    stage: str
    key: str
    provenance: Mapping[str, Any]
    shards: list[ShardRecord] = field(default_factory=list)

    @property
    def clips(self) -> dict[str, ClipRow]:
        """Each clip's row, by clip id."""
        return {row.id: row for shard in self.shards for row in shard.clips}


def corpus_folder(cache: str | Path, corpus_name: str) -> Path:
    return Path(cache) / corpus_name


def stage_folder(cache: str | Path, corpus_name: str, stage: str, key: str) -> Path:
    """Where a stage's shards live: ``cache/<corpus>/<stage>-<key>``."""
    return corpus_folder(cache, corpus_name) / f"{stage}-{key}"


def record_shard(path: str | Path) -> ShardRecord:
    """Read a finished shard file into the form the index keeps."""
    path = Path(path)
    info = read_info(path)
    return ShardRecord(path.stem, file_sha256(path), info.bytes, info.digest, info.fields, info.clips)


def write_index(folder: str | Path, index: StageIndex) -> None:
    """Publish a stage: after this, and only then, it counts as finished."""
    tree = {
        "format": FORMAT,
        "stage": index.stage,
        "key": index.key,
        "provenance": index.provenance,
        "shards": [_shard_tree(s) for s in sorted(index.shards, key=lambda s: s.name)],
    }
    _write_sealed(Path(folder) / INDEX, tree)


def read_index(folder: str | Path) -> StageIndex:
    """The finished stage in a folder.

    Raises:
        CacheError: where there is none, or its index cannot be read.
    """
    path = Path(folder) / INDEX
    try:
        tree = _read_sealed(path)
        shards = [_shard_from(t) for t in tree["shards"]]
        return StageIndex(tree["stage"], tree["key"], tree["provenance"], shards)
    except FileNotFoundError:
        if (path.parent / PACKED).is_file():
            archive = path.parents[2]
            raise CacheError(
                f"{path.parent} is in the packed form, which cannot be trained on; "
                f"run `deiii unpack {archive} CACHE` and use cache=CACHE"
            ) from None
        raise CacheError(
            f"no finished features in {Path(folder)}; run `make preprocess` with the same settings"
        ) from None
    except CacheError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise CacheError(f"{path} is damaged ({error}); run `make preprocess` to rebuild it") from None


def _write_sealed(path: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON whose first entry is the SHA-256 of the rest of its text."""
    rest = json.dumps(tree, allow_nan=False, ensure_ascii=False)[1:] + "\n"
    write_text(path, f'{{"digest": "{hashlib.sha256(rest.encode()).hexdigest()}", {rest}')


def _read_sealed(path: Path) -> dict[str, Any]:
    """What `_write_sealed` wrote. Raises CacheError for another format, else what reading raises."""
    text = path.read_text(encoding="utf-8")
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("it is a list")
    if tree.get("format") != FORMAT:
        raise CacheError(
            f"{path} has format {tree.get('format')}, this version reads {FORMAT}; run `make preprocess` "
            "with the same settings: shards that are right are kept"
        )
    rest = text.split(", ", 1)[-1]
    if tree.pop("digest", None) != hashlib.sha256(rest.encode()).hexdigest():
        raise ValueError("its text does not match its digest: edited, or damaged on the disk")
    return tree


def read_packed(folder: str | Path) -> StageIndex:
    """What a stage in the packed form holds; its records know names and digests alone."""
    path = Path(folder) / PACKED
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        names = [(Path(s["name"]).name, s["digest"]) for s in tree["shards"]]
        shards = [ShardRecord(name, "", 0, digest, {}, ()) for name, digest in names]
        return StageIndex(tree["stage"], tree["key"], tree["provenance"], shards)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{path} is damaged ({error}); pack the cache anew") from None


def _shard_tree(shard: ShardRecord) -> dict:
    tree = asdict(shard)
    tree["fields"] = {n: [f.offset, f.dtype, list(f.shape)] for n, f in shard.fields.items()}
    tree["clips"] = [[c.id, c.start, c.stop, c.status, c.reason, c.fraction, c.source] for c in shard.clips]
    return tree


def _shard_from(tree: Mapping[str, Any]) -> ShardRecord:
    if Path(tree["name"]).name != tree["name"]:
        raise ValueError(f"shard name {tree['name']!r} leaves its folder")
    clips = tuple(ClipRow(*row) for row in tree["clips"])
    rows = 0
    for clip in clips:
        Status(clip.status)
        if clip.start != rows or clip.stop < clip.start:
            raise ValueError(f"the clips of {tree['name']!r} do not follow one another")
        rows = clip.stop
    fields = {n: FieldLayout(int(o), str(d), tuple(map(int, s))) for n, (o, d, s) in tree["fields"].items()}
    for name, layout in fields.items():
        if np.dtype(layout.dtype).kind not in KINDS:  # objects would be read as addresses in memory
            raise ValueError(f"field {name!r} of {tree['name']!r} claims the type {layout.dtype}")
        if min(layout.shape, default=0) < 0 or not layout.shape or layout.shape[0] != rows:
            raise ValueError(f"field {name!r} of {tree['name']!r} has the shape {layout.shape}")
        if layout.offset < 0 or layout.offset + layout.nbytes > tree["bytes"]:
            raise ValueError(f"field {name!r} of {tree['name']!r} lies outside its file")
    return ShardRecord(tree["name"], tree["sha256"], tree["bytes"], tree["digest"], fields, clips)


def write_table(cache: str | Path, corpus: Corpus) -> None:
    """Keep the clip table beside the features, so that training needs no raw corpus."""
    tree = {"format": FORMAT, **asdict(corpus)}
    _write_sealed(corpus_folder(cache, corpus.name) / TABLE, tree)


def read_table(cache: str | Path, corpus_name: str) -> Corpus:
    """The clip table of a cached corpus. Raises CacheError where there is none."""
    path = corpus_folder(cache, corpus_name) / TABLE
    try:
        tree = _read_sealed(path)
        clips = tuple(
            Clip(**{**c, "soft": tuple(c["soft"]) if c["soft"] is not None else None}) for c in tree["clips"]
        )
        return Corpus(
            tree["name"], tree["root"], tuple(tree["classes"]), clips,
            {n: (lo, hi) for n, (lo, hi) in tree["ranges"].items()}, tree["protocol"], tree["labels"],
        )  # fmt: skip
    except FileNotFoundError:
        raise CacheError(f"no clip table {path}; run `make preprocess` first") from None
    except CacheError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise CacheError(f"{path} is damaged ({error}); run `make preprocess` to rebuild it") from None
