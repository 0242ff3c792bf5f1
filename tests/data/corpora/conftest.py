"""Corpora that several test files read."""

from __future__ import annotations

import pytest

from deiii.data.corpora.synthetic.make import make
from tests.helpers.synthetic_tasks import decode, plans_of, settings


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """By task, each clip's plan, frames, sound and size of its file."""
    found = {}

    def of(task):
        if task not in found:
            root = tmp_path_factory.mktemp(task)
            make(root, settings(task), workers=1, progress=False)
            paths = [(plan, root / f"{plan.id}.mp4") for plan in plans_of(settings(task))]
            found[task] = [(plan, *decode(path), path.stat().st_size) for plan, path in paths]
        return found[task]

    return of
