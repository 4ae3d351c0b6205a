"""Notices that Clerk's deliveries have stopped, from outside of what receives them.

A quiet hour is no alarm: an instance may have nothing to tell. So after a time without a delivery Clerk is asked for
its newest users, organizations and memberships. One that was created since the last delivery, or has content the mirror
does not know, should have been told of. Deletions leave no trace in a list: a reconcile run finds those.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tenantry import mirror
from tenantry.clerk import open_api
from tenantry.errors import TenantryError, WrongInstance

if TYPE_CHECKING:
    from tenantry.clerk import BackendApi
    from tenantry.mirror import Call
    from tenantry.settings import Settings

log = logging.getLogger("tenantry")

Run = Callable[["Call"], Awaitable[str]]
Tell = Callable[["Silence"], Awaitable[None]]

_QUESTIONS = 4  # to a time of silence
_TRIES, _ANSWER_SECONDS = 2, 5  # who asks waits for it, or asks again
_LOOKED_AT = 10  # of each kind: the newest alone may be one that need not have been told
_ON_ITS_WAY_MS = 120_000  # a change so young may be delivered yet
_CLOCKS_MS = 5000  # by which Clerk's clock and the database's may differ
_NEWEST = (
    ("users", "/users", "-updated_at"),
    ("organizations", "/organizations", "-created_at"),  # Clerk orders these by no time of update
    ("memberships", "/organization_memberships", "-created_at"),
)
_PRIVATE = ("private_metadata", "unsafe_metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No delivery came after `since` (the installation, where none ever came), yet at `changed_at` Clerk changed."""

    since: datetime
    changed_at: datetime


async def ask_clerk(settings: Settings, run: Run, since: datetime, instance_id: str | None) -> Silence | None:
    """Whether something changed at Clerk that no delivery has told of since the last. `instance_id`: the database's.

    Raises ConfigurationError without a secret key, WrongInstance, ClerkRefused, ClerkUnavailable.
    """
    async with open_api(settings, tries=_TRIES, within=_ANSWER_SECONDS) as api:
        asked = await api.instance_id()
        if instance_id not in (None, asked):
            raise WrongInstance(f"The secret key is of {asked}, the database of {instance_id}.")
        changed_at = await _newest_untold(api, run, int(since.timestamp() * 1000), asked)
    if changed_at is None:
        return None
    return Silence(since=since, changed_at=datetime.fromtimestamp(changed_at / 1000, UTC))


async def watch(settings: Settings, run: Run, tell: Tell) -> None:
    """Asks Clerk when no delivery has come for `settings.silence` seconds, for ever; calls `tell` once a silence.

    Of several processes one asks, and one tells.
    """
    every = settings.silence / _QUESTIONS
    pause = random.uniform(0.02, 0.1) * every
    while True:
        await asyncio.sleep(pause)
        pause = random.uniform(0.9, 1.1) * every
        try:
            silence = await _find_silence(settings, run, every)
        except TenantryError as error:
            log.warning("watching for silence: %s", " ".join(str(error).split()))
            continue
        except Exception:
            log.exception("watching for silence")
            continue
        if silence is not None:
            log.error(
                "no webhook has arrived since %s, yet something changed at Clerk at %s. Next: tenantry status",
                *(f"{when:%Y-%m-%d %H:%M:%S %Z}" for when in (silence.since, silence.changed_at)),
            )
            await tell(silence)


async def _find_silence(settings: Settings, run: Run, every: float) -> Silence | None:
    """One that nobody has been told of: who gets it tells."""
    turn = mirror.decode(await run(mirror.watch_silence(settings.silence, 0.8 * every)))
    if not turn:
        return None
    silence = await ask_clerk(settings, run, datetime.fromisoformat(turn["since"]), turn["instance_id"])
    if silence is None:
        return None
    call = mirror.raise_silence(turn["since"], int(silence.changed_at.timestamp() * 1000))
    return silence if mirror.decode(await run(call))["raised"] else None


async def _newest_untold(api: BackendApi, run: Run, since: int, instance_id: str) -> int | None:
    """When, in ms of Clerk's clock, the newest change was that should have been told after `since`."""
    since += _CLOCKS_MS
    until = api.now() - _ON_ITS_WAY_MS
    found = []
    for kind, path, order in _NEWEST:
        page = await api.page(path, limit=_LOOKED_AT, order_by=order)
        newer = [shown for shown in (page.objects if page else ()) if max(_times(shown)) > since]
        found += [_ms(shown.get("created_at")) for shown in newer]
        changed = [shown for shown in newer if _ms(shown.get("created_at")) <= since]
        differing = await _differing(run, kind, changed, instance_id, api.now())
        found += [_ms(shown.get("updated_at")) for shown in changed if shown["id"] in differing]
    return max((at for at in found if since < at <= until), default=None)


async def _differing(run: Run, kind: str, shown: list[dict[str, Any]], instance_id: str, now: int) -> set[str]:
    """Of which the mirror has other content: a new `updated_at` alone need not have been told."""
    if not shown:
        return set()
    slim = [{name: value for name, value in one.items() if name not in _PRIVATE} for one in shown]
    options = {"observed_at": now, "instance_id": instance_id, "dry_run": True}
    return {each["id"] for each in mirror.decode(await run(mirror.merge_page(kind, slim, options)))["drift"]}


def _times(shown: dict[str, Any]) -> tuple[int, int]:
    return _ms(shown.get("created_at")), _ms(shown.get("updated_at"))


def _ms(value: object) -> int:
    return value if isinstance(value, int) else 0
