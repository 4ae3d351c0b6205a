"""The tenant of a transaction: how it is set, what it refuses, and that nothing of it outlives the transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import APP, OWNER, SUPERUSER, Server
from sql.tenants import (
    Connection,
    World,
    bypassing,
    identity,
    inside,
    make_documents,
    membership,
    open_world,
    organization,
    person,
    read,
    record,
    refused,
    rows,
    run,
    set_tenant,
    undone,
)

LOGINS = [APP, OWNER, SUPERUSER]
TITLES = "select title from documents"


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        make_documents(made.database, made.a, made.b)
        yield made


@pytest.fixture
def app(world: World) -> Iterator[Connection]:
    with world.connect() as connection:
        yield connection


def context_of(connection: Connection) -> tuple[str, str]:
    return (
        read(connection, "select current_setting('tenantry.tenant_id', true)") or "",
        read(connection, "select current_user"),
    )


# What it answers


def test_the_context_says_who_acts_where_and_as_what(world: World) -> None:
    with world.connect() as app, inside(app, world.a, permissions=["org:documents:delete"]) as context:
        assert context == {
            "tenant_id": world.a.id,
            "org_id": "org_alpha",
            "slug": None,
            "name": "Name of org_alpha",
            "user_id": "user_alpha",
            "role": "org:member",
            "role_source": "token",
            "permissions": ["org:documents:delete"],
            "system_permissions": [],
            "app_permissions": ["*:read"],
        }
        assert str(read(app, "select tenantry.current_tenant_id()")) == world.a.id
        assert read(app, "select tenantry.current_org_id()") == "org_alpha"
        assert read(app, "select tenantry.current_user_id()") == "user_alpha"
        assert read(app, "select tenantry.has_role('org:member') and tenantry.has_role('member')")
        assert not read(app, "select tenantry.has_role('org:admin')")
        assert read(app, "select tenantry.has_permission('org:documents:delete')")
        assert not read(app, "select tenantry.has_permission('org:documents:create')")
        assert read(app, "select tenantry.can('documents:read')")
        assert not read(app, "select tenantry.can('documents:delete')")


@pytest.mark.parametrize("login", LOGINS)
def test_every_login_reads_its_own_tenant_alone(world: World, login: str) -> None:
    with world.connect(login) as connection:
        with inside(connection, world.a):
            assert rows(connection, TITLES) == ["alpha"]
        with inside(connection, world.b):
            assert rows(connection, TITLES) == ["bravo"]


@pytest.mark.parametrize(
    "call",
    [
        "current_tenant_id()",
        "current_org_id()",
        "current_user_id()",
        "has_role('a')",
        "has_permission('org:a:b')",
        "can('a:b')",
    ],
)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_nothing_answers_for_a_transaction_without_a_tenant(world: World, call: str, used: bool) -> None:
    with world.connect() as app:
        if used:  # a local setting leaves '' behind, which must not count as a tenant
            with inside(app, world.a):
                pass
        with refused("TY001", "set_tenant_v1"):
            run(app, f"select tenantry.{call}")


def test_a_read_only_transaction_has_a_tenant_too(world: World) -> None:
    with world.connect() as app, app.transaction():
        run(app, "set transaction read only")
        set_tenant(app, identity(world.a))
        assert rows(app, TITLES) == ["alpha"]
        with refused("25006"):
            run(app, "insert into documents (title) values ('x')")


# Whom it refuses


def end_of(app: Connection, world: World, what: str) -> None:
    org, user, now = world.a.org_id, world.a.user_id, time.time()
    events: dict[str, tuple[str, dict[str, Any]]] = {
        "membership": ("organizationMembership.deleted", membership("orgmem_alpha", org, user)),
        "organization": ("organization.deleted", {"id": org, "deleted": True}),
        "user": ("user.deleted", {"id": user, "deleted": True}),
        "ban": ("user.updated", person(user, banned=True, updated_at=2)),
        "session": ("session.revoked", {"id": "sess_alpha", "user_id": user}),
    }
    record(app, *events[what], now)


@pytest.mark.parametrize(
    ("ended", "changes", "sqlstate"),
    [
        (None, {"org_id": "org_unknown"}, "TY011"),
        (None, {"user_id": "user_unknown"}, "TY011"),
        ("membership", {}, "TY012"),
        ("organization", {}, "TY013"),
        ("user", {}, "TY014"),
        ("ban", {}, "TY015"),
        ("session", {}, "TY016"),
        (None, {"org_id": None}, "TY017"),
        (None, {"instance_id": "ins_other"}, "TY018"),
        (None, {"user_id": "user_bravo", "expires_at": 1}, "TY019"),
    ],
)
def test_each_refusal_has_a_code_of_its_own(
    world: World, ended: str | None, changes: dict[str, Any], sqlstate: str
) -> None:
    with world.connect() as app, undone(app):
        if ended:
            end_of(app, world, ended)
        with refused(sqlstate), inside(app, world.a, **changes):
            pass
        assert context_of(app) == ("", APP)


@pytest.mark.parametrize("ended", ["membership", "organization", "user", "ban", "session"])
def test_with_the_token_as_source_the_mirrors_denials_do_not_count_and_isolation_does(world: World, ended: str) -> None:
    with world.connect() as app, undone(app):
        end_of(app, world, ended)
        with inside(app, world.a, membership_source="token", role="admin") as context:
            assert context["role"] == "org:admin"
            assert rows(app, TITLES) == ["alpha"]


@pytest.mark.parametrize(
    ("changes", "sqlstate"),
    [({"expires_at": 1}, "TY019"), ({"instance_id": "ins_other"}, "TY018"), ({"org_id": None}, "TY017")],
)
def test_with_the_token_as_source_the_token_must_still_be_good(
    world: World, changes: dict[str, Any], sqlstate: str
) -> None:
    with world.connect() as app, refused(sqlstate), inside(app, world.a, membership_source="token", **changes):
        pass


@pytest.mark.attack(73)
def test_an_unknown_organization_is_let_in_once_it_is_provisioned(world: World) -> None:
    facts = identity(world.a, org_id="org_new")
    with world.connect() as app, undone(app):
        with refused("TY011", "provision_v1"), app.transaction():
            set_tenant(app, facts)
        app.execute("select tenantry.provision_v1(%s::jsonb)", [json.dumps(facts)])
        with app.transaction():
            assert set_tenant(app, facts)["org_id"] == "org_new"
            assert rows(app, TITLES) == []


# Personal accounts


def provision_personal(app: Connection, world: World) -> dict[str, Any]:
    facts = identity(world.a, org_id=None, role=None, personal_account=True)
    app.execute("select tenantry.provision_v1(%s::jsonb)", [json.dumps(facts)])
    return facts


def test_a_personal_account_is_a_tenant_where_the_app_says_so(world: World) -> None:
    with world.connect() as app, undone(app):
        facts = provision_personal(app, world)
        with app.transaction():
            context = set_tenant(app, facts)
            assert (context["org_id"], context["role"], context["user_id"]) == (None, None, "user_alpha")
            assert context["tenant_id"] != world.a.id
            assert rows(app, TITLES) == []
            assert read(app, "select tenantry.current_user_id()") == "user_alpha"
            assert not read(app, "select tenantry.has_role('member') or tenantry.has_permission('org:a:b')")
            with refused("TY040"), app.transaction():
                run(app, "select tenantry.current_org_id()")


@pytest.mark.parametrize("says", [None, False, "true", 1])
def test_a_personal_account_is_refused_unless_the_app_says_so(world: World, says: object) -> None:
    with world.connect() as app, undone(app):
        provision_personal(app, world)
        with refused("TY017"), inside(app, world.a, org_id=None, personal_account=says):
            pass


def test_a_job_enters_a_personal_account_as_its_user_and_as_nobody_else(world: World) -> None:
    with world.connect() as app, undone(app):
        provision_personal(app, world)
        tenant_id = read(app, "select (tenantry.find_tenant('user_alpha')).id")
        with refused("TY012"), app.transaction():
            enter_by_id(app, tenant_id, user_id="user_bravo")
        with app.transaction():
            context = enter_by_id(app, tenant_id, user_id="user_alpha")
            assert (context["role"], context["role_source"], context["permissions"]) == (None, "mirror", [])


# Without a token


def enter_by_id(
    connection: Connection, tenant_id: str, reason: str | None = "a test", **options: object
) -> dict[str, Any]:
    statement = "select tenantry.set_tenant_by_id_v1(%s::uuid, %s, %s::jsonb)"
    context: dict[str, Any] = read(connection, statement, tenant_id, reason, json.dumps(options))
    return context


def test_the_app_itself_holds_every_permission_and_no_role(world: World) -> None:
    with world.connect() as app, app.transaction():
        context = enter_by_id(app, world.a.id)
        assert (context["role_source"], context["user_id"], context["permissions"]) == ("app", None, None)
        assert rows(app, TITLES) == ["alpha"]
        assert read(app, "select tenantry.has_permission('org:documents:delete') and tenantry.can('documents:delete')")
        assert read(app, "select tenantry.current_user_id()") is None
        assert not read(app, "select tenantry.has_role('org:admin')")


def test_a_job_acts_for_a_user_as_the_mirror_knows_them(world: World) -> None:
    with world.connect() as app, app.transaction():
        context = enter_by_id(app, world.a.id, user_id="user_alpha")
        assert (context["role"], context["role_source"]) == ("org:member", "mirror")
        assert read(app, "select tenantry.has_role('member') and not tenantry.has_permission('org:documents:delete')")


@pytest.mark.parametrize(
    ("ended", "sqlstate"), [("membership", "TY012"), ("organization", "TY013"), ("user", "TY014"), ("ban", "TY015")]
)
def test_a_job_does_not_act_for_who_is_gone(world: World, ended: str, sqlstate: str) -> None:
    with world.connect() as app, undone(app):
        end_of(app, world, ended)
        with refused(sqlstate), app.transaction():
            enter_by_id(app, world.a.id, user_id="user_alpha")


def test_a_job_refuses_a_stranger_and_an_unknown_tenant(world: World) -> None:
    with world.connect() as app:
        with refused("TY012"), app.transaction():
            enter_by_id(app, world.a.id, user_id="user_bravo")
        with refused("TY020", "tenantry tenants list"), app.transaction():
            enter_by_id(app, "00000000-0000-8000-8000-000000000000")
        with refused("TY010", "reason"), app.transaction():
            enter_by_id(app, world.a.id, reason="  ")


@pytest.mark.parametrize(
    "options", [{"user_id": ""}, {"user_id": 7}, {"user_id": ["user_alpha"]}, {"userid": "user_alpha"}, []]
)
def test_a_user_that_cannot_be_read_does_not_become_the_app_itself(world: World, options: object) -> None:
    with world.connect() as app, refused("TY010", "user_id"), app.transaction():
        app.execute(
            "select tenantry.set_tenant_by_id_v1(%s::uuid, 'a test', %s::jsonb)", [world.a.id, json.dumps(options)]
        )


# One transaction, one tenant


@pytest.mark.parametrize("login", LOGINS)
def test_a_second_tenant_is_refused(world: World, login: str) -> None:
    with world.connect(login) as connection, undone(connection):
        set_tenant(connection, identity(world.a))
        for facts in (identity(world.b), identity(world.a)):
            with refused("TY002"), connection.transaction():  # a savepoint
                set_tenant(connection, facts)
        with refused("TY002"), connection.transaction():
            enter_by_id(connection, world.b.id)
        with refused("TY002"), connection.transaction():
            run(connection, "reset role")
            set_tenant(connection, identity(world.b))
        assert rows(connection, TITLES) == ["alpha"]


@pytest.mark.parametrize("first", ["select 1", "reset role", "reset all", "reset all; set local row_security = on"])
@pytest.mark.parametrize("login", [APP, SUPERUSER])
def test_the_bypass_is_refused_in_a_tenant(world: World, login: str, first: str) -> None:
    with world.connect(login) as connection, undone(connection):
        set_tenant(connection, identity(world.a))
        with refused("TY002"), connection.transaction():
            run(connection, first, "select tenantry.bypass_tenant_v1('more')")
        assert rows(connection, TITLES) == ["alpha"]


def test_a_tenant_is_refused_in_the_bypass(world: World) -> None:
    with world.connect() as app, bypassing(app):
        with refused("TY002", "end_bypass_v1"), app.transaction():
            set_tenant(app, identity(world.a))
        with refused("TY002"), app.transaction():
            run(app, "select tenantry.bypass_tenant_v1('again')")


def test_the_bypass_needs_a_reason_and_keeps_it(world: World) -> None:
    with world.connect() as app:
        with refused("TY010", "reason"):
            run(app, "select tenantry.bypass_tenant_v1(' ')")
        with app.transaction():
            assert read(app, "select tenantry.bypass_tenant_v1('export 7')") == {"bypass": "export 7"}
            assert read(app, "select current_setting('tenantry.bypass_reason')") == "export 7"
            assert rows(app, TITLES) == ["alpha", "bravo"]
        with refused("TY001"):
            run(app, TITLES)


def test_after_the_bypass_a_migration_goes_on_with_ddl(world: World) -> None:
    with world.connect(OWNER) as owner, undone(owner):
        with refused("42501"), owner.transaction():
            run(owner, "select tenantry.bypass_tenant_v1('backfill')", "alter table documents add column note text")
        run(
            owner,
            "select tenantry.bypass_tenant_v1('backfill')",
            "update documents set title = upper(title)",
            "select tenantry.end_bypass_v1()",
            "alter table documents add column note text",
        )
        with refused("TY010", "no bypass"), owner.transaction():
            run(owner, "select tenantry.end_bypass_v1()")
        set_tenant(owner, identity(world.a))
        assert rows(owner, TITLES) == ["ALPHA"]


def test_the_end_of_a_bypass_gives_back_the_role_of_before(world: World) -> None:
    with world.connect(SUPERUSER) as superuser, superuser.transaction():
        run(
            superuser,
            f"set local role {OWNER}",
            "select tenantry.bypass_tenant_v1('x')",
            "select tenantry.end_bypass_v1()",
        )
        assert read(superuser, "select current_user") == OWNER


def test_after_the_bypass_a_tenant_may_be_set(world: World) -> None:
    with world.connect() as app, app.transaction():
        run(app, "select tenantry.bypass_tenant_v1('x')", "select tenantry.end_bypass_v1()")
        set_tenant(app, identity(world.a))
        assert rows(app, TITLES) == ["alpha"]


# Nothing outlives the transaction


@pytest.mark.attack(1)
@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("login", LOGINS)
def test_the_tenant_ends_with_its_transaction_on_the_same_connection(world: World, login: str, ending: str) -> None:
    with world.connect(login) as connection:
        backend = read(connection, "select pg_backend_pid()")
        with connection.transaction(force_rollback=ending == "rollback"):
            set_tenant(connection, identity(world.a))
        assert read(connection, "select pg_backend_pid()") == backend
        assert context_of(connection) == ("", login)
        for name in ("org_id", "user_id", "role", "permissions", "app_permissions"):
            assert not read(connection, f"select current_setting('tenantry.{name}', true)")
        if login != SUPERUSER:  # whom no policy holds
            with refused("TY001"):
                run(connection, TITLES)
        with inside(connection, world.b):
            assert rows(connection, TITLES) == ["bravo"]


def test_a_failed_statement_ends_the_tenant_with_its_transaction(world: World) -> None:
    with world.connect() as app:
        with refused("22012"), inside(app, world.a):
            run(app, "select 1 / 0")
        assert context_of(app) == ("", APP)


@pytest.mark.attack(7)
def test_the_tenant_outlives_savepoints_released_and_rolled_back(world: World) -> None:
    with world.connect() as app, undone(app):
        set_tenant(app, identity(world.a))
        for ending in ("release savepoint s", "rollback to savepoint s"):
            run(app, "savepoint s", "insert into documents (title) values ('draft')", ending)
            assert context_of(app) == (world.a.id, "tenantry_tenant")
        assert rows(app, TITLES) == ["alpha", "draft"]


@pytest.mark.attack(7)
def test_a_tenant_set_in_a_savepoint_ends_with_its_rollback_alone(world: World) -> None:
    with world.connect() as app, undone(app):
        run(app, "savepoint s")
        set_tenant(app, identity(world.a))
        run(app, "rollback to savepoint s")
        assert context_of(app) == ("", APP)
        run(app, "savepoint s")
        set_tenant(app, identity(world.b))
        run(app, "release savepoint s")
        assert rows(app, TITLES) == ["bravo"]


@pytest.mark.attack(10, 36, 37)
@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan", "auto"])
def test_a_prepared_plan_serves_each_tenant_its_own_rows(world: World, plans: str) -> None:
    with world.connect() as app:
        app.prepare_threshold = 0
        run(app, f"set plan_cache_mode = {plans}")
        for _ in range(4):
            for tenant in (world.a, world.b):
                with inside(app, tenant):
                    found = app.execute("select title from documents where id > %s", [0], prepare=True).fetchall()
                    assert found == [(tenant.sentinel,)]
            with refused("TY001"):
                app.execute("select title from documents where id > %s", [0], prepare=True)
            with bypassing(app):
                found = app.execute("select title from documents where id > %s", [0], prepare=True).fetchall()
                assert sorted(found) == [("alpha",), ("bravo",)]


@pytest.mark.attack(36, 37)
@pytest.mark.parametrize("plans", ["force_generic_plan", "auto"])
async def test_a_prepared_plan_of_asyncpg_serves_each_tenant_its_own_rows(world: World, plans: str) -> None:
    connection = await asyncpg.connect(world.database.dsn(), server_settings={"plan_cache_mode": plans})
    try:
        for _ in range(8):
            for tenant in (world.a, world.b):
                async with connection.transaction():
                    await connection.fetchval(
                        "select tenantry.set_tenant_v1($1::text::jsonb)", json.dumps(identity(tenant))
                    )
                    found = await connection.fetch("select title from documents where id > $1", 0)
                    assert [row["title"] for row in found] == [tenant.sentinel]
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.fetch("select title from documents where id > $1", 0)
            assert caught.value.sqlstate == "TY001"
    finally:
        await connection.close()


@pytest.mark.attack(10)
def test_a_temporary_table_of_one_tenant_does_not_serve_the_next(world: World) -> None:
    with world.connect() as app:
        with inside(app, world.a):
            run(app, "create temporary table documents as select * from public.documents")
        with refused("TY003", "DISCARD"), inside(app, world.b):
            run(app, TITLES)
        run(app, "discard all")
        with inside(app, world.b):
            assert rows(app, TITLES) == ["bravo"]


def test_a_temporary_table_dropped_at_commit_is_nobodys_concern(world: World) -> None:
    with world.connect() as app:
        for tenant in (world.a, world.b):
            with inside(app, tenant):
                run(app, "create temporary table seen on commit drop as select * from documents")
                assert rows(app, "select title from seen") == [tenant.sentinel]


def test_a_temporary_table_of_the_login_itself_is_not_a_tenants(world: World) -> None:
    with world.connect() as app:
        run(app, "create temporary table scratch (n integer)")
        with inside(app, world.a), refused("42501"), app.transaction():
            run(app, "select * from scratch")


@pytest.mark.attack(10)
def test_a_cursor_held_by_one_tenant_does_not_serve_the_next(world: World) -> None:
    with world.connect() as app:
        with inside(app, world.a):
            run(app, f"declare held cursor with hold for {TITLES}")
        with refused("TY003", "held"), inside(app, world.b):
            run(app, "fetch all from held")
        run(app, "close held")
        with inside(app, world.b):
            assert rows(app, TITLES) == ["bravo"]


# What the functions open to whom


@pytest.mark.attack(100)
@pytest.mark.parametrize(
    "call",
    [
        "tenantry.resolve_identity('{}')",
        "tenantry.resolve_tenant(gen_random_uuid(), 'user_bravo')",
        "tenantry.enter_tenant('{}')",
        "tenantry.find_tenant('org_bravo')",
        "tenantry.provision_v1('{}')",
        "tenantry.record_event_v1('msg_forged', '{}')",
        "tenantry.register_isolation('documents', null)",
        "tenantry.isolate_table_v1('documents')",
        "tenantry.drop_isolation_v1('documents')",
        "tenantry.set_role_permissions_v1('{}')",
        "tenantry.rebind_instance_v1('{}')",
        "tenantry.check_v1()",
    ],
)
def test_inside_a_tenant_the_functions_of_the_app_are_closed(world: World, call: str) -> None:
    with world.connect() as app, refused("42501"), inside(app, world.a):
        run(app, f"select {call}")


# Whatever comes


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["user_id", "org_id", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
FACTS = [
    "user_id",
    "org_id",
    "org_slug",
    "role",
    "permissions",
    "features",
    "session_id",
    "issued_at",
    "expires_at",
    "instance_id",
]
plausible = st.sampled_from(
    ["user_alpha", "org_alpha", "ins_test", "org:admin", "*", ["*", "a,b"], 0, 1e300, -1, 4102444800]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from([*FACTS, "personal_account", "membership_source"]), plausible | json_values),
    st.booleans(),
)
def test_whatever_the_identity_it_is_decided_or_refused_with_a_code(
    world: World, app: Connection, changes: dict[str, Any], whole: bool
) -> None:
    facts = {**identity(world.a), **changes} if whole else changes
    assert_decided(app, "select tenantry.set_tenant_v1(%s::jsonb)", json.dumps(facts))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_whatever_is_no_identity_is_refused_with_a_code(app: Connection, value: object) -> None:
    assert_decided(app, "select tenantry.set_tenant_v1(%s::jsonb)", json.dumps(value))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_whatever_the_options_of_a_job_they_are_read_or_refused_with_a_code(
    world: World, app: Connection, options: object
) -> None:
    assert_decided(
        app, f"select tenantry.set_tenant_by_id_v1('{world.a.id}', 'a test', %s::jsonb)", json.dumps(options)
    )


def assert_decided(app: Connection, statement: str, argument: str) -> None:
    """Either the transaction sees the one tenant's rows, or the error is Tenantry's own."""
    try:
        with app.transaction():
            context = read(app, statement, argument)
            assert rows(app, TITLES) in (["alpha"], [])
            if context["user_id"] is not None:
                assert not read(app, "select tenantry.has_permission('org:never:granted')")
    except psycopg.Error as error:
        assert error.sqlstate is not None
        assert error.sqlstate.startswith("TY0"), error


def test_no_identity_at_all_is_refused_with_a_code(world: World) -> None:
    with world.connect() as app, refused("TY010"), app.transaction():
        run(app, "select tenantry.set_tenant_v1(null)")


def test_a_permission_that_is_no_permission_grants_nothing(world: World) -> None:
    with world.connect() as app, inside(app, world.a, permissions=["*", "org:a:b,org:sys_memberships:manage"]):
        assert not read(app, "select tenantry.has_permission('org:documents:delete')")
        assert not read(app, "select tenantry.has_permission('org:sys_memberships:manage')")


@pytest.mark.attack(64)
def test_an_organization_renamed_is_still_the_same_tenant(world: World) -> None:
    with world.connect() as app, undone(app):
        record(
            app,
            "organization.updated",
            organization("org_alpha", name="Other", slug="bravo", updated_at=2),
            time.time(),
        )
        with inside(app, world.a) as context:
            assert (context["tenant_id"], context["name"], context["slug"]) == (world.a.id, "Other", "bravo")
