"""Batches for training and evaluation, from mapped shards, several batches ahead.

>>> loader = Loader(features, rows, config.loader, training=True, device="cuda")   # doctest: +SKIP
>>> for batch in loader.epoch(0): ...                                              # doctest: +SKIP

A few threads gather compact batches into a ring of reused buffers; on a GPU a side stream copies
them over while the step before computes; casting, normalising and augmenting happen on the device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from deiii.data.cache.stages import LOGMEL
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import Augment
from deiii.data.loader.augment_audio import level_table
from deiii.data.loader.batch import Batch, StoredBatch
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.gather import Gather, Sampled
from deiii.data.loader.order import batch_count, epoch_order, rank_share
from deiii.data.loader.prefetch import Prefetcher, Stuck
from deiii.data.loader.residency import choose_residency, free_bytes, hold, remote

TOGETHER = 8  # batches whose instants are chosen in one go, which takes little longer than for one


@dataclass
class Slot:
    """A reused buffer; ``sent`` is when the GPU has fetched what was in it."""

    batch: StoredBatch
    arrays: dict[str, np.ndarray]
    sent: torch.cuda.Event | None = None


class Loader:
    """Batches of some clips of a feature set.

    Args:
        features: the clips.
        indices: int [N], rows of the clips to load; see `FeatureSet.rows`.
        config: sampling, sizes, augmentation, residency, threads.
        training: shuffle, sample at random and augment; otherwise fixed order, instants and crops.
        device: where batches are wanted.
        seed: with the epoch it decides order, instants and augmentation, whatever the threads.
        rank, world: this process's share of every epoch, disjoint from the others'.
        video, flow, audio: which inputs the batches hold; the others are empty and masked.
        attributes: continuous labels, in the order of the batch's columns.

    Attributes:
        residency, why: where the data live and the reason.
    """

    def __init__(
        self,
        features: FeatureSet,
        indices: Sequence[int] | np.ndarray,
        config: LoaderConfig,
        *,
        training: bool,
        device: torch.device | str = "cpu",
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        video: bool = True,
        flow: bool = True,
        audio: bool = True,
        attributes: Sequence[str] = (),
    ):
        self.features, self.config, self.training = features, config, training
        self.indices = np.array(indices, np.int64).reshape(-1)
        self.device = torch.device(device)
        self.seed, self.rank, self.world = seed, rank, world
        switches = {"video": video, "flow": flow, "audio": audio}
        self.gather = Gather(features, config, attributes, training, seed, switches)
        nbytes = sum(self.gather.streams[s].nbytes(self.indices) for s in self.gather.large)
        folders = {p.parent for s in self.gather.large for p in self.gather.streams[s].paths}
        self.residency, self.why = choose_residency(
            config.residency, nbytes, self.device, *free_bytes(self.device), remote(folders)
        )
        resident = {}
        if self.residency != "stream":
            on = self.device if self.residency == "device" else None
            self.gather.held = hold(self.gather, self.indices, on)
            if on is not None:
                resident = {self.gather.streams[s].field: h.array for s, h in self.gather.held.items()}
        levels = (
            level_table(features, config.normalise) if audio and LOGMEL.name in features.streams else None
        )
        if levels is not None:
            levels = tuple(table.to(self.device) for table in levels)
        self.augment = Augment(config, training, resident, levels)
        self._slots: list[Slot] = []

    def __len__(self) -> int:
        """Batches an epoch on this rank."""
        return batch_count(len(self.indices), self.world, self.config.batch)

    def batches(self, epoch: int) -> np.ndarray:
        """The clips' rows that each batch of an epoch holds, int64 [len(self), batch]; -1 fills."""
        order = self.indices
        if self.training:
            order = order[epoch_order(len(order), self.seed, epoch)]
        return rank_share(order, self.rank, self.world, self.config.batch)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch ``start`` on.

        Closing the iterator stops the threads. Raises what a thread met, such as `MapError` for a
        shard that vanished, and `deiii.data.loader.prefetch.Stuck` where the disk stops answering.
        """
        if self.device.type == "cuda":
            return self._epoch_on_gpu(number, start)
        return self._epoch_on_cpu(number, start)

    def compact(self, number: int, start: int = 0) -> Iterator[StoredBatch]:
        """The batches before casting and augmentation; each is valid until the next is asked for."""
        with self._ring(number, start) as ring:
            for slot in self._watched(ring):
                yield slot.batch

    def _watched(self, ring: Prefetcher[Slot]) -> Iterator[Slot]:
        """The ring's slots; a disk that answers too slowly is an error that names its folder."""
        try:
            yield from ring
        except Stuck:
            folders = {str(p.parent) for s in self.gather.streams.values() for p in s.paths}
            raise Stuck(
                f"no batch within loader.timeout={self.config.timeout:g} s while reading from "
                f"{', '.join(sorted(folders))}; is the disk or network share reachable? "
                "Raise loader.timeout for a slow one, or copy the cache to a local disk"
            ) from None

    def _ring(self, number: int, start: int) -> Prefetcher[Slot]:
        plan = self.batches(number)
        while len(self._slots) < max(1, self.config.ahead) + 1:
            batch = self.gather.allocate(self.config.batch, pinned=self.device.type == "cuda")
            self._slots.append(Slot(batch, batch.arrays()))

        blocks: dict[int, Sampled] = {}
        lock = threading.Lock()

        def fill(slot: Slot, n: int) -> None:
            block, place = divmod(n, TOGETHER)
            with lock:  # whoever comes first samples for all; an old block is made again if still wanted
                if block not in blocks:
                    rows = plan[block * TOGETHER : (block + 1) * TOGETHER].reshape(-1)
                    blocks[block] = self.gather.sample(rows, number)
                    blocks.pop(block - 2, None)
                sampled = blocks[block]
            if slot.sent is not None:
                slot.sent.synchronize()
            batch = self.config.batch
            self.gather.copy(slot.arrays, sampled, slice(place * batch, (place + 1) * batch))

        return Prefetcher(self._slots, fill, len(plan), self.config.threads, start, self.config.timeout)

    def _epoch_on_cpu(self, number: int, start: int) -> Iterator[Batch]:
        with self._ring(number, start) as ring:
            for n, slot in enumerate(self._watched(ring), start):
                batch = self.augment(slot.batch)
                # Not earlier: a thread that starts to fill would hold Python's lock up while we want it.
                ring.release(n + 1)
                yield batch

    def _epoch_on_gpu(self, number: int, start: int) -> Iterator[Batch]:
        """One batch is on its way to the GPU while the one before computes."""
        side = torch.cuda.Stream(self.device)
        on_way: deque[tuple[StoredBatch, torch.cuda.Event]] = deque()
        with self._ring(number, start) as ring:
            for slot in self._watched(ring):
                on_way.append(self._send(slot, side))
                if len(on_way) > 1:
                    yield self._receive(*on_way.popleft())
            while on_way:
                yield self._receive(*on_way.popleft())

    def _send(self, slot: Slot, side: torch.cuda.Stream) -> tuple[StoredBatch, torch.cuda.Event]:
        with torch.cuda.stream(side):
            names = [f.name for f in fields(slot.batch)]
            there = {n: getattr(slot.batch, n).to(self.device, non_blocking=True) for n in names}
            slot.sent = torch.cuda.Event()
            slot.sent.record(side)
        return replace(slot.batch, **there), slot.sent

    def _receive(self, batch: StoredBatch, sent: torch.cuda.Event) -> Batch:
        now = torch.cuda.current_stream(self.device)
        now.wait_event(sent)
        for f in fields(batch):
            getattr(batch, f.name).record_stream(now)
        return self.augment(batch)
