"""The pytest plugin for users' own suites: suites that run, and what they are given, judged by Clerk's and Svix's own
packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import pytest
from clerk_backend_api.security import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from hypothesis import given
from hypothesis import strategies as st
from svix.webhooks import Webhook as SvixWebhook
from svix.webhooks import WebhookVerificationError

from databases import Database, Server, start_server
from instance import fresh_database
from snippets import blocks
from tenantry import database as connections
from tenantry.clerk import find_keys
from tenantry.context import TenantContext, read_context, tenant_context
from tenantry.dev import binaries
from tenantry.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidArgument,
    NotAMember,
    OrganizationDeleted,
    SessionEnded,
    TokenExpired,
    UserBanned,
    WebhookError,
)
from tenantry.settings import Settings
from tenantry.testing import Member, acting_as
from tenantry.testing.claims import ActiveOrganization, claims_v1, claims_v2, session_claims
from tenantry.testing.clerk import Clerk
from tenantry.testing.databases import SERVER_VARIABLE, find_place
from tenantry.testing.instance import ORIGIN, Instance
from tenantry.testing.objects import create_id
from tenantry.tokens import Verifier

pytest_plugins = ["pytester"]

PAGE = "docs/testing.md"
SAMPLES = Path(__file__).parents[2] / "shared" / "facts" / "clerk-webhook-samples"
EXAMPLE = Path(__file__).parents[1] / "examples" / "documents" / "api"
SHOP = Path(__file__).parent / "shop"


# --- a user's suite ---------------------------------------------------------------------------------------------------

CLIENT = """
import pytest
from fastapi.testclient import TestClient

@pytest.fixture
def client(tenantry_database):
    from shop.main import app
    with TestClient(app) as client:
        yield client
"""
BY_COMMAND = """
@pytest.fixture(scope="session")
def tenantry_migrate():
    return "alembic upgrade head"
"""
BY_FUNCTION = """
import psycopg

@pytest.fixture(scope="session")
def tenantry_migrate():
    def migrate(url):
        global left_open  # as migrations do
        left_open = psycopg.connect(url, autocommit=True)
        left_open.execute("create table orders (id int generated always as identity primary key, text text)")
        left_open.execute("select tenantry.isolate_table_v1('orders')")
        left_open.execute(EXTRA)
        with open("migrated", "a") as file:
            file.write("once")
    return migrate

EXTRA = "select 1"
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with the app, where the plugin is loaded as the page says."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", SERVER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(SHOP, pytester.path / "shop")
    (pytester.path / "shop" / "alembic.ini").rename(pytester.path / "alembic.ini")
    [settings] = blocks(PAGE, "toml")
    more = 'pythonpath = "."\nasyncio_mode = "auto"\nasyncio_default_fixture_loop_scope = "function"\n'
    pytester.makepyprojecttoml(settings + more)
    return pytester


@pytest.fixture(scope="module")
def spare_server() -> Iterator[Server]:
    """A server that suites may use and clutter."""
    with TemporaryDirectory(prefix="tenantry-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # root's server runs as another user
        started = start_server(18, folder)
        yield started
        started.postgres.stop()


@pytest.fixture
def given_server(spare_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The suite is to use a server that is there, as CI has it; the administrator's URL."""
    url = spare_server.postgres.dsn("postgres")
    monkeypatch.setenv(SERVER_VARIABLE, url)
    return url


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Runs it in this process, which has imported most already."""
    return suite.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def test_the_suite_of_the_page_passes(suite: pytest.Pytester) -> None:
    code = blocks(PAGE, "python")
    setup, lifespan = [code[0], code[2]], code.pop()
    suite.makeconftest("\n".join(setup))
    suite.makepyfile("\n".join(block for block in code if block not in setup))
    suite.makepyfile(
        test_async="""
        async def test_without_a_loop_of_our_own(async_client, make_tenant):
            ada = make_tenant().member("ada")
            answer = await async_client.post("/orders", json={"text": "one"}, headers=ada.headers())
            assert answer.status_code == 201
            assert (await async_client.get("/orders", headers=ada.headers())).json() == ["one"]
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=sum(block.count("def test_") for block in code) + 1)
    untyped = re.sub(r": FastAPI|: AsyncIterator\[None\]| -> AsyncIterator\[None\]", "", (SHOP / "main.py").read_text())
    assert lifespan.partition("\n\n\n")[2].replace("await engine", "engine") in untyped


def test_an_app_that_conftest_imports_has_the_environment_of_the_run(
    suite: pytest.Pytester, given_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@db.example.com/live")
    monkeypatch.setenv("CLERK_SECRET_KEY", "sk_live_of_the_shell")
    suite.makeconftest("from shop.main import tenancy" + CLIENT + BY_FUNCTION)
    suite.makepyfile(
        """
        import os
        import pytest
        from shop.main import tenancy

        def test_the_environment(tenantry_settings, tenantry_database):
            assert tenancy.settings == tenantry_settings
            assert tenancy.settings.database_url == tenantry_database.url == os.environ["DATABASE_URL"]
            assert tenancy.settings.secret_key.startswith("sk_test_")

        @pytest.mark.parametrize("round", range(3))
        def test_tables_are_empty(client, make_tenant, round):
            ada = make_tenant("Acme").member("ada")
            assert client.get("/orders", headers=ada.headers()).json() == []
            assert client.post("/orders", json={"text": "one"}, headers=ada.headers()).status_code == 201
        """
    )
    run(suite).assert_outcomes(passed=4)
    assert (suite.path / "migrated").read_text() == "once"


def test_the_plugin_may_be_loaded_by_conftest_and_leaves_the_environment_as_it_was(
    suite: pytest.Pytester, given_server: str
) -> None:
    suite.makepyprojecttoml(
        """
        [tool.pytest.ini_options]
        pythonpath = "."
        filterwarnings = ["error::pytest.PytestWarning"]
        asyncio_default_fixture_loop_scope = "function"
        """
    )
    suite.makeconftest('from tenantry.testing import acting_as\npytest_plugins = ["tenantry.testing"]')
    os.environ.pop("PYTEST_CURRENT_TEST")  # pytest's own, which the inner one takes away
    before = dict(os.environ)
    suite.makepyfile(
        """
        from shop.main import tenancy

        def test_it(tenantry_database):
            assert tenancy.settings.database_url == tenantry_database.url
        """
    )
    run(suite).assert_outcomes(passed=1)
    assert dict(os.environ) == before


def test_workers_of_xdist_do_not_meet(suite: pytest.Pytester) -> None:
    suite.makeconftest(CLIENT + BY_FUNCTION)
    suite.makepyfile(
        """
        import os, pytest

        @pytest.mark.parametrize("round", range(6))
        def test_it(client, make_tenant, tenantry_database, round):
            assert os.environ["PYTEST_XDIST_WORKER"] in tenantry_database.url
            ada = make_tenant("Acme").member("ada")
            client.post("/orders", json={"text": "one"}, headers=ada.headers())
            assert client.get("/orders", headers=ada.headers()).json() == ["one"]
        """
    )
    result = run(suite, "-n", "2", "-v")
    result.assert_outcomes(passed=6)
    assert {"gw0", "gw1"} <= set(re.findall(r"\[(gw\d)\]", result.stdout.str()))


def test_workers_of_xdist_share_a_given_server(suite: pytest.Pytester, given_server: str) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("round", range(6))
        def test_it(make_tenant, round):
            assert make_tenant("Acme").member("ada").token()
        """
    )
    run(suite, "-n", "2").assert_outcomes(passed=6)


def test_permissions_and_the_apps_roles_decide_as_deployed(suite: pytest.Pytester, given_server: str) -> None:
    (suite.path / "tenantry.toml").write_text(
        '[roles."org:admin"]\npermissions = ["orders:*"]\n\n[roles."org:member"]\npermissions = []\n'
    )
    suite.makeconftest(CLIENT + BY_COMMAND)
    suite.makepyfile(
        """
        def test_it(client, make_tenant):
            acme, delete = make_tenant("Acme"), ["org:orders:delete"]
            may = acme.member("ada", role="org:admin", permissions=delete)
            lacks_role, lacks_permission = acme.member("bob", permissions=delete), acme.member("eve", role="admin")
            for who, status in ((may, 200), (lacks_role, 403), (lacks_permission, 403)):
                assert client.delete("/orders", headers=who.headers()).status_code == status
            may.change_role("org:member", permissions=delete)
            assert client.delete("/orders", headers=may.headers()).status_code == 403
            assert client.get("/orders", headers=may.headers(organization=False)).json()["code"] == "no_organization"

        def test_cookies(client, make_tenant):
            ada = make_tenant("Acme").member("ada")
            client.cookies = ada.cookies()
            assert client.get("/orders").status_code == 200
            assert client.post("/orders", json={"text": "one"}).json()["code"] == "untrusted_origin"
            origin = {"Origin": "http://testserver"}
            assert client.post("/orders", json={"text": "one"}, headers=origin).status_code == 201
        """
    )
    run(suite).assert_outcomes(passed=2)


def test_a_leak_is_caught(suite: pytest.Pytester, given_server: str) -> None:
    extra = """
        create table notes (text text);
        grant select on notes to tenantry_tenant;
        create table hits (text text);
        select tenantry.share_table_v1('hits', 'read');
    """
    suite.makeconftest(CLIENT + BY_FUNCTION + f"\nEXTRA = {extra!r}")
    suite.makepyfile(
        """
        import psycopg
        from tenantry.testing import assert_hidden, check_isolation

        def test_catalog(tenantry_database):
            check_isolation(tenantry_database)

        def test_accepted(tenantry_database):
            check_isolation(tenantry_database, accept=["TC01 notes"])
            check_isolation(tenantry_database, accept=["TC01"])

        def test_accepted_in_vain(tenantry_database):
            check_isolation(tenantry_database, accept=["TC01 notes", "TC99"])

        def test_rows(tenantry_database, client, make_tenant):
            ada, eve = make_tenant("Acme").member("ada"), make_tenant("Globex").member("eve")
            client.post("/orders", json={"text": "ten anvils"}, headers=ada.headers())
            assert_hidden("ten anvils", owner=ada, stranger=eve)
            with psycopg.connect(tenantry_database.owner_url) as connection:
                for table in ("notes", "hits"):
                    connection.execute(f"insert into {table} values ('ten anvils')")
            assert_hidden("ten anvils", owner=ada, stranger=eve)

        def test_vain(make_tenant):
            ada, eve = make_tenant("Acme").member("ada"), make_tenant("Globex").member("eve")
            assert_hidden("ten anvils", owner=ada, stranger=eve)
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=1, failed=4)
    lines = [
        "*TC01 notes: This table is neither isolated nor shared.",
        "*TC99 is accepted, and not found any more.",
        "*eve of Globex finds 'ten anvils' of Acme in hits, notes.",
        "*finds 'ten anvils' in no table: was it committed?",
    ]
    result.stdout.fnmatch_lines(lines)


def test_a_migration_that_fails_is_told_in_its_own_words(suite: pytest.Pytester, given_server: str) -> None:
    suite.makeconftest(CLIENT + BY_COMMAND.replace("upgrade head", "upgrade nowhere"))
    suite.makepyfile("def test_it(client): ...\ndef test_again(client): ...")
    result = run(suite)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*'alembic upgrade nowhere' failed with exit code 255.", "*Can't locate revision*"])
    assert "Traceback" not in result.stdout.str()


def test_without_a_postgresql_it_says_where_to_get_one(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none() -> None:
        raise ConfigurationError("There is none.")

    monkeypatch.setattr(binaries, "find_binaries", find_none)
    suite.makepyfile("def test_it(tenantry_database): ...")
    result = run(suite)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["There is none.", f"Run: pip install 'tenantry[[]dev]', or *{SERVER_VARIABLE}."])


@pytest.mark.parametrize(
    "url",
    [
        "host=localhost",
        "postgresql://user:hu@sh@localhost/postgres",
        "postgresql://user:hu%40sh@localhost/postgres?dbname=live",
    ],
)
def test_a_server_that_cannot_be_named_is_a_usage_error(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv(SERVER_VARIABLE, url)
    suite.makepyfile("def test_it(): ...")
    result = run(suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = result.stderr.str()
    assert "URL" in told or "names dbname" in told
    assert "Traceback" not in told
    assert "hu@sh" not in told
    assert "hu%40sh" not in told


VISIT = '''
import psycopg
from tenantry.testing import check_isolation

QUERY = """
    select current_user, rolsuper or rolbypassrls or rolcreatedb or rolcreaterole,
           (select pg_get_userbyid(relowner) from pg_class where relname = 'orders'),
           current_setting('server_version_num')::int / 10000
    from pg_roles where rolname = current_user
"""

def test_the_app_is_an_ordinary_role(client, tenantry_database, make_tenant):
    with psycopg.connect(tenantry_database.url) as connection:
        found = connection.execute(QUERY).fetchone()
    assert found == ("tenantry_test_app", False, "tenantry_test_owner", VERSION)
    assert client.get("/orders", headers=make_tenant().member("ada").headers()).json() == []

def test_again(tenantry_database):
    check_isolation(tenantry_database)
'''


def test_a_given_server_is_used_and_left_clean(
    suite: pytest.Pytester, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin_url = server.postgres.dsn("postgres")
    monkeypatch.setenv(SERVER_VARIABLE, admin_url)
    suite.makeconftest(CLIENT + BY_COMMAND)
    suite.makepyfile(VISIT.replace("VERSION", str(server.version)))
    name = find_place(suite.path).name
    with psycopg.connect(admin_url, autocommit=True) as connection:  # what a killed run left
        connection.execute(f"create database {name}".encode())
        connection.execute(f"create database {name}_template allow_connections false".encode())
    run(suite).assert_outcomes(passed=2)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        left = connection.execute("select datname from pg_database where datname like 'tenantry\\_test\\_%'")
        assert left.fetchall() == []
        connection.execute("drop role tenantry_test_app, tenantry_test_owner")


def test_a_login_that_is_no_superuser_serves_too(
    suite: pytest.Pytester, lone_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(lone_server.postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("create role ci login createdb createrole")
    monkeypatch.setenv(SERVER_VARIABLE, lone_server.postgres.dsn("postgres", "ci"))
    suite.makeconftest(CLIENT + BY_FUNCTION)
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("round", range(2))
        def test_it(client, make_tenant, round):
            assert client.get("/orders", headers=make_tenant().member("ada").headers()).json() == []
        """
    )
    for _ in range(2):
        run(suite).assert_outcomes(passed=2)


def test_two_runs_at_once_on_one_server_do_not_share_a_database(suite: pytest.Pytester, given_server: str) -> None:
    suite.makepyfile("def test_it(tenantry_database): ...")
    with psycopg.connect(given_server, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(hashtext(%s))", [find_place(suite.path).name])
        result = run(suite)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["Another run of these tests uses the database *"])


def test_the_suite_of_the_example_passes(given_server: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", "."]
    ended = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^=+ [0-9]+ passed(?!.*skipped)", ended.stdout, re.MULTILINE)


def test_without_pytest_the_plugin_says_what_to_install() -> None:
    code = "import sys; sys.modules['pytest'] = None; import tenantry.testing"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: tenantry.testing is a pytest plugin: pip install pytest"
    )


# --- what a member can be ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instance() -> Instance:
    return Instance()


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
def clerk(instance: Instance, database: Database) -> Iterator[Clerk]:
    settings = Settings.from_env(instance.environment() | {"DATABASE_URL": database.dsn()})
    with connections.connect(database.dsn()) as connection:
        yield Clerk(instance, settings, connection)


def enter(member: Member, **token: Any) -> TenantContext:
    """As a request of this member would."""
    connection = member.clerk.connection
    with acting_as(member, **token) as scope:
        try:
            with connection.transaction():
                return read_context(connections.run(connection, scope.enter()))
        except psycopg.Error as error:
            raise connections.explain(error) from None


def test_a_member_is_let_in_as_the_mirror_has_it(clerk: Clerk) -> None:
    acme = clerk.create_organization("Acme", slug="acme")
    ada = acme.member("ada", role="admin", permissions=["org:orders:read", "org:sys_memberships:read"])
    context = enter(ada)
    assert (context.id, context.org_id, context.name, context.slug) == (acme.id, acme.org_id, "Acme", "acme")
    assert (context.user_id, context.role) == (ada.user_id, "org:admin")
    assert context.permissions == {"org:orders:read"}
    assert context.system_permissions == {"org:sys_memberships:read"}


def test_a_person_is_one_user_in_every_organization(clerk: Clerk) -> None:
    acme, globex = clerk.create_organization("Acme"), clerk.create_organization("Acme")
    ada, also = acme.member("ada"), globex.member("ada")
    assert ada.user_id == also.user_id
    assert acme.org_id != globex.org_id
    assert enter(ada).id != enter(also).id
    ada.leave()
    with pytest.raises(NotAMember):
        enter(ada)
    assert enter(also).id == globex.id
    also.ban()
    with pytest.raises(UserBanned):
        enter(also)


def test_who_left_or_is_banned_has_the_token_they_had(clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later one would tell of a return that the mirror has not heard of, and would let them in."""
    acme = clerk.create_organization("Acme")
    ada, bo, cy = acme.member("ada"), acme.member("bo"), acme.member("cy")
    ada.leave()
    bo.ban()
    clerk.tell(cy.webhook("organizationMembership.deleted"))
    seconds = time.time
    monkeypatch.setattr(time, "time", lambda: seconds() + 5)
    for one in (ada, cy):
        with pytest.raises(NotAMember):
            enter(one)
    with pytest.raises(UserBanned):
        enter(bo)


def test_who_left_can_join_again_at_once(clerk: Clerk) -> None:
    acme = clerk.create_organization("Acme")
    first = acme.member("ada")
    with pytest.raises(InvalidArgument, match="is a member of Acme already"):
        acme.member("ada")
    first.leave()
    again = acme.member("ada", role="org:admin")
    assert again.membership["id"] != first.membership["id"]
    assert enter(again).role == "org:admin"
    assert acme.organization["members_count"] == 1


def test_a_role_is_changed_at_once_whatever_the_token_says(clerk: Clerk) -> None:
    ada = clerk.create_organization("Acme").member("ada", permissions=["org:orders:read"])
    token = ada.token()
    ada.change_role("org:admin", permissions=["org:orders:delete"])
    assert token != ada.token()
    assert enter(ada).permissions == {"org:orders:delete"}
    connection = ada.clerk.connection
    with tenant_context(ada.tenant.id, reason="test", user_id=ada.user_id) as scope, connection.transaction():
        assert read_context(connections.run(connection, scope.enter())).role == "org:admin"


@pytest.mark.parametrize(
    ("act", "refusal"),
    [
        (lambda member: member.sign_out(), SessionEnded),
        (lambda member: member.leave(), NotAMember),
        (lambda member: member.ban(), UserBanned),
        (lambda member: member.tenant.delete(), OrganizationDeleted),
    ],
    ids=["signed out", "left", "banned", "organization deleted"],
)
def test_what_ends_a_member_ends_them_at_once(
    clerk: Clerk, act: Callable[[Member], None], refusal: type[AccessDenied]
) -> None:
    ada = clerk.create_organization("Acme").member("ada")
    enter(ada)
    act(ada)
    with pytest.raises(refusal):
        enter(ada)


def test_an_expired_token_is_refused_before_the_database_is_asked(clerk: Clerk) -> None:
    ada = clerk.create_organization("Acme").member("ada")
    assert enter(ada, age=30).user_id == ada.user_id
    with pytest.raises(TokenExpired):
        enter(ada, age=3600)


def test_a_permission_that_is_not_clerks_is_refused(clerk: Clerk) -> None:
    acme = clerk.create_organization("Acme")
    with pytest.raises(InvalidArgument, match="'orders:delete' is no permission of Clerk's"):
        acme.member("ada", permissions=["orders:delete"])
    assert acme.member("ada").role == "org:member"


def test_an_event_about_something_else_is_refused(clerk: Clerk) -> None:
    acme = clerk.create_organization("Acme")
    for owner, event in ((acme, "user.created"), (acme.member("ada"), "organization.updated")):
        with pytest.raises(InvalidArgument, match="is no event about"):
            owner.webhook(event)


def test_an_event_the_mirror_cannot_take_is_an_error(clerk: Clerk) -> None:
    with pytest.raises(WebhookError, match="The mirror did not take"):
        clerk.tell(clerk.instance.webhook("user.created", {"object": "user"}))


def test_fields_can_be_changed_and_nothing_is_recorded_by_it(clerk: Clerk, database: Database) -> None:
    ada = clerk.create_organization("Acme").member("ada")
    told = ada.webhook("user.updated", first_name="Augusta")
    with database.connect(database.superuser) as connection:
        assert connection.execute("select first_name from tenantry.users").fetchone() == ("Ada",)
        clerk.tell(told)
        assert connection.execute("select first_name from tenantry.users").fetchone() == ("Augusta",)


def test_of_two_changes_in_one_millisecond_one_is_the_later(clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    ada = clerk.create_organization("Acme").member("ada")
    for role in ("org:admin", "org:member", "org:editor"):
        ada.change_role(role)
        assert enter(ada).role == role
    ada.leave()
    assert enter(ada.tenant.member("ada", role="org:guest")).role == "org:guest"


# --- signed as Clerk and Svix do --------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,7}", fullmatch=True).filter(lambda name: not name.startswith("sys_"))
PERMISSIONS = st.lists(st.builds("org:{}:{}".format, NAMES, NAMES), unique=True, max_size=12)
FEATURES = st.lists(st.builds("{}{}".format, st.sampled_from(["", "o:", "u:", "uo:"]), NAMES), unique=True, max_size=4)


def judge(instance: Instance, token: str) -> dict[str, Any]:
    """What Clerk's own Python SDK reads in a token. Without a network."""
    request = httpx.Request("GET", ORIGIN, headers={"Authorization": f"Bearer {token}"})
    options = AuthenticateRequestOptions(
        jwt_key=instance.environment()["CLERK_JWT_KEY"], authorized_parties=[ORIGIN], accepts_token=["session_token"]
    )
    state = authenticate_request(request, options)
    assert state.payload is not None, state.reason
    return dict(state.payload)


@given(PERMISSIONS, FEATURES, st.sampled_from([1, 2]))
def test_clerks_sdk_and_ours_read_the_permissions_that_were_meant(
    permissions: list[str], features: list[str], version: int
) -> None:
    instance = _shared_instance()
    active = ActiveOrganization(id="org_1", slug="acme", role="org:admin", permissions=tuple(permissions))
    basis = session_claims(
        user_id="user_1",
        session_id="sess_1",
        issuer=instance.issuer,
        origin=ORIGIN,
        issued_at=int(time.time()),
        life=60,
    )
    added = claims_v1(active) if version == 1 else claims_v2(active, features=features, plan="pro")
    token = instance.sign(basis | added)
    read = judge(instance, token)
    assert (read["org_id"], read["org_slug"], read["sub"]) == ("org_1", "acme", "user_1")
    assert set(read.get("org_permissions", ())) == set(permissions)
    settings = Settings.from_env(instance.environment())
    verifier = Verifier.from_settings(settings, find_keys(settings))
    identity = verifier.verify_with(instance.public_key, token, now=time.time())
    assert (identity.role, identity.permissions) == ("org:admin", frozenset(permissions))
    if version == 2:
        assert identity.has(plan="org:pro")
        for feature in features:
            assert identity.has(feature=feature.rpartition(":")[2])


_instances: list[Instance] = []


def _shared_instance() -> Instance:
    """One key for all examples of a property: making one is slow."""
    if not _instances:
        _instances.append(Instance())
    return _instances[0]


def test_a_claim_is_changed_or_left_out(clerk: Clerk) -> None:
    ada = clerk.create_organization("Acme").member("ada", plan="u:pro", features=["exports"])
    read = judge(clerk.instance, ada.token(jti=None, fva=[3, -1], tier=7))
    assert "jti" not in read
    assert (read["fva"], read["tier"], read["pla"], read["fea"]) == ([3, -1], 7, "u:pro", "o:exports")
    assert "org_id" not in judge(clerk.instance, ada.token(organization=False))


def test_svix_accepts_a_delivery_and_refuses_a_changed_one(clerk: Clerk) -> None:
    told = clerk.create_organization("Acmé").webhook("organization.updated")
    official = SvixWebhook(clerk.instance.webhook_secret)
    official.verify(told.body, dict(told.headers))
    with pytest.raises(WebhookVerificationError):
        official.verify(told.body.replace(b"Acm", b"Bcm"), dict(told.headers))


@pytest.mark.skipif(not SAMPLES.exists(), reason="Clerk's sample events are not on this machine")
@pytest.mark.parametrize(
    "type",
    [
        f"{kind}.{verb}"
        for kind in ("organization", "organizationMembership", "user")
        for verb in ("created", "updated", "deleted")
    ],
)
def test_an_event_has_the_fields_of_clerks_own(clerk: Clerk, type: str) -> None:
    acme = clerk.create_organization("Acme", slug="acme")
    about: Any = acme if type.startswith("organization.") else acme.member("ada")
    sample = json.loads((SAMPLES / f"{type}.json").read_text())
    assert shape(json.loads(about.webhook(type).body)) == shape(sample)


def shape(value: Any) -> Any:
    """The names in it, nested; metadata is anybody's."""
    if isinstance(value, dict):
        return {name: None if name.endswith("_metadata") else shape(held) for name, held in value.items()}
    return (
        [shape(held) for held in value[:1]]
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else None
    )


@given(st.text(max_size=40))
def test_an_id_has_clerks_form_whatever_it_is_made_from(label: str) -> None:
    made = create_id("user", label)
    assert re.fullmatch(r"user_[0-9A-Za-z]{27}", made)
    assert made == create_id("user", label)
    assert made != create_id("user", label + ".")
