"""RAFT as an engine of the flow stage: batches that fit into the device, encoded on the device.

Source: Teed & Deng 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from deiii.data.cache.flow_codec_torch import encode_tensor
from deiii.data.cache.stages import RAFT_WEIGHTS
from deiii.data.config.schema import FlowConfig
from deiii.data.tools.devices import pick_device
from deiii.data.tools.weights import resolve
from deiii.pipeline.flow.engine import Stored
from deiii.pipeline.flow.raft.network import RaftEngine, cpu_pairs, load_network
from deiii.pipeline.flow.raft.size import SMALLEST, working_size

MAX_BATCH = 512  # pairs; smaller batches already use a GPU fully
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_raft(config: FlowConfig) -> RaftBatches:
    """Load RAFT as configured; see `deiii.pipeline.flow.engines.load_engine`."""
    device = pick_device(config.device, "flow.device")
    path, _ = resolve(config.weights, RAFT_WEIGHTS[config.model])
    network = load_network(config.model, path)
    engine = RaftEngine(network, config.updates, device, DTYPES[config.precision], config.launch)
    return RaftBatches(engine, config.storage, config.batch)


def store(flow: torch.Tensor, storage: str) -> dict[str, torch.Tensor]:
    """Encode flow [N,S,S,2] as `Engine.submit` returns it; flow of a pair that is not finite becomes zero."""
    finite = torch.isfinite(flow).flatten(1).all(1)
    flow = torch.where(finite[:, None, None, None], flow, 0)
    return encode_tensor(flow, storage) | {"finite": finite}


class RaftBatches:
    """RAFT in batches that fit into the device.

    On a GPU, frames are copied from pinned memory and results to it on streams of their own, at the same time
    as the computation; the next batch is submitted before the result of the last one is read. A batch that
    does not fit into memory is halved, and so are all later ones.

    Args:
        engine: the network.
        storage: ``int8`` or ``float16``.
        batch: pairs a call; 0 chooses by the free memory.
    """

    def __init__(self, engine: RaftEngine, storage: str, batch: int = 0):
        self.engine = engine
        self.storage = storage
        self._configured = batch
        self.batch = batch or cpu_pairs(SMALLEST, SMALLEST) * torch.get_num_threads()
        self._size = 0  # of the crops in px, for which the batch was chosen
        if engine.device.type == "cuda":
            self._incoming = torch.cuda.Stream(engine.device)
            self._outgoing = torch.cuda.Stream(engine.device)

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        """See `deiii.pipeline.flow.engine.Engine.submit`."""
        sent = torch.from_numpy(frames)
        pairs = torch.from_numpy(first)
        if self.engine.device.type == "cpu":
            stored = {k: v.numpy() for k, v in self._flow(sent, pairs, continues).items()}
            return lambda: stored
        if frames.shape[1] != self._size and not self._configured:
            self._size = frames.shape[1]
            self.batch = fitting_batch(self.engine, working_size(self._size))
        with torch.cuda.device(self.engine.device):
            return self._submit(sent.pin_memory(), pairs.pin_memory(), continues)

    def _submit(self, sent: torch.Tensor, pairs: torch.Tensor, continues: bool) -> Callable[[], Stored]:
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._incoming):
            there = sent.to(self.engine.device, non_blocking=True)
        computing.wait_stream(self._incoming)
        there.record_stream(computing)  # keeps its memory from being reused while it is read
        on_device = self._flow(there, pairs, continues)
        back = {k: torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for k, v in on_device.items()}
        self._outgoing.wait_stream(computing)
        with torch.cuda.stream(self._outgoing):
            for name, tensor in on_device.items():
                back[name].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._outgoing)
            done = torch.cuda.Event()
            done.record()

        def collect() -> Stored:
            done.synchronize()
            return {k: v.numpy() for k, v in back.items()}

        return collect

    def _flow(self, frames: torch.Tensor, first: torch.Tensor, continues: bool) -> dict[str, torch.Tensor]:
        try:
            return store(self.engine.flow(frames, first, continues), self.storage)
        except torch.OutOfMemoryError:
            if len(first) == 1:
                raise
        # After the except block, so that the tensors of the failed attempt are freed.
        self.engine.forget()
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(first) // 2
        self.batch = max(1, min(self.batch, half))
        split = int(first[half])
        parts = [
            self._flow(frames[: int(first[half - 1]) + 2], first[:half], False),
            self._flow(frames[split:], first[half:] - split, False),
        ]
        return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}


def fitting_batch(engine: RaftEngine, size: int) -> int:
    """Number of pairs, a power of two, whose largest tensors take about half of the GPU's free memory."""
    free, _ = torch.cuda.mem_get_info(engine.device)
    points = (size // 8) ** 2
    encoder = 64 * (size // 2) ** 2 * 4 * 6  # six half-resolution maps of 64 channels
    lookup = points * 4 * 4000  # correlations, gates and motion features of one update
    volume = points**2 * 4 * 2
    fits = int(max(1, min(MAX_BATCH, free / 2 / (encoder + lookup + volume))))
    return 1 << (fits.bit_length() - 1)
