"""The folder in which the tests of `deiii init` run."""

from __future__ import annotations

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder for recordings; the current folder is below it, and the machine has no GPU."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("shutil.which", lambda name: None)
    return tmp_path
