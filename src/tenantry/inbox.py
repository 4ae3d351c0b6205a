"""Records webhook deliveries in groups: those that wait together share one call and one commit.

A delivery that comes alone goes at once. While a call is under way the next ones gather, and go together when it is
done; so a group is as large as the load makes it, and nobody waits for a timer. A group that the database refuses is
recorded one by one, so that a single delivery it cannot take does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from tenantry.errors import DatabaseUnavailable
from tenantry.mirror import Outcome
from tenantry.webhooks import Delivery

Record = Callable[[Sequence[Delivery]], Awaitable[list[Outcome]]]
_Waiting = tuple[Delivery, asyncio.Future[Outcome]]

LARGEST_GROUP = 32
MOST_CALLS = 2
MOST_WAITING = 512  # what memory must hold while the database is slow; Svix sends the others again


class Inbox:
    """Hands deliveries to `record`, at most `most_calls` groups at a time."""

    def __init__(
        self,
        record: Record,
        *,
        largest_group: int = LARGEST_GROUP,
        most_calls: int = MOST_CALLS,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._record = record
        self._largest_group = largest_group
        self._most_calls = most_calls
        self._most_waiting = most_waiting
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def submit(self, delivery: Delivery) -> Outcome:
        """What became of the delivery, once it is committed. Raises what `record` raised: then nothing is stored.

        A caller that is cancelled meanwhile does not take its delivery back: others are in the same commit.
        """
        if len(self._waiting) >= self._most_waiting:
            raise DatabaseUnavailable(f"{len(self._waiting)} webhook deliveries wait for the database already.")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, future))
        if len(self._calls) < self._most_calls:
            self._calls.add(asyncio.create_task(self._work()))
        return await future

    async def drain(self) -> None:
        """Waits until everything submitted is recorded or failed."""
        while self._calls:
            await asyncio.wait(self._calls)

    async def _work(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), self._largest_group)
                await self._settle([self._waiting.popleft() for _ in range(count)])
        finally:
            # Here and not in a done callback: one runs later, and a delivery submitted before it would start no call.
            self._calls.discard(asyncio.current_task())

    async def _settle(self, group: Sequence[_Waiting]) -> None:
        """Records a group and tells everyone in it what became of their delivery."""
        try:
            outcomes = await self._record([delivery for delivery, _ in group])
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)
        except Exception as error:  # noqa: BLE001  whoever waits for the delivery raises it
            if len(group) == 1 or isinstance(error, DatabaseUnavailable):
                _fail(group, error)
            else:
                for waiting in group:
                    await self._settle([waiting])
        except BaseException:
            _fail(group, DatabaseUnavailable("The app stopped before the delivery was recorded."))
            raise


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
