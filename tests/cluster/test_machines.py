"""The short form of `make test-cluster`: a worker without the shared files is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> dict:
    command = [sys.executable, "-m", "tests.cluster", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    return json.loads(last.removeprefix("RESULT "))


def test_short_form():
    found = run("--short")
    if found["machines"] != "network namespaces":
        pytest.skip("network namespaces are not permitted here, so files cannot be hidden from one worker")
    assert found["bench"] == "cluster"


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("words", [[], ["--loopback"]], ids=["namespaces", "loopback"])
def test_several_machines(words):
    found = run(*words)
    assert found["clips_lost"] == 0 and found["cache_identical"] and found["workers_cut_off"]
    assert found["ddp_loss_diff"] <= 1e-5
