"""11. Loopback: nothing of ours listens to the network unless it is told to."""

from __future__ import annotations

import psutil

from tests.faults.harness import faults
from tests.faults.laboratory import Lab, shards
from tests.faults.processes import Running, wait_until

loopback = faults("11 loopback")
LOCAL = {"127.0.0.1", "::1"}


def listening(run: Running) -> set[str]:
    """Addresses at which any process of a program listens."""
    found = set()
    for process in run.family():
        try:
            found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return found


@loopback("the Dask scheduler, workers and dashboard as they are", "listen on loopback alone", short=True)
def as_they_are(lab: Lab) -> str:
    cache = lab.folder()
    run = lab.start("preprocess", *lab.words(cache))
    seen: set[str] = set()

    def watched() -> bool:
        seen.update(listening(run))
        return len(shards(cache)) >= 6

    wait_until(watched, run)
    assert seen, "nothing listens"
    assert seen <= LOCAL, f"listens at {sorted(seen - LOCAL)}"
    return f"{', '.join(sorted(seen))}"


@loopback("dashboard=0.0.0.0:0", "the dashboard alone listens elsewhere, as it was told")
def told(lab: Lab) -> str:
    cache = lab.folder()
    run = lab.preprocessing(cache, 2, "dashboard=0.0.0.0:0")
    seen = listening(run)
    assert seen - LOCAL == {"0.0.0.0"}, f"listens at {sorted(seen)}"
    return f"{', '.join(sorted(seen))}"


@loopback("training", "listens nowhere")
def training(lab: Lab) -> str:
    from tests.faults import training as t

    run = lab.folder() / "run"
    program = t.start(lab, run)
    wait_until(lambda: t.rows(run) >= 2, program)
    assert not (seen := listening(program)), seen
    return "nothing"
