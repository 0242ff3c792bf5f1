"""Run cases of Triton kernels in Triton's interpreter, on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import traceback
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

WITH_RANGES = (
    "branches",
    "images",
    "masked_norms",
)  # cases whose kernels loop up to a number that is computed
ROOT = Path(__file__).parents[2]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton, which comes with PyTorch's builds for CUDA",
)


def interpreter_fails() -> bool:
    """Return whether this Triton's interpreter cannot end a `range` at a tensor.

    It converts an array of one element to an int; Triton 3.6, which PyTorch 2.11 needs, does so in a way that
    NumPy 2.4 and later refuse.
    """
    versions = [tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")]
    return versions[0] <= (3, 6) and versions[1] >= (2, 4)


def check_case(module: str, case: str) -> None:
    """Check one of a module's ``CASES``, which a process of their own runs.

    >>> check_case("tests.pipeline.flow.kernel_cases", "lookup")  # doctest: +SKIP
    """
    if case in WITH_RANGES and interpreter_fails():
        pytest.skip("the interpreter of this Triton needs NumPy before 2.4")
    failed = failures(module)
    assert case not in failed, failed[case]


@cache
def failures(module: str) -> dict[str, str]:
    """Run all cases of a module in one process; return the traceback of each one that failed.

    Triton reads the variable when a kernel is defined, so this process cannot run them. To load PyTorch and
    Triton takes a process longer than most cases.
    """
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.helpers.triton_interpreter", module]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:  # all cases fail
        return dict.fromkeys(import_module(module).CASES, done.stdout[-2000:] + done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def keep_booleans() -> None:
    """Let a boolean that Triton's interpreter repeats over a block stay boolean.

    It becomes int32, and a mask that is computed from it, too. Triton 3.9, which PyTorch 2.15 needs, refuses
    such a mask; before, it was converted. On a GPU, masks are bits.
    """
    from triton.runtime.interpreter import InterpreterBuilder

    repeat = InterpreterBuilder.create_splat

    def create_splat(self, block_type, scalar):
        handle = repeat(self, block_type, scalar)
        if scalar.data.dtype == bool:
            handle.data = handle.data.astype(bool)
        return handle

    InterpreterBuilder.create_splat = create_splat


def main() -> None:
    """Run all cases of the module that is named, and print the failures as JSON."""
    keep_booleans()
    failed = {}
    for name, case in import_module(sys.argv[1]).CASES.items():
        if name in WITH_RANGES and interpreter_fails():
            continue
        try:
            case()
        except Exception:  # the next case runs all the same
            failed[name] = traceback.format_exc()[-4000:]
    print(json.dumps(failed))


if __name__ == "__main__":
    main()
