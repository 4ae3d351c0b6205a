"""Tables, views and keys: what shows of another tenant once a defence is taken out, and what the other suites lack.

Every row of tenant A holds the word `alpha`, every row of B `bravo`. All happens in a transaction that is undone.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from databases import APP, OWNER, SUPERUSER, Server
from sql.tenants import (
    Connection,
    Tenant,
    World,
    become,
    findings,
    isolate,
    make_documents,
    open_world,
    read,
    refuse,
    refused,
    rows,
    run,
    undone,
    visiting,
)

TITLES = "select title from documents"
OPEN = "alter policy tenantry_isolation on documents using (true) with check (true)"


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        make_documents(made.database, made.a, made.b)
        with made.connect(SUPERUSER) as superuser:
            run(superuser, "analyze documents")
        yield made


@pytest.fixture
def session(world: World) -> Iterator[Connection]:
    """The owner's, to begin with; it can become anyone."""
    with world.connect(SUPERUSER) as connection, undone(connection):
        become(connection, OWNER)
        yield connection


def as_superuser(connection: Connection, *statements: str) -> None:
    become(connection, SUPERUSER)
    run(connection, *statements)


def write(connection: Connection, tenant: Tenant, statement: str) -> None:
    """As a tenant's own request would, but to stay for the test's transaction; then the owner goes on."""
    become(connection, APP)
    run(connection, f"select tenantry.set_tenant_by_id_v1('{tenant.id}', 'a test')", statement)
    as_superuser(connection, "select set_config('tenantry.tenant_id', '', true)")
    become(connection, OWNER)


def everything(connection: Connection, table: str) -> list[str]:
    become(connection, SUPERUSER)
    return rows(connection, f"select title from {table}")


def attempt(connection: Connection, statement: str) -> str:
    """How a statement ends, as far as its sender can tell."""
    try:
        with connection.transaction():
            return f"{connection.execute(statement).rowcount} rows"
    except psycopg.Error as error:
        return str(error.sqlstate)


# --- tables nobody isolated -------------------------------------------------------------------------------------------

SECRETS = ["create table secrets (title text)", "insert into secrets values ('bravo')"]


@pytest.mark.attack(16, 38)
def test_a_table_that_nobody_isolated_is_not_open_to_tenants(world: World, session: Connection) -> None:
    run(session, *SECRETS)
    assert [(code, name) for code, name, _ in findings(session)] == [("TC01", "secrets")]
    with visiting(session, APP, world.a):
        refuse(session, "42501", "select title from secrets")


@pytest.mark.breach(16)
def test_default_grants_open_a_table_that_nobody_isolated(world: World, session: Connection) -> None:
    run(session, "alter default privileges grant select on tables to public", *SECRETS)
    assert [(code, name) for code, name, _ in findings(session)] == [("TC01", "secrets")]
    with visiting(session, APP, world.a):
        assert rows(session, "select title from secrets") == ["bravo"]


@pytest.mark.breach(38)
def test_an_audit_table_that_is_granted_instead_of_isolated_shows_everybodys_writes(
    world: World, session: Connection
) -> None:
    run(
        session,
        "create table audit (title text)",
        "grant select, insert on audit to tenantry_tenant",
        """create function note() returns trigger language plpgsql as
           $$ begin insert into audit values (new.title); return new; end $$""",
        "create trigger note after insert on documents for each row execute function note()",
    )
    write(session, world.b, "insert into documents (title) values ('bravo too')")
    with visiting(session, APP, world.a):
        assert rows(session, "select title from audit") == ["bravo too"]


# --- ways around the policies -----------------------------------------------------------------------------------------


@pytest.mark.breach(19)
def test_a_definer_function_of_a_superuser_reads_everybodys_rows(world: World, session: Connection) -> None:
    run(session, f"create function every_title() returns setof text language sql security definer as '{TITLES}'")
    with visiting(session, APP, world.a):
        assert rows(session, "select * from every_title()") == ["alpha"]
    as_superuser(session, "alter function every_title() owner to postgres")
    with visiting(session, APP, world.a):
        assert rows(session, "select * from every_title()") == ["alpha", "bravo"]


@pytest.mark.breach(21)
def test_a_child_with_grants_and_no_policies_shows_everybodys_rows(world: World, session: Connection) -> None:
    run(session, "create table letters (title text)", "create table faxes () inherits (letters)")
    isolate(session, "letters")
    as_superuser(session, f"insert into faxes values ('bravo', '{world.b.id}')")
    with visiting(session, APP, world.a):
        refuse(session, "42501", "select title from faxes")
    run(session, "alter table faxes disable row level security", "grant select on faxes to tenantry_tenant")
    with visiting(session, APP, world.a):
        assert rows(session, "select title from faxes") == ["bravo"]
        assert rows(session, "select title from letters") == []


@pytest.mark.breach(25)
def test_without_row_level_security_copy_exports_and_imports_for_everybody(world: World, session: Connection) -> None:
    run(session, "alter table documents disable row level security")
    with visiting(session, APP, world.a):
        with session.cursor().copy("copy documents (title) to stdout") as copy:
            assert b"bravo\n" in [bytes(block) for block in copy]
        with session.cursor().copy("copy documents (title, tenant_id) from stdin") as copy:
            copy.write_row(("sneaked in", world.b.id))
        assert rows(session, f"{TITLES} where tenant_id = '{world.b.id}'") == ["bravo", "sneaked in"]


@pytest.mark.breach(26)
def test_a_role_that_bypasses_row_level_security_may_turn_it_off(world: World, session: Connection) -> None:
    as_superuser(session, "alter role tenantry_tenant bypassrls")
    with visiting(session, APP, world.a):
        assert rows(session, TITLES) == ["alpha", "bravo"]
        run(session, "set local row_security = off")
        assert rows(session, TITLES) == ["alpha", "bravo"]


@pytest.mark.breach(31)
def test_without_the_tenants_policy_an_upsert_changes_anothers_row(world: World, session: Connection) -> None:
    upsert = """insert into documents (id, title) overriding system value values (2, 'hacked')
                on conflict (id) do update set title = 'hacked'"""
    with visiting(session, APP, world.a):
        refuse(session, "42501", upsert)
    run(session, OPEN)
    with visiting(session, APP, world.a):
        run(session, upsert)
        assert everything(session, "documents") == ["alpha", "hacked"]


# --- keys -------------------------------------------------------------------------------------------------------------

FOLDERS = [
    "create table folders (id bigint generated by default as identity primary key, title text)",
    "create table files (title text, folder_id bigint)",
    "create table labels (folder_id bigint, file text, title text)",
]


@pytest.fixture
def folders(world: World, session: Connection) -> Connection:
    """Folders 1 of A and 2 of B, and tables without a key yet that refer to them."""
    run(session, *FOLDERS)
    for table in ("folders", "files", "labels"):
        isolate(session, table)
    for number, tenant in enumerate((world.a, world.b), 1):
        write(session, tenant, f"insert into folders values ({number}, '{tenant.sentinel}')")
    return session


def refer(connection: Connection, table: str, key: str) -> None:
    """Adds a foreign key to folders; only a superuser could validate one with policies in force."""
    columns = key.replace("folder_id", "id")
    if columns != "id":
        run(connection, f"alter table folders add unique ({columns})")
    as_superuser(
        connection,
        f"alter table {table} add foreign key ({key}) references folders ({columns}) on delete cascade",
    )
    become(connection, OWNER)


@pytest.mark.breach(28)
def test_a_plain_foreign_key_cascades_to_another_tenants_row(world: World, folders: Connection) -> None:
    refer(folders, "files", "folder_id")
    assert ("TC11", "files") in [(code, name) for code, name, _ in findings(folders)]
    write(folders, world.a, "insert into files (title, folder_id) values ('alpha', 2)")
    assert everything(folders, "files") == ["alpha"]
    write(folders, world.b, "delete from folders")
    assert everything(folders, "files") == []


@pytest.mark.breach(40)
def test_a_plain_foreign_key_links_a_row_to_another_tenants(world: World, folders: Connection) -> None:
    refer(folders, "labels", "folder_id")
    link = "insert into labels (folder_id, title) values ({}, 'of alpha')"
    with visiting(folders, APP, world.a):
        assert [attempt(folders, link.format(number)) for number in (2, 999)] == ["1 rows", "23503"]


@pytest.mark.attack(40)
def test_an_association_that_carries_the_tenant_links_no_row_to_another_tenants(
    world: World, folders: Connection
) -> None:
    refer(folders, "labels", "tenant_id, folder_id")
    link = "insert into labels (folder_id, title) values ({}, 'of alpha')"
    with visiting(folders, APP, world.a):
        assert [attempt(folders, link.format(number)) for number in (1, 2, 999)] == ["1 rows", "23503", "23503"]


@pytest.mark.attack(29, 30)
@pytest.mark.parametrize("conflict", ["", "on conflict do nothing"])
def test_a_key_that_carries_the_tenant_tells_nothing_of_anothers(
    world: World, session: Connection, conflict: str
) -> None:
    run(session, "create table people (email text, title text)")
    isolate(session, "people")
    run(session, "alter table people add unique (tenant_id, email)")
    write(session, world.b, "insert into people values ('bravo@example.com', 'bravo')")
    with visiting(session, APP, world.a):
        for email in ("bravo@example.com", "nobody@example.com"):
            assert attempt(session, f"insert into people values ('{email}', 'x') {conflict}") == "1 rows"


@pytest.mark.breach(29, 30)
@pytest.mark.parametrize(("conflict", "answer"), [("", "23505"), ("on conflict do nothing", "0 rows")])
def test_a_key_without_the_tenant_tells_that_another_has_the_value(
    world: World, session: Connection, conflict: str, answer: str
) -> None:
    run(session, "create table people (email text unique, title text)")
    isolate(session, "people")
    assert ("TC10", "people") in [(code, name) for code, name, _ in findings(session)]
    write(session, world.b, "insert into people values ('bravo@example.com', 'bravo')")
    with visiting(session, APP, world.a):
        assert attempt(session, f"insert into people values ('nobody@example.com', 'x') {conflict}") == "1 rows"
        assert attempt(session, f"insert into people values ('bravo@example.com', 'x') {conflict}") == answer


@pytest.mark.attack(29)
def test_an_exclusion_constraint_without_the_tenant_does_not_go_unreported(world: World, session: Connection) -> None:
    run(session, "create table bookings (during int4range, title text, exclude using gist (during with &&))")
    isolate(session, "bookings")
    write(session, world.b, "insert into bookings (during) values ('[1, 5)')")
    with visiting(session, APP, world.a):
        book = "insert into bookings (during) values ('{}')"
        assert [attempt(session, book.format(during)) for during in ("[2, 3)", "[7, 9)")] == ["23P01", "1 rows"]
    assert ("TC10", "bookings") in [(code, name) for code, name, _ in findings(session)]


@pytest.mark.attack(27)
def test_a_shared_table_that_refers_to_tenants_rows_does_not_go_unreported(world: World, session: Connection) -> None:
    run(session, "create table likes (document_id bigint)", "select tenantry.share_table_v1('likes', 'write')")
    as_superuser(session, "alter table likes add foreign key (document_id) references documents")
    with visiting(session, APP, world.a):
        like = "insert into likes values ({})"
        assert [attempt(session, like.format(id_)) for id_ in (2, 999)] == ["1 rows", "23503"]
    assert "likes" in [name for _, name, _ in findings(session)]


# --- what is told rather than shown -----------------------------------------------------------------------------------


@pytest.mark.breach(33)
def test_without_row_level_security_the_statistics_show_anothers_values(world: World, session: Connection) -> None:
    shown = "select coalesce(histogram_bounds::text, most_common_vals::text) from pg_stats where attname = 'title'"
    with visiting(session, APP, world.a):
        assert rows(session, shown) == []
    run(session, "alter table documents disable row level security")
    with visiting(session, APP, world.a):
        assert "bravo" in read(session, shown)


@pytest.mark.breach(34)
def test_a_function_that_a_superuser_marked_leakproof_sees_anothers_rows(world: World, session: Connection) -> None:
    heard: list[str] = []
    session.add_notice_handler(lambda notice: heard.append(str(notice.message_primary)))
    run(
        session,
        """create function listen(text) returns boolean language plpgsql cost 0.0000001 as
           $$ begin raise notice '%', $1; return true; end $$""",
    )
    with visiting(session, APP, world.a):
        run(session, f"{TITLES} where listen(title)")
    assert heard == ["alpha"]
    as_superuser(session, "alter function listen(text) leakproof")
    with visiting(session, APP, world.a):
        run(session, f"{TITLES} where listen(title)")
    assert sorted(heard[1:]) == ["alpha", "bravo"]


@pytest.mark.breach(35)
def test_without_the_tenants_policy_an_error_tells_what_another_has(world: World, session: Connection) -> None:
    probe = "select 1 / (case when title = 'bravo' then 0 else 1 end) from documents"
    with visiting(session, APP, world.a):
        run(session, probe)
    run(session, OPEN)
    with visiting(session, APP, world.a), refused("22012"):
        run(session, probe)


@pytest.mark.breach(36, 37)
def test_an_immutable_tenant_stays_in_the_plan_of_a_prepared_statement(world: World, session: Connection) -> None:
    as_superuser(session, "set local plan_cache_mode = force_generic_plan")
    found = {}
    for volatility in ("stable", "immutable"):
        as_superuser(session, f"alter function tenantry.current_tenant_id() {volatility}")
        for tenant in (world.a, world.b):
            with visiting(session, APP, tenant):
                if tenant is world.a:
                    run(session, f"prepare titles_{volatility} as {TITLES}")
                found[volatility, tenant.sentinel] = rows(session, f"execute titles_{volatility}")
    assert found == {
        ("stable", "alpha"): ["alpha"],
        ("stable", "bravo"): ["bravo"],
        ("immutable", "alpha"): ["alpha"],
        ("immutable", "bravo"): ["alpha"],
    }
