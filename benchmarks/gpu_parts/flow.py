"""Parts about flow: kernels, engine, the stage, and which kernels take the time."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.gpu_parts.common import HERE, cache, crops, find, network, seconds, small
from deiii.pipeline.preprocess.cluster_kinds import GPU_PROCESSES, GPU_THREADS


def part_kernels() -> None:
    """Triton's kernels of the flow engine against PyTorch's operations: error and time."""
    import torch

    from deiii.pipeline.flow.raft.correlation import CorrelationPyramid
    from deiii.pipeline.flow.raft.network import gpu_kernels
    from deiii.pipeline.flow.raft.upsampling import convex

    device = torch.device("cuda")
    kernels = gpu_kernels(device)
    if kernels is None:
        raise RuntimeError("Triton's kernels do not work here")
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    with torch.inference_mode():
        for pairs, side, radius in ((512, 16, 4), (512, 16, 3), (320, 28, 4)):
            first, second = draw(pairs, 64, side, side), draw(pairs, 64, side, side)
            at = 8 + 6 * draw(pairs, 2, side, side)
            fused = CorrelationPyramid(first, second, 4, radius, kernels)
            plain = CorrelationPyramid(first, second, 4, radius)
            exact = plain.lookup(at)
            find(
                kernel="lookup", pairs=pairs, side=side, radius=radius,
                error=float((fused.lookup(at) - exact).abs().max()), largest=float(exact.abs().max()),
                error_float16=float((fused.lookup(at, torch.float16).float() - exact).abs().max()),
                ms=round(1e3 * seconds(lambda f=fused, a=at: f.lookup(a, torch.float16), 20), 3),
                pytorch_ms=round(1e3 * seconds(lambda p=plain, a=at: p.lookup(a, torch.float16), 20), 3),
            )  # fmt: skip
        flow, mask = draw(512, 2, 16, 16), 3 * draw(512, 576, 16, 16).half()
        mask = mask.contiguous(memory_format=torch.channels_last)
        exact = convex(flow, mask.float()).permute(0, 2, 3, 1)
        find(
            kernel="upsample", pairs=512, error=float((kernels.upsample(flow, mask) - exact).abs().max()),
            largest=float(exact.abs().max()),
            ms=round(1e3 * seconds(lambda: kernels.upsample(flow, mask), 20), 3),
            pytorch_ms=round(1e3 * seconds(lambda: convex(flow, mask.float()), 20), 3),
        )  # fmt: skip


def part_flow() -> None:
    """The engine: pairs/s and drift, by model, precision, launch, batch and size."""
    import numpy as np
    import torch

    from benchmarks.flow import torchvision_pairs
    from deiii.pipeline.flow.raft.engine import RaftBatches, fitting_batch
    from deiii.pipeline.flow.raft.network import RaftEngine

    runs, many = (1, 64) if small() else (5, 512)
    frames, source = crops(128, many + 1)
    there = torch.from_numpy(frames).cuda()
    for model in ("raft_small", "raft_large"):
        net, real = network(model)
        exact = RaftEngine(net, 12, "cuda").flow(there[:65])
        if real:  # the other rows give their drift from the float32 of this GPU
            cpu = RaftEngine(net, 12, "cpu").flow(torch.from_numpy(frames[:9]))
            apart = (exact[:8].cpu() - cpu).norm(dim=-1)
            find(
                model=model, way="float32 against the CPU", pairs=8,
                drift_mean_px=float(f"{apart.mean():.2g}"), drift_max_px=float(f"{apart.max():.2g}"),
                longest_px=float(f"{cpu.norm(dim=-1).max():.3g}"),
            )  # fmt: skip
        torch.backends.cudnn.allow_tf32 = False  # float32 in full, for the reference
        reference = net.cuda()
        took = seconds(lambda n=reference: torchvision_pairs(n, there, 12, min(many, 256)), runs)
        find(
            model=model,
            way="torchvision batched float32",
            batch=min(many, 256),
            pairs_per_s=round(many / took, 1),
        )
        torch.cuda.empty_cache()
        for dtype, launch, batch in (
            (torch.float32, "eager", many), (torch.float16, "eager", many), (torch.float16, "eager", 64),
            (torch.float16, "without Triton", many), (torch.float16, "compile", many),
            (torch.bfloat16, "eager", many),
        ):  # fmt: skip
            way = "eager" if launch == "without Triton" else launch
            engine = RaftEngine(net, 12, "cuda", dtype, way, fused=None if way == launch else False)
            row = {"model": model, "dtype": str(dtype)[6:], "launch": launch, "batch": batch}
            part = there[: batch + 1]
            torch.cuda.reset_peak_memory_stats()
            try:
                began = time.perf_counter()
                engine.flow(part)
                first = time.perf_counter() - began
                took = seconds(lambda engine=engine, part=part: engine.flow(part), runs)
            except Exception as error:
                find(**row, error=str(error)[:300])
                continue
            drift = (engine.flow(there[:65]) - exact).norm(dim=-1) if real else None
            find(
                **row, triton=engine.kernels is not None, first_s=round(first, 1),
                pairs_per_s=round(batch / took, 1),
                drift_mean_px=None if drift is None else float(f"{drift.mean():.2g}"),
                drift_max_px=None if drift is None else float(f"{drift.max():.2g}"),
                peak_mib=torch.cuda.max_memory_allocated() >> 20,
                reserved_mib=torch.cuda.memory_reserved() >> 20, source=source[:40],
            )  # fmt: skip
            engine.forget()
            torch.cuda.empty_cache()
        for size in (112, 128, 192, 224):  # as the stage calls it: copies, storage, its own batch
            batches = RaftBatches(RaftEngine(net, 12, "cuda", torch.float16), "int8", 0)
            host = np.ascontiguousarray(np.resize(frames, (many + 1, size, size, 3)))
            first_frames = np.arange(many)

            def stage(batches=batches, host=host, pairs=first_frames) -> None:
                for wait in [batches.submit(host, pairs, False) for _ in range(2)]:
                    wait()

            row = {"model": model, "size": size}
            try:
                row["chosen_batch"] = fitting_batch(batches.engine, max(128, size))
                batches.batch = many
                find(**row, submit_pairs_per_s=round(2 * many / seconds(stage, runs), 1))
            except Exception as error:
                find(**row, error=f"{type(error).__name__}: {error}"[:300])
            torch.cuda.empty_cache()


def part_stage() -> None:
    """The flow stage's own run_shard, faces from a cache: pairs/s of several processes and threads on a GPU.

    Processes begin together, after each has loaded the network and computed two shards.
    """
    cache(32 if small() else 96)  # made before the processes look for it
    for processes, threads, words in (  # the most useful first: the limit of the part may cut the last
        (GPU_PROCESSES, GPU_THREADS, []), (1, GPU_THREADS, []), (1, 1, []), (3, 1, []),
        (GPU_PROCESSES, GPU_THREADS, ["flow.launch=compile"]),
    ):  # fmt: skip
        begin = time.time() + (40 if words else 15) + 2 * processes
        command = [sys.executable, "-m", "benchmarks.gpu_parts.shards", str(threads), str(begin), *words]
        running = [
            subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        printed = [process.communicate()[0] for process in running]
        rates = [json.loads(text.splitlines()[-1])["pairs_per_s"] for text in printed if text.strip()]
        find(
            processes=processes, threads=threads, words=" ".join(words), whole=len(rates) == processes,
            pairs_per_s=round(sum(rates), 1),
        )  # fmt: skip


def part_profile() -> None:
    """Which kernels take the time of a flow batch."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from deiii.pipeline.flow.raft.network import RaftEngine

    frames, _ = crops(128, 257)
    there = torch.from_numpy(frames).cuda()
    for model in ("raft_small", "raft_large"):
        engine = RaftEngine(network(model)[0], 12, "cuda", torch.float16)
        engine.flow(there)
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as p:
            engine.flow(there)
            torch.cuda.synchronize()
        print(model, "256 pairs, float16")
        print(p.key_averages().table(sort_by="self_cuda_time_total", row_limit=16, max_name_column_width=60))
