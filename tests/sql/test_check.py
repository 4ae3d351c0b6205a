"""check_v1: every finding provoked by breaking one thing, named with its object, and gone after its own fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import pytest

from databases import APP, OWNER, SUPERUSER, Server
from sql.tenants import Connection, World, become, findings, isolate, open_world, read, run, undone

TABLES = [
    "create table folders (id bigserial primary key, title text)",
    "create table documents (id bigint generated always as identity primary key, title text, folder_id bigint)",
    "create table events (title text, at date) partition by range (at)",
    "create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01')",
    "create table notes (title text, org_id varchar(64))",
    "create table countries (name text primary key)",
    "create table alembic_version (version_num text primary key)",
    "create view titles as select title from documents",
    "create table companies (clerk_org_id text primary key, name text)",
    "select tenantry.share_table_v1('companies', 'none')",
    'select tenantry.follow_tenants_v1(\'companies\', \'{"columns": {"name": "name"}}\')',
]


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        with made.connect(OWNER) as owner:
            run(owner, *TABLES)
            for table in ("folders", "events"):
                isolate(owner, table)
            isolate(owner, "documents", permissions={"delete": "org:documents:delete"})
            isolate(owner, "notes", column="org_id")
            run(owner, "select tenantry.share_table_v1('countries', 'read')")
        yield made


@pytest.fixture
def superuser(world: World) -> Iterator[Connection]:
    with world.connect(SUPERUSER) as connection, undone(connection):
        yield connection


@dataclass(frozen=True)
class Break:
    """What breaks, as whom, and the object it is found at; `fix` is False where only a person can mend it."""

    code: str
    object: str
    statements: tuple[str, ...]
    login: str = OWNER
    fix: bool = True
    also: frozenset[str] = frozenset()


def broken(code: str, object_: str, *statements: str, login: str = OWNER, fix: bool = True, also: str = "") -> Break:
    return Break(code, object_, statements, login, fix, frozenset(also.split()))


NAMESAKE = "create function public.current_tenant_id() returns uuid language sql stable as 'select null::uuid'"
SET_NULL = """alter table documents add foreign key (folder_id) references folders (id)
              on delete set null on update cascade"""
BREAKS = [
    broken("TC01", "stray", "create table stray (n integer)"),
    broken("TC01", '"Stray Table"', 'create table "Stray Table" (n integer)'),
    broken("TC01", "alembic_version", "grant select on alembic_version to tenantry_tenant", fix=False),
    broken("TC02", "documents", "alter table documents no force row level security"),
    broken("TC02", "events_2026", "alter table events_2026 disable row level security"),
    broken("TC03", "documents", "drop policy tenantry_isolation on documents"),
    broken("TC03", "notes", "drop policy tenantry_access on notes"),
    broken("TC03", "events_2026", "drop policy tenantry_bypass on events_2026"),
    broken("TC03", "documents", "drop policy tenantry_may_delete on documents"),
    broken("TC03", "documents", "alter policy tenantry_may_delete on documents using (true)"),
    broken("TC03", "documents", "alter policy tenantry_isolation on documents using (true) with check (true)"),
    broken("TC03", "documents", "alter policy tenantry_isolation on documents with check (true)"),
    broken("TC03", "documents", "alter policy tenantry_isolation on documents to tenantry_tenant"),
    broken("TC03", "documents", "alter policy tenantry_bypass on documents to public"),
    broken("TC03", "documents", f"alter table documents owner to {APP}", login=SUPERUSER),
    broken(
        "TC03",
        "folders",
        NAMESAKE,
        """alter policy tenantry_isolation on folders using (tenant_id = (select public.current_tenant_id()))
           with check (tenant_id = (select public.current_tenant_id()))""",
        "set local search_path = public, pg_catalog",
    ),
    broken("TC04", "documents", "create policy stray on documents using (true)"),
    broken("TC04", "documents", "create policy tenantry_stray on documents for select using (true)"),
    broken(
        "TC05",
        "events_2027",
        "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01')",
    ),
    broken("TC05", "drafts", "create table drafts () inherits (documents)"),
    broken("TC06", "documents", "alter table documents alter tenant_id drop not null"),
    broken("TC06", "notes", "alter table notes alter org_id drop default"),
    broken("TC07", "events", "drop index events_tenant_id_idx", also="TC07"),
    broken("TC08", "documents", "grant truncate on documents to public"),
    broken("TC08", "countries", f"grant truncate on countries to {APP}"),
    broken(
        "TC09",
        "plans",
        "create table plans (tenant_id uuid references tenantry.tenants (id))",
        "select tenantry.share_table_v1('plans', 'read')",
    ),
    broken("TC10", "documents", "alter table documents add unique (title)"),
    broken(
        "TC10", "documents", "create unique index on documents (title, folder_id) nulls not distinct where title <> ''"
    ),
    broken("TC10", "folders", "alter table folders drop constraint folders_pkey, add primary key (title)"),
    broken("TC10", "documents", "create unique index on documents (lower(title))", also="TC12"),
    broken(
        "TC11",
        "documents",
        "alter table documents add foreign key (folder_id) references folders (id)",
        login=SUPERUSER,
    ),
    broken(
        "TC11",
        "documents",
        "alter table folders add unique (tenant_id, id)",
        SET_NULL,
        login=SUPERUSER,
    ),
    broken("TC12", "documents", "create index on documents (tenant_id, lower(title))", fix=False),
    broken("TC12", "documents", "create index on documents (tenant_id, title text_pattern_ops)", fix=False),
    broken(
        "TC12",
        "documents",
        "alter table documents add tags jsonb",
        "create index on documents using gin (tags)",
        fix=False,
    ),
    broken(
        "TC12",
        "folders",
        "create type mood as enum ('good')",
        "alter table folders add mood mood",
        "create index on folders (tenant_id, mood)",
        fix=False,
    ),
    broken(
        "TC12",
        "folders",
        "alter table folders add price numeric",
        "create index on folders (tenant_id, price)",
        fix=False,
    ),
    broken("TC20", "titles", "alter view titles set (security_invoker = false)"),
    broken("TC20", "shouted", "create view shouted as select upper(title) from titles"),
    broken("TC20", "people", "create view people as select * from tenantry.users", login=SUPERUSER),
    broken(
        "TC21",
        "digest",
        "create materialized view digest as select title from titles with no data",
        "grant select on digest to public",
    ),
    broken(
        "TC22",
        "count_all()",
        "create function count_all() returns bigint language sql security definer as 'select count(*) from documents'",
        login=SUPERUSER,
    ),
    broken("TC23", "folders_id_seq", "grant select on sequence folders_id_seq to public"),
    broken("TC24", "folders_id_seq", "revoke usage on sequence folders_id_seq from tenantry_tenant"),
    broken("TC25", "documents", "create publication p for table documents", login=SUPERUSER, fix=False),
    broken(
        "TC25", "notes", "create publication p for tables in schema public", login=SUPERUSER, fix=False, also="TC25"
    ),
    broken("TC26", "companies", "drop function companies_follow_tenants"),
    broken("TC26", "companies", "alter function companies_follow_tenants security invoker"),
    broken("TC26", "companies", f"alter function companies_follow_tenants owner to {APP}", login=SUPERUSER),
    broken("TC26", "companies", f"grant execute on function companies_follow_tenants to {APP}"),
    broken(
        "TC27",
        "companies",
        "insert into tenantry.follower_gaps (relation, tenant_id)"
        " select 'companies', max(id::text)::uuid from tenantry.tenants",
        login=SUPERUSER,
    ),
    broken("TC30", "boss", "create role boss login superuser", "grant tenantry_app to boss", login=SUPERUSER),
    broken("TC30", '"The Boss"', 'create role "The Boss" login bypassrls in role app_login', login=SUPERUSER),
    broken("TC31", APP, f"grant tenantry_bypass to {APP}", login=SUPERUSER),
    broken("TC31", "helper", "create role helper", "grant tenantry_owner to helper", login=SUPERUSER),
    broken(
        "TC32",
        "tenantry.resolve_identity(jsonb)",
        "grant execute on function tenantry.resolve_identity to public",
        login=SUPERUSER,
    ),
    broken("TC33", "public", "grant create on schema public to public", login=SUPERUSER),
]


def found(connection: Connection, login: str) -> list[tuple[str, str, str]]:
    become(connection, login)
    return findings(connection)


@pytest.mark.parametrize("login", [APP, OWNER, SUPERUSER])
def test_a_clean_app_has_no_findings_whoever_asks(superuser: Connection, login: str) -> None:
    assert found(superuser, login) == []


# The scenarios of tests/attacks that a code gives away.
ATTACKS = {
    **{"TC01": [16, 38], "TC04": [22], "TC05": [20, 21], "TC08": [24], "TC10": [29, 30], "TC11": [27, 28]},
    **{"TC20": [17], "TC21": [18], "TC22": [19], "TC23": [32], "TC25": [39], "TC30": [13], "TC33": [34]},
}
CASES = [
    pytest.param(case, marks=pytest.mark.attack(*ATTACKS.get(case.code, [])), id=f"{case.code}-{number}")
    for number, case in enumerate(BREAKS)
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_broken_is_found_and_its_fix_mends_it(superuser: Connection, case: Break) -> None:
    become(superuser, case.login)
    run(superuser, *case.statements)
    answer = found(superuser, OWNER)
    assert (case.code, case.object) in [(code, name) for code, name, _ in answer]
    assert {code for code, _, _ in answer} == {case.code} | case.also
    if case.fix:
        fix = next(fix for code, name, fix in answer if (code, name) == (case.code, case.object))
        become(superuser, SUPERUSER if case.code >= "TC30" or case.login == SUPERUSER else OWNER)
        run(superuser, fix)
        assert case.code not in [code for code, _, _ in found(superuser, OWNER)]


def test_no_key_is_proposed_between_tables_that_tell_their_tenants_by_different_ids(superuser: Connection) -> None:
    run(
        superuser,
        "alter table notes add id bigint generated always as identity primary key",
        "alter table documents add note_id bigint references notes (id)",
    )
    [(code, name, fix)] = found(superuser, OWNER)
    assert (code, name) == ("TC11", "documents")
    assert fix.startswith("No key can carry it: documents tells its tenant by id, notes by clerk_org_id.")


def test_a_gate_that_inherits_is_found_and_mended(superuser: Connection) -> None:
    newer = superuser.info.server_version >= 160000
    run(
        superuser,
        "grant tenantry_bypass to tenantry_gate with inherit true" if newer else "alter role tenantry_gate inherit",
    )
    [(code, name, fix)] = found(superuser, OWNER)
    assert (code, name) == ("TC31", "tenantry_gate")
    become(superuser, SUPERUSER)
    run(superuser, fix)
    assert found(superuser, OWNER) == []


def test_a_missing_index_is_made_without_locking_out_the_app(world: World) -> None:
    with world.connect(OWNER) as owner:
        run(owner, "drop index documents_tenant_id_idx")
        [(code, name, fix)] = findings(owner)
        assert (code, name) == ("TC07", "documents")
        assert "concurrently" in fix
        run(owner, fix)
        assert findings(owner) == []


def test_the_fix_of_a_reference_keeps_what_happens_at_a_deletion(superuser: Connection) -> None:
    become(superuser, SUPERUSER)
    run(superuser, SET_NULL)
    [(_, _, fix)] = found(superuser, OWNER)
    run(superuser, fix)
    query = """select pg_get_constraintdef(oid) from pg_constraint
               where conrelid = 'documents'::regclass and confrelid = 'folders'::regclass"""
    kept = "FOREIGN KEY (tenant_id, folder_id) REFERENCES folders(tenant_id, id)"
    assert read(superuser, query) == f"{kept} ON UPDATE CASCADE ON DELETE SET NULL (folder_id)"
    assert read(
        superuser, "select bool_and(relforcerowsecurity) from pg_class where relname in ('documents', 'folders')"
    )


def test_the_fix_of_a_unique_index_keeps_its_condition(superuser: Connection) -> None:
    become(superuser, OWNER)
    run(superuser, "create unique index titles_once on documents (lower(title)) where title <> 'draft'")
    fix = next(fix for code, _, fix in findings(superuser) if code == "TC10")
    run(superuser, fix)
    query = "select indexdef from pg_indexes where tablename = 'documents' and indexdef ~ 'lower'"
    assert read(superuser, query).endswith("(tenant_id, lower(title)) WHERE (title <> 'draft'::text)")


def test_keys_that_tell_nothing_are_not_reported(superuser: Connection) -> None:
    become(superuser, OWNER)
    run(
        superuser,
        "alter table documents add token uuid unique",
        "alter table documents add unique (tenant_id, title)",
        "create table tags (id uuid primary key, title text)",
        "create index on folders (tenant_id, title)",
        "create unique index on notes (title, org_id)",
    )
    isolate(superuser, "tags")
    assert findings(superuser) == []


def test_a_table_that_was_dropped_is_not_reported(superuser: Connection) -> None:
    become(superuser, OWNER)
    run(superuser, "drop table notes", "drop table events")
    assert findings(superuser) == []


def test_a_table_of_an_extension_or_of_this_session_is_nobodys_to_classify(superuser: Connection) -> None:
    become(superuser, OWNER)
    run(superuser, "create temporary table scratch (n integer)")
    assert findings(superuser) == []


def test_every_code_of_check_v1_is_provoked_here() -> None:
    functions = resources.files("tenantry").joinpath("sql", "functions").iterdir()
    texts = "".join(file.read_text() for file in functions if file.name.startswith("check_"))
    assert set(re.findall(r"'(TC\d\d)'", texts)) == {case.code for case in BREAKS}
