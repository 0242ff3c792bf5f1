"""Load batches for training and evaluation from mapped shards, several batches in advance.

>>> loader = Loader(features, rows, config.loader, training=True, device="cuda")   # doctest: +SKIP
>>> for batch in loader.epoch(0): ...                                              # doctest: +SKIP

A few threads gather stored batches into a ring of reused buffers. For a GPU, a side stream copies a batch, in
one piece, while the training step before it computes. Casting, augmentation and normalisation happen on the
device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from deiii.data.cache.stages import LOGMEL, ExtraInput
from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import Augment
from deiii.data.loader.augmentation.audio import (
    SpeakerLevels,
    level_table,
    one_speaker,
    rows_of,
    speaker_levels,
)
from deiii.data.loader.batch import Batch, StoredBatch, slab_bytes, slab_fields
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.gather import Gather, Sampled
from deiii.data.loader.prefetch import Prefetcher, Stuck
from deiii.data.loader.residency import choose_residency, free_bytes, hold, hold_shared, remote
from deiii.data.loader.sampling import batch_count, epoch_order, rank_share
from deiii.data.loader.stage_arrays import StageLevels
from deiii.data.tools.counts import counted

TOGETHER = 8  # batches that are sampled in one call, which takes little longer than for one batch


@dataclass
class Slot:
    """A reused buffer of one batch.

    Attributes:
        batch: the batch, in memory.
        arrays: NumPy views of its tensors.
        transfer: how it gets to a GPU; ``None`` for a CPU.
    """

    batch: StoredBatch
    arrays: dict[str, np.ndarray]
    transfer: Transfer | None = None


@dataclass
class Transfer:
    """A batch as one block of bytes in page-locked memory and on the GPU.

    Attributes:
        here, there: uint8 [n], the same fields (`deiii.data.loader.batch.slab_fields`).
        sent: the copy is complete; ``here`` may be filled again.
        read: the last reader of ``there`` is done; it may be copied to again.
    """

    here: torch.Tensor
    there: torch.Tensor
    sent: torch.cuda.Event
    read: torch.cuda.Event


class Loader:
    """Batches of some clips of a feature set.

    Order, sampling and augmentation depend on the seed and the epoch only, so a resumed run reads the same
    batches. Ranks read disjoint shares of every epoch.

    Args:
        features: the clips.
        indices: int [N], rows of the clips to load; see `FeatureSet.rows`.
        config: sampling, sizes, augmentation, residency, threads.
        training: shuffle, sample randomly and augment; otherwise order, steps and crops are fixed.
        device: device of the batches.
        seed: seed of order, sampling and augmentation.
        rank, world: number of this process, and of all processes.
        video, flow, audio: inputs that the batches hold; the others are empty and masked.
        attributes: continuous labels, in the order of the batch's columns.
        extra: further stages that the batches hold.
        levels: mean and deviation of the rows of stages for all clips, in place of those by which
            ``config.normalise`` normalises.

    Attributes:
        residency: place of the large fields: ``stream``, ``ram`` or ``device``.
        why: the reason for this place, as text.

    Raises:
        DeviceError: ``loader.residency=device``, and the fields exceed the free memory of the GPU.
        CacheError: stored rows of an extra stage have another shape than the settings give.
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
        extra: Sequence[ExtraInput] = (),
        levels: StageLevels | None = None,
    ):
        self.features = features
        self.config = config
        self.training = training
        self.indices = np.array(indices, np.int64).reshape(-1)
        self.device = torch.device(device)
        self.seed = seed
        self.rank = rank
        self.world = world
        switches = {"video": video, "flow": flow, "audio": audio}
        self.gather = Gather(features, config, attributes, training, seed, switches, extra)
        nbytes = sum(self.gather.streams[s].nbytes(self.indices) for s in self.gather.large)
        folders = {p.parent for s in self.gather.large for p in self.gather.streams[s].paths}
        self.residency, self.why = choose_residency(
            config.residency, nbytes, self.device, *free_bytes(self.device), remote(folders)
        )
        if self.residency == "ram" and features.resident is not None:
            self.gather.held = hold_shared(features, self.gather)
        elif self.residency != "stream":
            on = self.device if self.residency == "device" else None
            self.gather.held = hold(self.gather, self.indices, on)
        resident = {
            stage: held.array
            for stage, held in self.gather.held.items()
            if isinstance(held.array, torch.Tensor)
        }
        self.augment = Augment(
            config, training, resident, self._band_table(audio, levels), self._by_speaker(levels)
        )
        self._slots: list[Slot] = []  # buffers that no open iterator uses

    def _band_table(
        self, audio: bool, levels: StageLevels | None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return offset and scale of the mel bands of each clip, on the device of the batches."""
        if not audio or LOGMEL.name not in self.features.streams:
            return None
        if levels is None or LOGMEL.name not in levels:
            table = level_table(self.features, self.config.normalise)
        else:
            table = rows_of(levels[LOGMEL.name], len(self.features))
        return None if table is None else (table[0].to(self.device), table[1].to(self.device))

    def _by_speaker(self, levels: StageLevels | None) -> dict[str, SpeakerLevels]:
        """Return statistics by speaker of the stages of ``model.extra``, on the device of the batches."""
        if self.config.normalise != "speaker":
            return {}
        names = [x.name for x in self.gather.extra if x.name in self.features.streams]
        found = {
            name: one_speaker(levels[name], len(self.features))
            if levels is not None and name in levels
            else speaker_levels(self.features, name)
            for name in names
        }
        return {name: of_speaker.to(self.device) for name, of_speaker in found.items()}

    def __repr__(self) -> str:
        what = "training" if self.training else "evaluation"
        clips = f"{counted(len(self.indices), 'clip')} of {self.features.corpus.name!r}"
        where = f"on {self.device}, residency {self.residency}"
        return f"Loader({clips} for {what}, {counted(len(self), 'batch', 'batches')}, {where})"

    def __len__(self) -> int:
        """Return the number of batches in an epoch on this rank."""
        return batch_count(len(self.indices), self.world, self.config.batch)

    def batches(self, epoch: int) -> np.ndarray:
        """Return the rows of the clips of each batch of an epoch, int64 [len(self), batch]; -1: filler."""
        order = self.indices
        if self.training:
            order = order[epoch_order(len(order), self.seed, epoch)]
        return rank_share(order, self.rank, self.world, self.config.batch)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch, from batch ``start`` on. Closing the iterator stops the threads.

        Several iterators of one loader may be open; each has buffers of its own.

        Raises:
            MapError: for a shard that was removed or changed its size.
            Stuck: if no batch is ready within ``loader.timeout``.
        """
        if self.device.type == "cuda":
            return self._epoch_on_gpu(number, start)
        return self._epoch_on_cpu(number, start)

    def compact(self, number: int, start: int = 0) -> Iterator[StoredBatch]:
        """Yield the batches as stored, before casting and augmentation; each is valid until the next one."""
        with self._ring(number, start) as ring:
            for slot in self._watched(ring):
                yield slot.batch

    def _watched(self, ring: Prefetcher[Slot]) -> Iterator[Slot]:
        """Yield the slots of the ring. Raises Stuck with the names of the folders that are read."""
        try:
            yield from ring
        except Stuck:
            folders = {str(p.parent) for s in self.gather.streams.values() for p in s.paths}
            raise Stuck(
                f"no batch within loader.timeout={self.config.timeout:g} s while reading from "
                f"{', '.join(sorted(folders))}; is the disk or network share reachable? "
                "Raise loader.timeout for a slow one, or copy the cache to a local disk"
            ) from None

    @contextmanager
    def _ring(self, number: int, start: int) -> Iterator[Prefetcher[Slot]]:
        """Fill buffers in threads for the block; afterwards the next iterator takes these buffers over."""
        plan = self.batches(number)
        slots: list[Slot] = []
        while len(slots) < max(1, self.config.ahead) + 1:
            try:
                slots.append(self._slots.pop())
            except IndexError:  # the first epoch, or another iterator is open
                slots.append(self._slot())

        blocks: dict[int, Sampled] = {}
        lock = threading.Lock()

        def fill(slot: Slot, n: int) -> None:
            block, place = divmod(n, TOGETHER)
            with lock:  # the first thread samples for all; an old block is sampled again if still needed
                if block not in blocks:
                    rows = plan[block * TOGETHER : (block + 1) * TOGETHER].reshape(-1)
                    blocks[block] = self.gather.sample(rows, number)
                    blocks.pop(block - 2, None)
                sampled = blocks[block]
            if slot.transfer is not None:
                slot.transfer.sent.synchronize()
            batch = self.config.batch
            self.gather.copy(slot.arrays, sampled, slice(place * batch, (place + 1) * batch))

        ring = Prefetcher(slots, fill, len(plan), self.config.threads, start, self.config.timeout)
        try:
            with ring:
                yield ring
        finally:
            if ring.ended:  # a thread that hangs in a read may still write into its buffer
                self._slots = slots

    def _epoch_on_cpu(self, number: int, start: int) -> Iterator[Batch]:
        with self._ring(number, start) as ring:
            for n, slot in enumerate(self._watched(ring), start):
                batch = self.augment(slot.batch)
                # Not before the augmentation: a thread that starts to fill would compete for the GIL.
                ring.release(n + 1)
                yield batch

    def _slot(self) -> Slot:
        if self.device.type != "cuda":
            batch = self.gather.allocate(self.config.batch)
            return Slot(batch, batch.arrays())
        size = slab_bytes(self.shapes)
        here = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        there = torch.zeros(size, dtype=torch.uint8, device=self.device)
        batch = StoredBatch.from_tensors(slab_fields(here, self.shapes))
        transfer = Transfer(here, there, torch.cuda.Event(), torch.cuda.Event())
        # The stream of the copies must not write before the zeros are written, or they replace the batch.
        transfer.read.record(torch.cuda.current_stream(self.device))
        return Slot(batch, batch.arrays(), transfer)

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and type of every field of a stored batch."""
        return self.gather.shapes(self.config.batch)

    @cached_property
    def _side(self) -> torch.cuda.Stream:
        """The CUDA stream of the copies: one for all epochs, because every stream keeps memory of its own."""
        return torch.cuda.Stream(self.device)

    def slabs(self, number: int, start: int = 0) -> Iterator[torch.Tensor]:
        """Return the batches of an epoch on the GPU, each as one block of bytes for `unpack`.

        Operations that read a block must be started before the next block is requested; later its memory
        holds another batch. This is for a training step that is recorded as a graph, which reads every batch
        from the same memory.

        Raises:
            As `epoch`; and ValueError for a loader whose device is no GPU.
        """
        if self.device.type != "cuda":
            raise ValueError(f"batches in one block are for a GPU, this loader's device is {self.device}")
        return self._slabs(number, start)

    def unpack(self, slab: torch.Tensor) -> Batch:
        """Return the batch in a block of `slabs`, cast, augmented and normalised, in memory of its own."""
        return self.augment(StoredBatch.from_tensors(slab_fields(slab, self.shapes)))

    def _epoch_on_gpu(self, number: int, start: int) -> Iterator[Batch]:
        for slab in self._slabs(number, start):
            yield self.unpack(slab)

    def _slabs(self, number: int, start: int) -> Iterator[torch.Tensor]:
        """Copy each batch to the GPU while the step on the batch before it computes."""
        sending: deque[Transfer] = deque()
        with self._ring(number, start) as ring:
            for slot in self._watched(ring):
                if slot.transfer is not None:
                    sending.append(self._send(slot.transfer))
                if len(sending) > 1:
                    yield from self._receive(sending.popleft())
            while sending:
                yield from self._receive(sending.popleft())

    def _send(self, transfer: Transfer) -> Transfer:
        with torch.cuda.stream(self._side):
            self._side.wait_event(transfer.read)
            transfer.there.copy_(transfer.here, non_blocking=True)
            transfer.sent.record(self._side)
        return transfer

    def _receive(self, transfer: Transfer) -> Iterator[torch.Tensor]:
        torch.cuda.current_stream(self.device).wait_event(transfer.sent)
        try:
            yield transfer.there
        finally:  # runs also if the caller stops before the end of the epoch
            transfer.read.record(torch.cuda.current_stream(self.device))
