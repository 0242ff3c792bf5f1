"""Parts about the machine and the whole program: its rates, the tests, preprocessing."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.gpu_parts.common import (
    DATA,
    HERE,
    WEIGHTS,
    WORK,
    find,
    gpu_tests,
    matmul_tflops,
    seconds,
    small,
)
from deiii.data.tools.machine import usable_cores

# Files with tests that are marked gpu.
GPU_TESTS = (
    "tests/pipeline/flow/test_flow_gpu.py",
    "tests/data/loader/test_loader.py",
    "tests/model/training/test_no_sync.py",
    "tests/model/training/test_graph_gpu.py",
    "tests/model/network/test_gpu_kernels.py",
)
BUSY = 10  # % of a fifth of a second in which the GPU works; less is the start of a process


def part_machine() -> None:
    """Describe the machine, and measure its rates of products and of copies, and the time of a launch."""
    import torch

    try:
        subprocess.run(["nvidia-smi"], check=False)
    except OSError as error:
        print(error)
    p = torch.cuda.get_device_properties(0)
    find(
        gpu=p.name, gib=round(p.total_memory / 2**30, 1), sms=p.multi_processor_count,
        torch=torch.__version__, cudnn=torch.backends.cudnn.version(),
        python=sys.version.split()[0], cores=usable_cores(),
    )  # fmt: skip
    for dtype in ("float32", "bfloat16", "float16"):
        find(matmul=dtype, tflops=round(matmul_tflops(dtype), 1))
    x = torch.randn(1 << (20 if small() else 28), device="cuda")
    y = torch.empty_like(x)
    find(copy_tb_per_s=round(2 * x.nbytes / seconds(lambda: y.copy_(x), 10) / 1e12, 2))
    host = torch.empty(1 << 26, dtype=torch.uint8, pin_memory=True)
    there = host.cuda()
    find(h2d_gb_per_s=round(host.nbytes / seconds(lambda: there.copy_(host, non_blocking=True)) / 1e9, 1))
    z = torch.zeros(1, device="cuda")
    find(launch_us=round(1e6 * seconds(lambda: [z.add_(1) for _ in range(1000)]) / 1000, 2))


def part_tests() -> None:
    """Run each file of tests in a process of its own: errors of the device in one do not affect others."""
    failed = 0
    for file in GPU_TESTS:
        code, last, text = gpu_tests(file, "-k", "not compile")  # `part_compile` runs those
        find(file=file, code=code, summary=last)
        print(text)
        failed += code != 0
    find(files_with_failures=failed)
    sys.exit(int(failed > 0))


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
            rows.append(f"{i:02d}-{k}.mpg,s{k},{'ab'[k % 2]}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")
    weights = DATA / "weights"
    words = [
        "configs/table.yaml", f"corpus.root={root}", f"cache={WORK / 'pre'}", "faces.detector=yunet",
        f"faces.weights={weights / 'face_detection_yunet_2023mar.onnx'}", "flow.method=raft",
        f"workers={max(1, usable_cores() - 1)}", "gpus=-1",
    ]  # fmt: skip
    shutil.rmtree(WORK / "pre", ignore_errors=True)  # of an earlier check
    for run, model in (("all stages", "raft_small"), ("flow alone", "raft_large")):
        own = [f"flow.model={model}", f"flow.weights={weights / WEIGHTS[model]}"]
        with gpu_use() as busy:
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "deiii", "preprocess", *words, *own],
                cwd=HERE, capture_output=True, text=True,
            )  # fmt: skip
            took = time.perf_counter() - start
        print(done.stdout[-1500:], done.stderr[-1500:])
        find(
            run=run, model=model, clips=len(rows) - 1, seconds=round(took, 1), code=done.returncode,
            gpu_busy_mean=mean_of(busy), gpu_busy_working=mean_of(working(busy)),
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.returncode)


def mean_of(numbers: Sequence[int]) -> float | None:
    """Return the mean; ``None`` without numbers.

    >>> mean_of([1, 2])
    1.5
    """
    return round(statistics.mean(numbers), 1) if numbers else None


def working(busy: Sequence[int]) -> Sequence[int]:
    """Return the use of the GPU from its first work to its last, without start and end of the command.

    >>> working([0, 3, 0, 80, 75, 60, 0])
    [80, 75, 60]
    """
    begun = [place for place, percent in enumerate(busy) if percent >= BUSY]
    return busy[begun[0] : begun[-1] + 1] if begun else []


def part_decode() -> None:
    """Videos decoded on the GPU and by the processor: frames/s of one thread, and whether they agree."""
    import numpy as np

    from benchmarks.video import write_video
    from deiii.pipeline.media.decoders.nvdec import problem
    from deiii.pipeline.media.video import read_video

    if why := problem():  # the processor would decode both times
        sys.exit(f"no decoding on this GPU: {why}")
    for name, width, height in (("720p", 1280, 720), ("1080p", 1920, 1080)):
        path = WORK / f"{name}.mp4"
        write_video(path, "libx264", width, height, 25 if small() else 100)
        frames = {way: list(read_video(path, 640, decoder=way)) for way in ("cpu", "gpu")}
        pairs = list(zip(frames["cpu"], frames["gpu"], strict=True))
        equal = all(np.array_equal(a, b) and t == u for (a, t), (b, u) in pairs)
        rates = {}
        for way in frames:
            start = time.perf_counter()
            count = sum(1 for _ in read_video(path, 640, decoder=way))
            rates[f"{way}_frames_per_s"] = round(count / (time.perf_counter() - start), 1)
        find(video=name, frames=len(pairs), equal=equal, **rates)


@contextmanager
def gpu_use() -> Iterator[list[int]]:
    """Collect the use of the GPU in %, five times a second; complete when the block is left."""
    busy: list[int] = []
    if shutil.which("nvidia-smi") is None:
        yield busy
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    with open(WORK / "smi.csv", "w+", encoding="utf-8") as file:
        watch = subprocess.Popen(query, stdout=file, stderr=subprocess.DEVNULL)
        try:
            yield busy
        finally:
            watch.terminate()
            watch.wait()
            file.seek(0)
            busy += [int(line) for line in file if line.strip().isdigit()]
