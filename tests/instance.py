"""A Clerk instance that signs tokens and webhook deliveries, and a small app with Tenantry installed beside it."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from databases import ANY, APP, OWNER, SUPERUSER, Database, Server
from signer import ISSUER, ORIGIN, Signer, claims_v2
from sql.clerk_objects import INSTANCE, deleted, event, membership, organization, user
from tenantry import schema
from tenantry.fastapi import Tenantry
from tenantry.settings import Settings
from tenantry.sqlalchemy import TenantScoped

SECRET = "whsec_" + base64.b64encode(b"a key that only tests have").decode()
_TEMPLATE = "tenantry_web_template"
_made: set[int] = set()


class Base(DeclarativeBase):
    pass


class Document(TenantScoped, Base):
    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


# --- Clerk ------------------------------------------------------------------------------------------------------------


@cache
def signer() -> Signer:
    """One key for the run: making it is slow."""
    return Signer(kid=INSTANCE)


def token(user_id: str = "user_1", org_id: str | None = "org_1", *, role: str = "member", **changes: Any) -> str:
    """A session token; of no organization with `org_id=None`. A change to None removes a claim."""
    org = (
        None if org_id is None else {"id": org_id, "slg": f"slug-of-{org_id}", "rol": role, "per": "read", "fpm": "1,1"}
    )
    return signer().sign(claims_v2(**{"sub": user_id, "sid": f"sess_of_{user_id}", "o": org, **changes}))


def bearer(*args: Any, **kwargs: Any) -> dict[str, str]:
    """The headers of a request with such a token."""
    return {"Authorization": f"Bearer {token(*args, **kwargs)}"}


_numbers = count(1)


def delivery(told: Any, message_id: str | None = None, *, at: int | None = None) -> tuple[dict[str, str], bytes]:
    """Headers and body as Svix sends them; signed by hand (Standard Webhooks v1), `at` in Unix seconds."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    message_id = message_id or f"msg_{next(_numbers)}"
    stamp = str(int(time.time()) if at is None else at)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, b".".join((message_id.encode(), stamp.encode(), body)), "sha256")
    signature = "v1," + base64.b64encode(mac).decode()
    return {"svix-id": message_id, "svix-timestamp": stamp, "svix-signature": signature}, body


def now_ms() -> int:
    return int(time.time() * 1000)


def joined(user_id: str = "user_1", org_id: str = "org_1", *, role: str = "org:member", at: int | None = None) -> Any:
    """The event that somebody became a member, an hour ago unless `at` (ms) says when."""
    at = now_ms() - 3_600_000 if at is None else at
    org = organization(org_id, at=at, created_at=at)
    shown = membership(f"orgmem_{org_id}_{user_id}", of=org, user_id=user_id, role=role, at=at, created_at=at)
    return event("organizationMembership.created", shown, at=at)


def removed(user_id: str = "user_1", org_id: str = "org_1") -> Any:
    """The event that somebody is no member any more, as of now."""
    told = joined(user_id, org_id)
    return told | {"type": "organizationMembership.deleted", "timestamp": now_ms()}


def banned(user_id: str = "user_1") -> Any:
    return event("user.updated", user(user_id, at=now_ms(), banned=True), at=now_ms())


def gone(kind: str, object_id: str) -> Any:
    """The event that an organization or user was deleted."""
    return event(f"{kind}.deleted", deleted(kind, object_id), at=now_ms())


# --- the database -----------------------------------------------------------------------------------------------------


@contextmanager
def fresh_database(servers: Callable[[int], Server], version: int = ANY) -> Iterator[Database]:
    """A database with Tenantry's schema and the isolated table `documents`; of one version, where any will do."""
    server = servers(version)
    if id(server) not in _made:
        server.make_template(_TEMPLATE, _fill)
        _made.add(id(server))
    database = server.create(_TEMPLATE)
    yield database
    server.drop(database)


def _fill(database: Database) -> None:
    with database.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[APP, OWNER])
    with database.connect(OWNER) as connection:
        connection.execute(
            "create table documents (id int generated always as identity primary key, title text not null)"
        )
        connection.execute("select tenantry.isolate_table_v1('documents')")


# --- the app ----------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A running app: its Tenantry, a client without a token, sessions of both kinds."""

    database: Database
    tenancy: Tenantry
    app: FastAPI
    client: httpx.AsyncClient
    sessions: async_sessionmaker[AsyncSession]
    sync_sessions: sessionmaker[Session]
    seen: list[Any] = field(default_factory=list)

    async def deliver(self, *events: Any) -> None:
        for told in events:
            answer = await self.post(told)
            assert answer.json()["outcome"] == "applied", answer.text

    async def post(self, told: Any, message_id: str | None = None, **options: Any) -> httpx.Response:
        headers, body = delivery(told, message_id, **options)
        return await self.client.post("/webhooks/clerk", headers=headers, content=body)

    async def get(self, path: str, *args: Any, **kwargs: Any) -> httpx.Response:
        """As somebody: the rest is `token`'s."""
        return await self.client.get(path, headers=bearer(*args, **kwargs))

    def turn_to(self, app: Any) -> None:
        """From now on the client asks another app."""
        self.client._transport = httpx.ASGITransport(app)

    def rows(self, query: Any, *values: Any) -> list[Any]:
        """What the superuser sees."""
        with self.database.connect(SUPERUSER) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []


def settings(database: Database, **changes: Any) -> Settings:
    given = {
        "jwt_key": signer().pem,
        "issuers": (ISSUER,),
        "authorized_parties": frozenset({ORIGIN}),
        "webhook_signing_secrets": (SECRET,),
        "database_url": database.dsn(),
    }
    return Settings(**{**given, **changes})


@asynccontextmanager
async def serving(
    database: Database, build: Callable[[World], None] = lambda world: None, **changes: Any
) -> AsyncIterator[World]:
    """A running app; `build` adds its routes."""
    tenancy = Tenantry(settings(database, **changes))
    app = FastAPI()
    tenancy.install(app)
    engine = create_async_engine(database.url(driver="asyncpg"), pool_size=4, max_overflow=0)
    sync_engine = create_engine(database.url(), pool_size=4, max_overflow=0)
    sessions = tenancy.scoped(async_sessionmaker(engine, expire_on_commit=False))
    sync_sessions = tenancy.scoped(sessionmaker(sync_engine, expire_on_commit=False))
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client,
        tenancy.lifespan(app),
    ):
        world = World(database, tenancy, app, client, sessions, sync_sessions)
        build(world)
        yield world
    await engine.dispose()
    sync_engine.dispose()


class Socket:
    """A websocket against an app, in this event loop: `received` is what the app sent."""

    def __init__(self, app: Any, path: str, headers: dict[str, str]) -> None:
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": raw}
        scope |= {"scheme": "ws", "root_path": "", "subprotocols": [], "server": ("app.test", 80)}
        self._sent.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(app(scope, self._sent.get, self.received.put))

    async def send(self, text: str) -> Any:
        """Sends a text, answers the app's next message."""
        await self._sent.put({"type": "websocket.receive", "text": text})
        return await self.next()

    async def next(self) -> Any:
        return await asyncio.wait_for(self.received.get(), 10)

    async def close(self) -> None:
        await self._sent.put({"type": "websocket.disconnect", "code": 1000})
        await self._task
