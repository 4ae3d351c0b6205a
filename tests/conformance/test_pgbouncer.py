"""Behind PgBouncer in transaction mode every caller works as without it, and nothing passes between its clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg
import pytest

from conformance.callers import CALLERS, Problem, Step, Work, opened, outcome_of
from conformance.cases import Case, Life, make_tables, make_tenant, read_cases
from conformance.pgbouncer import bouncing
from conformance.test_callers import check
from databases import SUPERUSER, Database, Server
from instance import settings
from sql.clerk_objects import event, user
from sql.tenants import INSTANCE, Connection, Tenant, identity, inside
from tenantry import mirror
from tenantry.context import Scope, scope_of, tenant_context, use_scope
from tenantry.errors import NotAMember
from tenantry.identity import Identity
from tenantry.pool import Pool
from tenantry.starlette import Tenantry
from tenantry.webhooks import Delivery

pytestmark = pytest.mark.requires("pgbouncer")

TITLES = Work([Step("select title from documents order by title")])
PAST_TENANTRY = Work(TITLES.steps, scoped=False)
NO_TENANT = Problem("NoTenant", "no_tenant", "No tenant is set for this transaction.")

# Those in which a connection changes hands, ends badly, or begins twice.
TELLING = {
    "a connection that served a tenant keeps nothing of it",
    "a connection that served a tenant serves the next",
    "a rolled back transaction of one tenant leaves nothing to the next",
    "after an error the scope's next transaction is in the tenant again",
    "a savepoint stays in the tenant, and ends as the driver says",
    "a read only transaction reads, and refuses to write",
    "a removal holds from the very next transaction of a running scope",
    "an unknown organization is made known for a read only transaction too",
    "the bypass sees every tenant, and ends with its transaction",
    "a job for somebody who is no member is refused",
}


@dataclass(frozen=True)
class Bounced:
    """A database, and the way to it through PgBouncer."""

    database: Database
    url: str


@pytest.fixture(scope="module")
def database(server: Server, template: str) -> Iterator[Database]:
    made = server.create(template)
    make_tables(made)
    yield made
    server.drop(made)


@pytest.fixture(scope="module", params=[1, 2], ids=["one-server-connection", "two"])
def bounced(request: pytest.FixtureRequest, database: Database) -> Iterator[Bounced]:
    with bouncing(database, size=request.param) as url:
        yield Bounced(database, url)


@pytest.fixture(scope="module")
def app(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


@pytest.fixture
def tenants(app: Connection) -> list[Tenant]:
    """Two, each with a document titled by its sentinel."""
    made = [make_tenant(app, f"{name}{time.monotonic_ns()}") for name in ("alpha", "bravo")]
    for tenant in made:
        with inside(app, tenant):
            app.execute("insert into documents (title) values (%s)", [tenant.sentinel])
    return made


def token(tenant: Tenant) -> Scope:
    return scope_of(Identity(**identity(tenant) | {"permissions": frozenset()}))


@pytest.mark.attack(8)
@pytest.mark.parametrize("case", [case for case in read_cases() if case.name in TELLING], ids=lambda case: case.name)
async def test_behind_it_every_caller_agrees_that(case: Case, bounced: Bounced, app: Connection) -> None:
    for name in CALLERS:
        async with opened(name, bounced.database, dsn=bounced.url, cached=False) as caller:
            check(name, case, await Life(app).live(case, caller))


@pytest.mark.attack(8)
async def test_many_clients_take_turns_and_none_sees_anothers_rows(bounced: Bounced, tenants: list[Tenant]) -> None:
    async with AsyncExitStack() as stack:
        # Sync ones would block the others while they wait for their turn.
        names = [name for name in CALLERS if name.startswith("async")] * 3
        callers = [
            await stack.enter_async_context(opened(name, bounced.database, dsn=bounced.url, cached=False))
            for name in names
        ]

        async def work(number: int) -> None:
            for turn in range(12):
                match (number + turn) % 3:
                    case 2:
                        assert (await outcome_of(callers[number], PAST_TENANTRY)).problem == NO_TENANT
                    case which:
                        with use_scope(token(tenants[which])):
                            outcome = await outcome_of(callers[number], TITLES)
                        assert outcome.rows == [[tenants[which].sentinel]], outcome

        await asyncio.gather(*(work(number) for number in range(len(callers))))


def test_a_setting_of_the_session_would_have_passed(bounced: Bounced, tenants: list[Tenant]) -> None:
    """What the tests above would see if a tenant were set for longer than its transaction."""
    with psycopg.connect(bounced.url, autocommit=True, prepare_threshold=None) as one:
        one.execute("select set_config('tenantry.tenant_id', %s, false)", [tenants[0].id])
        with psycopg.connect(bounced.url, autocommit=True, prepare_threshold=None) as other:
            seen = {
                (other.execute("select current_setting('tenantry.tenant_id', true)").fetchone() or [None])[0]
                for _ in range(4)
            }
        one.execute("select set_config('tenantry.tenant_id', '', false)")
    assert tenants[0].id in seen


# --- Tenantry's own connections ---------------------------------------------------------------------------------------


async def test_tenantrys_own_calls_work_and_leave_no_statement_for_others(
    bounced: Bounced, app: Connection, tenants: list[Tenant]
) -> None:
    pools = [Pool(bounced.url, size=3) for _ in range(3)]
    for pool in pools:
        await pool.open()

    async def enter(pool: Pool, tenant: Tenant) -> None:
        context = await pool.enter(token(tenant))
        assert (str(context.id), context.user_id) == (tenant.id, tenant.user_id)

    async def record(pool: Pool, number: int) -> None:
        told = event("user.created", user(f"user_{tenants[0].sentinel}_{number}"), instance_id=INSTANCE)
        message_id = f"msg_{tenants[0].sentinel}_{number}"
        delivery = Delivery(message_id, int(time.time()), "user.created", mirror.encode(told), {})
        assert [outcome.outcome for outcome in await pool.record([delivery])] == ["applied"]

    calls = [enter(pool, tenants[turn % 2]) for turn in range(10) for pool in pools]
    calls += [record(pool, number) for number, pool in enumerate(pools * 5)]
    await asyncio.gather(*calls)
    with tenant_context(tenants[0].id, reason="a test", user_id=tenants[1].user_id) as scope, pytest.raises(NotAMember):
        await pools[0].enter(scope)
    with psycopg.connect(bounced.url, autocommit=True, prepare_threshold=None) as client:
        for _ in range(4):
            assert client.execute("select name from pg_prepared_statements").fetchall() == []
    for pool in pools:
        await pool.close()


async def test_an_app_starts_through_it(bounced: Bounced) -> None:
    tenancy = Tenantry(settings(bounced.database, database_url=bounced.url))
    for _ in range(3):  # each time the schema and the login are checked
        async with tenancy.lifespan():
            pass


async def test_the_server_knows_tenantrys_connections_by_name(bounced: Bounced, tenants: list[Tenant]) -> None:
    pool = Pool(bounced.url, size=1)
    await pool.open()
    await pool.enter(token(tenants[0]))
    with bounced.database.connect(SUPERUSER) as superuser:
        named = "select count(*) from pg_stat_activity where application_name = 'tenantry'"
        assert superuser.execute(named).fetchone() != (0,)
    await pool.close()
