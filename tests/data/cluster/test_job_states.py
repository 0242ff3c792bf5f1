"""SLURM is asked which jobs have ended; without a clear answer none has."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from deiii.data.cluster import job_states
from deiii.data.cluster.job_states import ended_jobs

JOBS = {str(n): SimpleNamespace(job_id=str(n)) for n in range(1, 5)} | {"new": SimpleNamespace(job_id=None)}


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Return a function that replaces ``squeue`` by lines of a shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def replaced(*lines: str) -> list[str]:
        (tmp_path / "squeue").write_text("\n".join(["#!/bin/sh", *lines, ""]))
        (tmp_path / "squeue").chmod(0o755)
        return asyncio.run(ended_jobs(JOBS))

    return replaced


def test_jobs_that_have_ended_are_named(squeue):
    assert squeue("echo 1 PENDING", "echo 2 FAILED", "echo 3 COMPLETING", "echo 4 TIMEOUT") == ["2", "4"]
    assert squeue("echo 11 FAILED", "echo 1 REQUEUED", "echo", "echo 3") == []


@pytest.mark.parametrize("lines", [["echo 2 FAILED", "exit 1"], [], ["echo 2 FAILED", "exec sleep 30"]])
def test_an_answer_that_fails_or_is_late_names_none(squeue, monkeypatch, lines):
    monkeypatch.setattr(job_states, "ANSWER_S", 0.3)
    assert squeue(*lines) == []


def test_without_slurm_or_jobs_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(ended_jobs(JOBS)) == asyncio.run(ended_jobs({})) == []
