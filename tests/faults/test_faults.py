"""The injected faults: those of the short form in `make test`, the others marked slow.

`make test-faults` injects all faults and prints a table.
"""

from __future__ import annotations

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.harness import inject_fault
from tests.faults.workspace import open_workspace


@pytest.fixture(scope="session")
def work():
    with open_workspace() as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f"{f.group.split()[0]}-{f.name}", marks=[] if f.short else [pytest.mark.slow])
        for f in FAULTS
    ],
)
def test_fault(work, fault):
    verdict = inject_fault(fault, work)
    if verdict.result == "skipped":
        pytest.skip(verdict.seen)
    assert verdict.result == "ok", verdict.trace
