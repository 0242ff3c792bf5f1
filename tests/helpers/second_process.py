"""Another process that does its work between the start of a command and the moment it gets its lock."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


def before_the_lock(monkeypatch: pytest.MonkeyPatch, module: ModuleType, work: Callable[[], object]) -> None:
    """Let ``work`` run to its end just before the next `writer_lock` of a module is taken.

    Args:
        monkeypatch: puts everything back after the test.
        module: the module that takes the lock.
        work: the work of the other process; the locks that it takes are ordinary ones.
    """
    real = module.writer_lock

    def late(*args, **options):
        monkeypatch.setattr(module, "writer_lock", real)
        work()
        return real(*args, **options)

    monkeypatch.setattr(module, "writer_lock", late)
