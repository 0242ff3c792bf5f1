"""A Dask client whose first fetch of a result fails, as it may if all workers die at once."""

from __future__ import annotations

import asyncio

import pytest
from distributed import Client, KilledWorker


def fail_first_fetch(client: Client, waits: bool, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let the first fetch wait for ever, or raise KilledWorker; the returned list is empty until then."""
    gather, failed = client._gather, []

    async def fails_at_first(futures, **how):
        if not failed:
            failed.append(futures)
            if waits:
                await asyncio.Event().wait()
            raise KilledWorker("a", None, 0)
        return await gather(futures, **how)

    monkeypatch.setattr(client, "_gather", fails_at_first)
    return failed
