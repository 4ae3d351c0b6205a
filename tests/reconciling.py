"""A Clerk to reconcile with: the emulator over real HTTP, faults on request, and what is true in it field by field."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

from psycopg.types.json import Jsonb
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from databases import SUPERUSER, Database
from emulator.world import serve
from sql.mirror import Mirror
from tenantry.clerk import BackendApi, Budget, open_api
from tenantry.emulator import render
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import EMPTY
from tenantry.emulator.settings import Assumptions, Options
from tenantry.emulator.store import Event, Store
from tenantry.emulator.store.invitations import NewInvitation
from tenantry.emulator.store.users import NewUser
from tenantry.pool import Pool
from tenantry.reconcile import Plan, Report, reconcile
from tenantry.settings import Settings

Json = dict[str, Any]
Query = dict[str, list[str]]
Truth = dict[str, dict[str, Any]]

BETWEEN_SECONDS = 3  # an answer's date tells whole seconds: what a test does before a run is to be older than the run


@dataclass
class Clock:
    """This machine's time in ms, and what a test has let pass besides."""

    ahead: int = 0

    def __call__(self) -> int:
        return int(time.time() * 1000) + self.ahead

    def pass_seconds(self, seconds: float) -> None:
        self.ahead += int(seconds * 1000)


@dataclass
class Faults:
    """Stands before the Backend API. `before` hears of each request; `answer` may replace what was answered."""

    app: ASGIApp
    clock: Clock
    before: Callable[[str, Query], None] = field(default=lambda path, query: None)
    answer: Callable[[str, Query, int, bytes], tuple[int, bytes]] = field(
        default=lambda path, query, status, body: (status, body)
    )
    asked: list[tuple[str, Query]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        path, query = scope["path"].removeprefix("/v1"), parse_qs(scope["query_string"].decode())
        self.asked.append((path, query))
        self.before(path, query)
        status, headers, body = 0, [], b""

        async def take(message: Message) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
            else:
                body += message.get("body", b"")

        await self.app(scope, receive, take)
        status, body = self.answer(path, query, status, body)
        headers = [(name, value) for name, value in headers if name not in (b"content-length", b"date")]
        headers.append((b"date", formatdate(self.clock() / 1000, usegmt=True).encode()))
        if status == 429:
            headers.append((b"retry-after", b"0"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class World:
    """An emulator, a database, and everything that has happened in the one."""

    emulator: Emulator
    clock: Clock
    faults: Faults
    settings: Settings
    database: Database
    mirror: Mirror
    events: list[Event] = field(default_factory=list)
    page_size: int = 5

    # --- what happens at Clerk

    def user(self, name: str, **fields: Any) -> str:
        return self.emulator.store.users.create(
            NewUser(email_addresses=(f"{name}@example.test",), fields={"first_name": name, **fields})
        ).id

    def organization(self, name: str, creator: str | None = None) -> str:
        return self.emulator.store.organizations.create(name, created_by=creator).id

    def join(self, org_id: str, user_id: str, role: str = "org:member") -> str:
        store = self.emulator.store
        return store.memberships.create(store.organizations.get(org_id), user_id, store.roles.find(role)).id

    def leave(self, org_id: str, user_id: str) -> None:
        self.emulator.store.memberships.delete(self.emulator.store.memberships.get(org_id, user_id))

    def people(self, count: int, org_id: str) -> list[str]:
        """New users who are all members."""
        users = [self.user(f"p{len(self.emulator.store.state.users)}-{number}") for number in range(count)]
        for user_id in users:
            self.join(org_id, user_id)
        return users

    def invite(self, org_id: str, address: str) -> str:
        store = self.emulator.store
        new = NewInvitation(email_address=address, role=store.roles.find("org:member"))
        return store.invitations.create(store.organizations.get(org_id), new).id

    def domain(self, org_id: str, name: str) -> str:
        store = self.emulator.store
        return store.domains.create(store.organizations.get(org_id), name, None, verified=True).id

    # --- what the mirror hears of it

    def take_events(self) -> list[Event]:
        taken, self.events[:] = list(self.events), []
        return taken

    def letter(self, event: Event) -> Json:
        """What a webhook's body tells of it."""
        told = {"object": "event", "type": event.type, "timestamp": event.timestamp, "data": event.data}
        return told | {"instance_id": self.emulator.instance.id}

    def deliver(self, *events: Event, message_id: str | None = None) -> None:
        for event in events:
            self.mirror.deliver(self.letter(event), message_id)

    def deliver_all(self) -> None:
        self.deliver(*self.take_events())

    @asynccontextmanager
    async def api(self) -> AsyncIterator[BackendApi]:
        """Clerk's API, in no fear of its limit, with pauses too short to notice."""
        async with open_api(self.settings) as api:
            api._pause, api._budget = 0.001, Budget(100_000)
            yield api

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[Pool]:
        pool = Pool(self.database.dsn())
        await pool.open()
        try:
            yield pool
        finally:
            await pool.close()

    async def reconcile(self, **plan: Any) -> Report:
        self.clock.pass_seconds(BETWEEN_SECONDS)
        async with self.api() as api, self.pool() as pool:
            return await reconcile(api, pool, Plan(**{"page_size": self.page_size, **plan}))

    # --- what is true, and what the mirror holds for true

    def truth(self) -> Truth:
        return truth_of(self.emulator.store)

    def mirrored(self) -> Truth:
        """The same of the mirror: what is live, with live parents."""
        return {kind: dict(self.mirror.rows(query)) for kind, query in MIRRORED.items()}

    def check(self) -> None:
        truth, mirrored = self.truth(), self.mirrored()
        for kind, objects in truth.items():
            assert mirrored[kind] == objects, kind
        self.mirror.check_feed()


def truth_of(store: Store) -> Truth:
    """Every object of Clerk's, by kind and id, in the fields the mirror keeps."""
    state, now = store.state, store.clock()
    shown = {
        "organizations": [render.organization(state, each) for each in state.organizations.values()],
        "users": [render.user(each) for each in state.users.values()],
        "memberships": [render.membership(state, each) for each in state.memberships.values()],
        "invitations": [render.invitation(state, each, now=now) for each in state.invitations.values()],
        "domains": [render.domain(state, each) for each in state.domains.values()],
        "roles": [render.role(state, each) for each in state.roles.values()],
        "permissions": [render.permission(each) for each in state.permissions.values()],
    }
    return {kind: {each["id"]: _read(kind, each) for each in objects} for kind, objects in shown.items()}


def _read(kind: str, shown: Json) -> list[Any]:
    match kind:
        case "organizations":
            return [shown[name] for name in ("name", "slug", "image_url", "public_metadata", "role_set_key")]
        case "users":
            names = ("first_name", "last_name", "username", "image_url", "external_id", "banned", "public_metadata")
            addresses = {each["id"]: each["email_address"] for each in shown["email_addresses"]}
            return [addresses.get(shown["primary_email_address_id"]), *(shown[name] for name in names)]
        case "memberships":
            place = [shown["organization"]["id"], shown["public_user_data"]["user_id"]]
            return [*place, shown["role"], sorted(shown["permissions"]), shown["public_metadata"]]
        case "invitations":
            return [shown[name] for name in ("organization_id", "email_address", "role", "status", "public_metadata")]
        case "domains":
            verified = (shown["verification"] or {}).get("status") == "verified"
            return [shown["organization_id"], shown["name"], shown["enrollment_mode"], verified]
        case "roles":
            return [shown["key"], shown["name"], sorted(each["key"] for each in shown["permissions"])]
        case _:
            return [shown["key"], shown["name"], shown["type"]]


_OF_TENANT = "join tenantry.tenants t on t.id = k.tenant_id and t.ended_at is null"
MIRRORED = {
    "organizations": "select clerk_org_id, jsonb_build_array(name, slug, image_url, public_metadata, role_set_key)"
    " from tenantry.tenants where ended_at is null",
    "users": "select id, jsonb_build_array(primary_email, first_name, last_name, username, image_url, external_id,"
    " banned, public_metadata) from tenantry.users where ended_at is null",
    "memberships": "select k.id, jsonb_build_array(t.clerk_org_id, k.user_id, k.role, k.permissions, k.public_metadata)"
    f" from tenantry.tenant_memberships k {_OF_TENANT}"
    " join tenantry.users u on u.id = k.user_id and u.ended_at is null where k.ended_at is null",
    "invitations": "select k.id, jsonb_build_array(t.clerk_org_id, k.email_address, k.role, k.status,"
    f" k.public_metadata) from tenantry.invitations k {_OF_TENANT} where k.ended_at is null",
    "domains": "select k.id, jsonb_build_array(t.clerk_org_id, k.name, k.enrollment_mode, k.verified)"
    f" from tenantry.domains k {_OF_TENANT} where k.ended_at is null",
    "roles": "select id, jsonb_build_array(key, name, permissions) from tenantry.roles where ended_at is null",
    "permissions": "select id, jsonb_build_array(key, name, type) from tenantry.permissions where ended_at is null",
}


@contextmanager
def clerk_world(database: Database, *, assumptions: Assumptions | None = None, **options: Any) -> Iterator[World]:
    """An empty Clerk and an empty mirror."""
    clock = Clock()
    emulator = Emulator(
        seed_data=EMPTY,
        options=Options(rate_limits=False, assumptions=assumptions or Assumptions()),
        settings={"max_allowed_memberships": 0},
        clock=clock,
        **options,
    )
    faults = Faults(create_app(emulator), clock)
    events: list[Event] = []
    emulator.store.subscribe(events.append)
    with database.connect(SUPERUSER) as connection, serve(_application(faults), date_header=False) as url:
        environment = emulator.environment(url)
        settings = Settings(
            secret_key=environment["CLERK_SECRET_KEY"],
            api_url=environment["CLERK_API_URL"],
            database_url=database.dsn(),
        )
        yield World(emulator, clock, faults, settings, database, Mirror(connection), events)
    emulator.close()


def _application(faults: Faults) -> Starlette:
    application = Starlette()
    application.router.lifespan_context = faults.app.router.lifespan_context  # type: ignore[attr-defined]
    application.mount("/", faults)
    return application


def rewritten(body: bytes, change: Callable[[Any], Any]) -> bytes:
    """A JSON body after `change`."""
    return json.dumps(change(json.loads(body))).encode()


__all__ = ["Faults", "Json", "Jsonb", "Query", "World", "clerk_world", "rewritten"]
