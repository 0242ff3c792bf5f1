"""Common functions of the parts of `benchmarks.gpu_check`: results, inputs and times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("DEIII_TEST_DATA", "/nowhere"))
WORK = Path(os.environ.get("DEIII_GPU_WORK", tempfile.gettempdir() + "/deiii-gpu"))
FOUND = "FIND "  # begins a line with a result
WEIGHTS = {"raft_small": "raft_small_princeton.pth", "raft_large": "raft_large_princeton_sintel.pth"}


def find(**what) -> None:
    """Print one result."""
    print(FOUND + json.dumps(what), flush=True)


def small() -> bool:
    """Return whether only a tenth of the work is to be done (``DEIII_GPU_SMALL``)."""
    return bool(os.environ.get("DEIII_GPU_SMALL"))


def is_fake() -> bool:
    """Return whether the GPU is the fake one of ``tests/gpu``, which computes nothing."""
    return "FAKE_GPU" in os.environ


def seconds(function: Callable[[], object], runs: int = 5) -> float:
    """Return the median time of a call in s, including the work on the GPU."""
    from benchmarks.flow_gpu import seconds_of

    return seconds_of(function, runs)


def matmul_tflops(dtype: str) -> float:
    """Return how many 10^12 operations a second products of large matrices of a type reach on the GPU."""
    import torch

    n = 1024 if small() else 8192
    a, b = (torch.randn(n, n, device="cuda").to(getattr(torch, dtype)) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, 10) / 1e12


def crops(size: int, count: int) -> tuple[np.ndarray, str]:
    """Return crops, uint8 [count,size,size,3], and their source in words."""
    try:
        from benchmarks.clips import face_clips

        source, clips = face_clips(size, 2)
        return np.resize(np.concatenate(clips), (count, size, size, 3)), source
    except Exception as error:  # PyAV or the clips are missing
        import cv2

        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        wide = cv2.resize(noise, (size + 64, size + 64), interpolation=cv2.INTER_CUBIC)
        inner = slice(32, 32 + size)
        moved = [np.roll(wide, (i % 7, i % 5), (0, 1))[inner, inner] for i in range(count)]
        return np.stack(moved), f"drawn ({type(error).__name__}: {error})"


def network(model: str):
    """Return torchvision's RAFT, and whether its weights are real."""
    from deiii.pipeline.flow.raft.network import MODELS, load_network

    path = DATA / "weights" / WEIGHTS[model]
    if path.is_file():
        return load_network(model, str(path)), True
    return MODELS[model](weights=None).eval(), False


def cache(clips: int):
    """Return the features of synthetic clips of 60 frames of 112 px; they are made if they are missing."""
    from benchmarks.feature_cache import open_cache

    return open_cache(cache_folder(clips), clips, 60, 112, 8)


def cache_folder(clips: int) -> Path:
    """Return the folder of `cache` for a number of clips."""
    return WORK / f"cache-{clips}"


def gpu_tests(*words: str) -> tuple[int, str, str]:
    """Run the tests marked gpu; returns the exit status, the last line and the end of what they print."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "--no-header",
        "-rfE",
        "--tb=short",
        "--show-capture=no",
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *words], cwd=HERE, capture_output=True, text=True
    )
    last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-300:]]
    return done.returncode, last[0], done.stdout[-6000:]
