"""What stays open ends with its member's access: by the database's notice, and by the interval where none arrives."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request, WebSocket
from sqlalchemy import select
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from databases import SUPERUSER, Database, Server
from instance import (
    Document,
    World,
    banned,
    bearer,
    fresh_database,
    gone,
    joined,
    now_ms,
    removed,
    serving,
    settings,
)
from relay import Relay
from sql.clerk_objects import event, session
from tenantry import mirror, streams
from tenantry.context import Scope, TenantContext, current_tenant
from tenantry.fastapi import CurrentTenant, OptionalIdentity, requires
from tenantry.notices import subject_of
from tenantry.starlette import Tenantry, TenantryMiddleware, request_scope

NEVER = 24 * 3600  # the interval where a notice alone can end a stream
SOON = 5  # seconds: far from the interval, generous to a busy machine
NOTICES = (
    "select pid from pg_stat_activity where application_name = 'tenantry notices' and datname = current_database()"
)


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@dataclass
class Site:
    """An app behind uvicorn, and what its endpoints noted about their end."""

    world: World
    port: int
    noted: list[Any]

    @asynccontextmanager
    async def socket(self, path: str, user_id: str = "user_1", **claims: Any) -> AsyncIterator[ClientConnection]:
        """An accepted websocket, one echo or push old."""
        address = f"ws://127.0.0.1:{self.port}{path}"
        async with connect(address, additional_headers=bearer(user_id, **claims), close_timeout=1) as opened:
            if path != "/push":
                await opened.send("ping")
            assert await opened.recv()
            yield opened

    @asynccontextmanager
    async def stream(self, path: str, headers: dict[str, str] | None = None) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a response whose body has begun, and is old enough to be watched."""
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=SOON) as client,
            client.stream("GET", path, headers=headers or bearer()) as answer,
        ):
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            assert await anext(lines)
            await until(lambda: any(isinstance(one, streams._Response) for one in self.open))
            await self.checked()
            yield lines

    @property
    def open(self) -> set[Any]:
        """What is watched."""
        return self.world.tenancy.streams._watched.get("*", set())

    async def watched(self, count: int) -> None:
        """Waits until so many streams are watched, and have been checked for the first time."""
        await until(lambda: len(self.open) == count)
        if count:
            await self.checked()

    async def checked(self) -> None:
        made = self.world.tenancy.streams
        await until(lambda: made._notices.arriving or made._notices._task is None)
        await until(made._asked.empty)
        await asyncio.sleep(0.2)  # the checks under way


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def live(database: Database, *, interval: int = NEVER, **changes: Any) -> AsyncIterator[Site]:
    noted: list[Any] = []
    async with serving(database, lambda world: add_routes(world, noted), stream_interval=interval, **changes) as world:
        await world.deliver(joined("user_1"), joined("user_2"))
        config = uvicorn.Config(world.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            server = uvicorn.Server(config)
            running = asyncio.create_task(server.serve([listener]))
            await until(lambda: server.started)
            yield Site(world, int(listener.getsockname()[1]), noted)
            server.should_exit = True
            await running


def add_routes(world: World, noted: list[Any]) -> None:
    app: FastAPI = world.app

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect as left:
            noted.append((left.code, left.reason))

    @app.websocket("/echo")
    async def members(websocket: WebSocket, tenant: CurrentTenant) -> None:
        await echo(websocket)

    @app.websocket("/ruled")
    async def ruled(websocket: WebSocket, tenant: CurrentTenant) -> None:
        def demand_admin(tenant: TenantContext) -> None:
            if not tenant.has(role="admin"):
                raise HTTPException(403)

        request_scope(websocket).rules.append(demand_admin)
        await echo(websocket)

    @app.websocket("/admins", dependencies=[requires(role="admin")])
    async def admins(websocket: WebSocket) -> None:
        await echo(websocket)

    @app.websocket("/public")
    async def public(websocket: WebSocket, identity: OptionalIdentity) -> None:
        await echo(websocket)

    @app.websocket("/racing")
    async def racing(websocket: WebSocket, tenant: CurrentTenant) -> None:
        await world.deliver(removed(str(tenant.user_id)))
        await asyncio.sleep(0.5)  # the notice comes and goes
        await echo(websocket)

    @app.websocket("/push")
    async def push(websocket: WebSocket, tenant: CurrentTenant) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text("tick")
                await asyncio.sleep(0.02)
        except WebSocketDisconnect as left:
            noted.append(left.code)

    async def ticks(request: Request) -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.02 if request.url.path != "/quiet" else NEVER)
        finally:
            noted.append("closed")

    @app.get("/events")
    @app.get("/quiet")
    async def events(request: Request, tenant: CurrentTenant) -> StreamingResponse:
        return StreamingResponse(ticks(request), media_type="text/event-stream")

    @app.get("/export")
    async def export(request: Request, tenant: CurrentTenant) -> StreamingResponse:
        return StreamingResponse(ticks(request), media_type="text/csv")

    @app.get("/blocking")
    def blocking(tenant: CurrentTenant) -> StreamingResponse:
        def lines() -> Iterator[str]:
            while True:
                yield "line\n"
                time.sleep(0.02)

        return StreamingResponse(lines(), media_type="text/csv")

    @app.get("/rows")
    async def rows(tenant: CurrentTenant) -> StreamingResponse:
        async def read() -> AsyncIterator[str]:
            try:
                while True:
                    async with world.sessions() as opened:
                        yield f"{len(list(await opened.scalars(select(Document))))} rows\n"
                    await asyncio.sleep(0.02)
            finally:
                noted.append(current_tenant)

        return StreamingResponse(read(), media_type="text/csv")

    @app.get("/anybody")
    async def anybody(request: Request) -> StreamingResponse:
        return StreamingResponse(ticks(request), media_type="text/event-stream")

    @app.get("/later")
    async def later(tenant: CurrentTenant) -> PlainTextResponse:
        async def work() -> None:
            await asyncio.sleep(1)
            noted.append("worked")

        return PlainTextResponse("ok", background=BackgroundTask(work))


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    async with live(database) as made:
        yield made


async def closing(opened: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes a websocket, soon."""
    with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012
        async with asyncio.timeout(SOON):
            while True:
                await opened.recv()
    assert caught.value.rcvd is not None, "the connection broke off without a close frame"
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def drain(lines: AsyncIterator[str]) -> None:
    async with asyncio.timeout(SOON):
        async for _ in lines:
            pass


def session_ended() -> Any:
    return event("session.removed", session("sess_of_user_1", at=now_ms()), at=now_ms())


ENDINGS: dict[str, Callable[[], Any]] = {
    "not_a_member": removed,
    "user_banned": banned,
    "user_deleted": lambda: gone("user", "user_1"),
    "organization_deleted": lambda: gone("organization", "org_1"),
    "session_ended": session_ended,
}


# --- by notice --------------------------------------------------------------------------------------------------------


@pytest.mark.attack(57)
@pytest.mark.parametrize("code", ENDINGS)
async def test_a_websocket_is_closed_as_soon_as_its_access_has_ended(site: Site, code: str) -> None:
    async with site.socket("/echo") as opened:
        await site.watched(1)
        await site.world.deliver(ENDINGS[code]())
        assert await closing(opened) == (1008, code)
        await until(lambda: bool(site.noted))
    assert site.noted == [(1008, code)]  # the app saw a client leave
    await site.watched(0)


async def test_a_websocket_that_only_sends_is_closed_too(site: Site) -> None:
    async with site.socket("/push") as opened:
        await site.watched(1)
        await site.world.deliver(removed())
        assert await closing(opened) == (1008, "not_a_member")
        await until(lambda: bool(site.noted))
    assert site.noted == [1006]


async def test_other_members_websockets_stay(site: Site) -> None:
    async with site.socket("/echo") as one, site.socket("/echo", "user_2") as two:
        await site.watched(2)
        await site.world.deliver(removed("user_1"))
        assert await closing(one) == (1008, "not_a_member")
        await two.send("still here")
        assert await two.recv() == "still here"
        await site.watched(1)


async def test_a_demotion_closes_what_required_the_role(site: Site) -> None:
    await site.world.deliver(joined("user_3", role="org:admin"))
    async with site.socket("/admins", "user_3", role="admin") as strict, site.socket("/echo", "user_3") as mild:
        await site.watched(2)
        demoted = joined("user_3") | {"type": "organizationMembership.updated", "timestamp": now_ms()}
        demoted["data"] |= {"role": "org:member", "updated_at": now_ms()}
        await site.world.deliver(demoted)
        assert await closing(strict) == (1008, "permission_denied")
        await mild.send("still here")
        assert await mild.recv() == "still here"


async def test_a_rule_that_raises_whatever_it_likes_closes_too(site: Site) -> None:
    await site.world.deliver(joined("user_3", role="org:admin"))
    async with site.socket("/ruled", "user_3", role="admin") as opened:
        await site.watched(1)
        demoted = joined("user_3") | {"type": "organizationMembership.updated", "timestamp": now_ms()}
        demoted["data"] |= {"role": "org:member", "updated_at": now_ms()}
        await site.world.deliver(demoted)
        assert await closing(opened) == (1008, "permission_denied")


async def test_an_expired_token_alone_closes_nothing(database: Database) -> None:
    async with live(database, interval=1) as site:
        now = int(time.time())
        async with site.socket("/echo", iat=now - 50, nbf=now - 60, exp=now + 2) as opened:
            await asyncio.sleep(4)
            await opened.send("still here")
            assert await opened.recv() == "still here"


async def test_a_removal_while_the_websocket_opens_is_found(site: Site) -> None:
    """The notice comes before anybody watches: the first check makes up for it."""
    async with site.socket("/echo", "user_2"):  # somebody listens already
        await site.watched(1)
        async with connect(f"ws://127.0.0.1:{site.port}/racing", additional_headers=bearer()) as opened:
            assert await closing(opened) == (1008, "not_a_member")


async def test_a_websocket_open_to_the_public_stays(site: Site) -> None:
    async with site.socket("/public") as opened:
        await site.watched(1)
        await site.world.deliver(removed())
        await asyncio.sleep(1)
        await opened.send("still here")
        assert await opened.recv() == "still here"


# --- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.attack(56)
@pytest.mark.parametrize("path", ["/events", "/quiet"])
async def test_server_sent_events_end_and_the_next_attempt_is_refused(site: Site, path: str) -> None:
    headers = bearer()  # one made after the removal would be believed: see the decision table
    async with site.stream(path, headers) as lines:
        await site.world.deliver(removed())
        await drain(lines)
    assert site.noted == ["closed"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", headers=headers) as client:
        again = await client.get(path)
    assert (again.status_code, again.json()["code"]) == (403, "not_a_member")


@pytest.mark.attack(56)
@pytest.mark.parametrize("path", ["/export", "/blocking", "/rows"])
async def test_a_download_breaks_off_visibly(site: Site, path: str) -> None:
    async with site.stream(path) as lines:
        await site.world.deliver(removed())
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await drain(lines)


async def test_a_download_breaks_off_visibly_with_a_middleware_of_the_app_inside(site: Site) -> None:
    async def pass_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    site.world.app.user_middleware.append(Middleware(BaseHTTPMiddleware, dispatch=pass_on))  # the innermost
    async with site.stream("/export") as lines:
        await site.world.deliver(removed())
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await drain(lines)
    assert site.noted == ["closed"]


async def test_other_members_streams_go_on(site: Site) -> None:
    async with site.stream("/events", bearer("user_2")) as lines:
        await site.world.deliver(removed("user_1"))
        await asyncio.sleep(1)
        for _ in range(100):
            await anext(lines)


async def test_a_stream_that_entered_no_tenant_goes_on(site: Site) -> None:
    async with site.stream("/anybody") as lines:
        await site.world.deliver(removed())
        await asyncio.sleep(1)
        for _ in range(100):
            await anext(lines)


async def test_a_background_task_is_not_cut_off(site: Site) -> None:
    assert (await site.world.get("/later")).text == "ok"
    await site.world.deliver(removed())
    assert site.noted == ["worked"]
    await site.watched(0)


async def test_a_client_that_leaves_is_forgotten(site: Site) -> None:
    async with site.stream("/events"), site.socket("/push"):
        await site.watched(2)
    await site.watched(0)
    assert not site.world.tenancy.streams._watched


# --- without notices --------------------------------------------------------------------------------------------------


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection listens."""
    monkeypatch.setattr("tenantry.notices.Notices.start", lambda self: None)


@pytest.mark.breach(56, 57)
async def test_without_notices_nothing_ends_before_the_interval(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see if it were not the notice that ended their streams."""
    deaf(monkeypatch)
    async with live(database) as site, site.socket("/echo") as opened, site.stream("/events") as lines:
        await site.world.deliver(removed())
        await asyncio.sleep(1.5)
        await opened.send("nobody knows")
        assert await opened.recv() == "nobody knows"
        for _ in range(100):
            await anext(lines)


async def test_without_notices_the_interval_ends_a_stream(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf(monkeypatch)
    async with live(database, interval=1) as site, site.socket("/echo") as opened:
        await asyncio.sleep(0.5)
        await site.world.deliver(removed())
        assert await closing(opened) == (1008, "not_a_member")


@pytest.mark.parametrize("changes", [{"interval": 0}, {"interval": 1, "membership_source": "token"}])
async def test_where_the_mirror_has_no_say_nothing_is_watched(database: Database, changes: Any) -> None:
    async with live(database, **changes) as site, site.socket("/echo") as opened:
        await site.world.deliver(removed())
        await asyncio.sleep(1.5)
        await opened.send("still here")
        assert await opened.recv() == "still here"
        await site.watched(0)


async def test_a_broken_connection_is_said_reopened_and_makes_up_for_what_it_missed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tenantry")
    async with site.socket("/echo") as opened:
        await site.watched(1)
        [(pid,)] = site.world.rows(NOTICES)
        site.world.rows("select pg_terminate_backend(%s)", pid)
        await until(lambda: not site.world.tenancy.streams._notices.arriving)
        await site.world.deliver(removed())
        assert await closing(opened) == (1008, "not_a_member")
    assert "notices of ended access do not arrive (ConnectionResetError)" in caplog.text
    assert "notices of ended access arrive again" in caplog.text
    [(again,)] = site.world.rows(NOTICES)
    assert again != pid


async def test_while_the_database_is_away_streams_go_on_for_a_stated_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_LONGEST_UNCHECKED", 4)
    monkeypatch.setattr(streams, "_PAUSE_SECONDS", 0.2)
    async with Relay(database) as relay, live(database, interval=1, database_url=relay.dsn) as site:
        async with site.socket("/echo") as opened:
            await site.watched(1)
            await relay.cut()
            await asyncio.sleep(2)
            await opened.send("still here")
            assert await opened.recv() == "still here"
            assert await closing(opened) == (1011, "database_unavailable")
        await relay.restore()


# --- many -------------------------------------------------------------------------------------------------------------


async def test_many_notices_ask_once_and_many_streams_are_checked_a_few_at_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, running, most, asked = site.world.tenancy.streams, 0, 0, 0
    enter = made._pool.enter

    async def counted(scope: Any) -> Any:
        nonlocal running, most, asked
        running, asked = running + 1, asked + 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.01)
            return await enter(scope)
        finally:
            running -= 1

    async with site.socket("/echo"), site.socket("/echo"), site.socket("/echo"), site.socket("/echo"):
        await site.watched(4)
        monkeypatch.setattr(made._pool, "enter", counted)
        for _ in range(50):
            made._hear(subject_of("user_1"))
        await until(lambda: made._asked.empty() and not running)
    assert (most, asked) == (2, 4)


async def test_whom_a_notice_names_is_checked_before_everybody_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = site.world.tenancy.streams, list[str]()

    async def note(scope: Any) -> None:
        asked.append(scope.key[1])
        await asyncio.sleep(0)

    async with site.socket("/echo"), site.socket("/echo"), site.socket("/echo"), site.socket("/echo", "user_2"):
        await site.watched(4)
        monkeypatch.setattr(made._pool, "enter", note)
        made._hear("*")
        made._hear(subject_of("user_2"))
        await until(lambda: made._asked.empty())
    assert asked[0] == "user_2"
    assert sorted(asked) == ["user_1", "user_1", "user_1", "user_2"]


async def test_no_connection_listens_until_something_stays_open(site: Site) -> None:
    assert (await site.world.get("/later")).text == "ok"
    assert site.world.rows(NOTICES) == []
    async with site.socket("/echo"):
        await site.watched(1)
        assert len(site.world.rows(NOTICES)) == 1


def test_an_app_that_starts_again_in_another_event_loop_watches_again(database: Database) -> None:
    """As test clients do."""
    tenancy = Tenantry(settings(database, stream_interval=NEVER))

    async def run() -> None:
        async with tenancy.lifespan():
            checked: list[Any] = []
            access = Scope(key=("org_1", "user_1"), rules=[checked.append], entered=True)
            access.entry = mirror.set_tenant_by_id(tenant_id, "test", None)
            tenancy.streams.watch(stream := streams._Socket(tenancy.streams, access, no_message, no_message))
            await until(lambda: bool(checked))
            await asyncio.sleep(0.1)
            checked.clear()
            tenancy.streams._hear("*")
            await until(lambda: bool(checked))
            tenancy.streams.forget(stream)

    async def no_message(*_: Any) -> Any: ...

    with database.connect(SUPERUSER) as connection:
        [(tenant_id,)] = connection.execute(
            "insert into tenantry.tenants (id, clerk_org_id) values (gen_random_uuid(), 'org_1') returning id"
        ).fetchall()
    asyncio.run(run())
    asyncio.run(run())


async def test_a_fault_in_a_check_is_logged_and_checking_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.socket("/echo") as opened:
        await site.watched(1)
        made = site.world.tenancy.streams

        async def broken(scope: Any) -> Any:
            raise RuntimeError("a fault")

        with monkeypatch.context() as patched:
            patched.setattr(made._pool, "enter", broken)
            made._hear("*")
            await until(lambda: "the check of an open stream failed" in caplog.text)
        await site.world.deliver(removed())
        assert await closing(opened) == (1008, "not_a_member")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}])
async def test_a_request_nobody_signed_in_for_costs_nothing(site: Site, headers: dict[str, str]) -> None:
    """Its messages are the server's own."""
    seen: list[Any] = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        seen.append(send)

    async def send(message: Any) -> None: ...

    async def receive() -> Any: ...

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await TenantryMiddleware(note, site.world.tenancy)(
        {"type": "http", "method": "GET", "path": "/", "headers": raw}, receive, send
    )
    assert seen == [send]
