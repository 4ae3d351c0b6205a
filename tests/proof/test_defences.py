"""Each defence of reconcile and the feed, taken away: the breach it is there for happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from attacks.defences import rewrite_python, rewrite_sql
from databases import SUPERUSER, Database, Server
from instance import Document, fresh_database, joined
from instance import World as App
from reconciling import Query, World, clerk_world
from sql.clerk_objects import START, event, membership
from sql.mirror import Mirror
from telling import consumer, telling, titles, until
from tenantry import changes
from tenantry import reconcile as reconciling
from tenantry.changes import Change


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with clerk_world(database) as made:
        yield made


async def settle(world: World) -> tuple[str, list[str]]:
    org = world.organization("Acme", world.user("ada"))
    people = world.people(12, org)
    assert (await world.reconcile()).agrees
    world.take_events()
    return org, people


async def list_nobody(world: World) -> set[str]:
    """The memberships that have ended after a run in which the list of all memberships came back empty."""

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        return (200, b'{"data": [], "total_count": 0}') if path == "/organization_memberships" else (status, body)

    world.faults.answer = answer
    await world.reconcile()
    return set(world.mirror.column("select id from tenantry.tenant_memberships where ended_at is not null"))


@pytest.mark.breach(91, 93)
async def test_without_asking_for_each_an_empty_list_ends_everybody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(world)
    monkeypatch.setattr(reconciling, "FEWEST_BRAKED", 1000)
    assert not await list_nobody(world)

    async def believe(self: Any, kind: Any, rows: Any) -> tuple[list[tuple[str, int]], int]:
        return [(row["id"], self._api.now()) for row in rows], 0

    monkeypatch.setattr(reconciling._Run, "_confirm", believe)
    assert await list_nobody(world) == world.truth()["memberships"].keys()


async def test_without_the_brake_an_organization_emptied_by_mistake_is_emptied_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    org, people = await settle(world)
    for person in people:
        world.leave(org, person)
    assert (await world.reconcile()).tallies["memberships"].ended == 0
    rewrite_python(monkeypatch, reconciling._Run, "_end_unseen", "elif len(gone) > most:", "elif False:")
    assert (await world.reconcile()).tallies["memberships"].ended == 12


@pytest.mark.breach(92)
def test_without_the_time_a_page_was_read_at_it_brings_back_who_left_since(database: Database) -> None:
    with database.connect(SUPERUSER) as connection:
        mirror = Mirror(connection)
        mirror.deliver(event("organizationMembership.created", membership()))
        mirror.merge_page("memberships", [], START + 200, absent=["orgmem_1"])
        late_page = [membership()]
        mirror.merge_page("memberships", late_page, START + 100)
        assert mirror.state().members == {}
        rewrite_sql(connection, "merge_page_v1", "tenantry.clerk_time(options -> 'observed_at')", "clock_timestamp()")
        mirror.merge_page("memberships", late_page, START + 100)
        assert mirror.state().members == {("org_1", "user_1"): "org:member"}


@pytest.fixture
def app_database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.mark.parametrize("together", [True, False])
async def test_where_position_and_effect_do_not_share_a_transaction_the_effect_comes_twice(
    app_database: Database, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(changes, "BACKOFF_SECONDS", 0.01)

    def register(app: App) -> None:
        @app.tenancy.on("member.joined")
        async def note(change: Change, session: AsyncSession) -> None:
            app.seen.append(change.pos)
            if together:
                session.add(Document(title="noted"))
                await session.flush()
            else:
                async with app.sessions.begin() as own:
                    own.add(Document(title="noted"))
            if len(app.seen) == 1:
                raise RuntimeError("as if it had been killed here")

    async with telling(app_database, register) as app:
        await app.deliver(joined())
        await until(lambda: consumer(app, "note")["behind"] == 0)
        assert len(app.seen) == 2
        assert titles(app) == ["noted"] * (1 if together else 2)
