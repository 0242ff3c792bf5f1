"""Limits of one clip: too much memory raises an error, too much time ends the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deiii.pipeline.stages.limits import HANGING, memory_limit, time_limit

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited on Linux only")


@linux
def test_memory_is_limited_inside_the_block_only():
    with memory_limit(0.25):
        np.ones(10 << 20, np.uint8)
        with pytest.raises(MemoryError):
            np.ones(1 << 30, np.uint8)
    np.ones(300 << 20, np.uint8)


def test_the_process_ends_after_the_time_limit():
    code = "import time\nfrom deiii.pipeline.stages.limits import time_limit\n"
    code += "with time_limit(0.05):\n    time.sleep(60)\n"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == HANGING


def test_a_block_within_the_time_limit_has_no_effect():
    with time_limit(60):
        pass
