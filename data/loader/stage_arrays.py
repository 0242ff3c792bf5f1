"""Find the arrays of one stage for every clip of a feature set.

The large field (frames, flow, log-mel) stays in the mapped files; the small ones (times, masks,
scales) are read once and kept, so that a batch's sampling is a handful of array operations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deiii.data.cache.index import CacheError, StageIndex
from deiii.data.cache.shards import FieldLayout
from deiii.data.cache.stages import LOGMEL, get_stage
from deiii.data.loader.mapped_files import Maps
from deiii.data.tools.counts import counted

Levels = tuple[np.ndarray, np.ndarray]  # mean and deviation of mel bands, float64 [M] in dB, or of features
StageLevels = Mapping[str, Levels]  # stage name: levels of a speaker's rows
LEAST_DB = 1.0  # smallest deviation in dB that a band is divided by, so that a constant band stays small
LEAST_DEVIATION = 1e-3  # the same for the features of pretrained encoders


@dataclass
class Stream:
    """One stage's arrays for N clips.

    Attributes:
        stage: its name.
        paths, sizes, layouts: path, size in bytes and layout of each shard file.
        shard: int64 [N], the clip's shard, -1 where the stage has nothing for it.
        start: int64 [N], the clip's first row in its shard.
        length: int64 [N], the clip's rows; 0 where it has none.
        maps: the shard files that are mapped.

    Raises:
        CacheError: the shards have rows of different shapes or types.
    """

    stage: str
    paths: list[Path]
    sizes: list[int]
    layouts: list[Mapping[str, FieldLayout]]
    shard: np.ndarray
    start: np.ndarray
    length: np.ndarray
    maps: Maps = field(default_factory=Maps, repr=False)

    def __post_init__(self) -> None:
        self.spec = get_stage(self.stage)
        self.field = self.spec.large
        kinds: dict[tuple[str, tuple[int, ...]], int] = {}  # the first shard of each
        for shard, layout in enumerate(self.layouts):
            if layout:
                kinds.setdefault((layout[self.field].dtype, layout[self.field].shape[1:]), shard)
        if len(kinds) > 1:
            found = [f"{np.dtype(d)} {list(s)} in {self._folder(n)}" for (d, s), n in kinds.items()]
            raise CacheError(
                f"rows of {self.stage} are of different kinds: {', '.join(found)}; give corpora that are "
                f"read together the same settings of {self.stage}, and run `deiii preprocess` for each"
            )
        dtype, shape = next(iter(kinds), ("u1", ()))
        self.dtype, self.shape = np.dtype(dtype), shape
        self._small: dict[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        """Return the stream in a line, whatever the number of its clips."""
        some = f"{np.count_nonzero(self.length)} of {counted(len(self.length), 'clip')}"
        rows = f"{self.length.sum()} rows of {self.dtype} {list(self.shape)}"
        return f"{type(self).__name__}({self.stage}: {rows} in {some})"

    @classmethod
    def of(cls, index: StageIndex, folder: Path, ids: Sequence[str]) -> Stream:
        """Return the stream of these clips from a stage's index."""
        place = {
            row.id: (n, row.start, row.stop - row.start)
            for n, record in enumerate(index.shards)
            for row in record.clips
            if row.stop > row.start
        }
        table = np.array([place.get(i, (-1, 0, 0)) for i in ids], np.int64).reshape(-1, 3)
        paths = [folder / f"{record.name}.h5" for record in index.shards]
        sizes = [record.bytes for record in index.shards]
        return cls(index.stage, paths, sizes, [r.fields for r in index.shards], *table.T.copy())

    @classmethod
    def empty(cls, stage: str, count: int) -> Stream:
        """Return a stream that has nothing for any of ``count`` clips."""
        zeros = np.zeros(count, np.int64)
        return cls(stage, [], [], [], zeros - 1, zeros, zeros)

    @classmethod
    def concat(cls, streams: Sequence[Stream]) -> Stream:
        """Return the clips of several streams of one stage, one after the other."""
        before = np.cumsum([0] + [len(s.paths) for s in streams])
        shard = [np.where(s.shard >= 0, s.shard + n, -1) for s, n in zip(streams, before, strict=False)]
        return cls(
            streams[0].stage,
            [p for s in streams for p in s.paths],
            [b for s in streams for b in s.sizes],
            [lay for s in streams for lay in s.layouts],
            np.concatenate(shard),
            np.concatenate([s.start for s in streams]),
            np.concatenate([s.length for s in streams]),
        )

    def _folder(self, shard: int) -> str:
        """Return the folder of a shard, for messages."""
        return str(self.paths[shard].parent) if self.paths else "memory"

    @property
    def row_bytes(self) -> int:
        """Bytes of one frame, flow field or hop."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=int))

    def nbytes(self, rows: np.ndarray) -> int:
        """Return the size in bytes of the large field over some clips."""
        return int(self.length[rows].sum()) * self.row_bytes

    def main(self, row: int) -> np.ndarray:
        """Return a clip's large field, a view of the mapped file."""
        return self._part(row, self.field)

    def whole(self, shard: int) -> np.ndarray:
        """Return the large field of a whole shard, in which a clip's rows begin at `start`."""
        return self._field(shard, self.field)

    def clip(self, row: int) -> dict[str, np.ndarray]:
        """Return all of a clip's fields, as views of the mapped file."""
        return {name: self._part(row, name) for name in self.layouts[self.shard[row]]}

    def _part(self, row: int, name: str) -> np.ndarray:
        start = int(self.start[row])
        return self._field(int(self.shard[row]), name)[start : start + int(self.length[row])]

    def _field(self, shard: int, name: str) -> np.ndarray:
        return self.maps.field(self.paths[shard], self.sizes[shard], self.layouts[shard][name])

    def required(self, name: str) -> np.ndarray:
        """Return a small field of all clips, as `small` returns it.

        Raises:
            CacheError: if the stage does not store the field and `small` returns ``None``.
        """
        values = self.small(name)
        if values is None:
            raise CacheError(
                f"stage {self.stage!r} stores no field {name!r}; run `deiii preprocess` to compute it again"
            )
        return values

    def small(self, name: str) -> np.ndarray | None:
        """Return a small field of all clips, end to end in row order; a clip's rows begin at `first`.

        Returns ``None`` if the stage does not store the field; for ``time`` and ``valid``, an empty array.
        """
        return self.load_small().get(name)

    @property
    def first(self) -> np.ndarray:
        """int64 [N], where each clip begins when all clips lie end to end in row order."""
        return np.cumsum(self.length) - self.length

    def load_small(self) -> dict[str, np.ndarray]:
        """Return the small fields of all clips by name; read from the files on the first call.

        Raises:
            CacheError: if shards lack a field.
        """
        if self._small is None:
            self._small = self._read_small()
        return self._small

    def _read_small(self) -> dict[str, np.ndarray]:
        names = self.spec.small
        for name in names:
            having = [name in lay for lay in self.layouts if lay]
            if not all(having) and not (self.spec.fields[name].optional and not any(having)):
                first_without = next(n for n, lay in enumerate(self.layouts) if lay and name not in lay)
                where = self._folder(first_without)
                raise CacheError(
                    f"shards of {self.stage} in {where} lack the field {name!r}; remove that folder and run "
                    "`deiii preprocess` to compute it again"
                )
        first, total = self.first, int(self.length.sum())
        loaded = {"time": np.zeros(0), "valid": np.zeros(0, bool)}
        for name in names:
            layout = next((lay[name] for lay in self.layouts if name in lay), None)
            if layout is not None:
                loaded[name] = np.empty((total, *layout.shape[1:]), layout.dtype)
        rows = np.flatnonzero(self.length)
        by_shard = rows[np.argsort(self.shard[rows], kind="stable")]
        cuts = np.flatnonzero(np.diff(self.shard[by_shard])) + 1
        for group in np.split(by_shard, cuts) if len(rows) else ():
            n, length = int(self.shard[group[0]]), self.length[group]
            step = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
            source, target = (np.repeat(x[group], length) + step for x in (self.start, first))
            for name in self.layouts[n].keys() & set(names):
                loaded[name][target] = self._field(n, name)[source]
        return loaded


def band_levels(clips: Sequence[np.ndarray], least: float = LEAST_DB) -> Levels:
    """Return mean and standard deviation of the mel bands over all hops of some clips.

    Args:
        clips: log-mel of each clip, [L,M] in dB; at least one hop in all.
        least: smallest deviation that is returned, dB.

    Returns:
        float64 [M] each, in dB; the deviation is at least ``least``.
    """
    total = np.zeros(clips[0].shape[1:])
    squares = np.zeros_like(total)
    count = 0
    for clip in clips:
        values = clip.astype(np.float64)
        total = total + values.sum(0)
        squares = squares + (values**2).sum(0)
        count += len(values)
    mean = total / count
    return mean, np.maximum(least, np.sqrt(np.maximum(0.0, squares / count - mean**2)))


def least_deviation(stage: str) -> float:
    """Return the smallest deviation that the rows of a stage are divided by."""
    return LEAST_DB if stage == LOGMEL.name else LEAST_DEVIATION


def levels_of(
    stages: Collection[str], files: Sequence[Mapping[str, Mapping[str, np.ndarray]]]
) -> StageLevels:
    """Return the levels of the features of some stages over files.

    Args:
        stages: stages that are normalised by speaker.
        files: for each file, the arrays that the stages computed.
    """
    found = {}
    for stage in stages:
        rows = []
        for arrays in files:
            values = arrays.get(stage, {}).get(get_stage(stage).large)
            valid = arrays.get(stage, {}).get("valid")
            rows += [] if values is None else [values if valid is None else values[valid]]
        if any(map(len, rows)):
            found[stage] = band_levels(rows, least_deviation(stage))
    return found


def valid_rows(stream: Stream, clips: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Return the valid rows of a stage, one array for each clip; clips without any are left out."""
    first = stream.first
    valid = stream.small("valid") if "valid" in stream.spec.small else None
    found = []
    for clip in clips:
        values = stream.main(int(clip)) if stream.length[clip] else np.zeros((0, *stream.shape), stream.dtype)
        if valid is not None:
            values = values[valid[first[clip] : first[clip] + len(values)]]
        if len(values):
            found.append(values)
    return found
