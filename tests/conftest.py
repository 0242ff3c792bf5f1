"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from deiii.data.tools.processes.signals import STOP_SIGNALS, keep_stop_handlers
from deiii.data.tools.progress import show_no_loading_note

settings.register_profile("shared", deadline=None)  # on a busy machine a slow example is not a failure
settings.load_profile("shared")


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that are marked gpu where there is no GPU."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def pytest_sessionstart() -> None:
    """Let commands that tests call as functions write no note that libraries are loading.

    Whether they load for longer than 2 s depends on the machine and on the tests before.
    """
    show_no_loading_note()


def pytest_collection_finish() -> None:
    """Look for garbage less often, and never among imported modules, to save time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with real clips, flow pairs and weights; tests that need it skip without it."""
    folder = os.environ.get("DEIII_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real media: set DEIII_TEST_DATA to a folder with media/, flow/ and weights/")
    return Path(folder)


@pytest.fixture
def own_signals():
    """Put the process's reaction to Ctrl-C back, which `deiii.data.command_line.entry.run` changes."""
    with keep_stop_handlers():
        yield


@pytest.fixture(autouse=True)
def reaction_to_signals():
    """Fail a test that leaves another reaction to Ctrl-C or SIGTERM to the tests after it."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before
