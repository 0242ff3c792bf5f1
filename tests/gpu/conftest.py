"""The fake GPU as a fixture: built once a session, used by processes that the tests start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.build import build, missing

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class FakeGpu:
    """A machine with a fake GPU.

    Attributes:
        environment: variables of the processes that use it.
    """

    environment: dict[str, str]

    def run(self, module: str, *arguments: str, **knobs: str) -> dict[str, Any]:
        """Run ``tests.gpu.programs.<module>`` on the fake GPU; returns the JSON of its last line.

        Args:
            module: the program's name.
            arguments: of its command line.
            knobs: more environment variables, such as FAKE_GPU_GB; see README.md.
        """
        command = [sys.executable, "-m", f"tests.gpu.programs.{module}", *arguments]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        limits = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        environment = {**os.environ, **limits, **self.environment, **knobs}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def fake_gpu(tmp_path_factory) -> FakeGpu:
    """A machine with a fake GPU; skips where it cannot be built."""
    reason = missing()
    if reason is not None:
        pytest.skip(f"the fake GPU {reason}")
    return FakeGpu(build(tmp_path_factory.mktemp("fake-gpu")))


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
