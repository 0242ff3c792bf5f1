"""Run cases of Triton kernels in Triton's interpreter, on the CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

WITH_RANGES = ("branches", "images")  # cases whose kernels loop up to a number that is computed
ROOT = Path(__file__).parents[2]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton, which comes with PyTorch's builds for CUDA",
)


def interpreter_fails() -> bool:
    """Return whether this Triton's interpreter cannot end a `range` at a tensor.

    It converts an array of one element to an int; Triton 3.6, which PyTorch 2.11 needs, does so in a way that
    NumPy 2.5 and later refuse.
    """
    versions = [tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")]
    return versions[0] <= (3, 6) and versions[1] >= (2, 5)


def check_case(module: str, case: str) -> None:
    """Run one case of a module in a process of its own: Triton reads the variable when a kernel is defined.

    >>> check_case("tests.pipeline.flow.kernel_cases", "lookup")  # doctest: +SKIP
    """
    if case in WITH_RANGES and interpreter_fails():
        pytest.skip("the interpreter of this Triton needs NumPy before 2.5")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", module, case]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
