"""On a read replica every caller reads its own tenant's rows, is refused as on the primary, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from conformance.callers import CALLERS, Outcome, Problem, Step, Work, opened, outcome_of
from conformance.cases import make_tables, make_tenant
from conformance.replica import Replica, replicating
from databases import APP, Database, Server
from sql.tenants import Connection, Tenant, identity, inside, membership, read, record
from tenantry.context import Scope, scope_of, tenant_context, use_scope
from tenantry.errors import NotAMember
from tenantry.identity import Identity
from tenantry.pool import Pool

TITLES = Work([Step("select title from documents order by title")])
WRITE = Work([Step("insert into documents (title) values ('written')")])


@pytest.fixture(scope="module")
def database(server: Server, template: str) -> Iterator[Database]:
    made = server.create(template)
    make_tables(made)
    yield made
    server.drop(made)


@pytest.fixture(scope="module")
def replica(server: Server, database: Database) -> Iterator[Replica]:
    with replicating(server) as made:
        yield made


@pytest.fixture(scope="module")
def app(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def tenants(app: Connection) -> list[Tenant]:
    """Two, each with a document titled by its sentinel."""
    made = [make_tenant(app, name) for name in ("alpha", "bravo")]
    for tenant in made:
        with inside(app, tenant):
            app.execute("insert into documents (title) values (%s)", [tenant.sentinel])
    return made


def token(tenant: Tenant, **changes: object) -> Scope:
    return scope_of(Identity(**identity(tenant, **changes) | {"permissions": frozenset()}))


@pytest.mark.attack(14)
@pytest.mark.parametrize("name", CALLERS)
async def test_each_tenant_reads_its_own_rows(
    name: str, replica: Replica, database: Database, tenants: list[Tenant]
) -> None:
    replica.catch_up()
    async with opened(name, database, dsn=replica.dsn(database)) as caller:
        for tenant in [*tenants, tenants[0]]:
            with use_scope(token(tenant)):
                outcome = await outcome_of(caller, TITLES)
                assert outcome.rows == [[tenant.sentinel]], outcome
                assert outcome.context is not None
                assert str(outcome.context.id) == tenant.id
        with tenant_context(tenants[1].id, reason="a report"):
            assert (await outcome_of(caller, TITLES)).rows == [[tenants[1].sentinel]]
        assert (await outcome_of(caller, TITLES)).problem == Problem(
            "NoTenant", "no_tenant", "This code runs for no tenant."
        )
        past_tenantry = await outcome_of(caller, Work(TITLES.steps, scoped=False))
        assert past_tenantry.problem == Problem("NoTenant", "no_tenant", "No tenant is set for this transaction.")
        with use_scope(token(tenants[0])):
            assert (await outcome_of(caller, Work(TITLES.steps, read_only=True))).rows == [[tenants[0].sentinel]]


@pytest.mark.parametrize("name", CALLERS)
async def test_a_write_fails_and_says_why(
    name: str, replica: Replica, database: Database, tenants: list[Tenant]
) -> None:
    replica.catch_up()
    async with opened(name, database, dsn=replica.dsn(database)) as caller:
        with use_scope(token(tenants[0])):
            said = "cannot execute INSERT in a read-only transaction"
            assert (await outcome_of(caller, WRITE)).problem == Problem("Error", "25006", said)
            assert (await outcome_of(caller, TITLES)).rows == [[tenants[0].sentinel]]


@pytest.mark.parametrize("name", CALLERS)
async def test_an_organization_nobody_has_seen_is_served_under_the_id_it_will_have(
    name: str, replica: Replica, database: Database, app: Connection
) -> None:
    ghost = Tenant("", f"org_{CALLERS.index(name)}", "user_ghost", "ghost")
    replica.catch_up()
    async with opened(name, database, dsn=replica.dsn(database)) as caller:
        with use_scope(token(ghost)):
            outcome: Outcome = await outcome_of(caller, TITLES)
    assert outcome.rows == []
    assert outcome.context is not None
    async with opened(name, database) as caller:
        with use_scope(token(ghost)):
            await outcome_of(caller, WRITE)
    assert str(outcome.context.id) == str(read(app, "select (tenantry.find_tenant(%s)).id", ghost.org_id))


@pytest.mark.parametrize("name", CALLERS)
async def test_a_removal_is_refused_as_soon_as_the_replica_has_it(
    name: str, replica: Replica, database: Database, app: Connection, tenants: list[Tenant]
) -> None:
    leaving = Tenant(tenants[0].id, tenants[0].org_id, f"user_{CALLERS.index(name)}", "leaving")
    told = membership(f"orgmem_{leaving.user_id}", leaving.org_id, leaving.user_id)
    record(app, "organizationMembership.created", told, time.time() - 60)
    replica.catch_up()
    async with opened(name, database, dsn=replica.dsn(database)) as caller:
        with use_scope(token(leaving, issued_at=int(time.time()) - 30)):
            assert (await outcome_of(caller, TITLES)).rows == [[tenants[0].sentinel]]
            record(app, "organizationMembership.deleted", told, time.time() - 10)
            replica.catch_up()
            outcome = await outcome_of(caller, TITLES)
    assert outcome.problem == Problem("NotAMember", "not_a_member", "The user is not a member of this organization.")


async def test_tenantrys_own_pool_decides_there_too(
    replica: Replica, database: Database, tenants: list[Tenant]
) -> None:
    replica.catch_up()
    pool = Pool(replica.dsn(database, APP))
    await pool.open()
    assert str((await pool.enter(token(tenants[0]))).id) == tenants[0].id
    with tenant_context(tenants[0].id, reason="a test", user_id=tenants[1].user_id) as scope, pytest.raises(NotAMember):
        await pool.enter(scope)
    await pool.close()
