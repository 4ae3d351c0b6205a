"""Whom each part of a request works for, what outlives it, and what it tells: scenarios 53 to 55, 59 and 60."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from starlette.requests import Request

from attacks.two_organizations import TITLES, build, code_of, fill, member, sync_titles, titles
from databases import Database, Server
from instance import World, bearer, fresh_database, serving, token
from sql.clerk_objects import event, user
from tenantry import context, mirror, tokens
from tenantry.context import Scope, TenantContext, tenant_context
from tenantry.errors import TenantryError
from tenantry.fastapi import CurrentTenant
from tenantry.starlette import answer_error


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with serving(database, build) as made:
        await fill(made)
        yield made


# --- 53: every part of a request --------------------------------------------------------------------------------------

PARTS = {
    *("async dependency", "sync dependency", "async dependency at its end", "sync dependency at its end"),
    *("endpoint", "generator", "task", "background task", "sync background task"),
}


def add_parts(world: World) -> list[tuple[str, str, list[str]]]:
    """Routes of which every part notes what it sees: for whom it was called, where it ran, the titles."""
    seen: list[tuple[str, str, list[str]]] = []

    def owner(request: Request) -> str:
        return request.headers["x-owner"]

    async def note(request: Request, part: str) -> None:
        await asyncio.sleep(0)  # the other requests' turn
        seen.append((owner(request), part, await titles(world)))

    def sync_note(request: Request, part: str) -> None:
        seen.append((owner(request), part, sync_titles(world)))

    async def dependency(request: Request) -> AsyncIterator[None]:
        await note(request, "async dependency")
        yield
        await note(request, "async dependency at its end")

    def sync_dependency(request: Request) -> Iterator[None]:
        sync_note(request, "sync dependency")
        yield
        sync_note(request, "sync dependency at its end")

    async def generate(request: Request) -> AsyncIterator[str]:
        await note(request, "generator")
        yield "done"

    def answer(request: Request, tasks: BackgroundTasks) -> StreamingResponse:
        tasks.add_task(note, request, "background task")
        tasks.add_task(sync_note, request, "sync background task")
        return StreamingResponse(generate(request), background=tasks)

    both = [Depends(dependency), Depends(sync_dependency)]

    @world.app.get("/async", dependencies=both)
    async def in_the_loop(request: Request, tasks: BackgroundTasks) -> StreamingResponse:
        await note(request, "endpoint")
        await asyncio.create_task(note(request, "task"))
        return answer(request, tasks)

    @world.app.get("/sync", dependencies=both)
    def in_a_thread(request: Request, tasks: BackgroundTasks) -> StreamingResponse:
        sync_note(request, "endpoint")
        return answer(request, tasks)

    return seen


@pytest.mark.attack(53)
@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_no_part_of_a_request_loses_its_tenant_or_has_another_requests(world: World, path: str) -> None:
    seen = add_parts(world)
    asked = [world.client.get(path, headers=member(org) | {"x-owner": org}) for org in (*TITLES, *TITLES)]
    assert [answer.text for answer in await asyncio.gather(*asked)] == ["done"] * 4
    assert {part for _, part, _ in seen} == PARTS - ({"task"} if path == "/sync" else set())
    assert [(owner, part) for owner, part, found in seen if found != [TITLES[owner]]] == []


@pytest.mark.breach(53)
async def test_a_tenant_set_in_a_sync_dependency_instead_of_the_middleware_is_lost(world: World) -> None:
    def set_tenant(request: Request) -> None:
        context._current.set(anyio.from_thread.run(world.tenancy.identify, request))

    async def set_tenant_in_the_loop(request: Request) -> None:
        context._current.set(await world.tenancy.identify(request))

    app: Any = FastAPI()
    app.add_exception_handler(TenantryError, answer_error)
    app.add_api_route("/sync", lambda: sync_titles(world), dependencies=[Depends(set_tenant)])
    app.add_api_route("/async", lambda: sync_titles(world), dependencies=[Depends(set_tenant_in_the_loop)])
    world.turn_to(app)
    # Each in a task of its own, as a server would: a variable set in this one would stay.
    asked = [asyncio.create_task(world.client.get(path, headers=member("org_1"))) for path in ("/async", "/sync")]
    assert (await asked[0]).json() == ["alpha"]
    assert code_of(await asked[1]) == (500, "no_tenant")


# --- 54 and 55: a thread of the app's own -----------------------------------------------------------------------------


def add_worker(world: World, worker: ThreadPoolExecutor) -> None:
    """Two routes that share a thread: one names the tenant for it, one forgets to."""

    async def run(work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(worker, work)

    @world.app.get("/named")
    async def named(tenant: CurrentTenant) -> Any:
        def work() -> list[str]:
            with tenant_context(tenant.id, reason="a count"):
                return sync_titles(world)

        return await run(work)

    @world.app.get("/forgotten")
    async def forgotten() -> Any:
        return await run(lambda: sync_titles(world))


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.mark.attack(54, 55)
async def test_a_thread_that_worked_for_one_tenant_does_not_work_on_for_it(
    world: World, worker: ThreadPoolExecutor
) -> None:
    add_worker(world, worker)
    assert (await world.client.get("/named", headers=member("org_1"))).json() == ["alpha"]
    assert code_of(await world.client.get("/forgotten", headers=member("org_2"))) == (500, "no_tenant")


@pytest.mark.breach(54, 55)
async def test_a_thread_whose_tenant_is_not_taken_back_shows_it_to_the_next_request(
    world: World, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def never_taken_back(scope: Scope) -> Iterator[Scope]:
        context._current.set(scope)
        yield scope

    monkeypatch.setattr(context, "use_scope", never_taken_back)
    add_worker(world, worker)
    assert (await world.client.get("/named", headers=member("org_1"))).json() == ["alpha"]
    assert (await world.client.get("/forgotten", headers=member("org_2"))).json() == ["alpha"]


# --- 59: what is kept under a key -------------------------------------------------------------------------------------


def add_cache(world: World, key_of: Callable[[TenantContext], Any]) -> None:
    """A route that keeps its answer."""
    kept: dict[Any, list[str]] = {}

    @world.app.get("/kept")
    async def from_cache(tenant: CurrentTenant) -> list[str]:
        if key_of(tenant) not in kept:
            kept[key_of(tenant)] = await titles(world)
        return kept[key_of(tenant)]


async def ask_in_turn(world: World, path: str, **claims: Any) -> list[Any]:
    return [(await world.client.get(path, headers=member(org, **claims))).json() for org in TITLES]


@pytest.mark.attack(59)
async def test_a_cache_keyed_by_the_tenants_id_answers_each_tenant_with_its_own(world: World) -> None:
    add_cache(world, lambda tenant: (tenant.id, "documents"))
    assert await ask_in_turn(world, "/kept") == [["alpha"], ["bravo"]]


@pytest.mark.breach(59)
async def test_a_cache_keyed_without_the_tenant_answers_one_with_anothers(world: World) -> None:
    add_cache(world, lambda tenant: "documents")
    assert await ask_in_turn(world, "/kept") == [["alpha"], ["alpha"]]


@pytest.mark.attack(59)
async def test_remembered_tokens_are_never_taken_for_one_another(world: World) -> None:
    for _ in range(2):
        assert await ask_in_turn(world, "/documents", sid="sess_1", jti=None) == [["alpha"], ["bravo"]]


@pytest.mark.breach(59)
async def test_remembered_by_less_than_all_of_it_one_token_is_taken_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_divide", lambda token: ("", token.partition(".")[0].encode()))
    assert await ask_in_turn(world, "/documents", sid="sess_1", jti=None) == [["alpha"], ["alpha"]]


# --- 60: what is told -------------------------------------------------------------------------------------------------

# PostgreSQL's sentence about a time it cannot hold repeats it, in seconds.
QUOTED = "1.23456e+297"
UNHOLDABLE = event("user.created", user(updated_at=1.23456e300))


@pytest.mark.attack(60)
async def test_no_answer_and_no_log_shows_another_tenants_rows_or_anybodys_token(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = ""
    carried = member("org_1")
    for path, headers in (
        ("/documents", carried),
        ("/documents", carried | {"Tenantry-Expected-Org": "org_2"}),
        ("/orgs/org_2/documents", carried),
        ("/documents", carried | {"Authorization": carried["Authorization"] + "x"}),
        ("/documents", {"Cookie": f"__session={token('user_1', azp=None)}"}),
        ("/documents", bearer("user_1", None)),
        ("/nowhere", carried),
    ):
        answer = await world.client.get(path, headers=headers)
        shown += f"{answer.headers}{answer.text}"
    for secret in ("bravo", *carried["Authorization"].removeprefix("Bearer ").split(".")):
        assert secret not in shown + caplog.text


@pytest.mark.attack(60)
async def test_the_log_of_a_dead_letter_quotes_nothing_of_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.post(UNHOLDABLE, "msg_1")
    assert "msg_1 'user.created': 2" in caplog.text  # a code
    assert QUOTED not in caplog.text


@pytest.mark.breach(60)
async def test_a_log_of_the_databases_sentences_quotes_the_event(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = mirror.read_outcomes
    monkeypatch.setattr(mirror, "read_outcomes", lambda text: [replace(told, code=told.error) for told in read(text)])
    await world.post(UNHOLDABLE, "msg_1")
    assert QUOTED in caplog.text
