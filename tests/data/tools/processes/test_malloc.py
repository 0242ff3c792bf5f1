"""Freed memory stays in the process, or is returned: measured by the system's own counts."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from deiii.data.tools.processes.malloc import keep_freed_memory
done = keep_freed_memory()
keep_freed_memory(sys.argv[1] == "keep")
def faults(times):
    for _ in range(times):
        torch.full((5 << 20,), 1.0)  # 20 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults(5) for _ in range(13)]
# The heap grows at first, and a block at its end can move it later, so the smallest count is reported.
print(int(done), min(after - before for before, after in zip(counts, counts[1:])))
"""

RETURNED = """
from deiii.data.tools.processes.malloc import return_freed_memory
def anonymous():  # MB
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
blocks = [bytearray(64 << 10) for _ in range(1024)]  # 64 MiB on the heap, below the limit for a mapping
last = bytearray(64 << 10)  # keeps the heap from shrinking by itself
before = anonymous()
del blocks
freed = anonymous()
done = return_freed_memory()
print(int(done), before - freed, freed - anonymous())
"""


def page_faults(word: str) -> tuple[bool, int]:
    done = subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True)
    known, count = map(int, done.stdout.split())
    return bool(known), count


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="has an effect with glibc only")
def test_freed_memory_is_reused_without_page_faults():
    known, kept = page_faults("keep")
    assert known
    _, returned = page_faults("return")
    assert kept < returned / 10, (kept, returned)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="has an effect with glibc only")
def test_memory_below_a_block_in_use_is_returned_to_the_system():
    done = subprocess.run([sys.executable, "-c", RETURNED], capture_output=True, text=True, check=True)
    known, by_itself, returned = map(float, done.stdout.split())
    assert known
    assert by_itself < 8, "the heap shrank by itself, so the test shows nothing"
    assert returned > 56, returned
