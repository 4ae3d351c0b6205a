"""Rate limits: so many in a window, then 429 until it ends."""

import pytest

from emulator.world import Clock
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.ratelimit import BACKEND_API, Limit, RateLimiter

LIMIT = Limit(3, 10)


def test_one_too_many_is_refused_until_the_window_ends() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(3):
        limiter.count(LIMIT, "a")
    clock.pass_seconds(3.2)
    with pytest.raises(ClerkError) as caught:
        limiter.count(LIMIT, "a")
    assert (caught.value.status, caught.value.retry_after) == (429, 7)
    limiter.count(LIMIT, "b")
    clock.pass_seconds(7)
    limiter.count(LIMIT, "a")


def test_a_request_is_refused_on_request_even_when_the_limits_are_off() -> None:
    limiter = RateLimiter(Clock(), enabled=False, refuses=lambda number: number == 2)
    limiter.count(BACKEND_API, "")
    limiter.count(LIMIT, "a")  # of the same request
    with pytest.raises(ClerkError) as caught:
        limiter.count(BACKEND_API, "")
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    limiter.count(BACKEND_API, "")


def test_a_limiter_that_is_off_refuses_nothing() -> None:
    limiter = RateLimiter(Clock(), enabled=False)
    for _ in range(100):
        limiter.count(LIMIT, "a")


def test_ended_windows_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for number in range(10_001):
        limiter.count(LIMIT, str(number))
    clock.pass_seconds(11)
    limiter.count(LIMIT, "last")
    assert len(limiter._windows) == 1
