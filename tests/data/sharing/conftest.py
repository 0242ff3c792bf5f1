"""A published archive, and a web server that has it."""

from __future__ import annotations

import pytest

from deiii.__main__ import main
from deiii.data.tools.atomic_files import file_sha256
from tests.helpers.archive_server import serving
from tests.helpers.caches import make_cache


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A packed cache with its card, and the digest of its list."""
    pytest.importorskip("hdf5plugin")
    folder = tmp_path_factory.mktemp("published")
    make_cache(folder / "cache", [9, 5, 0, 3], [40, 15, 30, 0])
    assert main(["pack", str(folder / "cache"), str(folder / "archive")]) == 0
    return folder, file_sha256(folder / "archive/archive.json")


@pytest.fixture
def server(published, monkeypatch):
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.01)
    with serving(published[0] / "archive") as running:
        yield running
