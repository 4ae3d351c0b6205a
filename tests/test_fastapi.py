"""A FastAPI app: dependencies, statuses, what the tenant is taken from, and where it stays."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection

from databases import Database, Server
from instance import (
    Document,
    Socket,
    World,
    banned,
    bearer,
    fresh_database,
    gone,
    joined,
    now_ms,
    removed,
    serving,
    settings,
    token,
)
from signer import ORIGIN, Signer
from sql.clerk_objects import event
from sql.clerk_objects import session as clerk_session
from tenantry.context import current_scope, current_tenant
from tenantry.errors import NoTenant
from tenantry.fastapi import (
    CurrentIdentity,
    CurrentTenant,
    OptionalIdentity,
    OptionalTenant,
    Tenantry,
    requires,
)

PROBLEM = "application/problem+json"


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with serving(database, build) as made:
        yield made


async def open_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    async with connection.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(open_session)]


def build(world: World) -> None:
    """The app of these tests: documents, and a route for each kind of dependency."""
    app = world.app
    app.state.sessions = world.sessions

    @app.get("/public")
    async def public() -> str:
        return "everybody"

    @app.get("/tenant")
    async def tenant(tenant: CurrentTenant) -> dict[str, Any]:
        return {"org_id": tenant.org_id, "user_id": tenant.user_id, "role": tenant.role, "name": tenant.name}

    @app.get("/orgs/{org}/tenant")
    async def named_tenant(org: str, tenant: CurrentTenant) -> str | None:
        return tenant.org_id

    @app.get("/context")
    async def context(tenant: CurrentTenant) -> Any:
        return tenant

    @app.get("/me")
    async def me(identity: CurrentIdentity) -> str:
        return identity.user_id

    @app.get("/maybe")
    async def maybe(tenant: OptionalTenant) -> str | None:
        return tenant.org_id if tenant else None

    @app.get("/maybe-me")
    async def maybe_me(identity: OptionalIdentity) -> str | None:
        return identity.user_id if identity else None

    @app.get("/documents")
    async def documents(session: Session) -> list[str]:
        return list(await session.scalars(select(Document.title).order_by(Document.id)))

    @app.post("/documents")
    async def create(request: Request, session: Session) -> int:
        made = Document(title=(await request.body()).decode())
        session.add(made)
        await session.commit()
        return made.id

    @app.get("/documents/{number}")
    async def read(number: int, session: Session) -> str:
        found = await session.get(Document, number)
        if found is None:
            raise HTTPException(404)
        return found.title

    @app.get("/sync/documents")
    def sync_documents() -> list[str]:
        with world.sync_sessions() as session:
            return list(session.scalars(select(Document.title).order_by(Document.id)))

    @app.get("/sync/tenant")
    def sync_tenant(tenant: CurrentTenant) -> str | None:
        return current_tenant().org_id

    @app.get("/for/role", dependencies=[requires(role="org:admin")])
    @app.get("/for/permission", dependencies=[requires(permission="org:teams:read")])
    @app.get("/for/feature", dependencies=[requires(feature="teams")])
    @app.get("/for/plan", dependencies=[requires(plan="pro")])
    @app.get("/for/can", dependencies=[requires(can="documents:delete")])
    @app.get("/for/several", dependencies=[requires(role="admin", feature="teams", can="documents:delete")])
    async def guarded() -> str:
        return "let in"


def code_of(answer: Any) -> tuple[int, str]:
    """Status and code of what must be a problem document."""
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:tenantry:{problem['code']}"
    assert problem["title"]
    return answer.status_code, problem["code"]


# --- statuses ---------------------------------------------------------------------------------------------------------


def expired() -> str:
    now = time.time() - 3600
    return token(iat=int(now), nbf=int(now), exp=int(now) + 60)


UNAUTHENTICATED: dict[str, tuple[Callable[[], str | None], str]] = {
    "none": (lambda: None, "missing_token"),
    "another scheme": (lambda: "Basic dXNlcjpwYXNz", "missing_token"),
    "no JWT": (lambda: "Bearer nonsense", "invalid_token"),
    "forged": (lambda: f"Bearer {Signer(kid='ins_1').sign()}", "invalid_token"),
    "expired": (lambda: f"Bearer {expired()}", "token_expired"),
    "pending": (lambda: f"Bearer {token(sts='pending')}", "session_pending"),
    "API key": (lambda: "Bearer ak_0123456789", "wrong_token_kind"),
    "template": (lambda: f"Bearer {token(sid=None)}", "wrong_token_kind"),
    "another party": (lambda: f"Bearer {token(azp='https://evil.example')}", "invalid_token"),
    "another issuer": (lambda: f"Bearer {token(iss='https://other.clerk.accounts.dev')}", "invalid_token"),
}


@pytest.mark.attack(65, 66, 67, 76)
@pytest.mark.parametrize("kind", UNAUTHENTICATED)
async def test_whoever_is_not_known_gets_a_401_with_its_own_code(
    world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, code = UNAUTHENTICATED[kind]
    given = make()
    challenge = "Bearer" if code == "missing_token" else 'Bearer error="invalid_token"'
    caplog.set_level("DEBUG", "tenantry")
    for path in ("/tenant", "/me", "/documents", "/sync/documents", "/for/role"):
        answer = await world.client.get(path, headers={"Authorization": given} if given else {})
        assert code_of(answer) == (401, code)
        assert (answer.headers["www-authenticate"], answer.headers["cache-control"]) == (challenge, "no-store")
        for part in (given or "").removeprefix("Bearer ").split("."):
            assert not part or part not in answer.text + caplog.text


@pytest.mark.attack(72)
async def test_an_ended_session_is_a_401(world: World) -> None:
    at = now_ms()
    ended = clerk_session("sess_of_user_1", user_id="user_1", at=at, status="ended")
    assert (await world.get("/tenant")).status_code == 200
    await world.deliver(event("session.ended", ended, at=at))
    assert code_of(await world.get("/tenant")) == (401, "session_ended")
    assert code_of(await world.get("/documents")) == (401, "session_ended")


REFUSED: dict[str, tuple[list[Callable[[], Any]], dict[str, Any], str]] = {
    "no organization": ([], {"org_id": None}, "no_organization"),
    "removed": ([joined, removed], {}, "not_a_member"),
    "organization deleted": ([joined, lambda: gone("organization", "org_1")], {}, "organization_deleted"),
    "user deleted": ([joined, lambda: gone("user", "user_1")], {}, "user_deleted"),
    "banned": ([joined, banned], {}, "user_banned"),
}


@pytest.mark.attack(77, 94)
@pytest.mark.parametrize("kind", REFUSED)
async def test_whoever_may_not_enter_gets_a_403_with_its_own_code(world: World, kind: str) -> None:
    events, claims, code = REFUSED[kind]
    valid = bearer(**claims)
    await world.deliver(*(make() for make in events))
    for path in ("/tenant", "/documents", "/sync/documents", "/for/role"):
        assert code_of(await world.client.get(path, headers=valid)) == (403, code)
    assert (await world.client.get("/me", headers=valid)).json() == "user_1"


async def test_a_token_of_another_instance_is_a_403(world: World) -> None:
    await world.deliver(joined())
    world.rows("update tenantry.clerk_instance set instance_id = 'ins_another' returning 1")
    assert code_of(await world.get("/tenant")) == (403, "wrong_instance")


@pytest.mark.attack(72)
async def test_a_removed_member_is_out_at_once_with_a_token_that_is_still_valid(world: World) -> None:
    valid = bearer()
    await world.deliver(joined())
    assert (await world.client.get("/documents", headers=valid)).status_code == 200
    await world.deliver(removed())
    assert code_of(await world.client.get("/documents", headers=valid)) == (403, "not_a_member")
    assert code_of(await world.client.get("/tenant", headers=valid)) == (403, "not_a_member")


async def test_the_off_switch_ignores_the_mirrors_denials_and_keeps_isolation(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(database, build, membership_source="token") as world:
        await world.client.post("/documents", headers=bearer("user_2", "org_2"), content="theirs")
        await world.deliver(joined(), removed())
        assert (await world.get("/tenant")).status_code == 200
        assert (await world.get("/documents")).json() == []
    assert "denials are ignored" in caplog.text


async def test_another_tenants_row_is_a_404_and_ones_own_is_there(world: World) -> None:
    number = (await world.client.post("/documents", headers=bearer("user_1", "org_1"), content="plans of one")).json()
    assert (await world.get(f"/documents/{number}", "user_1", "org_1")).json() == "plans of one"
    assert (await world.get(f"/documents/{number}", "user_2", "org_2")).status_code == 404


@pytest.mark.parametrize("expected", ["org_1", "slug-of-org_1"])
async def test_the_organization_a_client_expects_may_be_stated_by_id_or_slug(world: World, expected: str) -> None:
    stated = bearer() | {"Tenantry-Expected-Org": expected}
    assert (await world.client.get("/tenant", headers=stated)).status_code == 200
    assert (await world.client.get(f"/orgs/{expected}/tenant", headers=bearer())).json() == "org_1"


@pytest.mark.attack(63)
@pytest.mark.parametrize("expected", ["org_2", "slug-of-org_2", "", "ORG_1", "org_1x", "org_1,org_2"])
async def test_another_expected_organization_is_a_409(world: World, expected: str) -> None:
    stated = bearer() | {"Tenantry-Expected-Org": expected}
    for path in ("/tenant", "/documents", "/sync/documents", "/for/role", "/maybe"):
        assert code_of(await world.client.get(path, headers=stated)) == (409, "organization_mismatch")


async def test_the_last_of_two_expectations_counts_as_much_as_the_first(world: World) -> None:
    stated = [*bearer().items(), ("Tenantry-Expected-Org", "org_1"), ("Tenantry-Expected-Org", "org_2")]
    assert code_of(await world.client.get("/tenant", headers=stated)) == (409, "organization_mismatch")


@pytest.mark.attack(62)
async def test_another_organizations_path_is_a_409(world: World) -> None:
    for org in ("org_2", "slug-of-org_2", "%6frg_2"):
        answer = await world.client.get(f"/orgs/{org}/tenant", headers=bearer())
        assert code_of(answer) == (409, "organization_mismatch")
    assert code_of(await world.get("/orgs/org_1/tenant", org_id=None)) == (409, "organization_mismatch")


async def test_who_expects_no_organization_says_so_with_an_empty_header(database: Database) -> None:
    async with serving(database, build, personal_accounts="allow") as world:
        stated = {"Tenantry-Expected-Org": ""}
        assert (await world.client.get("/tenant", headers=bearer(org_id=None) | stated)).status_code == 200


# --- who needs nothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}, {"Tenantry-Expected-Org": "org_9"}])
async def test_public_pages_and_the_documentation_need_nothing(world: World, headers: dict[str, str]) -> None:
    for path in ("/public", "/docs", "/openapi.json"):
        assert (await world.client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize("cors_is_outside", [True, False])
async def test_a_cors_preflight_passes_and_problems_carry_its_headers(
    database: Database, cors_is_outside: bool
) -> None:
    async with serving(database) as world:
        app = FastAPI()
        cors: dict[str, Any] = {"allow_origins": [ORIGIN], "allow_methods": ["*"], "allow_headers": ["*"]}
        if not cors_is_outside:
            app.add_middleware(CORSMiddleware, **cors)
        world.tenancy.install(app)
        if cors_is_outside:
            app.add_middleware(CORSMiddleware, **cors)

        @app.delete("/tenant")
        async def delete(tenant: CurrentTenant) -> None: ...

        world.turn_to(app)
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"}
        preflight = await world.client.options("/tenant", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
        refused = await world.client.delete("/tenant", headers={"Origin": ORIGIN})
        assert code_of(refused) == (401, "missing_token")
        assert refused.headers["access-control-allow-origin"] == ORIGIN


async def test_an_optional_tenant_is_none_for_strangers_and_refuses_bad_tokens(world: World) -> None:
    assert (await world.client.get("/maybe")).json() is None
    assert (await world.get("/maybe", org_id=None)).json() is None
    assert (await world.get("/maybe")).json() == "org_1"
    assert code_of(await world.client.get("/maybe", headers={"Authorization": "Bearer nonsense"}))[0] == 401
    await world.deliver(joined(), removed())
    assert code_of(await world.get("/maybe")) == (403, "not_a_member")


async def test_an_optional_identity_is_none_for_strangers_and_refuses_bad_tokens(world: World) -> None:
    assert (await world.client.get("/maybe-me")).json() is None
    assert (await world.get("/maybe-me", org_id=None)).json() == "user_1"
    assert code_of(await world.client.get("/maybe-me", headers={"Authorization": "Bearer nonsense"}))[0] == 401


async def test_a_personal_account_is_a_tenant_where_the_setting_allows_it(database: Database) -> None:
    async with serving(database, build, personal_accounts="allow") as world:
        mine = bearer("user_1", None)
        assert (await world.client.get("/tenant", headers=mine)).json()["org_id"] is None
        await world.client.post("/documents", headers=mine, content="diary")
        assert (await world.client.get("/documents", headers=mine)).json() == ["diary"]
        assert (await world.get("/documents", "user_2", None)).json() == []
        assert (await world.get("/documents", "user_1", "org_1")).json() == []


@pytest.mark.attack(60)
async def test_an_answered_context_does_not_show_the_tokens_claims(world: World) -> None:
    shown = (await world.get("/context")).json()
    assert shown["org_id"] == "org_1"
    assert not {"identity", "_identity", "claims"} & shown.keys()


# --- requires() -------------------------------------------------------------------------------------------------------

GUARDS = ("role", "permission", "feature", "plan", "can", "several")


async def test_requires_lets_in_whoever_has_all_of_it(world: World) -> None:
    world.rows("""select tenantry.set_role_permissions_v1('{"org:admin": ["documents:*"]}')""")
    admin = bearer(role="admin")
    assert [(await world.client.get(f"/for/{name}", headers=admin)).status_code for name in GUARDS] == [200] * 6


async def test_requires_refuses_whoever_lacks_any_of_it(world: World) -> None:
    world.rows("""select tenantry.set_role_permissions_v1('{"org:admin": ["documents:*"]}')""")
    lacking = {
        "role": bearer(),
        "permission": bearer(o={"id": "org_1", "rol": "admin", "per": "read", "fpm": "1,0"}),
        "feature": bearer(fea="o:dashboard"),
        "plan": bearer(pla="o:free"),
        "can": bearer(role="editor"),
    }
    for name, headers in lacking.items():
        assert code_of(await world.client.get(f"/for/{name}", headers=headers)) == (403, "permission_denied")
    for name in ("role", "feature", "can"):
        assert code_of(await world.client.get("/for/several", headers=lacking[name])) == (403, "permission_denied")


async def test_a_demoted_admin_loses_the_role_at_once(world: World) -> None:
    valid = bearer(role="admin")
    assert (await world.client.get("/for/role", headers=valid)).status_code == 200
    await world.deliver(joined(role="org:member", at=now_ms()))
    assert code_of(await world.client.get("/for/role", headers=valid)) == (403, "permission_denied")


def test_requires_wants_something_to_require() -> None:
    with pytest.raises(TypeError, match="at least one"):
        requires()


# --- what chooses the tenant ------------------------------------------------------------------------------------------


@pytest.mark.attack(61)
async def test_nothing_but_the_verified_token_chooses_the_tenant(world: World) -> None:
    for org in ("org_1", "org_2"):
        await world.client.post("/documents", headers=bearer(f"user_of_{org}", org), content=f"plans of {org}")
    lures = {"X-Org-Id": "org_2", "X-Tenant-Id": "org_2", "X-Clerk-Org-Id": "org_2", "Clerk-Org": "org_2"}
    cookies = {
        "Cookie": f"clerk_active_context=sess_1:org_2; __session_planted={token('user_2', 'org_2')}; org_id=org_2"
    }
    path = "/documents?org_id=org_2&tenant_id=org_2&__session=org_2"
    answer = await world.client.request(
        "GET", path, headers=bearer("user_of_org_1", "org_1") | lures | cookies, json={"org_id": "org_2"}
    )
    assert answer.json() == ["plans of org_1"]


@pytest.mark.attack(71)
async def test_a_planted_cookie_of_another_name_signs_nobody_in(world: World) -> None:
    for name in ("__session_", "__session_planted", "__Session", "session", "x__session", "__session "):
        answer = await world.client.get("/me", headers={"Cookie": f"{name}x={token()}"})
        assert code_of(answer) == (401, "missing_token")


@pytest.mark.attack(71)
async def test_the_own_suffixed_cookie_beats_a_planted_plain_one(database: Database) -> None:
    key = "pk_test_" + "aGFwcHktb3R0ZXItMTIuY2xlcmsuYWNjb3VudHMuZGV2JA"
    async with serving(database, build, publishable_key=key) as world:
        suffixed = f"__session_{world.tenancy.settings.cookie_suffix}"
        planted, own = token("user_evil", "org_evil"), token("user_1", "org_1")
        for cookies in (f"__session={planted}; {suffixed}={own}", f"{suffixed}={own}; __session={planted}"):
            assert (await world.client.get("/me", headers={"Cookie": cookies})).json() == "user_1"


async def test_a_bearer_token_beats_a_cookie_in_whatever_order_they_come(world: World) -> None:
    cookie, header = ("cookie", f"__session={token('user_2', 'org_2')}"), ("authorization", bearer()["Authorization"])
    for headers in ([cookie, header], [header, cookie], [cookie, header, cookie]):
        assert (await world.client.get("/tenant", headers=headers)).json()["org_id"] == "org_1"


async def test_a_bad_bearer_token_is_not_made_good_by_a_cookie(world: World) -> None:
    headers = {"Cookie": f"__session={token()}", "Authorization": "Bearer nonsense"}
    assert code_of(await world.client.get("/me", headers=headers)) == (401, "invalid_token")


async def test_of_two_authorization_headers_the_first_counts_alone(world: World) -> None:
    first, second = bearer("user_1", "org_1")["Authorization"], bearer("user_2", "org_2")["Authorization"]
    headers = [("authorization", first), ("authorization", second)]
    assert (await world.client.get("/tenant", headers=headers)).json()["org_id"] == "org_1"
    assert (await world.client.get("/tenant", headers=headers[::-1])).json()["org_id"] == "org_2"


@pytest.mark.attack(78)
async def test_a_cookie_on_an_unsafe_request_needs_the_apps_origin(world: World) -> None:
    cookie = {"Cookie": f"__session={token()}"}
    assert (await world.client.get("/tenant", headers=cookie)).status_code == 200
    lookalike = "https://app.example.com.evil.example"
    for origin in (
        None,
        "null",
        "",
        "https://evil.example",
        lookalike,
        "http://app.example.com",
        "http://[",
        "http://a:b",
    ):
        foreign = cookie | ({"Origin": origin} if origin is not None else {})
        assert code_of(await world.client.post("/documents", headers=foreign)) == (403, "untrusted_origin")
    own = cookie | {"Origin": ORIGIN}
    assert (await world.client.post("/documents", headers=own, content="mine")).status_code == 200


async def test_a_bearer_token_needs_no_origin(world: World) -> None:
    for origin in ({}, {"Origin": "https://evil.example"}):
        assert (await world.client.post("/documents", headers=bearer() | origin, content="x")).status_code == 200


async def test_in_development_the_apps_own_origin_will_do(database: Database) -> None:
    cookie = {"Cookie": f"__session={token()}"}
    async with serving(database, build, authorized_parties=frozenset()) as world:
        for own in ("http://app.test", "http://app.test:80", "HTTP://APP.TEST"):
            answer = await world.client.post("/documents", headers=cookie | {"Origin": own}, content="x")
            assert answer.status_code == 200
        for other in (None, "http://app.test:8080", "http://evil.example", "http://[", "://", "null"):
            foreign = cookie | ({"Origin": other} if other is not None else {})
            assert code_of(await world.client.post("/documents", headers=foreign)) == (403, "untrusted_origin")


@pytest.mark.attack(66)
async def test_a_cookie_without_configured_parties_is_refused_outside_development(database: Database) -> None:
    live = {"secret_key": "sk_live_0123456789", "authorized_parties": frozenset()}
    async with serving(database, build, **live) as world:
        cookie = {"Cookie": f"__session={token()}", "Origin": "http://app.test"}
        assert code_of(await world.client.get("/tenant", headers=cookie)) == (401, "invalid_token")
        assert (await world.get("/tenant")).status_code == 200


# --- where the tenant stays -------------------------------------------------------------------------------------------


async def fill(world: World) -> None:
    """A document for each of two organizations."""
    for org in ("org_1", "org_2"):
        answer = await world.client.post("/documents", headers=bearer(f"user_of_{org}", org), content=f"plans of {org}")
        assert answer.status_code == 200


async def titles(world: World) -> list[str]:
    async with world.sessions() as session:
        return list(await session.scalars(select(Document.title)))


def sync_titles(world: World) -> list[str]:
    with world.sync_sessions() as session:
        return list(session.scalars(select(Document.title)))


async def test_sync_endpoints_with_sync_sessions_see_their_tenant(world: World) -> None:
    await fill(world)
    for org in ("org_1", "org_2"):
        assert (await world.get("/sync/documents", f"user_of_{org}", org)).json() == [f"plans of {org}"]
        assert (await world.get("/sync/tenant", f"user_of_{org}", org)).json() == org


async def test_background_tasks_streams_and_tasks_keep_their_tenant(world: World) -> None:
    started: list[asyncio.Task[None]] = []

    async def look(where: str) -> None:
        world.seen.append((where, await titles(world)))

    def sync_look(where: str) -> None:
        world.seen.append((where, sync_titles(world)))

    async def stream() -> AsyncIterator[str]:
        for _ in range(3):
            yield json.dumps(await titles(world)) + "\n"
            await asyncio.sleep(0)

    @world.app.get("/background")
    async def background(tasks: BackgroundTasks) -> None:
        tasks.add_task(look, "background")
        tasks.add_task(sync_look, "sync background")
        started.append(asyncio.create_task(look("task")))

    @world.app.get("/stream")
    async def streamed() -> StreamingResponse:
        return StreamingResponse(stream())

    await fill(world)
    await world.get("/background", "user_of_org_1", "org_1")
    await asyncio.gather(*started)
    assert sorted(world.seen) == [(where, ["plans of org_1"]) for where in ("background", "sync background", "task")]
    lines = (await world.get("/stream", "user_of_org_2", "org_2")).text.splitlines()
    assert lines == ['["plans of org_2"]'] * 3


@pytest.mark.attack(53)
@pytest.mark.parametrize("outside", [True, False])
async def test_the_apps_own_base_http_middleware_does_not_lose_the_tenant(database: Database, outside: bool) -> None:
    async def dispatch(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    async with serving(database) as world:
        app = world.app = FastAPI()
        if not outside:
            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        world.tenancy.install(app)
        if outside:
            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        build(world)
        world.turn_to(app)
        await fill(world)
        assert (await world.get("/documents", "user_of_org_1", "org_1")).json() == ["plans of org_1"]
        assert (await world.get("/sync/documents", "user_of_org_2", "org_2")).json() == ["plans of org_2"]
        assert code_of(await world.client.get("/documents")) == (401, "missing_token")


@pytest.mark.attack(54)
async def test_a_thread_of_the_apps_own_fails_closed(world: World) -> None:
    def look() -> None:
        try:
            world.seen.append(sync_titles(world))
        except NoTenant as error:
            world.seen.append(error.code)

    @world.app.get("/thread")
    def threaded(tenant: CurrentTenant) -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    await fill(world)
    await world.get("/thread", "user_of_org_1", "org_1")
    assert world.seen == ["no_tenant"]


@pytest.mark.attack(54)
async def test_a_worker_started_in_a_request_does_not_act_for_its_tenant_afterwards(world: World) -> None:
    queue: asyncio.Queue[None] = asyncio.Queue()
    workers: list[asyncio.Task[list[str]]] = []

    async def work() -> list[str]:
        await queue.get()
        return await titles(world)

    @world.app.get("/start")
    async def start(tenant: CurrentTenant) -> None:
        workers.append(asyncio.create_task(work()))

    await fill(world)
    assert (await world.get("/start", "user_of_org_1", "org_1")).status_code == 200
    queue.put_nowait(None)
    with pytest.raises(NoTenant, match="is over"):
        await workers[0]


async def test_nothing_is_left_of_a_request_when_it_is_over(world: World) -> None:
    await fill(world)
    with pytest.raises(NoTenant):
        current_scope()
    with pytest.raises(NoTenant):
        await titles(world)
    assert code_of(await world.client.get("/documents")) == (401, "missing_token")


@pytest.mark.attack(53)
async def test_interleaved_requests_of_two_tenants_never_mix(world: World) -> None:
    barrier = asyncio.Barrier(2)

    @world.app.get("/interleaved")
    async def interleaved(tenant: CurrentTenant) -> list[Any]:
        found: list[Any] = []
        for _ in range(5):
            await barrier.wait()  # both requests are at this very point
            async with world.sessions() as session:
                before = list(await session.scalars(select(Document.title)))
                await barrier.wait()  # both are inside their transactions
                found += [before, list(await session.scalars(select(Document.title))), current_tenant().org_id]
        assert tenant.org_id == current_tenant().org_id
        return found

    await fill(world)
    one, two = await asyncio.gather(
        world.get("/interleaved", "user_of_org_1", "org_1"), world.get("/interleaved", "user_of_org_2", "org_2")
    )
    assert one.json() == [["plans of org_1"], ["plans of org_1"], "org_1"] * 5
    assert two.json() == [["plans of org_2"], ["plans of org_2"], "org_2"] * 5


@pytest.mark.attack(73)
async def test_a_just_created_organization_is_let_in_before_its_webhook(world: World) -> None:
    answers = await asyncio.gather(
        *(world.get("/documents" if n % 2 else "/tenant", f"user_{n % 5}", "org_new") for n in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert world.rows("select count(*)::int from tenantry.tenants where clerk_org_id = 'org_new'") == [(1,)]
    assert world.rows("select count(*)::int from tenantry.users") == [(5,)]
    assert world.rows("select count(*)::int from tenantry.tenant_memberships") == [(0,)]


# --- websockets -------------------------------------------------------------------------------------------------------


def add_sockets(world: World) -> None:
    @world.app.websocket("/socket")
    async def socket(websocket: WebSocket, tenant: CurrentTenant) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            now = await world.tenancy.resolve(websocket)
            await websocket.send_text(f"{text} {now.org_id} {await titles(world)}")

    @world.app.websocket("/broken")
    async def broken(websocket: WebSocket) -> None:
        await websocket.accept()
        raise NoTenant


async def test_a_websocket_works_for_its_tenant(world: World) -> None:
    add_sockets(world)
    await fill(world)
    socket = Socket(world.app, "/socket", bearer("user_of_org_1", "org_1"))
    assert (await socket.next())["type"] == "websocket.accept"
    assert (await socket.send("hello"))["text"] == "hello org_1 ['plans of org_1']"
    await socket.close()


async def test_a_websocket_of_whoever_may_not_enter_is_closed_before_it_is_accepted(world: World) -> None:
    add_sockets(world)
    await world.deliver(joined(), removed())
    cookie = {"Cookie": f"__session={token('user_2')}"}
    for headers, code in (
        ({}, "missing_token"),
        (bearer(), "not_a_member"),
        (cookie | {"Origin": "https://evil.example"}, "untrusted_origin"),
        (cookie, "untrusted_origin"),
    ):
        message = await Socket(world.app, "/socket", headers).next()
        assert message == {"type": "websocket.close", "code": 1008, "reason": code}
    accepted = Socket(world.app, "/socket", cookie | {"Origin": ORIGIN})
    assert (await accepted.next())["type"] == "websocket.accept"
    await accepted.close()


async def test_a_member_removed_meanwhile_is_closed_at_the_next_frame(world: World) -> None:
    add_sockets(world)
    await world.deliver(joined())
    socket = Socket(world.app, "/socket", bearer())
    await socket.next()
    assert (await socket.send("still here"))["type"] == "websocket.send"
    await world.deliver(removed())
    assert await socket.send("and now") == {"type": "websocket.close", "code": 1008, "reason": "not_a_member"}


async def test_a_fault_of_the_app_closes_a_websocket_as_an_internal_error(world: World) -> None:
    add_sockets(world)
    socket = Socket(world.app, "/broken", bearer())
    await socket.next()
    assert await socket.next() == {"type": "websocket.close", "code": 1011, "reason": "no_tenant"}


# --- documentation and set-up -----------------------------------------------------------------------------------------


async def test_openapi_documents_the_security_scheme_and_the_problems(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["Clerk session"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    for path in ("/tenant", "/me", "/for/role", "/sync/tenant"):
        operation = document["paths"][path]["get"]
        assert operation["security"] == [{"Clerk session": []}]
        for status in ("401", "403", "409"):
            content = operation["responses"][status]["content"]
            assert content == {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert "401" not in document["paths"]["/public"]["get"]["responses"]
    assert {"type", "title", "status", "code"} == set(document["components"]["schemas"]["Problem"]["required"])
    assert "/webhooks/clerk" not in document["paths"]


async def test_an_answer_the_app_documents_itself_is_kept(world: World) -> None:
    @world.app.get("/own", responses={403: {"description": "Not on a Sunday."}})
    async def own(tenant: CurrentTenant) -> None: ...

    document = world.app.openapi()
    assert document["paths"]["/own"]["get"]["responses"]["403"] == {"description": "Not on a Sunday."}


async def test_an_app_without_tenantry_installed_is_told_so(world: World) -> None:
    app = FastAPI()

    @app.get("/tenant")
    async def tenant(tenant: CurrentTenant) -> None: ...

    world.turn_to(app)
    with pytest.raises(Exception, match=r"Tenantry is not installed in this app\.\nCall tenancy\.install\(app\)"):
        await world.client.get("/tenant")


async def test_without_its_lifespan_an_app_answers_503_and_logs_why(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(database) as world:
        app = FastAPI()
        Tenantry(settings(database)).install(app)

        @app.get("/tenant")
        async def tenant(tenant: CurrentTenant) -> None: ...

        world.turn_to(app)
        answer = await world.get("/tenant")
        assert code_of(answer) == (503, "database_unavailable")
        assert "lifespan=tenancy.lifespan" in caplog.text
