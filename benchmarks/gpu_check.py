# ruff: noqa: E501
"""Measure everything that needs a real GPU, in less than nine minutes: `make gpu-check`.

    python -m benchmarks.gpu_check --out FOLDER [--seconds 520] [--only flow train]

Each part is a process of its own with a limit of its own, so that one that hangs, dies or lacks a package costs
that part alone. After every part the dated file is written anew: what is there when time runs out is kept.
Real weights and faces come from DEIII_TEST_DATA. Without it, random weights and drawn pictures of the same shapes
are used, and no drift is given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PARTS = {  # name: seconds at most; in the order of worth, so that a lease cut short still tells the most
    "machine": 15, "kernels": 30, "flow": 110, "stage": 110, "train": 120, "preprocess": 70, "tests": 60, "profile": 20,
    "ranks": 15, "compile": 60,
}  # fmt: skip
DATA = Path(os.environ.get("DEIII_TEST_DATA", "/nowhere"))
WORK = Path(os.environ.get("DEIII_GPU_WORK", tempfile.gettempdir() + "/deiii-gpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "benchmarks/results")
    parser.add_argument("--seconds", type=float, default=520)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--small", action="store_true", help="a tenth of the work, to try the script itself")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["DEIII_GPU_SMALL"] = "1" if options.small else os.environ.get("DEIII_GPU_SMALL", "")
    if options.part:
        globals()[f"part_{options.part}"]()
        return
    began, lines, found = time.monotonic(), [], {}
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"gpu-{datetime.date.today()}.txt"
    for name in options.only:
        left = options.seconds - (time.monotonic() - began)
        limit, start = min(PARTS[name], left), time.monotonic()
        if limit < 10:
            status, text = "no time left", ""
        else:
            status, text = run(name, limit)
        rows = [json.loads(t[5:]) for t in text.splitlines() if t.startswith("FIND ")]
        found[name] = {"status": status, "seconds": round(time.monotonic() - start, 1), "found": rows}
        kept = [t for t in text.splitlines() if not re.match(r"^\s*$|.*it/s\]|.*%\|", t)]
        lines += [f"== {name}: {status}, {found[name]['seconds']} s", *kept[-80:], ""]
        file.write_text(
            "\n".join(lines) + "RESULT " + json.dumps({"bench": "gpu_check", "parts": found}) + "\n"
        )
        print(f"{name:11s} {status:14s} {found[name]['seconds']:6.1f} s", flush=True)
    print(f"{file}: {sum(f['status'] == 'ok' for f in found.values())} of {len(found)} parts whole")


def run(name: str, limit: float) -> tuple[str, str]:
    """A part in a process group of its own; what it printed by its limit counts."""
    log = WORK / f"{name}.log"
    WORK.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as out:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "benchmarks.gpu_check", "--part", name], cwd=HERE, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(limit)
            status = "ok" if code == 0 else f"exit {code}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.wait()
            status = f"cut at {limit:.0f} s"
    return status, log.read_text(errors="replace")


def find(**what) -> None:
    print("FIND " + json.dumps(what), flush=True)


def small() -> bool:
    return bool(os.environ.get("DEIII_GPU_SMALL"))


def seconds(function, runs: int = 5) -> float:
    import torch

    function()
    times = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def part_machine() -> None:
    """What it is, and the two ceilings."""
    import torch

    try:
        subprocess.run(["nvidia-smi"], check=False)
    except OSError as error:
        print(error)
    p = torch.cuda.get_device_properties(0)
    find(gpu=p.name, gib=round(p.total_memory / 2**30, 1), sms=p.multi_processor_count, torch=torch.__version__,
         cudnn=torch.backends.cudnn.version(), python=sys.version.split()[0], cores=os.cpu_count())  # fmt: skip
    n = 1024 if small() else 8192
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
        find(matmul=str(dtype)[6:], tflops=round(2 * n**3 / seconds(lambda a=a, b=b: a @ b, 10) / 1e12, 1))
    x = torch.randn(1 << (20 if small() else 28), device="cuda")
    y = torch.empty_like(x)
    find(copy_tb_per_s=round(2 * x.nbytes / seconds(lambda: y.copy_(x), 10) / 1e12, 2))
    host = torch.empty(1 << 26, dtype=torch.uint8, pin_memory=True)
    there = host.cuda()
    find(h2d_gb_per_s=round(host.nbytes / seconds(lambda: there.copy_(host, non_blocking=True)) / 1e9, 1))
    z = torch.zeros(1, device="cuda")
    find(launch_us=round(1e6 * seconds(lambda: [z.add_(1) for _ in range(1000)]) / 1000, 2))


def part_tests() -> None:
    """Each file in a process of its own: one that leaves the device in a bad way spoils no other."""
    files = [
        "tests/pipeline/flow/test_flow_gpu.py",
        "tests/data/loader/test_loader.py",
        "tests/model/training/test_no_sync.py",
    ]
    for file in files:
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "gpu",
            "-q",
            "--no-header",
            "-rfE",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            file,
            "-k",
            "not compile and not both",
        ]  # those take half a minute each and come last
        done = subprocess.run(words, cwd=HERE, capture_output=True, text=True)
        last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-300:]]
        find(file=file, code=done.returncode, summary=last[0])
        print(done.stdout[-6000:])


def crops(size: int, count: int):
    import numpy as np

    try:
        from benchmarks.clips import face_clips

        clips = face_clips(size, 2)[1]
        return np.resize(np.concatenate(clips), (count, size, size, 3)), "GRID"
    except Exception as error:  # no av, no data
        rng = np.random.default_rng(0)
        import cv2

        big = cv2.resize(
            rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
            (size + 64, size + 64),
            interpolation=cv2.INTER_CUBIC,
        )
        moved = [np.roll(big, (i % 7, i % 5), (0, 1))[32 : 32 + size, 32 : 32 + size] for i in range(count)]
        return np.stack(moved), f"drawn ({type(error).__name__}: {error})"


def network(model: str):
    from deiii.pipeline.flow.raft.network import MODELS, load_network

    names = {"raft_small": "raft_small_princeton.pth", "raft_large": "raft_large_princeton_sintel.pth"}
    path = DATA / "weights" / names[model]
    return (
        (load_network(model, str(path)), True)
        if path.is_file()
        else (MODELS[model](weights=None).eval(), False)
    )


def part_flow() -> None:
    """The engine: pairs/s and drift, by model, precision, launch, batch and size."""
    import numpy as np
    import torch

    from deiii.pipeline.flow.raft.engine import RaftBatches, fitting_batch
    from deiii.pipeline.flow.raft.network import RaftEngine

    runs, many = (1, 64) if small() else (5, 512)
    frames, source = crops(128, many + 1)
    there = torch.from_numpy(frames).cuda()
    for model in ("raft_small", "raft_large"):
        net, real = network(model)
        exact = RaftEngine(net, 12, "cuda").flow(there[:65])
        from benchmarks.flow import torchvision_pairs

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
        ):  # fmt: skip
            way = "eager" if launch == "without Triton" else launch
            engine = RaftEngine(net, 12, "cuda", dtype, way, fused=None if way == launch else False)
            find(model=model, launch=launch, batch=batch, triton=engine.kernels is not None)
            began = time.perf_counter()
            engine.flow(there[: batch + 1])
            find(model=model, launch=launch, batch=batch, first_s=round(time.perf_counter() - began, 1))
            part = there[: batch + 1]
            torch.cuda.reset_peak_memory_stats()
            try:
                took = seconds(lambda engine=engine, part=part: engine.flow(part), runs)
            except Exception as error:
                find(model=model, dtype=str(dtype)[6:], launch=launch, batch=batch, error=str(error)[:300])
                continue
            drift = (engine.flow(there[:65]) - exact).norm(dim=-1) if real else torch.full((1,), float("nan"))
            find(model=model, dtype=str(dtype)[6:], launch=launch, batch=batch, pairs_per_s=round(batch / took, 1),
                 drift_mean_px=float(f"{drift.mean():.2g}"), drift_max_px=float(f"{drift.max():.2g}"),
                 peak_mib=torch.cuda.max_memory_allocated() >> 20, reserved_mib=torch.cuda.memory_reserved() >> 20,
                 source=source[:40])  # fmt: skip
            engine.forget()
            torch.cuda.empty_cache()
        for size in (
            112,
            128,
            192,
            224,
        ):  # as the stage calls it: copies, storage, and the batch it would choose
            engine = RaftEngine(net, 12, "cuda", torch.float16)
            batches = RaftBatches(engine, "int8", 0)
            host = np.ascontiguousarray(
                np.resize(frames, (many + 1, size, size, 3)) if size != 128 else frames
            )
            try:
                chosen = fitting_batch(engine, max(128, size))
                batches.batch = many
                took = seconds(
                    lambda b=batches, h=host: [
                        w() for w in [b.submit(h, np.arange(many), False) for _ in range(2)]
                    ],
                    runs,
                )
                find(
                    model=model, size=size, chosen_batch=chosen, submit_pairs_per_s=round(2 * many / took, 1)
                )
            except Exception as error:
                find(
                    model=model,
                    size=size,
                    chosen_batch=chosen,
                    error=f"{type(error).__name__}: {error}"[:300],
                )
            torch.cuda.empty_cache()


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


def cache(clips: int):
    from benchmarks.feature_cache import open_cache

    return open_cache(WORK / f"cache-{clips}", clips, 60, 112, 8)


def part_stage() -> None:
    """The flow stage's own run_shard, faces from a cache: what a GPU worker delivers."""
    from benchmarks.feature_cache import KEYS
    from deiii.data.cache.index import read_index, stage_folder
    from deiii.data.cache.recipes import recipes
    from deiii.data.cache.shard_plan import ShardPlan
    from deiii.data.config.load import load_config, to_yaml
    from deiii.pipeline.preprocess.cluster_kinds import GPU_THREADS
    from deiii.pipeline.stages.shard import ShardTask, run_shard

    features = cache(32 if small() else 192)
    folder = stage_folder(
        WORK / f"cache-{len(features.corpus.clips)}", features.corpus.name, "faces", KEYS["faces"]
    )
    by_id = {c.id: c for c in features.corpus.clips}
    for words in (
        ["flow.precision=float32"],
        ["flow.precision=float16"],
        ["flow.precision=float16", "flow.launch=compile"],
        ["flow.precision=float16", "flow.model=raft_large", "flow.launch=compile"],
    ):
        model = "raft_large_princeton_sintel" if "flow.model=raft_large" in words else "raft_small_princeton"
        config = load_config(
            overrides=[
                "flow.method=raft",
                f"flow.weights={DATA}/weights/{model}.pth",
                "flow.device=cuda",
                *words,
            ]
        )
        out = WORK / "flow"
        out.mkdir(exist_ok=True)
        tasks = [ShardTask(recipes(config)["flow"], ShardPlan(s.name, tuple(by_id[r.id] for r in s.clips)), "/nowhere",
                           str(out), str(folder), to_yaml(config)) for s in read_index(folder).shards]  # fmt: skip
        begun = time.perf_counter()
        run_shard(tasks[0])
        find(stage=" ".join(words), first_s=round(time.perf_counter() - begun, 1))
        pairs = 59 * len(by_id)
        for at_once in (1, GPU_THREADS):  # shards in flight; a GPU worker has the larger number
            times = []
            for _ in range(3):
                start = time.perf_counter()
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(run_shard, tasks))
                times.append(time.perf_counter() - start)
            took = statistics.median(times)
            find(
                stage=" ".join(words), at_once=at_once, pairs_per_s=round(pairs / took, 1),
                ms_a_shard=round(1e3 * took / len(tasks), 1),
            )  # fmt: skip


def part_train() -> None:
    """Epochs from caches against a batch in memory, by residency, as the product sets the device up."""
    import torch

    from benchmarks.train import compare
    from deiii.data.config.load import load_config
    from deiii.model.distributed.devices import make_deterministic

    features = cache(64 if small() else 512)
    device = torch.device("cuda")
    # The product asks for deterministic algorithms (benchmarks.train does not), and PyTorch then fills every new tensor.
    for asked, fill, residencies in (
        (False, True, ["device"]),
        (True, False, ["device"]),
        (True, True, ["device", "stream", "ram"]),
    ):
        if asked:
            make_deterministic(device)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        for residency in residencies:
            config = load_config(
                [str(HERE / "configs/base.yaml")], ["train.epochs=1", f"loader.residency={residency}"]
            )
            got = compare(features, config, device, 2)
            find(deterministic=asked, fill=fill, **got, epoch_s_of_7442=round(7442 / got["clips_per_s"], 2))


def part_profile() -> None:
    """Which kernels take the time: one flow batch, one training step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from deiii.pipeline.flow.raft.network import RaftEngine

    frames, _ = crops(128, 257)
    there = torch.from_numpy(frames).cuda()
    for model in ("raft_small", "raft_large"):
        engine = RaftEngine(network(model)[0], 12, "cuda", torch.bfloat16)
        engine.flow(there)
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as p:
            engine.flow(there)
            torch.cuda.synchronize()
        print(model, "256 pairs, bfloat16")
        print(p.key_averages().table(sort_by="self_cuda_time_total", row_limit=16, max_name_column_width=60))


def part_preprocess() -> None:
    """The command itself, GRID clips many times over, a GPU worker beside CPU workers."""
    clips = sorted((DATA / "media/grid").glob("*.mpg"))
    if not clips:
        sys.exit("no clips: DEIII_TEST_DATA is not set")
    root = WORK / "raw"
    root.mkdir(parents=True, exist_ok=True)
    copies = 2 if small() else 128
    rows = ["path,speaker,label"]
    for i in range(copies):
        for k, clip in enumerate(clips):
            (root / f"{i:02d}-{k}.mpg").write_bytes(clip.read_bytes())
            rows.append(f"{i:02d}-{k}.mpg,s{k},{'ab'[i % 2]}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")
    watch = subprocess.Popen(["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"],
                             stdout=open(WORK / "smi.csv", "w"), stderr=subprocess.DEVNULL) if shutil.which("nvidia-smi") else None  # fmt: skip
    w = DATA / "weights"
    words = ["configs/table.yaml", f"corpus.root={root}", f"cache={WORK / 'pre'}", "faces.detector=yunet", "flow.method=raft",
             f"faces.weights={w}/face_detection_yunet_2023mar.onnx", f"flow.weights={w}/raft_small_princeton.pth",
             f"workers={max(1, (os.cpu_count() or 2) - 1)}", "gpus=-1"]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "deiii", "preprocess", *words], cwd=HERE, capture_output=True, text=True
    )
    took = time.perf_counter() - start
    if watch:
        watch.terminate()
    print(done.stdout[-1500:], done.stderr[-1500:])
    busy = (
        [int(t.split(",")[0]) for t in (WORK / "smi.csv").read_text().splitlines() if t[:1].isdigit()]
        if watch
        else []
    )
    find(
        clips=len(rows) - 1,
        seconds=round(took, 1),
        code=done.returncode,
        gpu_busy_mean=round(statistics.mean(busy), 1) if busy else None,
    )
    sys.exit(done.returncode)


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
    find(all_gather_us=round(1e6 * seconds(lambda: [dist.all_gather(list(out.unbind()), x) for _ in range(100)]) / 100, 1),
         all_reduce_us=round(1e6 * seconds(lambda: [dist.all_reduce(x) for _ in range(100)]) / 100, 1))  # fmt: skip
    net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8).to(device))
    net(torch.ones(4, 8, device=device)).sum().backward()
    flag = torch.zeros(1)
    dist.all_reduce(flag, async_op=True).wait()
    find(ddp="stepped", gloo="answered")
    dist.destroy_process_group()


def part_compile() -> None:
    """torch.compile of the network: last, since it takes longest. (`part_flow` compiles the flow engine.)"""
    import torch

    from benchmarks.train import OneBatch, epoch_seconds
    from deiii.data.config.load import load_config
    from deiii.model.training.loaders import make_loader

    words = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "--tb=short",
        "-x",
        "tests/pipeline/flow/test_flow_gpu.py",
        "-k",
        "compile and small",
    ]
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True)
    find(compile_tests=done.returncode, summary=done.stdout.strip().splitlines()[-1:])
    print(done.stdout[-4000:])
    features, device = cache(64 if small() else 512), torch.device("cuda")
    for words in ([], ["train.compile=true"]):
        config = load_config(
            [str(HERE / "configs/base.yaml")], ["train.epochs=2", "loader.residency=device", *words]
        )
        loader = make_loader(features, features.rows([c.id for c in features.clips]), config, device, True)
        memory = OneBatch(next(loader.epoch(0)), len(loader))
        find(
            train=" ".join(words) or "eager",
            second_epoch_ms_a_step=round(
                1e3 * epoch_seconds(features, config, memory, device) / len(loader), 2
            ),
        )


if __name__ == "__main__":
    main()
