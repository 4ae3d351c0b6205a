"""Shows what changes in the mirror, as it happens, to whoever looks at a development run's terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenantry import mirror
from tenantry.database import connect, run
from tenantry.dev.screen import Screen
from tenantry.errors import TenantryError

if TYPE_CHECKING:
    import psycopg

POLL_SECONDS = 0.5  # where nobody notifies: an app that is not ours may receive the webhooks
READY_SECONDS = 3.0
STOP_SECONDS = 5.0
_PAGE = 200
# What tells an object from others of its tenant, by the subject of its kind.
_DETAILS = {
    "member": "role",
    "invitation": "role",  # the feed keeps no address
    "domain": "name",
    "role": "key",
    "permission": "key",
}
_NAMES = """
    select id::text, coalesce(name, clerk_org_id, 'a personal account') from tenantry.tenants where id = any (%s)
    union all
    select id, coalesce(nullif(concat_ws(' ', first_name, last_name), ''), username, primary_email, id)
    from tenantry.users where id = any (%s)
"""


@contextmanager
def following(url: str, screen: Screen) -> Iterator[None]:
    """Shows the changes made while the block runs, read at `url` on a thread of its own."""
    ready, stopping = threading.Event(), threading.Event()
    thread = threading.Thread(target=_follow, args=(url, screen, ready, stopping), daemon=True)
    thread.start()
    ready.wait(READY_SECONDS)  # from here on no change is missed, unless the database is away
    try:
        yield
    finally:
        stopping.set()
        thread.join(STOP_SECONDS)


def _follow(url: str, screen: Screen, ready: threading.Event, stopping: threading.Event) -> None:
    feed = _Feed(screen)
    while not stopping.is_set():
        try:
            with connect(url) as connection:
                connection.execute("listen tenantry_changes")
                while not stopping.is_set():
                    feed.show_next(connection)
                    ready.set()
                    for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                        pass
        except TenantryError:  # the app says so; here it is enough to try again
            stopping.wait(POLL_SECONDS)


class _Feed:
    """Where reading is, and who is who; a name that was known stays when its owner is deleted."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._after: int | None = None
        self._names: dict[str, str] = {}

    def show_next(self, connection: psycopg.Connection[Any]) -> None:
        run(connection, mirror.sequence_changes())
        if self._after is None:
            row = connection.execute("select coalesce(max(pos), 0) from tenantry.changes").fetchone()
            self._after = row[0] if row else 0
        page = mirror.decode(run(connection, mirror.read_changes(self._after, _PAGE)))
        self._learn_names(connection, page["changes"])
        for change in page["changes"]:
            self._show(change)
        self._after = page["pos"]

    def _learn_names(self, connection: psycopg.Connection[Any], changes: Sequence[dict[str, Any]]) -> None:
        ids = [{change[name] for change in changes if change[name]} for name in ("tenant_id", "user_id")]
        if not any(ids):
            return
        with connection.transaction():
            run(connection, mirror.bypass_tenant("names for the screen of tenantry dev"))
            for known, name in connection.execute(_NAMES, [list(some) for some in ids]):
                if name != known:
                    self._names[known] = name

    def _show(self, change: dict[str, Any]) -> None:
        """Who, what tells the object from others, and of which organization; else the object's own id."""
        content = change["after"] or change["before"] or {}
        detail = content.get(_DETAILS.get(change["kind"].partition(".")[0]))
        about = (self._name(change["user_id"]), detail, self._name(change["tenant_id"]))
        words = [word for word in about if word] or [change["object_id"]]
        self._screen.show_change(change["kind"], words, change["cause"])

    def _name(self, id: str | None) -> str | None:
        return self._names.get(id, id) if id else None
