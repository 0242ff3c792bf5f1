"""Read the log of the fake GPU, in a process that runs on it.

>>> with recorded() as log: torch.ones(3, device="cuda") + 1    # doctest: +SKIP
>>> log.launches, log.syncs                                     # doctest: +SKIP
(2, 0)
"""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHES = ("kernel", "lib", "memset", "copy")  # work that the host starts one by one
PAGEABLE = ("H2D-PAGEABLE", "D2H-PAGEABLE")  # copies during which the host waits


@dataclass(frozen=True)
class Call:
    """One call that the fake GPU has logged.

    Attributes:
        kind: ``kernel``, ``lib`` (cuBLAS, cuDNN, NCCL), ``copy``, ``memset``, ``SYNC``, ``malloc``,
            ``hostalloc``, ``graph-launch``, ``stream-create``, ``ILLEGAL-IN-CAPTURE``, ``BAD-LAUNCH``,
            ``OOM`` and others.
        name: the kernel (mangled), the function or the direction of the copy.
        stream: handle of the stream, hexadecimal.
        bytes: of a copy or an allocation; nodes of a graph.
        captured: whether the call became a node of a graph instead of running.
        device: the calling thread's current device.
        thread: the system's number of the calling thread.
    """

    kind: str
    name: str
    stream: str
    bytes: int
    captured: bool
    device: int
    thread: int


@dataclass
class Log:
    """The calls made inside `recorded`; complete when its block is left."""

    calls: list[Call] = field(default_factory=list)
    reader: int = field(default_factory=threading.get_native_id)

    def of(self, *kinds: str) -> list[Call]:
        """Return the calls of these kinds."""
        return [call for call in self.calls if call.kind in kinds]

    @property
    def launches(self) -> int:
        """Kernels, library calls, copies and fills that the host started one by one; graph launches too."""
        started = [call for call in self.of(*LAUNCHES) if not call.captured]
        return len(started) + len(self.of("graph-launch"))

    @property
    def syncs(self) -> list[str]:
        """Names of the calls in which the reader's thread waits for the device; others may wait."""
        waits = [call for call in self.calls if call.kind == "SYNC" or call.name in PAGEABLE]
        return [call.name for call in waits if call.thread in (self.reader, *self.backward)]

    @property
    def backward(self) -> set[int]:
        """Numbers of the threads that start kernels, such as those of the backward pass."""
        return {call.thread for call in self.of("kernel")}

    @property
    def forbidden(self) -> list[str]:
        """Names of the calls that CUDA refuses during a capture."""
        return [call.name for call in self.of("ILLEGAL-IN-CAPTURE")]

    @property
    def nodes(self) -> list[int]:
        """Number of nodes of each graph that was captured."""
        return [call.bytes for call in self.of("capture-end")]

    def most(self, count: int = 30) -> list[tuple[int, str, str]]:
        """Return the most frequent calls: how often, kind and name, most frequent first."""
        found = Counter((call.kind, call.name) for call in self.of(*LAUNCHES, "SYNC"))
        return [(n, kind, name) for (kind, name), n in found.most_common(count)]


@functools.cache
def _library() -> ctypes.CDLL:
    path = os.environ.get("FAKE_GPU")
    if path is None:
        raise RuntimeError("this process does not run on the fake GPU; see tests/gpu/README.md")
    library = ctypes.CDLL(path)
    library.fake_gpu_dump.argtypes = [ctypes.c_char_p]
    return library


@contextmanager
def recorded() -> Iterator[Log]:
    """Log the calls of the block, of all threads.

    Raises:
        RuntimeError: this process does not run on the fake GPU.
    """
    library = _library()
    log = Log()
    library.fake_gpu_reset()
    yield log
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.tsv"
        library.fake_gpu_dump(str(path).encode())
        for line in path.read_text(encoding="ascii").splitlines():
            kind, name, stream, _, size, thread, captured, device, _, _ = line.split("\t")
            log.calls.append(Call(kind, name, stream, int(size), captured == "1", int(device), int(thread)))
