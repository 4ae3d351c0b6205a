"""Deliveries are found through their indexes, however many there are, and odd questions are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from databases import SUPERUSER, Database
from sql.clerk_objects import event, user
from sql.mirror import Mirror

MANY = 20_000


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def fill(mirror: Mirror) -> None:
    mirror.run(
        "insert into tenantry.webhook_events (message_id, type, user_id, org_id, outcome, digest, received_at)"
        " select 'x' || g, 'user.updated', 'user_' || g % 5000, 'org_1', 'applied', '', now() - g * interval '1 s'"
        f" from generate_series(1, {MANY}) as g"
    )
    mirror.run(
        "insert into tenantry.changes (kind, object_id, cause, message_id)"
        f" select 'user.updated', 'user_1', 'webhook', 'x' || g from generate_series(1, {MANY}) as g"
    )
    mirror.run("analyze tenantry.webhook_events, tenantry.changes")


@pytest.mark.parametrize(
    "query",
    [
        """tenantry.list_events_v1('{"types": ["role.deleted"]}')""",
        """tenantry.list_events_v1('{"types": ["role.*", "user.created"]}')""",
        """tenantry.list_events_v1('{"types": ["user.*"]}')""",
        """tenantry.list_events_v1('{"user_id": "user_nobody"}')""",
        """tenantry.list_events_v1('{"user_id": "user_7"}')""",
        "tenantry.read_event_v1('x1')",
    ],
)
def test_deliveries_are_found_without_reading_the_whole_inbox_or_feed(mirror: Mirror, query: str) -> None:
    fill(mirror)
    mirror.deliver(event("user.created", user()))
    with mirror.connection.transaction():
        mirror.one(f"select {query}")
        read = mirror.one(
            "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_all_tables"
            " where schemaname = 'tenantry' and relname in ('webhook_events', 'changes')"
        )
    assert read < 200, "rows"


@pytest.mark.parametrize(
    "options",
    ["x", [], None, {"types": "user.created"}, {"outcomes": {"failed": True}}, {"limit": "x"}, {"since": "x"}],
)
def test_what_cannot_be_asked_for_is_refused(mirror: Mirror, options: object) -> None:
    with pytest.raises(psycopg.Error) as refused:
        mirror.one("select tenantry.list_events_v1(%s::jsonb)", json.dumps(options))
    assert refused.value.sqlstate == "TY010"
