"""Clerk's rate limits for a development instance, counted in fixed windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tenantry.emulator.errors import ClerkError


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `requests` in `seconds`."""

    requests: int
    seconds: int


# As documented by Clerk. The key set has no limit.
BACKEND_API = Limit(100, 10)
ONE_OBJECT = Limit(10, 10)
INVITATIONS = Limit(250, 3600)
INVITATIONS_BULK = Limit(50, 3600)


class RateLimiter:
    """Counts by limit and key. `clock` is in milliseconds.

    `refuses` is asked with the number of each request to the Backend API, and may refuse it whatever the count.
    """

    def __init__(
        self, clock: Callable[[], int], *, enabled: bool = True, refuses: Callable[[int], bool] = lambda number: False
    ) -> None:
        self.enabled = enabled
        self._clock = clock
        self._refuses = refuses
        self._numbers = itertools.count(1)
        self._windows: dict[tuple[Limit, str], tuple[int, int]] = {}

    def count(self, limit: Limit, key: str) -> None:
        """ClerkError 429, with the seconds until the window ends, when this request is one too many."""
        if limit == BACKEND_API and self._refuses(next(self._numbers)):
            raise _too_many(1)
        if not self.enabled:
            return
        now = self._clock()
        start, requests = self._windows.get((limit, key), (now, 0))
        end = start + limit.seconds * 1000
        if now >= end:
            start, end, requests = now, now + limit.seconds * 1000, 0
        if requests >= limit.requests:
            raise _too_many(max(1, -(-(end - now) // 1000)))
        self._forget_ended(now)
        self._windows[limit, key] = (start, requests + 1)

    def _forget_ended(self, now: int) -> None:
        if len(self._windows) > 10_000:
            alive = {key: window for key, window in self._windows.items() if now < window[0] + key[0].seconds * 1000}
            self._windows = alive


def _too_many(seconds: int) -> ClerkError:
    message = "Too many requests. Please try again in a bit."
    return ClerkError(429, "too_many_requests", message, retry_after=seconds)
