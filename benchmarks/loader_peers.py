"""Other loaders in the loader benchmark: h5py with torch's DataLoader, LitData, WebDataset.

Each delivers batches of T random frames of every clip with their flow and scales, the clip's log-mel and
its label, as tensors, in a shuffled order, from two worker processes. Each is used in its fastest way:
batched fetching into shared memory, files kept open, raw buffers without decoding.

LitData and WebDataset store whole samples. ``whole`` clips are the same task as ours; ``sampled`` ones
contain T frames selected once for all epochs, which is an easier task (and allows no augmentation in
time).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from deiii.data.loader.feature_set import FeatureSet

WORKERS = 2
Sample = dict[str, np.ndarray]


def sample_steps(rng: np.random.Generator, frames: int, steps: int) -> np.ndarray:
    """Return one random frame of each of ``steps`` equal segments, int64 [steps]."""
    edges = np.arange(steps + 1) * frames // steps
    return edges[:-1] + (rng.random(steps) * np.maximum(1, np.diff(edges))).astype(np.int64)


def empty_batch(batch: int, steps: int, like: Sample) -> dict[str, torch.Tensor]:
    """Return tensors in shared memory, so that a worker's batch reaches the main process without a copy."""
    shapes = {
        "frames": (batch, steps, *like["frames"].shape[1:]),
        "flow": (batch, steps, *like["flow"].shape[1:]),
        "scale": (batch, steps),
        "logmel": (batch, *like["logmel"].shape),
        "label": (batch,),
    }
    kinds = {n: torch.from_numpy(np.empty(0, like[n].dtype)).dtype for n in shapes}
    return {n: torch.empty(s, dtype=kinds[n]).share_memory_() for n, s in shapes.items()}


def fill(batch: dict[str, torch.Tensor], i: int, clip: Sample, at: np.ndarray) -> None:
    """Write the selected frames of one clip to position ``i`` of a batch."""
    for name in ("frames", "flow", "scale"):
        np.take(clip[name], at, axis=0, out=batch[name][i].numpy(), mode="clip")
    batch["logmel"][i].numpy()[:] = clip["logmel"]
    batch["label"][i] = int(clip["label"].item())


class H5pyClips(Dataset):
    """Clips read through h5py; a worker fetches a whole batch at once and keeps its files open.

    Args:
        features: the cache.
        steps: number of frames of a clip in a batch.
        slab: read all frames from the first to the last selected one and select in memory, or read the
            selected frames one by one. Which is faster depends on the length of the clip.
    """

    def __init__(self, features: FeatureSet, steps: int, slab: bool):
        self.steps, self.slab = steps, slab
        self.labels = [features.classes.index(c.label) for c in features.clips]
        self.places = [
            {
                s: (str(t.paths[t.shard[r]]), int(t.start[r]), int(t.length[r]))
                for s, t in features.streams.items()
            }
            for r in range(len(features))
        ]
        self.files: dict[str, h5py.File] = {}

    def __len__(self) -> int:
        return len(self.places)

    def _data(self, path: str, name: str) -> h5py.Dataset:
        if path not in self.files:
            self.files[path] = h5py.File(path, "r")
        return self.files[path][name]

    def __getitems__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng()
        batch = None
        for i, row in enumerate(rows):
            place = self.places[row]
            path, start, length = place["faces"]
            at = start + sample_steps(rng, length, self.steps)
            frames, flow = self._data(path, "frames"), self._data(place["flow"][0], "flow")
            scale = self._data(place["flow"][0], "scale")
            path, start, hops = place["logmel"]
            logmel = self._data(path, "logmel")
            if batch is None:
                like = {
                    "frames": np.empty((0, *frames.shape[1:]), frames.dtype),
                    "flow": np.empty((0, *flow.shape[1:]), flow.dtype),
                    "scale": np.empty(0, scale.dtype),
                    "logmel": np.empty((hops, *logmel.shape[1:]), logmel.dtype),
                    "label": np.empty((), np.int64),
                }
                batch = empty_batch(len(rows), self.steps, like)
            low, high = int(at[0]), int(at[-1]) + 1
            for name, data in (("frames", frames), ("flow", flow)):
                out = batch[name][i].numpy()
                if self.slab:
                    np.take(data[low:high], at - low, axis=0, out=out, mode="clip")
                else:
                    for t, k in enumerate(at.tolist()):
                        data.read_direct(out, np.s_[k], np.s_[t])
            batch["scale"][i].numpy()[:] = scale[low:high][at - low]
            logmel.read_direct(batch["logmel"][i].numpy(), np.s_[start : start + hops])
            batch["label"][i] = self.labels[row]
        return batch


def h5py_loader(features: FeatureSet, steps: int, batch: int, slab: bool) -> Callable[[], Iterator]:
    """Return a function whose calls yield an epoch's batches from torch's DataLoader over h5py."""
    loader = DataLoader(
        H5pyClips(features, steps, slab), batch, shuffle=True, num_workers=WORKERS, collate_fn=_as_is,
        persistent_workers=True, prefetch_factor=4,
    )  # fmt: skip
    return lambda: iter(loader)


def clip_sample(features: FeatureSet, row: int, steps: int | None) -> Sample:
    """Return one clip as LitData and WebDataset store it: whole, or ``steps`` frames selected once."""
    arrays = features.arrays(row)
    sample = {
        "frames": arrays["faces"]["frames"],
        "flow": arrays["flow"]["flow"],
        "scale": arrays["flow"]["scale"],
    }
    if steps is not None:
        at = sample_steps(np.random.default_rng(row), len(sample["scale"]), steps)
        sample = {n: a[at] for n, a in sample.items()}
    sample["logmel"] = arrays["logmel"]["logmel"]
    sample["label"] = np.array([features.classes.index(features.clips[row].label)], np.int64)
    return {n: np.ascontiguousarray(a) for n, a in sample.items()}


class Collate:
    """Collates samples into a batch in shared memory, and selects frames."""

    def __init__(self, steps: int):
        self.steps, self.rng = steps, np.random.default_rng()

    def __call__(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        batch = empty_batch(len(samples), self.steps, samples[0])
        for i, clip in enumerate(samples):
            fill(batch, i, clip, sample_steps(self.rng, len(clip["scale"]), self.steps))
        return batch


def write_litdata(features: FeatureSet, folder: Path, steps: int | None) -> None:
    """Write the clips as LitData chunks of 64 MB, numpy arrays in its own raw form."""
    from litdata.streaming.writer import BinaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    writer = BinaryWriter(str(folder), chunk_bytes=64 << 20)
    for row in range(len(features)):
        writer[row] = clip_sample(features, row, steps)
    writer.done()
    writer.merge(1)


def litdata_loader(folder: Path, steps: int, batch: int) -> Callable[[], Iterator]:
    """Return a function whose calls yield an epoch's batches from LitData's own loader."""
    from litdata import StreamingDataLoader, StreamingDataset

    loader = StreamingDataLoader(
        StreamingDataset(str(folder), shuffle=True), batch_size=batch, num_workers=WORKERS,
        collate_fn=Collate(steps), persistent_workers=True, prefetch_factor=4,
    )  # fmt: skip
    return lambda: iter(loader)


def write_webdataset(features: FeatureSet, folder: Path, steps: int | None) -> None:
    """Write the clips as tar files of 20 clips each, every array as its raw bytes."""
    import webdataset

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=20, verbose=0) as sink:
        for row in range(len(features)):
            sample = clip_sample(features, row, steps)
            sink.write({"__key__": f"{row:06d}", **{f"{n}.bin": a.tobytes() for n, a in sample.items()}})


class Raw:
    """Converts bytes to arrays without a copy; shapes are the same for every clip of the benchmark."""

    def __init__(self, like: Sample):
        self.kinds = {n: (a.dtype, a.shape) for n, a in like.items()}

    def __call__(self, sample: dict) -> Sample:
        return {n: np.frombuffer(sample[f"{n}.bin"], d).reshape(s) for n, (d, s) in self.kinds.items()}


def webdataset_loader(folder: Path, like: Sample, steps: int, batch: int) -> Callable[[], Iterator]:
    """Return a function whose calls yield an epoch's batches from WebDataset's own loader."""
    import webdataset

    urls = sorted(map(str, folder.glob("*.tar")))
    clips = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
    clips = clips.shuffle(64).map(Raw(like)).batched(batch, collation_fn=Collate(steps), partial=True)
    loader = webdataset.WebLoader(
        clips, batch_size=None, num_workers=WORKERS, persistent_workers=True, prefetch_factor=4
    )
    return lambda: iter(loader)


def _as_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch
