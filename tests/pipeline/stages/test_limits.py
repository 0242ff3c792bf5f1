"""Limits of one clip: too much memory raises an error, too much time ends the process."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deiii.pipeline.stages.limits import HANGING, memory_limit, time_limit
from tests.helpers.clips import write_audio

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


FILES_LIMITED = """
import resource, sys
from deiii.data.config.load import load_config
from deiii.pipeline.stages.clip import run_clip
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    print(run_clip("logmel", sys.argv[1], load_config(overrides=["stages=[logmel]"]), "noise=10"))
except OSError as error:
    print("raised", error.errno)
"""


def test_a_limit_on_the_size_of_files_is_no_outcome_of_a_clip(tmp_path):
    """As the outcome it would stay: a clip that is unreadable is not tried again."""
    write_audio(tmp_path / "a.flac", seconds=3.0)
    command = [sys.executable, "-c", FILES_LIMITED, str(tmp_path / "a.flac")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == f"raised {errno.EFBIG}", done
