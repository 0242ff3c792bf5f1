"""RAFT as an engine of the flow stage: batches that fit the device, stored where they were computed.

Source: Teed & Deng 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from deiii.data.cache.flow_codec_torch import encode_tensor
from deiii.data.cache.stages import RAFT_WEIGHTS
from deiii.data.config.schema import FlowConfig
from deiii.data.tools.weights import resolve
from deiii.pipeline.flow.engine import Stored
from deiii.pipeline.flow.raft.network import RaftEngine, cpu_pairs, load_network
from deiii.pipeline.flow.raft.size import SMALLEST, working_size

MAX_BATCH = 512  # pairs; a GPU is busy long before
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_raft(config: FlowConfig) -> RaftBatches:
    """RAFT as configured; see `deiii.pipeline.flow.engines.load_engine`."""
    device = choose_device(config.device)
    path, _ = resolve(config.weights, RAFT_WEIGHTS[config.model])
    network = load_network(config.model, path)
    engine = RaftEngine(network, config.updates, device, DTYPES[config.precision], config.launch)
    return RaftBatches(engine, config.storage, config.batch)


def choose_device(name: str) -> torch.device:
    """The device of a ``device`` setting; ``auto`` takes a GPU where there is one."""
    there = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if there else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not there:
        raise RuntimeError(f"flow.device={name}, but PyTorch finds no CUDA GPU here; use flow.device=auto")
    return device


def store(flow: torch.Tensor, storage: str) -> dict[str, torch.Tensor]:
    """Flow [N,S,S,2] as `Engine.submit` gives it; pairs that are not finite become zero."""
    finite = torch.isfinite(flow).flatten(1).all(1)
    flow = torch.where(finite[:, None, None, None], flow, 0)
    return encode_tensor(flow, storage) | {"finite": finite}


class RaftBatches:
    """RAFT in batches that fit the device.

    On a GPU frames come from pinned memory and results go there, each on a stream of its own beside the
    computation; the next batch is submitted before the last one is read. A batch that does not fit is
    halved, for good.

    Args:
        engine: the network.
        storage: ``int8`` or ``float16``.
        batch: pairs a call; 0 chooses.
    """

    def __init__(self, engine: RaftEngine, storage: str, batch: int = 0):
        self.engine, self.storage, self._asked = engine, storage, batch
        self.batch = batch or cpu_pairs(SMALLEST, SMALLEST) * torch.get_num_threads()
        self._size = 0
        if engine.device.type == "cuda":
            self._incoming, self._outgoing = (torch.cuda.Stream(engine.device) for _ in range(2))

    def submit(self, frames: np.ndarray, first: np.ndarray, continues: bool) -> Callable[[], Stored]:
        sent, pairs = torch.from_numpy(frames), torch.from_numpy(first)
        if self.engine.device.type == "cpu":
            stored = {k: v.numpy() for k, v in self._flow(sent, pairs, continues).items()}
            return lambda: stored
        if frames.shape[1] != self._size and not self._asked:
            self._size = frames.shape[1]
            self.batch = fitting_batch(self.engine, working_size(self._size))
        with torch.cuda.device(self.engine.device):
            return self._submit(sent.pin_memory(), pairs.pin_memory(), continues)

    def _submit(self, sent: torch.Tensor, pairs: torch.Tensor, continues: bool) -> Callable[[], Stored]:
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._incoming):
            there = sent.to(self.engine.device, non_blocking=True)
        computing.wait_stream(self._incoming)
        there.record_stream(computing)  # its memory is not given away while it is read
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
        # Out of the except block, so that the failed attempt's tensors are gone.
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
    """Pairs that should fit half of the GPU's free memory: a power of two, from the largest live tensors."""
    free, _ = torch.cuda.mem_get_info(engine.device)
    points = (size // 8) ** 2
    encoder = 64 * (size // 2) ** 2 * 4 * 6  # six half-resolution maps of 64 channels
    lookup = points * 4 * 4000  # correlations, gates and motion features of one update
    volume = points**2 * 4 * 2
    fits = int(max(1, min(MAX_BATCH, free / 2 / (encoder + lookup + volume))))
    return 1 << (fits.bit_length() - 1)
