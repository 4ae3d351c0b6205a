"""The status for whoever monitors a running app, read at most once a second however many ask."""

from __future__ import annotations

import asyncio
import time

from tenantry import status

DATABASE_SECONDS = 2  # for the database to answer; who asks is a monitor, and waits no longer than some seconds
_FRESH_SECONDS = 1  # what was read serves whoever asks meanwhile


class Health:
    """`run` runs a call in a transaction of its own. `reconcile_every`: see `status.judge`."""

    def __init__(self, run: status.Run, *, reconcile_every: int) -> None:
        self._run = run
        self._every = reconcile_every
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._status: status.Status | None = None

    async def read(self) -> status.Status:
        async with self._reading:
            if self._status is None or time.monotonic() - self._read_at >= _FRESH_SECONDS:
                self._status = await status.gather(self._run, reconcile_every=self._every, within=DATABASE_SECONDS)
                self._read_at = time.monotonic()
            return self._status
