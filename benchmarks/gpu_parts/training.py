"""Parts about training: epochs, compilation, and one process of a distributed training."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext

from benchmarks.gpu_parts.common import HERE, cache, find, gpu_tests, is_fake, matmul_tflops, seconds, small


def meaningful() -> AbstractContextManager[None]:
    """Train as it is on a GPU, and without checks of the losses on the fake GPU of ``tests/gpu``."""
    if not is_fake():
        return nullcontext()
    from tests.gpu.programs.training import without_checks

    return without_checks()


CREMA_D = 7442  # clips of the corpus, by whose size an epoch is measured


def part_train() -> None:
    """Epochs from caches against a batch in memory, by residency and launch, with the product's settings.

    An epoch has as many clips as CREMA-D, which are 512 clips again and again; each is read from its place
    every time. Eager epochs have the 512 clips. ``share_of_peak`` is the share of the rate of large products
    in bfloat16.
    """
    import torch

    from benchmarks.train import compare
    from deiii.data.config.load import load_config

    features, device = cache(64 if small() else 512), torch.device("cuda")
    whole = 128 if small() else CREMA_D
    peak = 1e3 * matmul_tflops("bfloat16")
    ways = [("auto", residency, whole) for residency in ("device", "stream", "ram")]
    for launch, residency, clips in [*ways, ("eager", "device", None)]:
        words = ["train.epochs=1", f"loader.residency={residency}", f"train.launch={launch}"]
        with meaningful():
            config = load_config([str(HERE / "configs/base.yaml")], words)
            got = compare(features, config, device, 2, clips)
        find(
            **got, share_of_peak=round(got["gflop_per_s"] / peak, 4), clips=clips or len(features),
            epoch_s_of_7442=round(CREMA_D / got["clips_per_s"], 2),
        )  # fmt: skip


def part_compile() -> None:
    """torch.compile of the network: last, since it takes longest. (`part_flow` compiles the flow engine.)"""
    import torch

    from benchmarks.train import OneBatch, epoch_seconds
    from deiii.data.config.load import load_config
    from deiii.model.training.loaders import make_loader

    features, device = cache(64 if small() else 512), torch.device("cuda")
    rows = features.rows([c.id for c in features.clips])
    for compiled in ("false", "true"):
        words = ["train.epochs=2", "loader.residency=device", f"train.compile={compiled}"]
        config = load_config([str(HERE / "configs/base.yaml")], words)
        loader = make_loader(features, rows, config, device, True)
        memory = OneBatch(next(loader.epoch(0)), len(loader))
        with meaningful():
            took = epoch_seconds(features, config, memory, device)
        find(compiled=compiled, second_epoch_ms_a_step=round(1e3 * took / len(loader), 2))
    code, last, text = gpu_tests("tests/pipeline/flow/test_flow_gpu.py", "-k", "compile and small")
    find(compile_tests=code, summary=last)
    print(text)
    sys.exit(int(code != 0))


def part_ranks() -> None:
    """NCCL with one process: it starts, DDP steps, and what the small exchanges of a step cost."""
    import torch
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1, device_id=device)
    x = torch.ones(257, device=device)
    out = x.new_empty((1, 257))
    gather = seconds(lambda: [dist.all_gather(list(out.unbind()), x) for _ in range(100)])
    reduce = seconds(lambda: [dist.all_reduce(x) for _ in range(100)])
    find(all_gather_us=round(1e4 * gather, 1), all_reduce_us=round(1e4 * reduce, 1))
    net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8).to(device))
    net(torch.ones(4, 8, device=device)).sum().backward()
    flag = torch.zeros(1)
    dist.all_reduce(flag, async_op=True).wait()
    find(ddp="stepped", gloo="answered")
    dist.destroy_process_group()
