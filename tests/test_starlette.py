"""The webhook endpoint, start-up, and what hostile requests are answered."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from databases import ANY, SUPERUSER, Database, Server
from instance import (
    SECRET,
    World,
    bearer,
    delivery,
    fresh_database,
    joined,
    serving,
    settings,
    token,
)
from relay import Relay
from sql.clerk_objects import START, deleted, event, membership, organization, user
from sql.mirror import Mirror
from tenantry import mirror, pool, roles, starlette
from tenantry.context import current_tenant
from tenantry.database import connect, run
from tenantry.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    NotAMember,
    NoTenant,
    SchemaError,
    TenantryError,
    WrongInstance,
)
from tenantry.starlette import Tenantry, check_database, problem, request_identity, tenancy_of

SENTINEL = "Zanzibar-only-the-payload-knows"


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with serving(database) as made:
        yield made


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["code"]


def stored(world: World) -> dict[str, str]:
    """Message id -> outcome, of what the inbox holds."""
    return dict(world.rows("select message_id, outcome from tenantry.webhook_events"))


# --- webhooks: what is answered ---------------------------------------------------------------------------------------


async def test_a_genuine_delivery_is_stored_and_becomes_rows(world: World) -> None:
    answer = await world.post(event("organization.created", organization()), "msg_1")
    assert (answer.status_code, answer.json()) == (200, {"outcome": "applied", "message_id": "msg_1"})
    assert world.rows("select clerk_org_id, name from tenantry.tenants") == [("org_1", "Acme")]


@pytest.mark.attack(79)
async def test_a_repeated_delivery_is_a_200_without_effect(world: World) -> None:
    told = event("organization.created", organization())
    assert (await world.post(told, "msg_1")).json()["outcome"] == "applied"
    answer = await world.post(told, "msg_1")
    assert (answer.status_code, answer.json()["outcome"]) == (200, "duplicate")
    assert stored(world) == {"msg_1": "applied"}


async def test_a_dead_letter_is_a_200_and_is_kept(world: World) -> None:
    answer = await world.post(event("organization.created", {"name": "no id"}), "msg_1")
    assert (answer.status_code, answer.json()["outcome"]) == (200, "failed")
    assert stored(world) == {"msg_1": "failed"}


async def test_an_unused_type_is_a_200(world: World) -> None:
    answer = await world.post(event("email.created", {"id": "ema_1", "body": "your code"}))
    assert (answer.status_code, answer.json()["outcome"]) == (200, "ignored")


@pytest.mark.attack(80)
async def test_the_same_id_with_other_bytes_is_a_400(world: World) -> None:
    await world.post(event("organization.created", organization()), "msg_1")
    answer = await world.post(event("organization.created", organization(name="Other")), "msg_1")
    assert code_of(answer) == (400, "delivery_refused")
    assert world.rows("select name from tenantry.tenants") == [("Acme",)]


@pytest.mark.attack(86)
async def test_another_instances_delivery_is_a_400(world: World) -> None:
    await world.post(event("organization.created", organization()))
    answer = await world.post(event("organization.created", organization("org_2"), instance_id="ins_other"))
    assert code_of(answer) == (400, "delivery_refused")
    assert world.rows("select clerk_org_id from tenantry.tenants") == [("org_1",)]


@pytest.mark.attack(81, 83)
async def test_what_is_not_signed_is_a_400(world: World) -> None:
    headers, body = delivery(event("organization.created", organization()))
    for forged, sent in (
        ({}, body),
        (headers | {"svix-signature": "v1,AAAA"}, body),
        (headers, body + b"\n"),
        (headers | {"svix-id": "msg_other"}, body),
        (delivery(b"{}", at=1_600_000_000)[0], b"{}"),
        delivery(b"no json"),
        delivery(b"[]"),
        delivery(b"\xff\xfe"),
    ):
        assert code_of(await world.client.post("/webhooks/clerk", headers=forged, content=sent)) == (
            400,
            "bad_signature",
        )
    assert stored(world) == {}


@pytest.mark.attack(84)
@pytest.mark.parametrize("odd", [b"[" * 2000 + b"]" * 2000, b"1" * 5000, b"1e131072"], ids=["deep", "long", "huge"])
async def test_a_signed_ban_is_not_lost_by_what_the_user_wrote_into_their_metadata(world: World, odd: bytes) -> None:
    banned = json.dumps(event("user.updated", user("user_1", banned=True, unsafe_metadata="ODD"))).encode()
    headers, body = delivery(banned.replace(b'"ODD"', odd))
    answer = await world.client.post("/webhooks/clerk", headers=headers, content=body)
    assert answer.status_code == 200
    assert world.rows("select banned from tenantry.users") == [(True,)]


@pytest.mark.attack(85)
async def test_without_a_secret_deliveries_are_a_503(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(database, webhook_signing_secrets=()) as world:
        answer = await world.post(event("organization.created", organization()))
        assert code_of(answer) == (503, "webhook_not_configured")
        assert stored(world) == {}
    assert "CLERK_WEBHOOK_SIGNING_SECRET is not set" in caplog.text


async def test_only_post_is_a_webhook(world: World) -> None:
    assert (await world.client.get("/webhooks/clerk")).status_code == 405


@pytest.mark.attack(98)
async def test_a_webhook_needs_no_token_and_ignores_a_bad_one(world: World) -> None:
    headers, body = delivery(event("organization.created", organization()))
    bad = {"Authorization": "Bearer nonsense", "Tenantry-Expected-Org": "org_9", "Cookie": f"__session={token()}"}
    assert (await world.client.post("/webhooks/clerk", headers=headers | bad, content=body)).status_code == 200


async def test_the_webhook_path_is_the_apps_to_choose(database: Database) -> None:
    tenancy = Tenantry(settings(database))
    app = Starlette()
    tenancy.install(app, webhook_path="/hooks/identity")
    headers, body = delivery(event("organization.created", organization()))
    async with tenancy.lifespan(app), connected(app) as client:
        assert (await client.post("/hooks/identity", headers=headers, content=body)).status_code == 200
        assert (await client.post("/webhooks/clerk", headers=headers, content=body)).status_code == 404


# --- webhooks: size, time, connection ---------------------------------------------------------------------------------


async def post_raw(
    app: Any, chunks: list[Any], headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], int]:
    """Posts body chunks one by one: the status, the problem, and how many chunks the app took."""
    taken, sent = 0, []
    raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/webhooks/clerk",
        "raw_path": b"/webhooks/clerk",
        "headers": raw,
    }
    scope |= {"query_string": b"", "scheme": "http", "http_version": "1.1", "root_path": "", "server": ("app.test", 80)}

    async def receive() -> Any:
        nonlocal taken
        if taken == len(chunks):
            await asyncio.Event().wait()
        taken += 1
        chunk = chunks[taken - 1]
        return {"type": "http.request", "body": chunk, "more_body": True} if isinstance(chunk, bytes) else chunk

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body), taken


@pytest.mark.attack(84)
async def test_a_body_larger_than_the_limit_is_cut_off_early(database: Database) -> None:
    async with serving(database, webhook_max_bytes=1024) as world:
        status, told, taken = await post_raw(world.app, [b"x" * 100] * 1000)
        assert (status, told["code"], taken) == (413, "payload_too_large", 11)


async def test_an_announced_length_over_the_limit_is_refused_unread(database: Database) -> None:
    async with serving(database, webhook_max_bytes=1024) as world:
        for announced in ("1025", "9" * 400):
            status, told, taken = await post_raw(world.app, [b"x"], {"content-length": announced})
            assert (status, told["code"], taken) == (413, "payload_too_large", 0)


@pytest.mark.parametrize("announced", ["10", "-1", "0", "nonsense", "1_0", "\u00b2", "1e9", "000000000000000001025"])
async def test_a_content_length_that_lies_changes_nothing(database: Database, announced: str) -> None:
    async with serving(database, webhook_max_bytes=1024) as world:
        status, told, taken = await post_raw(world.app, [b"x" * 100] * 1000, {"content-length": announced})
        assert (status, told["code"], taken) == (413, "payload_too_large", 11)


async def test_a_body_that_comes_too_slowly_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starlette, "_BODY_SECONDS", 0.1)
    status, told, _ = await post_raw(world.app, [b"{"])
    assert (status, told["code"]) == (400, "webhook")


async def test_a_body_that_breaks_off_is_no_fault_of_the_app(world: World, caplog: pytest.LogCaptureFixture) -> None:
    status, told, _ = await post_raw(world.app, [b"{", {"type": "http.disconnect"}])
    assert (status, told["code"]) == (400, "webhook")
    assert "Traceback" not in caplog.text


async def test_a_sender_who_leaves_while_waiting_leaves_a_stored_delivery(world: World) -> None:
    headers, body = delivery(event("organization.created", organization()), "msg_1")
    posting = asyncio.create_task(world.client.post("/webhooks/clerk", headers=headers, content=body))
    with world.database.connect(SUPERUSER, autocommit=False) as blocker:
        blocker.execute("lock table tenantry.webhook_events in access exclusive mode")
        await until(lambda: waiting_calls(world) == 1)
        posting.cancel()
        with suppress(asyncio.CancelledError):
            await posting
    await world.tenancy._inbox.drain()
    assert stored(world) == {"msg_1": "applied"}


def waiting_calls(world: World) -> int:
    """How many of Tenantry's calls wait for a lock."""
    ((count,),) = world.rows(
        "select count(*) from pg_stat_activity where application_name = 'tenantry' and wait_event_type = 'Lock'"
        " and datname = current_database()"
    )
    return int(count)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.02)


# --- webhooks: many, and a database that goes away --------------------------------------------------------------------


async def test_concurrent_deliveries_share_calls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    record = world.tenancy.pool.record

    async def counting(deliveries: Any, **options: Any) -> Any:
        groups.append(len(deliveries))
        return await record(deliveries, **options)

    monkeypatch.setattr(world.tenancy.pool, "record", counting)
    broken = event("organization.created", {"name": "no id"})
    events = [event("user.created", user(f"user_{n}")) for n in range(59)]
    answers = await asyncio.gather(*(world.post(told) for told in [*events, broken]))
    assert sorted(answer.json()["outcome"] for answer in answers) == ["applied"] * 59 + ["failed"]
    assert sum(groups) == 60
    assert len(groups) < 20
    assert world.rows("select count(*)::int from tenantry.users") == [(59,)]


@pytest.mark.attack(97)
async def test_a_delivery_the_database_cannot_take_does_not_fail_the_others(world: World) -> None:
    world.rows("""
        create function refuse() returns trigger language plpgsql as
        $$ begin if new.id = 'user_poison' then raise 'cannot take it'; end if; return new; end $$;
        create trigger refuse before insert on tenantry.users for each row execute function refuse();
    """)
    names = [f"user_{n}" for n in range(20)] + ["user_poison"]
    answers = await asyncio.gather(*(world.post(event("user.created", user(name)), f"msg_{name}") for name in names))
    assert [answer.status_code for answer in answers] == [200] * 20 + [503]
    assert answers[-1].headers["retry-after"]
    assert "msg_user_poison" not in stored(world)
    assert len(stored(world)) == 20


@pytest.mark.attack(96)
async def test_a_delivery_during_an_outage_is_a_503_and_its_retry_is_stored(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with Relay(database) as relay, serving(database, database_url=relay.dsn) as world:
        first, during = (
            event("user.created", user("user_1")),
            event("user.created", user("user_2", first_name=SENTINEL)),
        )
        assert (await world.post(first, "msg_1")).status_code == 200
        await relay.cut()
        for _ in range(2):
            answer = await world.post(during, "msg_2")
            assert code_of(answer) == (503, "database_unavailable")
        assert stored(world) == {"msg_1": "applied"}
        await relay.restore()
        assert (await world.post(during, "msg_2")).json()["outcome"] == "applied"
        assert (await world.post(first, "msg_1")).json()["outcome"] == "duplicate"
        assert stored(world) == {"msg_1": "applied", "msg_2": "applied"}
    assert SENTINEL not in caplog.text


async def test_an_answer_lost_after_the_commit_is_a_503_and_its_retry_a_duplicate(database: Database) -> None:
    async with Relay(database) as relay, serving(database, database_url=relay.dsn) as world:
        told = event("user.created", user())
        with database.connect(SUPERUSER, autocommit=False) as blocker:
            blocker.execute("lock table tenantry.webhook_events in access exclusive mode")
            posting = asyncio.create_task(world.post(told, "msg_1"))
            await until(lambda: waiting_calls(world) == 1)
            relay.hold_answers()
        await until(lambda: stored(world) == {"msg_1": "applied"})
        await relay.cut()
        assert code_of(await posting) == (503, "database_unavailable")
        await relay.restore()
        assert (await world.post(told, "msg_1")).json()["outcome"] == "duplicate"


@pytest.mark.attack(96)
async def test_a_database_that_hangs_is_a_503_before_svix_gives_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starlette, "_ANSWER_SECONDS", 0.2)
    with world.database.connect(SUPERUSER, autocommit=False) as blocker:
        blocker.execute("lock table tenantry.webhook_events in access exclusive mode")
        answer = await world.post(event("user.created", user()), "msg_1")
        assert code_of(answer) == (503, "database_unavailable")
    await world.tenancy._inbox.drain()
    assert (await world.post(event("user.created", user()), "msg_1")).json()["outcome"] == "duplicate"


@pytest.mark.attack(96)
async def test_who_holds_deliveries_up_is_in_the_log_and_their_retries_are_stored(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(starlette, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(pool, "_NOTED_SECONDS", 0.1)
    await world.post(event("organizationMembership.created", membership()), "msg_1")
    left = event("organizationMembership.deleted", deleted("organization_membership", "orgmem_1"))  # merges alone
    behind = event("user.created", user("user_2"))
    with world.database.connect(autocommit=False, application_name="psql") as somebody:
        Mirror(somebody).merge_page("users", [user("user_3")], START)
        assert code_of(await world.post(left, "msg_2")) == (503, "database_unavailable")
        await until(lambda: waiting_calls(world) == 1)
        answer = await world.post(behind, "msg_3")
        assert code_of(answer) == (503, "database_unavailable")
        assert answer.headers["retry-after"]
        holder = f"session {somebody.info.backend_pid} (psql, {world.database.app})"
        await until(lambda: caplog.text.count(holder) == 2)  # of both, though the second waits for the first
    await world.tenancy._inbox.drain()
    for told, message_id in ((left, "msg_2"), (behind, "msg_3")):
        assert (await world.post(told, message_id)).status_code == 200
    assert stored(world) == {"msg_1": "applied", "msg_2": "applied", "msg_3": "applied"}


@pytest.mark.attack(96)
async def test_shutdown_records_what_was_accepted(database: Database) -> None:
    async with serving(database) as world:
        stopping = Tenantry(settings(database))
        stopping._inbox._largest_group = 1  # so that most of them still wait for their call
        app = Starlette()
        stopping.install(app)
        world.turn_to(app)
        life = stopping.lifespan()
        await life.__aenter__()
        with database.connect(SUPERUSER, autocommit=False) as blocker:
            blocker.execute("lock table tenantry.webhook_events in access exclusive mode")
            posts = [asyncio.create_task(world.post(event("user.created", user(f"user_{n}")))) for n in range(5)]
            await until(lambda: waiting_calls(world) == 2)
            closing = asyncio.create_task(life.__aexit__(None, None, None))
            await asyncio.sleep(0)
            assert not closing.done()
        await closing
        assert [(await post).status_code for post in posts] == [200] * 5
        assert len(stored(world)) == 5


@pytest.mark.attack(60)
@pytest.mark.parametrize("kind", ["applied", "failed", "refused", "duplicate", "forged"])
async def test_the_log_tells_what_came_and_never_what_it_said(
    world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = {
        "failed": event("user.created", user(first_name=SENTINEL, updated_at=1e300)),  # PostgreSQL quotes it
        "refused": event("user.created", user(first_name=SENTINEL), instance_id="ins_other"),
    }.get(kind, event("user.created", user(first_name=SENTINEL)))
    await world.post(event("user.created", user("user_0")), "msg_0")
    if kind == "duplicate":
        await world.post(told, "msg_1")
    headers, body = delivery(told, "msg_1")
    if kind == "forged":
        headers["svix-signature"] = "v1," + SENTINEL
    await world.client.post("/webhooks/clerk", headers=headers, content=body)
    assert "msg_0 'user.created': applied" in caplog.text
    assert ("msg_1" in caplog.text) is (kind != "forged")
    for secret in (SENTINEL, "e+297", SECRET, SECRET.removeprefix("whsec_"), headers["svix-signature"]):
        assert secret not in caplog.text


# --- a real server ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[int]:
    """The app behind uvicorn, lifespan included; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.02)
        yield int(listener.getsockname()[1])
        server.should_exit = True
        await serving


async def test_behind_a_real_server_it_is_the_same(database: Database) -> None:
    tenancy = Tenantry(settings(database, webhook_max_bytes=2048))
    app = Starlette(routes=[Route("/tenant", answer_tenant)], lifespan=tenancy.lifespan)
    tenancy.install(app)
    async with running(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        headers, body = delivery(joined())
        assert (await client.post("/webhooks/clerk", headers=headers, content=body)).status_code == 200
        assert (await client.get("/tenant", headers=bearer())).json() == "org_1"
        assert code_of(await client.get("/tenant")) == (401, "missing_token")

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 1024

        assert code_of(await client.post("/webhooks/clerk", content=endless())) == (413, "payload_too_large")


async def answer_tenant(request: Request) -> JSONResponse:
    tenant = await tenancy_of(request).resolve(request)
    assert tenant is current_tenant()
    return JSONResponse(tenant.org_id)


@asynccontextmanager
async def connected(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
        yield client


async def test_a_plain_starlette_app_has_the_tenant_and_the_identity(database: Database) -> None:
    def me(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request_identity(request).user_id)

    tenancy = Tenantry(settings(database))
    app = Starlette(routes=[Route("/tenant", answer_tenant), Route("/me", me)])
    tenancy.install(app)
    async with tenancy.lifespan(app), connected(app) as client:
        assert (await client.get("/tenant", headers=bearer())).json() == "org_1"
        assert (await client.get("/me", headers=bearer(org_id=None))).text == "user_1"
        assert code_of(await client.get("/me")) == (401, "missing_token")
        assert code_of(await client.get("/tenant", headers=bearer(org_id=None))) == (403, "no_organization")


async def test_a_request_asks_the_database_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def twice(request: Request) -> JSONResponse:
        first, second = [await tenancy_of(request).resolve(request) for _ in range(2)]
        return JSONResponse(first is second)

    tenancy = Tenantry(settings(database))
    app = Starlette(routes=[Route("/", twice)])
    tenancy.install(app)
    async with tenancy.lifespan(app), connected(app) as client:
        assert (await client.get("/", headers=bearer())).json() is True


# --- start-up ---------------------------------------------------------------------------------------------------------


async def test_a_lifespan_stands_inside_the_apps_own(database: Database) -> None:
    tenancy = Tenantry(settings(database))
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        steps.append("before")
        async with tenancy.lifespan(app):
            steps.append("open")
            yield {"mine": "kept"}
        steps.append("after")

    async def state(request: Request) -> JSONResponse:
        return JSONResponse([request.state.mine, (await tenancy.resolve(request)).org_id])

    app = Starlette(routes=[Route("/", state)], lifespan=lifespan)
    tenancy.install(app)
    for _ in range(2):  # and a second time, as test clients do
        async with running(app) as port, httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/", headers=bearer())).json() == ["kept", "org_1"]
    assert steps == ["before", "open", "after"] * 2


def test_without_a_database_address_nothing_starts(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="Set DATABASE_URL"):
        Tenantry(settings(database, database_url=None))


@pytest.mark.attack(13)
async def test_a_superusers_login_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match='"postgres", who is or may become "postgres"') as raised:
        async with Tenantry(settings(database, database_url=database.dsn(SUPERUSER))).lifespan():
            pass
    assert "TENANTRY_ALLOW_PRIVILEGED_LOGIN" in (raised.value.hint or "")


async def test_a_superusers_login_is_warned_of_where_it_is_allowed(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    privileged = settings(database, database_url=database.dsn(SUPERUSER), allow_privileged_login=True)
    async with Tenantry(privileged).lifespan():
        pass
    assert 'the app logs in as "postgres"' in caplog.text


@pytest.mark.attack(13)
@pytest.mark.parametrize("right", ["bypassrls", "membership in a superuser"])
def test_a_login_that_may_become_a_superuser_or_bypass_policies_is_refused(database: Database, right: str) -> None:
    with database.connect(SUPERUSER) as connection:
        connection.execute(
            "create role web_climber login; grant tenantry_tenant, tenantry_app, tenantry_gate to web_climber"
        )
        connection.execute(
            "alter role web_climber bypassrls" if right == "bypassrls" else "grant postgres to web_climber"
        )
        try:
            with pytest.raises(ConfigurationError, match='logs in to PostgreSQL as "web_climber"'):
                check_database(settings(database, database_url=database.dsn("web_climber")))
        finally:
            connection.execute("drop owned by web_climber; drop role web_climber")


def test_the_schemas_own_app_login_is_accepted(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    check_database(settings(database))
    assert caplog.text == ""


def test_a_database_without_the_schema_names_the_command(servers: Callable[[int], Server]) -> None:
    server = servers(ANY)
    empty = server.create()
    with pytest.raises(SchemaError, match="tenantry db migrate"):
        check_database(settings(empty))
    server.drop(empty)


async def test_a_database_that_is_not_there_is_said_so_without_the_password(database: Database, free_port: int) -> None:
    unreachable = settings(database, database_url=f"postgresql://app:hunter2@127.0.0.1:{free_port}/x")
    with pytest.raises(DatabaseUnavailable) as raised:
        async with Tenantry(unreachable).lifespan():
            pass
    assert "hunter2" not in str(raised.value)


def test_from_env_reads_the_environment_and_takes_overrides(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.dsn())
    monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", "pk_test_aGFwcHktb3R0ZXItMTIuY2xlcmsuYWNjb3VudHMuZGV2JA")
    tenancy = Tenantry.from_env(personal_accounts="allow")
    assert tenancy.settings.personal_accounts == "allow"
    with pytest.raises(ConfigurationError, match="no setting named colour"):
        Tenantry.from_env(colour="blue")


def test_a_setting_may_be_an_argument_beside_others_or_the_environment(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Tenantry(settings(database, secret_key="sk_test_x"), reconcile="15m")
    assert (given.settings.reconcile, given.settings.database_url) == (900, database.dsn())
    key = "pk_test_aGFwcHktb3R0ZXItMTIuY2xlcmsuYWNjb3VudHMuZGV2JA"
    environ = {"DATABASE_URL": database.dsn(), "CLERK_SECRET_KEY": "sk_test_x", "CLERK_PUBLISHABLE_KEY": key}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Tenantry(reconcile="15m").settings == Tenantry.from_env(reconcile="15m").settings
    with pytest.raises(ConfigurationError, match="TENANTRY_RECONCILE"):
        Tenantry(settings(database), reconcile="sometimes")


# --- errors -----------------------------------------------------------------------------------------------------------


def every_error(cls: type[TenantryError] = TenantryError) -> list[type[TenantryError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in every_error(child))]


@pytest.mark.attack(60)
@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem_that_keeps_its_detail_to_itself(kind: type[TenantryError]) -> None:
    answer = problem(kind("It happened.", detail=SENTINEL, hint="Do this."))
    told = json.loads(bytes(answer.body))
    assert (told["status"], told["code"]) == (answer.status_code, kind.code) == (kind.status, kind.code)
    assert SENTINEL not in bytes(answer.body).decode()
    the_operators = kind.status >= 500 or kind is WrongInstance
    assert told.get("detail") == (None if the_operators else "It happened. Do this.")


async def test_a_fault_of_the_app_is_logged_whole_and_answered_briefly(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(request: Request) -> None:
        raise NoTenant("Nobody entered a tenant.", hint="Enter one.")

    app = Starlette(routes=[Route("/", fault)])
    Tenantry(settings(database)).install(app)
    async with connected(app) as client:
        answer = await client.get("/")
    assert code_of(answer) == (500, "no_tenant")
    assert answer.json() == {
        "type": "urn:tenantry:no_tenant",
        "title": "Internal Server Error",
        "status": 500,
        "code": "no_tenant",
    }
    assert "no_tenant: Nobody entered a tenant. Enter one." in caplog.text
    assert "in fault" in caplog.text


async def test_a_refusal_is_logged_in_one_line_without_a_traceback(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(request: Request) -> None:
        raise NotAMember(detail="user user_1,\nforged line")

    caplog.set_level(logging.INFO, "tenantry")
    app = Starlette(routes=[Route("/", refuse)])
    Tenantry(settings(database)).install(app)
    async with connected(app) as client:
        assert code_of(await client.get("/")) == (403, "not_a_member")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "tenantry"]
    assert line == "not_a_member: You are not a member of this organization. user user_1, forged line"
    assert "Traceback" not in caplog.text


# --- hostile requests -------------------------------------------------------------------------------------------------

latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=60)
pieces = st.sampled_from(["__session=", "__session_x=", ";", "a.b.c", '"', "=", " "])
cookies = st.one_of(latin, st.lists(pieces).map("".join))
names = st.sampled_from(
    [
        "authorization",
        "cookie",
        "origin",
        "host",
        "tenantry-expected-org",
        "content-length",
        "content-type",
        "x-org-id",
        "forwarded",
        "svix-id",
        "svix-timestamp",
        "svix-signature",
        "webhook-id",
    ]
)
odd = st.sampled_from(["http://[", "\u00b2", "Bearer a.b.c", "-1"])
values = st.one_of(latin, cookies, latin.map("Bearer {}".format), odd)


@pytest.mark.attack(82)
async def test_no_request_of_a_stranger_is_a_500(database: Database) -> None:
    async with serving(database, authorized_parties=frozenset()) as world:
        valid = token()

        @world.app.post("/tenant")
        @world.app.post("/orgs/{org}")
        async def tenant(request: Request) -> Any:
            return (await world.tenancy.resolve(request)).org_id

        tries: list[tuple[str, list[tuple[bytes, bytes]], bytes]] = []

        @hypothesis_settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
        @given(
            st.sampled_from(["/tenant", "/orgs/x", "/orgs/%ff", "/webhooks/clerk"]),
            st.lists(st.tuples(names, values), max_size=6),
            st.booleans(),
            st.binary(max_size=200),
        )
        def draw(path: str, headers: list[tuple[str, str]], signed_in: bool, body: bytes) -> None:
            if signed_in:
                headers = [*headers, ("cookie", f"__session={valid}")]
            tries.append((path, [(name.encode(), value.encode("latin-1")) for name, value in headers], body))

        draw()
        for path, headers, body in tries:
            request = world.client.build_request("POST", path, content=body)
            request.headers = httpx.Headers(headers)
            answer = await world.client.send(request)
            assert answer.status_code in (200, 400, 401, 403, 409, 413), (path, headers, answer.text)


@pytest.mark.attack(82)
async def test_no_signed_delivery_is_a_500(world: World) -> None:
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
    types = st.sampled_from(["user.created", "organizationMembership.deleted", "session.ended", "role.created"])
    shapes = st.fixed_dictionaries(
        {"type": types | st.text(max_size=20)},
        optional={
            "data": json_values | st.just(user()),
            "timestamp": json_values,
            "instance_id": json_values,
            "object": json_values,
        },
    )
    tries: list[bytes] = []

    @hypothesis_settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
    @given(shapes.map(lambda told: json.dumps(told).encode()) | st.binary(max_size=50))
    def draw(body: bytes) -> None:
        tries.append(body)

    draw()
    for body in tries:
        answer = await world.post(body)
        assert answer.status_code in (200, 400), (body, answer.text)


async def test_roles_that_were_not_applied_are_a_warning_at_the_start(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tenantry.toml"
    file.write_text('[roles."org:admin"]\npermissions = ["documents:*"]\n')
    async with serving(database, roles_file=file):
        pass
    assert "tenantry roles apply" in caplog.text
    caplog.clear()
    with connect(database.dsn()) as connection:
        run(connection, mirror.set_role_permissions(roles.load(file).grants))
    async with serving(database, roles_file=file):
        pass
    assert "tenantry roles apply" not in caplog.text
