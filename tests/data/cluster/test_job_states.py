"""SLURM is asked which jobs have ended; without a clear answer none has."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from deiii.data.cluster import job_states
from deiii.data.cluster.job_states import QueueState, ask_ends, ask_queue

JOBS = {str(n): SimpleNamespace(job_id=str(n)) for n in range(1, 5)} | {"new": SimpleNamespace(job_id=None)}


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Return a function that replaces ``squeue`` by lines of a shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def replaced(*lines: str) -> QueueState:
        (tmp_path / "squeue").write_text("\n".join(["#!/bin/sh", *lines, ""]))
        (tmp_path / "squeue").chmod(0o755)
        return asyncio.run(ask_queue(JOBS))

    return replaced


def test_jobs_that_have_ended_are_named(squeue):
    said = squeue("echo 1 PENDING", "echo 2 FAILED", "echo 3 COMPLETING", "echo 4 TIMEOUT")
    assert said.ended == ["2", "4"]
    assert squeue("echo 11 FAILED", "echo 1 REQUEUED", "echo", "echo 3").ended == []
    # As SLURM 22.05 prints it for a partition with PreemptMode=CANCEL.
    assert squeue("echo 1 PREEMPTED None").ended == ["1"]


def test_ends_of_jobs_are_given_in_words(squeue):
    """The lines are those of SLURM 22.05."""
    squeue("echo 1 TIMEOUT TimeLimit", "echo 2 RUNNING None", "echo 3 PREEMPTED None", "echo 9 FAILED None")
    assert asyncio.run(ask_ends(JOBS)) == ["TIMEOUT: TimeLimit", "PREEMPTED"]
    squeue("exit 1")
    assert asyncio.run(ask_ends(JOBS)) == asyncio.run(ask_ends({})) == []


def test_reasons_of_waiting_jobs_are_counted(squeue):
    """The lines are those of SLURM 22.05."""
    said = squeue(
        "echo 1 PENDING PartitionTimeLimit",
        "echo 2 CANCELLED None",
        "echo 3 PENDING PartitionTimeLimit",
        "echo 4 RUNNING None",
        "echo 9 PENDING JobHeldUser",
    )
    assert said == (["2"], "2 jobs are PENDING: PartitionTimeLimit; 1 job is RUNNING", [])
    reason = "Nodes required for job are DOWN, DRAINED or reserved"
    assert squeue(f"echo '1 PENDING {reason}'").waiting == f"1 job is PENDING: {reason}"


def test_jobs_that_slurm_does_not_list_are_named_only_if_it_answers(squeue):
    assert squeue("echo 1 RUNNING None", "echo 3 PENDING Priority").unlisted == ["2", "4"]
    assert squeue("exit 1") == ([], "squeue does not answer", [])


@pytest.mark.parametrize("lines", [["echo 2 FAILED", "exit 1"], [], ["echo 2 FAILED", "exec sleep 30"]])
def test_an_answer_that_fails_or_is_late_names_none(squeue, monkeypatch, lines):
    monkeypatch.setattr(job_states, "ANSWER_S", 0.3)
    assert squeue(*lines).ended == []


def test_without_slurm_or_jobs_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(ask_queue(JOBS)).ended == asyncio.run(ask_queue({})).ended == []
