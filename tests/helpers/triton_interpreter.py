"""Run cases of Triton kernels in Triton's interpreter, on the CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton, which comes with PyTorch's builds for CUDA",
)


def check_case(module: str, case: str) -> None:
    """Run one case of a module in a process of its own: Triton reads the variable when a kernel is defined.

    >>> check_case("tests.pipeline.flow.kernel_cases", "lookup")  # doctest: +SKIP
    """
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", module, case]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
