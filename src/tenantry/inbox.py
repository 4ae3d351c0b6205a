"""Records webhook deliveries in groups: those that wait together share one call and one commit.

A delivery that comes alone goes at once. While a call is under way the next ones gather, and go together when it is
done; so a group is as large as the load makes it, and nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from tenantry.mirror import Outcome
from tenantry.webhooks import Delivery

Record = Callable[[Sequence[Delivery]], Awaitable[list[Outcome]]]

LARGEST_GROUP = 32
MOST_CALLS = 2


class Inbox:
    """Hands deliveries to `record`, at most `most_calls` groups at a time."""

    def __init__(self, record: Record, *, largest_group: int = LARGEST_GROUP, most_calls: int = MOST_CALLS) -> None:
        self._record = record
        self._largest_group = largest_group
        self._most_calls = most_calls
        self._waiting: deque[tuple[Delivery, asyncio.Future[Outcome]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def submit(self, delivery: Delivery) -> Outcome:
        """What became of the delivery, once it is committed. Raises what `record` raised: then nothing is stored.

        A caller that is cancelled meanwhile does not take its delivery back: others are in the same commit.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, future))
        if len(self._calls) < self._most_calls:
            call = asyncio.create_task(self._work())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await asyncio.shield(future)

    async def drain(self) -> None:
        """Waits until everything submitted is recorded or failed."""
        while self._calls:
            await asyncio.wait(self._calls)

    async def _work(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), self._largest_group)
            group = [self._waiting.popleft() for _ in range(count)]
            try:
                outcomes = await self._record([delivery for delivery, _ in group])
                for (_, future), outcome in zip(group, outcomes, strict=True):
                    if not future.done():
                        future.set_result(outcome)
            except BaseException as error:
                _fail(group, error)
                if not isinstance(error, Exception):
                    raise


def _fail(group: Sequence[tuple[Delivery, asyncio.Future[Outcome]]], error: BaseException) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error if isinstance(error, Exception) else ConnectionError("recording was cancelled"))
            future.exception()  # whoever waits sees it; where nobody does any more, asyncio must not complain
