"""An app's own table of organizations follows the mirror: in one commit, with its owner's rights, failing nobody."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import (
    Connection,
    findings,
    inside,
    isolate,
    make_tenant,
    organization,
    read,
    record,
    refused,
    rows,
    run,
)

TABLE = """create table organizations (
  id           bigint generated always as identity primary key,
  clerk_org_id varchar(64) not null unique,
  name         text not null,
  slug         text unique,
  deleted_at   timestamptz
)"""
COLUMNS = {"name": "name", "slug": "slug", "deleted_at": "deleted_at"}
SHOWN = "select concat_ws(' ', clerk_org_id, name, slug, case when deleted_at is null then 'live' else 'ended' end)"


def follow(owner: Connection, table: str = "organizations", **options: Any) -> dict[str, Any]:
    given = json.dumps({"columns": COLUMNS, **options})
    answer: dict[str, Any] = read(owner, "select tenantry.follow_tenants_v1(%s, %s::jsonb)", table, given)
    return answer


def tell(app: Connection, org_id: str, at: float = 0.0, **content: Any) -> None:
    """What Clerk would, now or `at` seconds later."""
    now = time.time() + at
    assert record(app, "organization.updated", organization(org_id, updated_at=int(now * 1000), **content), now)


def shown(connection: Connection) -> list[str]:
    with connection.transaction():
        run(connection, "select tenantry.bypass_tenant_v1('a test')")
        return rows(connection, f"{SHOWN} from organizations")


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect(OWNER) as connection:
        run(connection, TABLE, "select tenantry.share_table_v1('organizations', 'none')")
        yield connection


@pytest.fixture
def app(database: Database) -> Iterator[Connection]:
    with database.connect(APP) as connection:
        yield connection


def test_what_is_there_already_is_copied_when_it_begins(owner: Connection, app: Connection) -> None:
    tell(app, "org_one", slug="one")
    tell(app, "org_two")
    run(owner, "insert into organizations (clerk_org_id, name) values ('org_two', 'Old'), ('org_own', 'Nobody''s')")
    answer = follow(owner)
    assert (answer["copied"], answer["behind"]) == (2, 0)
    assert shown(owner) == [
        "org_one Name of org_one one live",
        "org_own Nobody's live",
        "org_two Name of org_two live",
    ]
    assert findings(owner) == []


def test_an_event_is_in_the_apps_table_when_its_transaction_commits(
    owner: Connection, app: Connection, database: Database
) -> None:
    follow(owner)
    with app.transaction():
        record(app, "organization.created", organization("org_one", updated_at=1), time.time())
        assert shown(owner) == []
    assert shown(owner) == ["org_one Name of org_one live"]
    tell(app, "org_one", 1, name="Renamed", slug="renamed")
    assert shown(owner) == ["org_one Renamed renamed live"]
    record(app, "organization.deleted", {"id": "org_one", "object": "organization", "deleted": True}, time.time() + 2)
    assert shown(owner) == ["org_one Renamed renamed ended"]


def test_a_stub_waits_for_its_name_and_an_older_event_brings_nothing_back(owner: Connection, app: Connection) -> None:
    follow(owner)
    now = int(time.time())
    facts = {"user_id": "user_1", "org_id": "org_new", "issued_at": now, "expires_at": now + 60}
    run(app, "select tenantry.provision_v1('" + json.dumps(facts) + "')")
    assert shown(owner) == []
    tell(app, "org_new", 1, name="Newer")
    tell(app, "org_new", -60, name="Older")
    assert shown(owner) == ["org_new Newer live"]


def test_a_page_of_clerks_api_is_copied_too(owner: Connection, app: Connection) -> None:
    follow(owner)
    page = json.dumps([organization(f"org_{n}") for n in range(5)])
    options = json.dumps({"observed_at": int(time.time() * 1000), "instance_id": "ins_test"})
    read(app, "select tenantry.merge_page_v1('organizations', %s::jsonb, %s::jsonb)", page, options)
    assert shown(owner) == [f"org_{n} Name of org_{n} live" for n in range(5)]


def test_only_the_named_columns_are_written(owner: Connection, app: Connection) -> None:
    tell(app, "org_one", slug="one")
    run(owner, "insert into organizations (clerk_org_id, name, slug) values ('org_one', 'Ours', 'ours')")
    with refused("TY030", "name may not be null"):
        follow(owner, columns={"slug": "slug"})
    run(owner, "alter table organizations alter name set default 'Nameless'")
    follow(owner, columns={"slug": "slug"})
    tell(app, "org_two", slug="two")
    assert shown(owner) == ["org_one Ours one live", "org_two Nameless two live"]


def test_columns_of_every_kind_that_apps_have_are_written(owner: Connection, app: Connection) -> None:
    run(
        owner,
        """create table "Teams" ("Id" serial primary key, "orgId" text not null unique, "Title" varchar(80) not null,
             handle text not null, logo text, gone boolean not null, made timestamp(3) not null,
             "updatedAt" timestamptz not null)""",
        "select tenantry.share_table_v1('\"Teams\"', 'none')",
    )
    columns = {"name": "Title", "slug": "handle", "image_url": "logo", "deleted_at": "gone", "created_at": "made"}
    follow(owner, '"Teams"', org_id="orgId", columns={**columns, "updated_at": "updatedAt"})
    at = int(time.time())
    tell(app, "org_one", image_url="https://img.example.com/1", created_at=1_700_000_000_000)
    said = 'select concat_ws(\' \', "orgId", "Title", handle, logo, gone, made) from "Teams"'
    assert rows(owner, said) == ["org_one Name of org_one org_one https://img.example.com/1 f 2023-11-14 22:13:20"]
    assert read(owner, 'select extract(epoch from "updatedAt") >= %s from "Teams"', at)
    record(app, "organization.deleted", {"id": "org_one", "object": "organization", "deleted": True}, time.time() + 2)
    assert read(owner, 'select gone from "Teams"')


@pytest.mark.parametrize(
    ("options", "code", "match"),
    [
        ({"org_id": "nobody"}, "TY030", "no column nobody"),
        ({"org_id": "name", "columns": {}}, "TY030", "is not unique"),
        ({"columns": {"name": "id"}}, "TY030", "could hold name"),
        ({"columns": {"members": "name"}}, "TY010", "columns.members"),
        ({"columns": {"name": "name", "slug": "name"}}, "TY030", "named twice"),
        ({"colums": {}}, "TY010", "unknown option 'colums'"),
        ({"copy": "never"}, "TY010", '"copy" is "later"'),
        ({"columns": []}, "TY010", "JSON objects"),
        ({"columns": {"name": "name", "deleted_at": "slug"}}, "TY030", "could hold deleted_at"),
    ],
)
def test_what_cannot_follow_is_refused_with_the_reason(
    owner: Connection, options: dict[str, Any], code: str, match: str
) -> None:
    with refused(code, match):
        follow(owner, **options)


def test_only_the_owner_of_the_table_may_have_it_follow(owner: Connection, app: Connection) -> None:
    with refused("TY030", "only its owner"):
        follow(app)
    follow(owner)
    run(app, "create temporary table own (id integer)")
    for statement in (
        "select tenantry.unfollow_tenants_v1('organizations')",
        "select tenantry.forget_follower('organizations')",
        "select tenantry.register_follower('organizations', 'organizations_follow_tenants', 'name', '{}')",
    ):
        with refused("TY030", "only its owner"):
            run(app, statement)
    # What is remembered is run by the owner later: no more than a name, out of the catalog.
    with refused("TY010", "no definer function"):
        run(app, "select tenantry.register_follower('own', 'public.organizations_follow_tenants', 'name', '{}')")


# --- behind isolation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"column": "clerk_org_id"}, {}])
def test_behind_isolation_the_copy_goes_on_and_each_tenant_sees_its_own_row(
    owner: Connection, app: Connection, database: Database, options: dict[str, Any]
) -> None:
    alpha, bravo = make_tenant(database, "alpha"), make_tenant(database, "bravo")
    follow(owner)
    if not options:
        run(owner, "delete from organizations")
    isolate(owner, "organizations", permissions={"insert": "org:sys_profile:manage"}, **options)
    for number, tenant in enumerate((alpha, bravo)):
        tell(app, tenant.org_id, 1 + number, name=f"Renamed {tenant.sentinel}")
    with inside(app, alpha):
        assert rows(app, "select name from organizations") == ["Renamed alpha"]
    assert shown(owner) == ["org_alpha Renamed alpha live", "org_bravo Renamed bravo live"]
    assert [code for code, *_ in findings(owner) if code != "TC10"] == []
    assert read(app, "select coalesce(current_setting('tenantry.tenant_id', true), '')") == ""


def test_a_tenant_can_neither_call_the_copy_nor_write_anothers_row_by_it(
    owner: Connection, app: Connection, database: Database
) -> None:
    alpha, _ = make_tenant(database, "alpha"), make_tenant(database, "bravo")
    follow(owner)
    isolate(owner, "organizations", column="clerk_org_id")
    forged = json.dumps([{"id": alpha.id, "org_id": "org_bravo", "name": "Stolen", "context": "{}"}])
    for statement in (
        f"select organizations_follow_tenants('{forged}')",
        "select tenantry.catch_up_v1()",
        "select tenantry.fill_gaps(1)",
        "select tenantry.follow_tenants_v1('organizations')",
        "insert into tenantry.follower_gaps values ('organizations', gen_random_uuid())",
    ):
        with refused("42501"), inside(app, alpha):
            run(app, statement)
    with inside(app, alpha):
        assert app.execute("update organizations set name = 'Stolen' where clerk_org_id = 'org_bravo'").rowcount == 0
    with refused("42501"):  # nor does the app's login, without a tenant
        run(app, f"select organizations_follow_tenants('{forged}')")
    assert shown(owner) == ["org_alpha Name of org_alpha live", "org_bravo Name of org_bravo live"]


# --- with the rights of the table's owner -----------------------------------------------------------------------------

WHO = """create function note_who() returns trigger language plpgsql as $$
begin insert into written_by values (current_user, current_setting('search_path')); return new; end $$"""


def test_the_apps_own_triggers_run_as_the_tables_owner(owner: Connection, app: Connection) -> None:
    run(
        owner,
        "create table written_by (name text, path text)",
        WHO,
        "create trigger who after insert or update on organizations for each row execute function note_who()",
    )
    follow(owner)
    tell(app, "org_one")
    assert rows(owner, "select distinct name from written_by") == [OWNER]


TAKES_OVER = """create or replace function organizations_follow_tenants(organizations jsonb) returns void
language plpgsql {rights} as $$ begin update tenantry.tenants set name = 'Taken over'; end $$"""


@pytest.mark.parametrize(("rights", "code"), [("security invoker", "42883"), ("security definer", "42501")])
def test_a_routine_that_was_changed_never_runs_with_the_mirrors_rights(
    owner: Connection, app: Connection, rights: str, code: str
) -> None:
    follow(owner)
    run(owner, TAKES_OVER.format(rights=rights))
    tell(app, "org_one")
    with app.transaction():
        run(app, "select tenantry.bypass_tenant_v1('a test')")
        assert rows(app, "select name from tenantry.tenants") == ["Name of org_one"]
        assert rows(app, "select code from tenantry.follower_gaps") == [code]


def test_a_routine_that_leaves_another_search_path_behind_is_undone(owner: Connection, app: Connection) -> None:
    """In it the functions that merge would find what they name, with tenantry_owner's rights."""
    follow(owner)
    for local in ("true", "false"):
        run(
            owner,
            "create or replace function organizations_follow_tenants(organizations jsonb) returns void"
            f" language sql security definer as $$ select set_config('search_path', 'public', {local}) $$",
        )
        tell(app, f"org_{local}")
    assert rows(app, "select code from tenantry.follower_gaps") == ["42501", "42501"]
    assert "public" in read(app, "show search_path")
    assert [code for code, *_ in findings(owner)] == ["TC27"]
    run(owner, "select tenantry.follow_tenants_v1('organizations')")
    assert len(shown(owner)) == 2


def test_a_routine_that_is_altered_while_it_runs_is_undone(
    owner: Connection, app: Connection, database: Database
) -> None:
    """As by an owner who lets it run once with the rights of who merges."""
    follow(owner)
    run(
        owner,
        "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(1); return new; end'",
        "create trigger slow before insert on organizations for each row execute function slow()",
    )
    telling = threading.Thread(target=tell, args=(app, "org_one"))
    telling.start()
    time.sleep(0.4)
    run(
        owner,
        "alter function organizations_follow_tenants security invoker",
        "alter function organizations_follow_tenants security definer",
    )
    telling.join(timeout=20)
    assert shown(owner) == []
    assert rows(owner, "select code from tenantry.follower_gaps") == ["42501"]


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_row_that_the_table_refuses_fails_no_event_and_holds_up_no_other(owner: Connection, app: Connection) -> None:
    run(owner, "insert into organizations (clerk_org_id, name, slug) values ('org_own', 'Ours', 'taken')")
    follow(owner)
    tell(app, "org_one", slug="taken")
    tell(app, "org_two", slug="free")
    assert [line.split()[0] for line in shown(owner)] == ["org_own", "org_two"]
    [(code, table, fix)] = findings(owner)
    assert (code, table) == ("TC27", "organizations")
    assert read(app, "select tenantry.status_v1() -> 'followers'") == [{"table": "public.organizations", "behind": 1}]
    told = read(owner, "select explanation from tenantry.check_v1()")
    assert "23505 organizations_slug_key" in told
    assert "taken" not in told.replace("organizations_slug_key", "")
    run(owner, "update organizations set slug = 'other' where clerk_org_id = 'org_own'", fix)
    assert [line.split()[0] for line in shown(owner)] == ["org_one", "org_own", "org_two"]
    assert findings(owner) == []


def test_what_was_refused_is_tried_again_with_the_next_change_of_any_organization(
    owner: Connection, app: Connection
) -> None:
    follow(owner)
    run(owner, "alter table organizations add constraint named check (name <> 'Bad')")
    tell(app, "org_one", name="Bad")
    assert shown(owner) == []
    run(owner, "alter table organizations drop constraint named")
    tell(app, "org_two")
    assert [line.split()[0] for line in shown(owner)] == ["org_one", "org_two"]
    assert rows(owner, "select tenant_id from tenantry.follower_gaps") == []


def test_a_trigger_that_asserts_something_fails_no_event(owner: Connection, app: Connection) -> None:
    """Of all errors but cancellation the one that plpgsql does not count among all others."""
    run(
        owner,
        "create function assert_nothing() returns trigger language plpgsql as 'begin assert false; return new; end'",
        "create trigger asserts before insert on organizations for each row execute function assert_nothing()",
    )
    follow(owner)
    tell(app, "org_one")
    assert rows(app, "select code from tenantry.follower_gaps") == ["P0004"]


def test_a_merge_that_the_end_of_following_overtakes_does_not_fail(
    owner: Connection, app: Connection, database: Database
) -> None:
    follow(owner)
    with database.connect(OWNER) as other:
        run(
            other,
            "create function slow() returns trigger language plpgsql as"
            " 'begin perform pg_sleep(1); raise check_violation; end'",
            "create trigger slow before insert on organizations for each row execute function slow()",
        )
        telling = threading.Thread(target=tell, args=(app, "org_one"))
        telling.start()
        time.sleep(0.4)
        run(other, "select tenantry.unfollow_tenants_v1('organizations')")
        telling.join(timeout=20)
    assert read(app, "select tenantry.catch_up_v1() ->> 'behind'") == "0"
    assert findings(owner) == []
    assert read(app, "select (tenantry.find_tenant('org_one')).name") == "Name of org_one"


def test_a_constraint_that_is_deferred_refuses_the_copy_and_not_the_commit(owner: Connection, app: Connection) -> None:
    run(
        owner,
        "alter table organizations add unique (name) deferrable initially deferred",
        "insert into organizations (clerk_org_id, name) values ('org_own', 'Name of org_one')",
    )
    follow(owner)
    tell(app, "org_one")
    assert rows(owner, "select code from tenantry.follower_gaps") == ["23505"]


def test_a_table_that_somebody_locks_delays_an_event_by_moments(
    owner: Connection, app: Connection, database: Database
) -> None:
    follow(owner)
    page = json.dumps([organization(f"org_{n}") for n in range(50)])
    options = json.dumps({"observed_at": int(time.time() * 1000), "instance_id": "ins_test"})
    with database.connect(OWNER) as other, other.transaction():
        run(other, "lock table organizations in access exclusive mode")
        run(app, "set statement_timeout = '2s'")  # one after the other they would take longer
        read(app, "select tenantry.merge_page_v1('organizations', %s::jsonb, %s::jsonb)", page, options)
    assert rows(app, "select distinct code from tenantry.follower_gaps") == ["55P03"]
    run(owner, "select tenantry.catch_up_v1()")
    assert len(shown(owner)) == 50


def test_a_lock_that_a_trigger_of_the_app_wants_delays_an_event_by_moments(
    owner: Connection, app: Connection, database: Database
) -> None:
    run(
        owner,
        "create table counted (organizations bigint)",
        "create function count_them() returns trigger language plpgsql as"
        " 'begin insert into counted values (1); return new; end'",
        "create trigger count_them before insert on organizations for each row execute function count_them()",
    )
    follow(owner)
    with database.connect(OWNER) as other, other.transaction():
        run(other, "lock table counted in access exclusive mode")
        run(app, "set statement_timeout = '2s'")  # who waited for the lock would wait for ever
        tell(app, "org_one")
    assert rows(app, "select code from tenantry.follower_gaps") == ["55P03"]
    run(owner, "select tenantry.catch_up_v1()")
    assert [line.split()[0] for line in shown(owner)] == ["org_one"]


def test_a_table_that_is_dropped_or_renamed_fails_nothing_and_is_told_of(owner: Connection, app: Connection) -> None:
    follow(owner)
    run(owner, "alter table organizations rename to companies")
    tell(app, "org_one")
    assert [(code, name) for code, name, _ in findings(owner)] == [("TC27", "companies")]
    run(owner, "select tenantry.follow_tenants_v1('companies')")
    assert rows(owner, "select clerk_org_id from companies") == ["org_one"]
    assert findings(owner) == []
    run(owner, "drop table companies")
    tell(app, "org_two")
    [(code, _, fix)] = findings(owner)
    assert code == "TC26"
    run(owner, fix)
    assert findings(owner) == []
    assert rows(owner, "select proname from pg_proc where proname ~ 'follow_tenants$' and prosecdef") == []


def test_in_a_transaction_of_one_snapshot_nothing_is_copied_and_it_is_told_of(
    owner: Connection, app: Connection
) -> None:
    follow(owner)
    run(app, "set default_transaction_isolation = 'repeatable read'")
    tell(app, "org_one")
    assert rows(app, "select code from tenantry.follower_gaps") == ["25001"]
    run(owner, "select tenantry.catch_up_v1()")
    assert shown(owner) == ["org_one Name of org_one live"]


def test_two_that_tell_of_organizations_and_write_their_rows_at_once_end_with_the_newest(
    owner: Connection, database: Database
) -> None:
    follow(owner)
    names = [f"org_{n}" for n in range(4)]
    began = time.time()
    failed: list[str] = []

    def deliver(turn: int) -> None:
        with database.connect(APP) as app:
            for number in range(25):
                org_id = names[(turn + number) % 4]
                tell(app, org_id, number + turn / 10, name=f"Name {turn} {number}")

    def write() -> None:
        with database.connect(OWNER) as app:
            for number in range(100):
                with app.transaction():
                    run(app, f"update organizations set name = 'App' where clerk_org_id = '{names[number % 4]}'")
                    time.sleep(0.005)
                run(app, "select tenantry.catch_up_v1()")

    def kept(work: Any, *given: int) -> None:
        try:
            work(*given)
        except psycopg.Error as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=kept, args=(deliver, turn)) for turn in range(3)]
    threads.append(threading.Thread(target=kept, args=(write,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failed
    assert time.time() - began < 60
    run(owner, "select tenantry.follow_tenants_v1('organizations')")
    with owner.transaction():
        run(owner, "select tenantry.bypass_tenant_v1('a test')")
        mirrored = rows(owner, "select concat_ws(' ', clerk_org_id, name) from tenantry.tenants")
        assert rows(owner, "select concat_ws(' ', clerk_org_id, name) from organizations") == mirrored


def test_it_ends_without_a_trace(owner: Connection, app: Connection) -> None:
    made = "select format('%s %s', p.oid::regprocedure, n.nspacl) from pg_namespace n left join pg_proc p"
    query = f"{made} on p.pronamespace = n.oid where n.nspname = 'public'"
    before = rows(owner, query)
    follow(owner)
    run(owner, "select tenantry.unfollow_tenants_v1('organizations')")
    tell(app, "org_one")
    assert shown(owner) == []
    assert rows(owner, query) == before
    assert rows(owner, "select relation from tenantry.followers") == []
    with refused("TY030", "follows nothing"):
        run(owner, "select tenantry.unfollow_tenants_v1('organizations')")


def test_a_superuser_may_have_it_follow_and_the_copy_is_the_owners_all_the_same(
    owner: Connection, app: Connection, database: Database
) -> None:
    with database.connect(SUPERUSER) as superuser:
        follow(superuser)
    tell(app, "org_one")
    assert shown(owner) == ["org_one Name of org_one live"]
    assert findings(owner) == []


def test_in_a_schema_of_its_own_it_works_and_ends_without_a_trace(owner: Connection, app: Connection) -> None:
    run(
        owner,
        'create schema "My App"',
        TABLE.replace("organizations", '"My App"."Org$$s"'),
        "select tenantry.share_table_v1('\"My App\".\"Org$$s\"', 'none')",
    )
    acl = "select nspacl::text from pg_namespace where nspname = 'My App'"
    before = read(owner, acl)
    follow(owner, '"My App"."Org$$s"')
    tell(app, "org_one")
    assert rows(owner, 'select name from "My App"."Org$$s"') == ["Name of org_one"]
    assert findings(owner) == []
    run(owner, 'select tenantry.unfollow_tenants_v1(\'"My App"."Org$$s"\')')
    assert (read(owner, acl) or "").replace(f"{OWNER}=UC/{OWNER}", "").strip("{}") == (before or "").strip("{}")


def test_two_tables_whose_long_names_begin_alike_follow_side_by_side(owner: Connection, app: Connection) -> None:
    long = "organizations_of_this_app_that_have_a_name_as_long"
    for table in (f"{long}_one", f"{long}_two"):
        run(owner, TABLE.replace("organizations", table))
        follow(owner, table)
    tell(app, "org_one")
    for table in (f"{long}_one", f"{long}_two"):
        assert read(owner, f"select name from {table}") == "Name of org_one"
    run(owner, f"select tenantry.unfollow_tenants_v1('{long}_one')")
    tell(app, "org_two")
    assert read(owner, f"select count(*) from {long}_two") == 2
