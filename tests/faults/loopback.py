"""11. Loopback: no process listens on the network unless a setting asks for it."""

from __future__ import annotations

import psutil

from tests.faults.harness import faults
from tests.faults.processes import Running, wait_until
from tests.faults.workspace import Workspace, shards

loopback = faults("11 loopback")
LOCAL = {"127.0.0.1", "::1"}


def listening(run: Running) -> set[str]:
    """Addresses on which any process of a program listens."""
    found = set()
    for process in run.session():
        try:
            found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return found


@loopback(
    "Dask scheduler, workers and dashboard with default settings", "listen on loopback only", short=True
)
def default_addresses(work: Workspace) -> str:
    cache = work.folder()
    run = work.start("preprocess", *work.words(cache))
    seen: set[str] = set()

    def watched() -> bool:
        seen.update(listening(run))
        return len(shards(cache)) >= 6

    wait_until(watched, run)
    assert seen, "no process listens"
    assert seen <= LOCAL, f"listens on {sorted(seen - LOCAL)}"
    return f"{', '.join(sorted(seen))}"


@loopback("dashboard=0.0.0.0:0", "only the dashboard listens elsewhere, as set")
def other_dashboard_address(work: Workspace) -> str:
    cache = work.folder()
    run = work.start_preprocessing(cache, 2, "dashboard=0.0.0.0:0")
    seen = listening(run)
    assert seen - LOCAL == {"0.0.0.0"}, f"listens on {sorted(seen)}"
    return f"{', '.join(sorted(seen))}"


@loopback("training", "does not listen")
def training(work: Workspace) -> str:
    from tests.faults import training as t

    run = work.folder() / "run"
    program = t.start(work, run)
    wait_until(lambda: t.rows(run) >= 2, program)
    assert not (seen := listening(program)), seen
    return "nothing"
