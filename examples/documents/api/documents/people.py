"""The organization's people, read from the mirror that Clerk's webhooks keep. Only its own members are visible."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import DateTime, column, select, table
from sqlalchemy.ext.asyncio import AsyncSession

# The mirror belongs to Tenantry: named here, and no part of this app's own metadata and migrations.
MEMBERS = table(
    "members", column("user_id"), column("role"), column("created_at", DateTime(timezone=True)), schema="tenantry"
)
USERS = table(
    "users", column("id"), column("first_name"), column("last_name"), column("primary_email"), schema="tenantry"
)


@dataclass(frozen=True)
class Member:
    """A live member of the current organization; `role` carries `org:`."""

    user_id: str
    name: str
    email: str | None
    role: str
    since: datetime | None


async def list_members(session: AsyncSession) -> list[Member]:
    """In the order they joined."""
    query = (
        select(
            MEMBERS.c.user_id,
            MEMBERS.c.role,
            MEMBERS.c.created_at,
            USERS.c.first_name,
            USERS.c.last_name,
            USERS.c.primary_email,
        )
        .join_from(MEMBERS, USERS, USERS.c.id == MEMBERS.c.user_id)
        .order_by(MEMBERS.c.created_at, MEMBERS.c.user_id)
    )
    return [
        Member(
            user_id=row.user_id,
            name=" ".join(filter(None, (row.first_name, row.last_name))) or row.primary_email or row.user_id,
            email=row.primary_email,
            role=row.role,
            since=row.created_at,
        )
        for row in await session.execute(query)
    ]
