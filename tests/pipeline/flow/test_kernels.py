"""Triton's kernels against the operations of PyTorch, in Triton's interpreter on the CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton, which comes with PyTorch's builds for CUDA", allow_module_level=True)


@pytest.mark.parametrize("case", ["lookup", "upsample"])
def test_kernels_compute_what_pytorch_computes(case):
    """A process of its own: Triton reads the variable when a kernel is defined."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.pipeline.flow.kernel_cases", case]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
