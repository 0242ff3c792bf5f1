"""RAFT as an engine of the flow stage: batches that fit into the device's memory, and encoding on the device.

Source: Teed & Deng 2020.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from deiii.data.cache.flow_codec_torch import encode_tensor
from deiii.data.cache.stages import RAFT_WEIGHTS
from deiii.data.config.schema import FlowConfig
from deiii.data.tools.devices import has_fast_float16, pick_device
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import resolve
from deiii.pipeline.flow.engine import Stored
from deiii.pipeline.flow.raft.compiled import Compiled
from deiii.pipeline.flow.raft.network import RaftEngine, cpu_pairs, load_network
from deiii.pipeline.flow.raft.size import SMALLEST, working_size

MAX_BATCH = 512  # pairs; smaller batches already use a GPU fully
CALM = 16  # full batches that must fit before a larger one is tried; the number doubles after each failure
MOST_CALM = 4096
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_raft(config: FlowConfig) -> RaftBatches:
    """Load RAFT as configured; see `deiii.pipeline.flow.engines.load_engine`."""
    device = pick_device(config.device, "flow.device")
    path, _ = resolve(config.weights, RAFT_WEIGHTS[config.model])
    network = load_network(config.model, path)
    precision = config.precision
    if precision == "auto":  # as in `deiii.data.cache.stages`, from which the key is made
        precision = "float16" if device.type == "cuda" and has_fast_float16() else "float32"
    engine = RaftEngine(network, config.updates, device, DTYPES[precision], config.launch)
    return RaftBatches(engine, config.storage, config.batch)


def store(flow: torch.Tensor, storage: str) -> dict[str, torch.Tensor]:
    """Encode flow [N,S,S,2] as `Engine.submit` returns it; flow of a pair that is not finite becomes zero."""
    finite = torch.isfinite(flow).flatten(1).all(1)
    flow = torch.where(finite[:, None, None, None], flow, 0)
    return encode_tensor(flow, storage) | {"finite": finite}


class RaftBatches:
    """RAFT in batches that fit into the device's memory.

    On a GPU, frames and results are copied from and to pinned memory on separate streams while others are
    computed; the next batch is submitted before the result of the one before is read. A batch that does not
    fit into memory is halved. If it was a full one, later batches are smaller, too. They grow again after
    `CALM` full batches, because another process may have used the memory only for a while.

    Args:
        engine: the network.
        storage: ``int8`` or ``float16``.
        batch: pairs a call; 0 chooses by the free memory.
    """

    def __init__(self, engine: RaftEngine, storage: str, batch: int = 0):
        self.engine = engine
        self.storage = storage
        self._store: Callable[..., dict[str, torch.Tensor]] = partial(store, storage=storage)
        if engine.compiles:
            self._store = Compiled(self._store)
        self._configured = batch
        self.batch = batch or cpu_pairs(SMALLEST, SMALLEST) * torch.get_num_threads()
        self._most = self.batch  # pairs a call while all batches fit
        self._calm = 0  # full batches since the last one that did not fit
        self._patience = CALM
        self._size = 0  # size of the crops in px for which the batch was chosen
        self._turn = threading.Lock()
        self._caller = 0  # the thread of the last call
        if engine.device.type == "cuda":
            self._incoming = torch.cuda.Stream(engine.device)
            self._outgoing = torch.cuda.Stream(engine.device)

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """See `deiii.pipeline.flow.engine.Engine.buffer`; page-locked for a GPU."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self.engine.device.type == "cuda").numpy()

    @usual_defaults()
    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        """See `deiii.pipeline.flow.engine.Engine.submit`; threads take turns."""
        with self._turn:
            if self._caller != threading.get_ident():  # the stored features belong to another thread
                continues = False
            self._caller = threading.get_ident()
            return self._start(frames, first, continues)

    def _start(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        sent = torch.from_numpy(frames)
        pairs = torch.from_numpy(first)
        if self.engine.device.type == "cpu":
            stored = {k: v.numpy() for k, v in self._compute(sent, pairs, continues).items()}
            return lambda: stored
        if frames.shape[1] != self._size and not self._configured:
            self._size = frames.shape[1]
            self.batch = self._most = fitting_batch(self.engine, working_size(self._size))
        with torch.cuda.device(self.engine.device):
            return self._submit(sent, pairs, continues)

    def _submit(self, sent: torch.Tensor, pairs: torch.Tensor, continues: bool) -> Callable[[], Stored]:
        on_device = self._compute(sent, pairs, continues)
        back = {k: torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for k, v in on_device.items()}
        self._outgoing.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._outgoing):
            for name, tensor in on_device.items():
                back[name].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._outgoing)
            done = torch.cuda.Event()
            done.record()

        def collect(kept: torch.Tensor = sent) -> Stored:
            done.synchronize()  # waits for the copy; `kept` holds the frames until then
            return {k: v.numpy() for k, v in back.items()}

        return collect

    def _compute(self, frames: torch.Tensor, first: torch.Tensor, continues: bool) -> dict[str, torch.Tensor]:
        """Return the stored flow of a batch, on the device; the batch is halved until it fits."""
        try:
            flow = self.engine.flow(self._sent(frames), self._sent(first), continues)
            stored = self._store(flow)
            self._fitted(len(first))
            return stored
        except torch.OutOfMemoryError:
            if len(first) == 1:
                raise
        # After the except block, so that the tensors of the failed attempt are freed.
        self.engine.forget()
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(first) // 2
        self._did_not_fit(len(first))
        split = int(first[half])
        parts = [
            self._compute(frames[: int(first[half - 1]) + 2], first[:half], False),
            self._compute(frames[split:], first[half:] - split, False),
        ]
        return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}

    def _sent(self, x: torch.Tensor) -> torch.Tensor:
        """Return a copy on the device; the copy is made from pinned memory while the device computes."""
        if self.engine.device.type == "cpu":
            return x
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._incoming):
            there = (x if x.is_pinned() else x.pin_memory()).to(self.engine.device, non_blocking=True)
        computing.wait_stream(self._incoming)
        there.record_stream(computing)  # keeps its memory from being reused while it is read
        return there

    def _did_not_fit(self, pairs: int) -> None:
        """Halve the batches to come, unless only a short last one failed."""
        if pairs >= self.batch:
            self.batch = max(1, pairs // 2)
            self._patience = min(2 * self._patience, MOST_CALM)
        self._calm = 0

    def _fitted(self, pairs: int) -> None:
        """Double the batches to come after enough full ones that fitted, up to the first size."""
        if self.batch >= self._most or pairs < self.batch:
            return
        self._calm += 1
        if self._calm >= self._patience:
            self.batch = min(self._most, 2 * self.batch)
            self._calm = 0


def fitting_batch(engine: RaftEngine, size: int) -> int:
    """Return the largest power of two of pairs whose tensors take at most about half of the free GPU memory.

    It is at most `MAX_BATCH`.
    """
    free, _ = torch.cuda.mem_get_info(engine.device)
    points = (size // 8) ** 2
    encoder = 64 * (size // 2) ** 2 * 4 * 6  # six half-resolution maps of 64 channels
    lookup = points * 4 * 4000  # correlations, gates and motion features of one update
    volume = points**2 * 4 * 2
    fits = int(max(1, min(MAX_BATCH, free / 2 / (encoder + lookup + volume))))
    return 1 << (fits.bit_length() - 1)
