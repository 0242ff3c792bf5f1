"""Several processes that train one network, as `torchrun` starts them: their numbers and their exchanges.

A *rank* is one process. In each step rank r of W gets the clips r, r+W, r+2W, … of a global batch.
`Ranks.whole` joins the parts of all ranks in the order of that batch, so that losses, statistics and random
numbers are those of one process with the whole batch. ``Ranks()`` is a single process and exchanges nothing.

Axes: W ranks, B clips of one rank's batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.counts import counted
from deiii.data.tools.devices import limit_threads, make_current, pick_device
from deiii.model.distributed.launch import RankError, launched

# Limit for a rank that runs but does not answer; a rank that has ended is noticed at once.
TIMEOUT = timedelta(minutes=30)
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
START = "torchrun --standalone --nproc-per-node 2 -m deiii train ..."


@dataclass
class Ranks:
    """This process among those that train together.

    Attributes:
        rank, world: this process's number and how many there are.
        local, local_world: the same for the processes of this machine.
        device: device on which this process computes.
        clips: B, the same on every rank in every step.
        group: whether there is a process group: there are several processes, or torchrun started a single
            one on a GPU. The single one exchanges data with itself, which tests the exchange on one GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    clips: int = 0
    group: bool = False
    _stopping: tuple[Any, Tensor] | None = field(default=None, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints messages."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is nothing to exchange."""
        return self.world == 1 and not self.group

    def gather(self, x: Tensor) -> Tensor:
        """Return what every rank holds, [W,*x.shape]; gradients flow back to the rank that holds x."""
        if self.alone:
            return x[None]
        if x.dtype == torch.bool:  # not every backend can send it
            return self.gather(x.byte()).bool()
        return _Gather.apply(x.contiguous(), self)

    def whole(self, x: Tensor) -> Tensor:
        """Return the ranks' clips [B,...] in the order of the global batch, [B*W,...]."""
        return x if self.alone else self.gather(x).transpose(0, 1).flatten(0, 1)

    def own(self, x: Tensor) -> Tensor:
        """Return this rank's part [B*k,...] of a tensor [B*W*k,...] with k rows for each clip."""
        if self.alone:
            return x
        return x.unflatten(0, (self.clips, self.world, -1))[:, self.rank].flatten(0, 1)

    def sum_(self, x: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place, without gradients."""
        if not self.alone:
            dist.all_reduce(x)
        return x

    def wait(self) -> None:
        """Wait until every rank has called this."""
        self.sum_(torch.zeros(1))

    def any_wants_to_stop(self, this: bool) -> bool:
        """Return whether any rank passed true in the previous call; the result is equal on all ranks.

        Signals reach ranks at different times, and no rank may end while another waits for it. The exchange
        runs while the next step computes, so its result is known one call later. A single process gets
        ``this`` back at once.
        """
        if self.alone:
            return this
        if self._stopping is not None:
            work, flag = self._stopping
            work.wait()
            self._stopping = None
            if flag.item():
                return True
        flag = torch.tensor([float(this)])
        self._stopping = dist.all_reduce(flag, async_op=True), flag
        return False

    def of_first(self, numbers: list[float]) -> list[float]:
        """Return rank 0's numbers, so that all ranks take the same decision."""
        if self.alone:
            return numbers
        sent = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(sent, 0)
        return sent.tolist()

    def state_of_first(
        self, found: tuple[dict[str, Tensor], dict[str, Any]] | None
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and the JSON-able table that rank 0 passes; the other ranks pass ``None``."""
        if self.alone:
            return found
        head: dict[str, Any] | None = None
        if self.first and found is not None:
            kinds = {n: (str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in found[0].items()}
            head = {"tensors": kinds, "info": found[1]}
        head = json.loads(self._text_of_first(json.dumps(head)))
        if head is None:
            return None
        tensors = {}
        for name, (kind, shape) in head["tensors"].items():
            if self.first and found is not None:
                sent = found[0][name].contiguous()
            else:
                sent = torch.empty(shape, dtype=getattr(torch, kind))
            dist.broadcast(sent, 0)
            tensors[name] = sent
        return tensors, head["info"]

    def _text_of_first(self, text: str) -> str:
        length = torch.tensor([len(text.encode())])
        dist.broadcast(length, 0)
        sent = torch.zeros(int(length), dtype=torch.uint8)
        if self.first:
            sent[:] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        dist.broadcast(sent, 0)
        return sent.numpy().tobytes().decode()

    def check_same(self, what: Mapping[str, Any]) -> None:
        """Check that settings and data are the same on all ranks.

        Args:
            what: JSON-able values by name, the same names on every rank.

        Raises:
            RankError: names the rank, its machine and what differs; the same on every rank.
        """
        if self.alone:
            return
        digests = [hashlib.sha256(json.dumps(v).encode()).digest() for v in what.values()]
        mine = torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(len(what), -1)
        host = torch.frombuffer(bytearray(socket.gethostname().encode()[:64].ljust(64)), dtype=torch.uint8)
        found, hosts = self.gather(mine), self.gather(host)
        for rank in range(1, self.world):
            other = [
                n for n, same in zip(what, (found[rank] == found[0]).all(1).tolist(), strict=True) if not same
            ]
            if other:
                name = hosts[rank].numpy().tobytes().decode(errors="replace").strip()
                raise RankError(
                    f"rank {rank} on {name} has other {', '.join(other)} than rank 0; start the same command "
                    "on every machine, with caches that all of them share or whole copies of them"
                )


class _Gather(torch.autograd.Function):
    """all_gather whose backward pass gives each rank the sum of all ranks' gradients of its part."""

    @staticmethod
    def forward(ctx, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        out = x.new_empty((ranks.world, *x.shape))
        dist.all_gather(list(out.unbind()), x)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum_(grad.contiguous().clone())[ctx.ranks.rank], None


def read_environment(environ: Mapping[str, str] = os.environ) -> Ranks:
    """Return the ranks from the variables that `torchrun` sets; ``Ranks()`` where none is set.

    Raises:
        RankError: a variable is missing or has an impossible value.
    """
    if not launched(environ):
        return Ranks()
    missing = [name for name in VARIABLES if not environ.get(name)]
    if missing:
        have = ", ".join(f"{n}={environ[n]}" for n in VARIABLES if environ.get(n))
        raise RankError(
            f"{have} is set, as for one of several training processes, but {', '.join(missing)} is not; "
            f"start them with `{START}`, or unset the former to train in one process"
        )
    numbers = {}
    for name in (*VARIABLES[:4], "MASTER_PORT"):
        try:
            numbers[name] = int(environ[name])
        except ValueError:
            raise RankError(f"{name}={environ[name]!r} is not a number; start with `{START}`") from None
    ranks = Ranks(
        rank=numbers["RANK"],
        world=numbers["WORLD_SIZE"],
        local=numbers["LOCAL_RANK"],
        local_world=numbers["LOCAL_WORLD_SIZE"],
    )
    possible = 0 <= ranks.rank < ranks.world and 0 <= ranks.local < ranks.local_world <= ranks.world
    # With port 0, the ranks would wait for each other for ever.
    if not possible or not 0 < numbers["MASTER_PORT"] < 65536:
        given = ", ".join(f"{n}={v}" for n, v in numbers.items())
        raise RankError(f"{given} is impossible; start with `{START}`")
    return ranks


def clips_per_rank(batch: int, world: int) -> int:
    """Return ``loader.batch`` divided by the number of ranks.

    Raises:
        ConfigError: there is a remainder.
    """
    if batch % world:
        near = max(1, round(batch / world)) * world
        raise ConfigError(
            f"loader.batch={batch} cannot be divided among {world} processes; loader.batch={near} can, "
            "or start another number of processes"
        )
    return batch // world


def device_of(ranks: Ranks, name: str) -> torch.device:
    """Return this process's device; each process of a machine gets a GPU of its own.

    Raises:
        ConfigError: there are fewer GPUs than processes, or there are several processes and the name is of a
            single GPU (``cuda:1``).
        DeviceError: the device does not exist.
    """
    limit_threads()
    device = pick_device(name)
    if ranks.world == 1 or device.type != "cuda":
        return make_current(device)
    if device.index is not None:
        raise ConfigError(f"train.device={name}: several processes take a GPU each; use train.device=cuda")
    count = torch.cuda.device_count()
    if ranks.local_world > count:
        raise ConfigError(
            f"{ranks.local_world} processes on {socket.gethostname()}, which has {counted(count, 'GPU')}; "
            f"use --nproc-per-node {count}, or train.device=cpu"
        )
    return make_current(torch.device("cuda", ranks.local))


@contextmanager
def joined(batch: int, device: str) -> Iterator[Ranks]:
    """Connect the ranks of this training: NCCL between GPUs, Gloo between CPUs.

    Args:
        batch: clips of the global batch.
        device: ``train.device``.

    Raises:
        RankError: a variable of `torchrun` is missing or impossible, there is no connection to the other
            ranks, or it is lost later.
        ConfigError: the batch or the GPUs cannot be divided among the processes.
        DeviceError: the device does not exist.
    """
    ranks = read_environment()
    ranks.clips = clips_per_rank(batch, ranks.world)
    ranks.device = device_of(ranks, device)
    started = all(os.environ.get(name) for name in VARIABLES)
    ranks.group = ranks.world > 1 or (started and ranks.device.type == "cuda")
    if ranks.alone:
        yield ranks
        return
    backend = "cpu:gloo,cuda:nccl" if ranks.device.type == "cuda" else "gloo"
    device_id = None
    if ranks.device.type == "cuda":
        device_id = torch.device("cuda", torch.cuda.current_device())
    try:
        dist.init_process_group(
            backend, timeout=TIMEOUT, rank=ranks.rank, world_size=ranks.world, device_id=device_id
        )  # fmt: skip
    except (RuntimeError, OSError) as error:  # torch.distributed's errors are RuntimeErrors
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RankError(
            f"rank {ranks.rank} of {ranks.world} cannot reach the others at {place}: {_first_line(error)}"
        ) from error
    try:
        yield ranks
    except RuntimeError as error:
        if not lost_connection(error):
            raise
        raise RankError(
            f"rank {ranks.rank} of {ranks.world} lost the connection to another rank, which has ended or "
            "cannot be reached; its own message says why. The run folder is complete: continue with --resume "
            f"({_first_line(error)})"
        ) from error
    else:
        ranks.wait()
        dist.destroy_process_group()


def lost_connection(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch means that another rank has ended."""
    told = str(error).lower()
    words = ("gloo", "nccl", "connection", "socket")
    return isinstance(error, dist.DistError) or any(word in told for word in words)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
