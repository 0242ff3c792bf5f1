"""The injected faults: most of the short form in `make test`, the others marked slow.

`make test-faults` injects all faults and prints a table; with ``ARGS=--short`` those of the short form.
"""

from __future__ import annotations

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.harness import inject_fault
from tests.faults.workspace import open_workspace

# Faults of the short form that take 6 to 31 s: left to `make test-all` and `make test-faults`. Edited labels
# and corpora of one name are tested in one process, too (tests/model/test_identity.py).
LONG = {
    "SIGKILL in the middle of epoch 2",
    "SIGTERM while shards are being computed",
    "Ctrl-C in a terminal while shards are being computed",
    "SIGKILL of the main process in the speech stage, after 1 shards",
    "SIGKILL of the main process, random time 1",
    "a label of the table is edited between commands",
    "another corpus of the same name, files and speakers in one cache",
    "evaluate is killed while it writes",
    "the disk fills up before a checkpoint",
    "Dask scheduler, workers and dashboard with default settings",
}


@pytest.fixture(scope="session")
def work():
    with open_workspace() as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            f,
            id=f"{f.group.split()[0]}-{f.name}",
            marks=[] if f.short and f.name not in LONG else [pytest.mark.slow],
        )
        for f in FAULTS
    ],
)
def test_fault(work, fault):
    verdict = inject_fault(fault, work)
    if verdict.result == "skipped":
        pytest.skip(verdict.seen)
    assert verdict.result == "ok", verdict.trace


def test_the_long_faults_are_those_of_the_catalogue():
    assert LONG <= {fault.name for fault in FAULTS if fault.short}
