"""Forgets old deliveries, dead letters and the last of each type aside: a few at a time, so that nobody waits.

The mirror depends on no delivery that was applied. One that is forgotten and comes again is merged again, and tells
nothing new.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tenantry import mirror
from tenantry.errors import TenantryError

log = logging.getLogger("tenantry")

BATCH = 1000  # deliveries a transaction: some ten milliseconds
EVERY_SECONDS = 3600
FIRST_SECONDS = 60  # after the start: an app may be redeployed more often than every hour
_PAUSE_SECONDS = 0.2  # between two batches: webhooks go first


def horizon(seconds: int) -> str:
    """The time so long ago, as the database reads it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


async def forget(run: Callable[[mirror.Call], Awaitable[str]], seconds: int, *, batch: int = BATCH) -> int:
    """Forgets what was received longer ago than this, each batch in a transaction of its own; how many went.

    Where another process is at it, it is left to that one. Raises TenantryError.
    """
    before = horizon(seconds)
    forgotten = 0
    while True:
        told: dict[str, Any] = mirror.decode(await run(mirror.forget_events(before, limit=batch)))
        forgotten += int(told["forgotten"])
        if told["forgotten"] < batch:
            return forgotten
        await asyncio.sleep(_PAUSE_SECONDS)


async def keep_retention(
    run: Callable[[mirror.Call], Awaitable[str]],
    seconds: int,
    *,
    every: float = EVERY_SECONDS,
    first: float = FIRST_SECONDS,
) -> None:
    """Forgets again and again, for ever; of several processes one at a time does it."""
    pause = first
    while True:
        await asyncio.sleep(random.uniform(0.5, 1) * pause)
        pause = every
        try:
            forgotten = await forget(run, seconds)
        except TenantryError as error:
            log.warning("retention: %s", " ".join(str(error).split()))
        except Exception:
            log.exception("retention")
        else:
            if forgotten:
                log.info("retention: %d deliveries forgotten", forgotten)
