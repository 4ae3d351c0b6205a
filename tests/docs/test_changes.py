"""The page on reacting to changes: its handlers are told, and write what the page says they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from databases import OWNER, Database, Server
from instance import Base, Document, World, fresh_database, gone, joined, removed
from snippets import blocks
from telling import consumer, telling, until
from tenantry.sqlalchemy import TenantScoped

PAGE = "docs/changes.md"


class AuditEntry(TenantScoped, Base):
    __tablename__ = "audit_entries"
    pos: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    about: Mapped[str]


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        with made.connect(OWNER) as connection:
            connection.execute("create table audit_entries (pos bigint primary key, kind text, about text)")
            connection.execute("select tenantry.isolate_table_v1('audit_entries')")
        yield made


async def test_the_pages_handlers_write_what_the_page_says(database: Database) -> None:
    def register(world: World) -> None:
        given: dict[str, Any] = {"tenancy": world.tenancy, "AsyncSession": AsyncSession, "Session": Session}
        given |= {"Document": Document, "AuditEntry": AuditEntry}
        code = "\n".join(blocks(PAGE, "python"))
        exec(compile(code, PAGE, "exec"), given)

    async with telling(database, register) as world:
        await world.deliver(joined("user_1"), joined("user_2", "org_2"), removed("user_1"))
        await world.deliver(gone("organization", "org_2"))
        await until(lambda: all(consumer(world, name)["behind"] == 0 for name in ("greet", "audit")))
        assert world.rows("select title from documents order by 1") == [("Welcome, user_1",), ("Welcome, user_2",)]
        assert world.rows("select kind, about from audit_entries order by pos") == [
            ("member.joined", "orgmem_org_1_user_1"),
            ("member.joined", "orgmem_org_2_user_2"),
            ("member.left", "orgmem_org_1_user_1"),
            ("member.left", "orgmem_org_2_user_2"),
            ("tenant.deleted", "org_2"),
        ]
