"""Tables of odd shapes, and each of the places a user's rows may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from adopt import worlds
from adopt.comparing import go_back_and_forth, state
from adopt.worlds import USERS, World, decide, personal_tenant, schema_of, sql
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import Connection, read, rows, run
from tenantry.adopt import ownership
from tenantry.adopt.plan import Decision, Plan, Rows, Source
from tenantry.adopt.step import Phase


def proposed(database: Database, rows: Rows | None = None, *decisions: Decision) -> World:
    plan, _ = ownership.propose(schema_of(database), rows or Rows())
    return World(database, decide(plan, *decisions))


def tenant_of(connection: Connection, org_id: str) -> str:
    return str(read(connection, "select (tenantry.find_tenant(%s)).id", org_id))


def owned_by(world: World, table: str) -> dict[str, int]:
    """How many rows each organization has."""
    query = f"select t.clerk_org_id, count(*) from {table} a join tenantry.tenants t on t.id = a.tenant_id group by 1"
    with world.database.connect(SUPERUSER) as superuser:
        return dict(superuser.execute(query.encode()).fetchall())


# Where rows go


def test_all_rows_of_one_organization_are_its_own_without_touching_one(database: Database) -> None:
    worlds.publishing(database)
    worlds.mirror_organizations(database, ["org_one", "org_two"])
    to = Rows(to="organization", organization="org_one")
    world = proposed(database, to)
    with database.connect(SUPERUSER) as superuser:
        where = "select ctid::text from articles"
        before, start = rows(superuser, where), state(database)
        world.apply("backfill")
        assert rows(superuser, where) == before
        world.apply("constrain")
        assert world.findings() == []
        world.undo()
        assert state(database) == start
    world.apply("constrain")
    with database.connect(APP) as app, app.transaction():  # an app that sets its tenant may write for another already
        app.execute("select tenantry.set_tenant_by_id_v1(%s, 'a test')", [tenant_of(app, "org_two")])
        run(app, "insert into articles (author_id, slug, title) values (1, 'two', 'Two')")
    sql(database, "insert into articles (author_id, slug, title) values (1, 'one', 'One')")
    assert owned_by(world, "articles") == {"org_one": 61, "org_two": 1}
    world.apply("contract")
    assert world.findings(still=False) == []


def test_rows_go_by_the_domain_of_an_address_and_the_rest_to_who_is_named(database: Database) -> None:
    world = worlds.publishing(database)
    worlds.mirror_organizations(database, ["org_one", "org_rest"])
    sql(database, "update users set email = id || '@Acme.test' where id <= 2")
    to = Rows(to="column", column="email", by="domain", organizations={"acme.test": "org_one"}, rest="org_rest")
    world = world.with_plan(rows=to)
    world.apply("isolate")
    assert world.findings() == []
    assert owned_by(world, "articles") == {"org_one": 20, "org_rest": 40}


def test_rows_go_by_a_file(database: Database, tmp_path: Path) -> None:
    world = worlds.publishing(database)
    worlds.mirror_organizations(database, ["org_a", "org_b"])
    owners = tmp_path / "owners.csv"
    owners.write_text("".join(f"{n},{'org_a' if n < 3 else 'org_b'}\n" for n in range(1, USERS + 1)))
    world = world.with_plan(rows=Rows(to="csv", csv=str(owners)))
    world.apply("contract")
    assert world.findings() == []
    assert owned_by(world, "articles") == {"org_a": 20, "org_b": 40}


def test_users_are_found_by_their_address_in_the_mirror(database: Database) -> None:
    world = worlds.publishing(database)
    sql(database, "update users set email = upper(clerk_id) || '@example.com'")
    world = world.with_plan(users=Source("public.users", "id", email="email"))
    world.apply("constrain")
    assert world.findings() == []
    with database.connect(SUPERUSER) as superuser:
        found = (
            "select count(*) from articles join users u on u.id = author_id join tenantry.tenants t on t.id = tenant_id"
        )
        assert read(superuser, f"{found} where t.clerk_user_id = u.clerk_id") == 60


def test_columns_of_clerks_user_ids_need_no_table_of_users(database: Database) -> None:
    worlds.mirror_users(database, ["user_a", "user_b"])
    sql(
        database,
        "create table notes (id bigserial primary key, user_id text not null, text text)",
        "insert into notes (user_id) select 'user_' || chr(97 + n % 2) from generate_series(1, 10) n",
        f"grant insert, select on notes to {APP}; grant usage on sequence notes_id_seq to {APP}",
    )
    world = proposed(database)
    assert world.plan.users == Source()
    world.apply("constrain")
    with database.connect(APP) as app:
        run(app, "insert into notes (user_id) values ('user_new')")
    assert world.findings(still=False) == []
    world.apply("contract")
    assert world.findings(still=False) == []


# What tables are like


def test_a_table_without_a_primary_key_and_one_without_rows_are_moved(database: Database) -> None:
    worlds.mirror_users(database, ["user_1"])
    sql(
        database,
        "create table users (id integer primary key, clerk_id text unique)",
        "insert into users values (1, 'user_1')",
        "create table visits (user_id integer not null references users, at timestamptz)",
        "insert into visits select 1, now() from generate_series(1, 1000)",
        "create table nothing (id integer primary key, user_id integer not null references users)",
    )
    world = proposed(database)
    go_back_and_forth(world)


def test_names_that_need_quotes_keywords_and_long_ones_are_moved(database: Database) -> None:
    long = "x" * 60
    worlds.mirror_users(database, ["user_1"])
    sql(
        database,
        'create schema "My App"',
        'create table "My App"."user" ("Id" integer primary key, "clerk ID" text unique)',
        """insert into "My App"."user" values (1, 'user_1')""",
        'create table "My App"."order"'
        ' ("group" integer primary key, "select" integer not null references "My App"."user")',
        'insert into "My App"."order" select n, 1 from generate_series(1, 50) n',
        f'create table {long}_a ({long}_1 integer primary key, "order" integer not null references "My App"."order")',
        f"insert into {long}_a select n, n from generate_series(1, 50) n",
        f'create unique index on {long}_a ("order", {long}_1)',
        'create table "it\'s 100%" (id integer primary key, "a.b" integer references "My App"."order")',
        'insert into "it\'s 100%" select n, n from generate_series(1, 50) n',
    )
    source = Source('"My App"."user"', '"Id"', '"clerk ID"')
    plan, _ = ownership.propose(schema_of(database), Rows(), source)
    world = World(database, plan)
    assert {d.tenant for d in plan.decisions} == {"shared", "owner", "reference"}
    go_back_and_forth(world)


def test_a_circle_of_references_is_moved(database: Database) -> None:
    worlds.mirror_users(database, ["user_1", "user_2"])
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create table users (id integer primary key, clerk_id text unique)",
            "insert into users values (1, 'user_1'), (2, 'user_2')",
            "create table teams (id integer primary key, owner_id integer not null references users, lead_id integer)",
            "create table players (id integer primary key, team_id integer not null references teams)",
            "alter table teams add foreign key (lead_id) references players deferrable initially deferred",
        )
        with owner.transaction():
            run(
                owner,
                "insert into teams select n, 1 + n % 2, n from generate_series(1, 30) n",
                "insert into players select n, n from generate_series(1, 30) n",
            )
    world = proposed(
        database,
        None,
        Decision("public.teams", "owner", ("owner_id",)),
        Decision("public.players", "reference", ("team_id",)),
    )
    world.apply("contract")
    assert world.findings() == []


ASKED_AT_THE_END = "deferrable initially deferred"
NAMES = ("articles", "comments", "replies")


@pytest.mark.parametrize("phase", ["backfill", "constrain"])
@pytest.mark.parametrize("rest", ["", "org_rest"])
def test_where_foreign_keys_are_asked_at_the_end_rows_may_come_before_what_they_refer_to(
    database: Database, rest: str, phase: Phase
) -> None:
    worlds.mirror_users(database, ["user_1", "user_2", "user_3"])
    worlds.mirror_organizations(database, ["org_rest"])
    sql(
        database,
        "create table users (id integer primary key, clerk_id text unique)",
        "insert into users values (1, 'user_1'), (2, 'user_2')",
        f"create table articles (id integer primary key, author_id integer references users {ASKED_AT_THE_END})",
        f"create table comments (id integer primary key, article_id integer references articles {ASKED_AT_THE_END})",
        "create table replies (id integer primary key, comment_id integer references comments)",
        *(f"insert into {name} select n, 1 + n % 2 from generate_series(1, 20) n" for name in NAMES),
        f"grant insert on users, articles, comments, replies to {APP}",
    )
    world = proposed(database, Rows(rest=rest))
    world.apply(phase)
    with database.connect(APP) as app, app.transaction():
        run(app, "insert into comments values (100, 100)", "insert into replies values (100, 100)")
        run(app, "insert into articles values (100, 1)")
    with database.connect(APP) as app, app.transaction():
        run(app, "insert into comments values (101, 101)", "insert into replies values (101, 101)")
        run(app, "insert into articles values (101, 3)", "insert into users values (3, 'user_3')")
    found = {(kind, table) for kind, table, _ in world.findings(still=False)}
    assert {("waiting", "public.comments"), ("waiting", "public.replies")} <= found
    assert found <= {("crossing", "public.comments"), *(("waiting", f"public.{name}") for name in NAMES)}
    world.apply(phase)
    assert world.findings(still=False) == []
    assert world.apply(phase).done == []
    expected = sorted(personal_tenant(database, f"user_{n}") for n in (1, 3))
    with database.connect(SUPERUSER) as superuser:
        for name in NAMES:
            assert rows(superuser, f"select tenant_id::text from {name} where id > 99") == expected, name
    world.undo()
    go_back_and_forth(world)
    with database.connect(OWNER) as owner:
        key = read(
            owner, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'comments_article_id_fkey'"
        )
    assert key == f"FOREIGN KEY (tenant_id, article_id) REFERENCES articles(tenant_id, id) {ASKED_AT_THE_END.upper()}"


def test_two_hundred_tables_are_moved(database: Database) -> None:
    worlds.mirror_users(database, ["user_1"])
    tables = [
        f"create table t{n} (id integer primary key, owner_id integer not null references users)" for n in range(200)
    ]
    sql(
        database,
        "create table users (id integer primary key, clerk_id text unique)",
        "insert into users values (1, 'user_1')",
        *tables,
        *(f"insert into t{n} values (1, 1)" for n in range(200)),
    )
    world = proposed(database)
    assert len(world.plan.owned) == 200
    watched = world.apply("isolate")
    assert sum(name.startswith("isolate ") for name in watched.done) == 200
    assert world.findings() == []


def test_uniques_of_all_kinds_get_the_tenant_and_keep_their_names(database: Database) -> None:
    worlds.mirror_users(database, ["user_1", "user_2"])
    sql(
        database,
        "create table users (id integer primary key, clerk_id text unique)",
        "insert into users values (1, 'user_1'), (2, 'user_2')",
        "create table items (id integer primary key, user_id integer not null references users, code text, at date,"
        " constraint the_code unique nulls not distinct (code))",
        "create unique index partly on items (code) where at is not null",
        "create index plainly on items (at) include (code)",
        "insert into items select n, 1 + n % 2, 'code' || n, date '2026-01-01' + n from generate_series(1, 9) n",
    )
    world = proposed(database)
    world.apply("contract")
    assert world.findings() == []
    with database.connect(SUPERUSER) as superuser:
        definitions = "select pg_get_constraintdef(oid) from pg_constraint where conname = %s"
        assert read(superuser, definitions, "the_code") == "UNIQUE NULLS NOT DISTINCT (tenant_id, code)"
        assert read(superuser, definitions, "items_pkey") == "PRIMARY KEY (tenant_id, id)"
        index = "select split_part(indexdef, 'USING ', 2) from pg_indexes where indexname = %s"
        assert read(superuser, index, "partly") == "btree (tenant_id, code) WHERE (at IS NOT NULL)"
        assert read(superuser, index, "plainly") == "btree (tenant_id, at) INCLUDE (code)"


def test_a_plan_of_one_shared_table_is_a_plan(database: Database) -> None:
    sql(database, "create table countries (code text primary key)")
    world = World(database, Plan(Rows(), (Decision("public.countries", "shared", mode="read"),)))
    world.apply("contract")
    assert world.findings() == []


def test_a_table_that_is_isolated_already_is_left_alone(database: Database) -> None:
    world = worlds.publishing(database)
    sql(database, "create table done (id integer primary key)", "select tenantry.isolate_table_v1('done')")
    with database.connect(APP) as app, app.transaction():
        tenant = worlds.personal_tenant(database, "user_1")
        app.execute("select tenantry.set_tenant_by_id_v1(%s, 'a test')", [tenant])
        run(app, "insert into done values (1)")
    before = state(database)
    world.apply("isolate")
    assert world.findings() == []
    world.undo()
    assert state(database) == before
    world.apply("contract")
    sql(database, "create table newer (id integer primary key)")  # nobody's business but check_v1's
    assert world.findings() == []


def test_a_foreign_key_that_nobody_enforces_stays_as_it_is(database: Database) -> None:
    if database.server.version < 18:
        pytest.skip("PostgreSQL enforces all foreign keys before 18")
    world = worlds.publishing(database)
    sql(
        database,
        "alter table drafts add article_id bigint constraint loose references articles not enforced",
        "update drafts set article_id = 0",
    )
    world.apply("contract")
    assert world.findings(still=False) == []
    with database.connect(SUPERUSER) as superuser:
        definition = read(superuser, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'loose'")
        assert definition == "FOREIGN KEY (article_id) REFERENCES articles(id) NOT ENFORCED"
