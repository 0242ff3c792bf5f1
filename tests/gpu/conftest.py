"""The fake GPU as a fixture: built once a session, used by processes that the tests start."""

from __future__ import annotations

import pytest

from tests.gpu.build import FakeGpu, build, missing


@pytest.fixture(scope="session")
def fake_gpu(tmp_path_factory) -> FakeGpu:
    """A machine with a fake GPU; skips where it cannot be built."""
    reason = missing()
    if reason is not None:
        pytest.skip(f"the fake GPU {reason}")
    return FakeGpu(build(tmp_path_factory.mktemp("fake-gpu")))
