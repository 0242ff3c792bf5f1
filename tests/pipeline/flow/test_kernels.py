"""Triton's kernels against the operations of PyTorch, in Triton's interpreter on the CPU."""

import pytest

from tests.helpers.triton_interpreter import check_case, needs_triton


@needs_triton
@pytest.mark.parametrize("case", ["lookup", "upsample"])
def test_kernels_compute_what_pytorch_computes(case):
    check_case("tests.pipeline.flow.kernel_cases", case)
