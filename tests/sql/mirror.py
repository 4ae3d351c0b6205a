"""The mirror as these tests drive it: hands deliveries and pages over, reads rows back."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from sql.clerk_objects import INSTANCE, Json, Truth


@dataclass(frozen=True)
class Mirror:
    """A connection to a database with the schema; its login need not be the app's."""

    connection: psycopg.Connection[Any]

    def deliver(self, event: Any, message_id: str | None = None, **options: Any) -> Json:
        """Records one event, given as an object or as a body; answers its outcome."""
        return self.deliver_all([self.delivery(event, message_id, **options)])[0]

    @staticmethod
    def delivery(event: Any, message_id: str | None = None, **options: Any) -> Json:
        body = event if isinstance(event, str) else json.dumps(event)
        return {"message_id": message_id or f"msg_{uuid4().hex}", "body": body, **options}

    def deliver_all(self, batch: Any) -> list[Json]:
        return cast(list[Json], self.one("select tenantry.record_events_v1(%s)", Jsonb(batch)))

    def merge_page(self, kind: str, page: Any, at: int, absent: Sequence[str] = (), **options: Any) -> Json:
        given = {"observed_at": at, "instance_id": INSTANCE, "absent": list(absent), **options}
        return cast(Json, self.one("select tenantry.merge_page_v1(%s, %s, %s)", kind, Jsonb(page), Jsonb(given)))

    def provision(self, identity: Json) -> Json:
        return cast(Json, self.one("select tenantry.provision_v1(%s)", Jsonb(identity)))

    def run(self, query: str, *values: Any) -> psycopg.Cursor[Any]:
        return self.connection.execute(query, values or None)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.run(query, *values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """The one value of the one row."""
        ((value,),) = self.rows(query, *values)
        return value

    def column(self, query: str, *values: Any) -> list[Any]:
        return [value for (value,) in self.rows(query, *values)]

    def state(self) -> Truth:
        """What is live, as the mirror has it."""
        return Truth(
            dict(self.rows("select clerk_org_id, name from tenantry.tenants where ended_at is null")),
            {
                user_id: (name, banned)
                for user_id, name, banned in self.rows(
                    "select id, first_name, banned from tenantry.users where ended_at is null"
                )
            },
            {
                (org_id, user_id): role
                for org_id, user_id, role in self.rows(
                    "select t.clerk_org_id, m.user_id, m.role"
                    " from tenantry.members m join tenantry.tenants t on t.id = m.tenant_id"
                )
            },
        )

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every mirrored row's content, liveness and doubt: what must not depend on the order of deliveries."""
        common = "revision, content_hash, ended_at is null, deleted_at, needs_refetch"
        wanted = {
            "tenants": f"clerk_org_id, name, slug, public_metadata, {common}",
            "users": f"id, first_name, primary_email, banned, {common}",
            "tenant_memberships": f"id, tenant_id, user_id, role, created_at, {common}",
            "invitations": f"id, tenant_id, email_address, status, {common}",
        }
        return {
            table: self.rows(f"select {columns} from tenantry.{table} order by 1") for table, columns in wanted.items()
        }

    def kinds(self) -> list[str]:
        """The kinds of the changes, in the order they were written."""
        return self.column("select kind from tenantry.changes order by seq")

    def check_feed(self) -> None:
        """For each pair joined and left alternate, beginning with joined, and end in what the view `members` says."""
        joined: dict[Any, bool] = defaultdict(bool)
        for kind, *pair in self.rows(
            "select kind, tenant_id, user_id from tenantry.changes"
            " where kind in ('member.joined', 'member.left') order by seq"
        ):
            key = tuple(pair)
            assert joined[key] == (kind == "member.left"), f"{kind}, and the pair was {'' if joined[key] else 'not '}in"
            joined[key] = kind == "member.joined"
        members = set(self.rows("select tenant_id, user_id from tenantry.members"))
        assert {pair for pair, inside in joined.items() if inside} == members
