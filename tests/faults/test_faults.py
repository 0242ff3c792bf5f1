"""The injected faults: the short form in `make test`, the others marked slow.

`make test-faults` runs them all and prints a table.
"""

from __future__ import annotations

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.harness import judge
from tests.faults.laboratory import laboratory


@pytest.fixture(scope="session")
def lab():
    with laboratory() as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f"{f.group.split()[0]}-{f.name}", marks=[] if f.short else [pytest.mark.slow])
        for f in FAULTS
    ],
)
def test_fault(lab, fault):
    verdict = judge(fault, lab)
    if verdict.result == "skipped":
        pytest.skip(verdict.seen)
    assert verdict.result == "ok", verdict.trace
