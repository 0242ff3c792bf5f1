"""Devices and what a process asks of its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from data.config import ConfigError
from model.devices import pick_device

FAULTS = """
import resource, sys, torch
from model.devices import keep_freed_memory
done = keep_freed_memory()
keep_freed_memory(sys.argv[1] == "keep")
def faults(times):
    for _ in range(times):
        torch.full((5 << 20,), 1.0)  # 20 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = faults(1)
print(int(done), faults(20) - first)
"""


def page_faults(word: str) -> tuple[bool, int]:
    done = subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True)
    known, count = map(int, done.stdout.split())
    return bool(known), count


def test_freed_memory_is_handed_out_again_without_asking_the_system():
    known, kept = page_faults("keep")
    if not known:
        pytest.skip("this system's C library has no mallopt")
    _, returned = page_faults("return")
    assert kept < returned / 10, (kept, returned)


def test_devices_that_are_not_there_are_refused():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        pick_device("tpu?")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="train.device=cpu"):
            pick_device("cuda")
