"""What the tests of media share."""

from __future__ import annotations

import pytest

from deiii.pipeline.media.streaming import live


@pytest.fixture
def nothing_is_late(monkeypatch):
    """All frames may wait: on a busy machine a frame that is taken too late would be dropped."""
    monkeypatch.setattr(live, "LATE_FRAMES", 1000)
