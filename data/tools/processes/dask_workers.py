"""The workers of a Dask scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client


def workers_of(client: Client) -> dict[str, Any]:
    """Return the scheduler's record of each worker, by address. Raises CommClosedError if it is gone."""
    from distributed.comm import CommClosedError

    known: dict[str, Any] | None = client.scheduler_info(n_workers=-1).get("workers")
    if known is None:  # Dask's client forgets everything when the connection breaks
        raise CommClosedError("the scheduler is gone")
    return known
