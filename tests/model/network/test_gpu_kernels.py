"""The Triton kernels of training against the operations of PyTorch, in Triton's interpreter on the CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from deiii.data.tools.devices import working_kernels
from deiii.model.network.gpu.norm import begin_branch

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton, which comes with PyTorch's builds for CUDA",
)
@pytest.mark.parametrize("case", ["layouts", "attention", "branches"])
def test_kernels_compute_what_pytorch_computes(case):
    """A process of its own: Triton reads the variable when a kernel is defined."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.model.network.gpu_kernel_cases", case]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_processor_normalises_as_the_layer_does():
    x, layer = torch.randn(2, 3, requires_grad=True), nn.LayerNorm(3)
    shortcut, y = begin_branch(x, layer)
    assert shortcut is x and torch.equal(y, layer(x))


def test_kernels_that_are_missing_or_broken_are_not_used():
    def missing():
        raise ImportError("no Triton")

    def broken():
        raise RuntimeError("no compiler\nmore")

    assert working_kernels(missing, "it runs") is None
    with pytest.warns(RuntimeWarning, match="it runs without Triton's kernels.*RuntimeError: no compiler"):
        assert working_kernels(broken, "it runs") is None
