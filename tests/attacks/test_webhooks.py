"""What a webhook, forged, repeated, late or lost, must not make of the mirror: scenarios 79 to 100.

What scenarios 88 and 89 are about at length stands in sql/test_merge.py.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import Depends, FastAPI
from psycopg import sql
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from svix.webhooks import Webhook

from attacks.defences import rewrite_sql
from attacks.two_organizations import build, code_of, fill, member
from databases import APP, SUPERUSER, Database, Server
from instance import (
    SECRET,
    World,
    delivery,
    fresh_database,
    gone,
    joined,
    now_ms,
    removed,
    serving,
)
from relay import Relay
from sql.clerk_objects import START, Json, deleted, event, invitation, membership, organization, session, user
from sql.mirror import Mirror
from tenantry import starlette, webhooks
from tenantry.fastapi import Tenantry
from tenantry.fastapi import current_tenant as require_tenant
from tenantry.mirror import Outcome
from tenantry.webhooks import Delivery

Patch = pytest.MonkeyPatch


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """`alpha`'s member is known for an hour."""
    async with serving(database, build) as made:
        await fill(made)
        await made.deliver(joined())
        yield made


@pytest.fixture
def superuser(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(SUPERUSER) as connection:
        yield connection


@pytest.fixture
def mirror(superuser: psycopg.Connection[Any]) -> Mirror:
    return Mirror(superuser)


async def send(world: World, headers: Any, body: bytes) -> Any:
    return await world.client.post("/webhooks/clerk", headers=headers, content=body)


def earlier() -> dict[str, str]:
    """The headers of alpha's member, with a valid token from before whatever the test did."""
    issued = int(time.time()) - 30
    return member("org_1", iat=issued, nbf=issued, exp=issued + 60)


async def is_let_in(world: World) -> bool:
    """Whether that token reads alpha."""
    answer = await world.client.get("/documents", headers=earlier())
    assert answer.json() == ["alpha"] or answer.status_code == 403, answer.text
    return answer.status_code == 200


# --- 79 and 80: the same message again --------------------------------------------------------------------------------

JOINED = event("organizationMembership.created", membership(role="org:admin"))
DEMOTED = event("organizationMembership.updated", membership(at=START + 9), at=START + 9)


def replay_after_demotion(mirror: Mirror) -> tuple[str, str, list[str]]:
    """Joined as an admin, demoted, and the first message again: its outcome, the role, the changes told of it."""
    first = mirror.delivery(JOINED, "msg_1")
    mirror.deliver_all([first])
    mirror.deliver(DEMOTED)
    told = mirror.kinds()
    (answer,) = mirror.deliver_all([first])
    return answer["outcome"], mirror.state().members["org_1", "user_1"], mirror.kinds()[len(told) :]


@pytest.mark.attack(79)
def test_a_replayed_message_has_no_second_effect(mirror: Mirror) -> None:
    assert replay_after_demotion(mirror) == ("duplicate", "org:member", [])


@pytest.mark.breach(79)
def test_without_inbox_and_newest_snapshot_a_replayed_message_undoes_a_demotion(mirror: Mirror) -> None:
    newest = "(new.revision, new.observed_at, new.content_hash) then"
    rewrite_sql(mirror.connection, "record_events_v1", "known.message_id is null or", "true or")
    rewrite_sql(mirror.connection, "is_news", "begin", "begin return true;")
    rewrite_sql(mirror.connection, "keep_newest_snapshot", newest, f"{newest[:-5]} and false then")
    assert replay_after_demotion(mirror) == ("applied", "org:admin", ["member.role_changed"])


async def repeat_mangled(world: World) -> Any:
    """A message once more, signed, with other bytes: who signs is compromised, or something between changes them."""
    await world.post(event("user.created", user("user_9")), "msg_same")
    return await world.post(event("user.created", user("user_9", first_name="Eve")), "msg_same")


@pytest.mark.attack(80)
async def test_a_message_that_comes_with_other_bytes_is_refused_and_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert code_of(await repeat_mangled(world)) == (400, "delivery_refused")
    assert [(r.levelname, r.message) for r in caplog.records if "msg_same" in r.message] == [
        ("WARNING", "webhook msg_same 'user.created': TY010")
    ]
    assert world.rows("select conflicts from tenantry.webhook_events where message_id = 'msg_same'") == [(1,)]


@pytest.mark.breach(80)
async def test_without_the_digest_nobody_learns_of_it(
    world: World, superuser: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    rewrite_sql(superuser, "record_events_v1", "same_bytes := known.digest =", "same_bytes := true or known.digest =")
    assert (await repeat_mangled(world)).json()["outcome"] == "duplicate"
    assert "msg_same" not in caplog.text
    assert world.rows("select conflicts from tenantry.webhook_events where message_id = 'msg_same'") == [(0,)]


# --- 81 to 85 and 87: what is not Clerk's, or not now -----------------------------------------------------------------


def sign(told: Any, key: bytes, message_id: str = "msg_forged") -> tuple[dict[str, str], bytes]:
    """Headers and body of a delivery that somebody signed with this key."""
    headers, body = delivery(told, message_id)
    signed = b".".join((message_id.encode(), headers["svix-timestamp"].encode(), body))
    mac = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return headers | {"svix-signature": f"v1,{mac}"}, body


def kept_for(seconds: int) -> tuple[dict[str, str], bytes]:
    """A genuine delivery of a removal that somebody held back."""
    return delivery(removed(), at=int(time.time()) - seconds)


@pytest.mark.attack(81)
@pytest.mark.parametrize("seconds", [-400, 400, 86_400])
async def test_a_delivery_out_of_its_time_changes_nothing(world: World, seconds: int) -> None:
    assert code_of(await send(world, *kept_for(seconds))) == (400, "bad_signature")
    assert await is_let_in(world)


@pytest.mark.breach(81)
@pytest.mark.parametrize("seconds", [-400, 400, 86_400])
async def test_without_the_check_of_its_time_it_does(world: World, monkeypatch: Patch, seconds: int) -> None:
    monkeypatch.setattr(webhooks, "_check_time", lambda *_: None)
    assert (await send(world, *kept_for(seconds))).status_code == 200
    assert not await is_let_in(world)


@pytest.mark.breach(81)
@pytest.mark.parametrize("stamp", ["NaN", "", "1.5"])
async def test_without_the_check_of_its_form_a_time_is_a_fault(world: World, monkeypatch: Patch, stamp: str) -> None:
    headers, body = delivery(removed())
    assert code_of(await send(world, headers | {"svix-timestamp": stamp or "-"}, body)) == (400, "bad_signature")
    monkeypatch.setattr(webhooks, "_TIMESTAMP", re.compile(".*"))
    with pytest.raises(ValueError, match="invalid literal"):
        await send(world, headers | {"svix-timestamp": stamp or "-"}, body)


MALFORMED = ["v1", "nonsense", "v1,a,b", "v1,\u00e9", ",", "v1 v1", "=" * 4096]


@pytest.mark.attack(82)
@pytest.mark.parametrize("signature", MALFORMED)
async def test_a_malformed_signature_is_a_400(world: World, signature: str) -> None:
    headers, body = delivery(removed())
    forged = httpx.Headers({**headers, "svix-signature": signature}, encoding="utf-8")
    assert code_of(await send(world, forged, body)) == (400, "bad_signature")


@pytest.mark.breach(82)
async def test_with_the_official_check_instead_a_malformed_signature_is_a_fault(
    world: World, monkeypatch: Patch
) -> None:
    def check(keys: list[bytes], signed: bytes, signatures: bytes) -> None:
        message_id, timestamp, body = signed.decode().split(".", 2)
        given = {"svix-id": message_id, "svix-timestamp": timestamp, "svix-signature": signatures.decode()}
        Webhook(SECRET).verify(body, given)

    monkeypatch.setattr(webhooks, "_check_signature", check)
    headers, body = delivery(removed())
    assert (await send(world, headers, body)).status_code == 200
    with pytest.raises(ValueError, match="unpack"):
        await send(world, headers | {"svix-signature": "nonsense"}, body)


def spaced() -> tuple[dict[str, str], bytes]:
    """A genuine delivery that no JSON library would write like this."""
    return delivery(json.dumps(removed(), indent=2).encode() + b"\n")


@pytest.mark.attack(83)
async def test_a_removal_is_read_from_the_very_bytes_that_were_signed(world: World) -> None:
    headers, body = spaced()
    for mangled in (json.dumps(json.loads(body)).encode(), body.rstrip(), body.decode().encode("utf-16")):
        assert code_of(await send(world, headers, mangled)) == (400, "bad_signature")
    assert await is_let_in(world)
    assert (await send(world, headers | {"Content-Type": "text/plain; charset=utf-16"}, body)).status_code == 200
    assert not await is_let_in(world)


@pytest.mark.breach(83)
async def test_read_and_written_again_before_the_check_a_removal_is_lost(world: World, monkeypatch: Patch) -> None:
    async def read_json(request: Request, limit: int) -> bytes:
        return json.dumps(await request.json()).encode()

    monkeypatch.setattr(starlette, "_read_body", read_json)
    assert code_of(await send(world, *spaced())) == (400, "bad_signature")
    assert await is_let_in(world)


@pytest.mark.parametrize(
    ("limit", "answer", "chunks"),
    [
        pytest.param(1024 * 1024, (413, "payload_too_large"), 17, marks=pytest.mark.attack(84)),
        pytest.param(64 * 1024 * 1024, (400, "bad_signature"), 64, marks=pytest.mark.breach(84)),
    ],
)
async def test_a_strangers_body_is_not_taken_into_memory_beyond_a_limit(
    database: Database, limit: int, answer: tuple[int, str], chunks: int
) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield b"x" * 64 * 1024

    async with serving(database, webhook_max_bytes=limit) as world:
        headers, _ = delivery(b"{}")
        assert code_of(await world.client.post("/webhooks/clerk", headers=headers, content=endless())) == answer
    assert taken == chunks


@pytest.mark.parametrize(
    ("seconds", "gives_up"),
    [pytest.param(0.1, True, marks=pytest.mark.attack(84)), pytest.param(None, False, marks=pytest.mark.breach(84))],
)
async def test_a_body_that_never_ends_does_not_hold_its_request_for_ever(
    world: World, monkeypatch: Patch, seconds: float | None, gives_up: bool
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    monkeypatch.setattr(starlette, "_BODY_SECONDS", seconds)
    posting = asyncio.create_task(world.client.post("/webhooks/clerk", content=slow()))
    done, _ = await asyncio.wait([posting], timeout=10 if gives_up else 0.5)
    assert bool(done) is gives_up
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)


@pytest.mark.attack(85)
async def test_without_a_secret_nobody_is_believed(database: Database) -> None:
    async with serving(database, build, webhook_signing_secrets=()) as world:
        await fill(world)
        for key in (b"", b"whsec_", SECRET.encode()):
            assert code_of(await send(world, *sign(gone("organization", "org_1"), key))) == (
                503,
                "webhook_not_configured",
            )
        assert await is_let_in(world)


@pytest.mark.breach(85)
async def test_a_missing_secret_taken_for_an_empty_one_believes_everybody(
    database: Database, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(webhooks, "_read_keys", lambda secrets: [secret.encode() for secret in secrets or ("",)])
    async with serving(database, build, webhook_signing_secrets=()) as world:
        await fill(world)
        assert (await send(world, *sign(gone("organization", "org_1"), b""))).status_code == 200
        assert not await is_let_in(world)


RETIRED = "whsec_" + base64.b64encode(b"a key that has leaked").decode()


@pytest.mark.parametrize(
    ("secrets", "believed"),
    [
        pytest.param((SECRET,), False, marks=pytest.mark.attack(87), id="retired"),
        pytest.param((SECRET, RETIRED), True, marks=pytest.mark.breach(87), id="still configured"),
    ],
)
async def test_a_retired_secret_signs_nothing_any_more(
    database: Database, secrets: tuple[str, ...], believed: bool
) -> None:
    async with serving(database, build, webhook_signing_secrets=secrets) as world:
        await fill(world)
        assert (await world.post(joined())).status_code == 200
        leaked = base64.b64decode(RETIRED.removeprefix("whsec_"))
        assert (await send(world, *sign(removed(), leaked))).status_code == (200 if believed else 400)
        assert await is_let_in(world) is not believed


# --- 86: another instance ---------------------------------------------------------------------------------------------


@pytest.mark.attack(86)
async def test_an_event_of_a_development_instance_ends_nobody_in_production(world: World) -> None:
    foreign = gone("organization", "org_1") | {"instance_id": "ins_development"}
    assert code_of(await world.post(foreign)) == (400, "delivery_refused")
    assert await is_let_in(world)


@pytest.mark.breach(86)
async def test_without_the_binding_to_one_instance_it_does(world: World, superuser: psycopg.Connection[Any]) -> None:
    rewrite_sql(superuser, "bind_instance", "if bound <> claimed then", "if false then")
    assert (await world.post(gone("organization", "org_1") | {"instance_id": "ins_development"})).status_code == 200
    assert not await is_let_in(world)


# --- 89 and 90: ties and tombstones -----------------------------------------------------------------------------------


def tell_tie(mirror: Mirror) -> list[tuple[Any, ...]]:
    """Two contents of one millisecond: the name, and whether Clerk must be asked."""
    for name in ("One", "Two"):
        mirror.deliver(event("organization.updated", organization(name=name), at=START))
    return mirror.rows("select name, needs_refetch from tenantry.tenants")


@pytest.mark.attack(89)
def test_of_two_events_of_one_millisecond_none_is_dropped_in_silence(mirror: Mirror) -> None:
    assert tell_tie(mirror)[0][1] is True


@pytest.mark.breach(89)
def test_without_the_mark_one_of_two_events_of_one_millisecond_is(mirror: Mirror) -> None:
    rewrite_sql(mirror.connection, "keep_newest_snapshot", "new.needs_refetch := doubt", "new.needs_refetch := false")
    assert tell_tie(mirror)[0][1] is False


def forget_endings(connection: psycopg.Connection[Any]) -> None:
    """Takes the tombstones out: a deletion is as passing as any content."""
    rewrite_sql(connection, "keep_newest_snapshot", "new.deleted_at := deleted", "new.deleted_at := null")
    rewrite_sql(connection, "is_news", "begin", "begin return true;")


RENAMED_LATER = event("organization.updated", organization(at=START + 99), at=START + 99)


@pytest.mark.attack(90)
def test_an_update_after_the_deletion_brings_nothing_back(mirror: Mirror) -> None:
    mirror.deliver(event("organization.deleted", deleted("organization", "org_1")))
    mirror.deliver(RENAMED_LATER)
    assert mirror.state().organizations == {}


@pytest.mark.breach(90)
def test_without_a_tombstone_an_update_brings_the_deleted_back(mirror: Mirror) -> None:
    forget_endings(mirror.connection)
    mirror.deliver(event("organization.deleted", deleted("organization", "org_1")))
    mirror.deliver(RENAMED_LATER)
    assert mirror.state().organizations == {"org_1": "Acme"}


# --- 91 to 93: pages of Clerk's API -----------------------------------------------------------------------------------

PEOPLE = [membership(f"orgmem_{n}", user_id=f"user_{n}", created_at=START + n) for n in range(1, 5)]
EVERYBODY = {("org_1", f"user_{n}"): "org:member" for n in range(1, 5)}


@pytest.fixture
def peopled(mirror: Mirror) -> Mirror:
    """Four members, told by webhooks."""
    for number, one in enumerate(PEOPLE, 1):
        mirror.deliver(event("user.created", user(f"user_{number}")))
        mirror.deliver(event("organizationMembership.created", one))
    return mirror


PAGES = {
    # While they were read the first member left, and the second page began one further on.
    "shifted": [[PEOPLE[0], PEOPLE[1]], [PEOPLE[3]]],
    # The server's limit was another than the reader's: the first page was taken for the whole.
    "truncated": [[PEOPLE[0]]],
    "empty": [[]],
}


def list_pages(mirror: Mirror, pages: list[list[Json]], absent: list[str]) -> dict[tuple[str, str], str]:
    """Merges a listing that began at START + 100; answers the members."""
    for page in pages:
        mirror.merge_page("memberships", {"data": page, "total_count": 4}, START + 100)
    mirror.merge_page("memberships", [], START + 100, absent=absent)
    return mirror.state().members


@pytest.mark.attack(91, 93)
@pytest.mark.parametrize("pages", PAGES.values(), ids=PAGES.keys())
def test_a_listing_that_lacks_a_member_ends_nobody(peopled: Mirror, pages: list[list[Json]]) -> None:
    assert list_pages(peopled, pages, absent=[]) == EVERYBODY


@pytest.mark.breach(91, 93)
@pytest.mark.parametrize("pages", PAGES.values(), ids=PAGES.keys())
def test_whatever_a_listing_lacks_taken_for_absent_ends_live_members(peopled: Mirror, pages: list[list[Json]]) -> None:
    shown = {one["id"] for page in pages for one in page}
    unconfirmed = [one["id"] for one in PEOPLE if one["id"] not in shown]
    assert list_pages(peopled, pages, unconfirmed).items() < EVERYBODY.items()


@pytest.mark.attack(93)
@pytest.mark.parametrize("answer", [{"errors": [{"code": "too_many_requests"}]}, {}, {"data": None}, "", None])
def test_an_error_of_clerks_api_is_not_read_as_an_empty_listing(peopled: Mirror, answer: Any) -> None:
    with pytest.raises(psycopg.Error) as raised:
        peopled.merge_page("memberships", answer, START + 100)
    assert raised.value.sqlstate == "TY010"
    assert peopled.state().members == EVERYBODY


def remove_while_listing(mirror: Mirror) -> dict[tuple[str, str], str]:
    """A listing is answered, a removal lands, and then the listing is merged."""
    mirror.deliver(event("organizationMembership.deleted", PEOPLE[0], at=START + 150))
    mirror.merge_page("memberships", PEOPLE, START + 100)
    return mirror.state().members


@pytest.mark.attack(92)
def test_a_page_fetched_before_a_removal_does_not_undo_it(peopled: Mirror) -> None:
    assert ("org_1", "user_1") not in remove_while_listing(peopled)


@pytest.mark.breach(92)
def test_without_a_tombstone_a_page_fetched_before_a_removal_undoes_it(peopled: Mirror) -> None:
    forget_endings(peopled.connection)
    assert remove_while_listing(peopled) == EVERYBODY


# --- 94: deletions that tell of no membership -------------------------------------------------------------------------

ENDED = {"organization": ("org_1", "tenant"), "user": ("user_1", "person")}


@pytest.mark.attack(94)
@pytest.mark.parametrize("kind", ENDED)
async def test_the_deletion_of_an_organization_or_user_alone_ends_all_access(world: World, kind: str) -> None:
    await world.deliver(gone(kind, ENDED[kind][0]))
    assert not await is_let_in(world)
    assert world.rows("select 1 from tenantry.members") == []


@pytest.mark.breach(94)
@pytest.mark.parametrize("kind", ENDED)
async def test_access_by_the_membership_alone_outlives_both(
    world: World, superuser: psycopg.Connection[Any], kind: str
) -> None:
    object_id, row = ENDED[kind]
    rewrite_sql(superuser, "resolve_identity", f"{row}.ended_at is not null and not token_only", "false")
    await world.deliver(gone(kind, object_id))
    assert await is_let_in(world)


# --- 96 and 97: what is stored, and what cannot be --------------------------------------------------------------------


@pytest.mark.attack(96)
async def test_a_removal_is_acknowledged_only_when_it_is_stored(database: Database) -> None:
    async with Relay(database) as relay, serving(database, build, database_url=relay.dsn) as world:
        await fill(world)
        await relay.cut()
        assert code_of(await world.post(removed(), "msg_1")) == (503, "database_unavailable")
        await relay.restore()
        assert (await world.post(removed(), "msg_1")).status_code == 200  # the retry
        assert not await is_let_in(world)


@pytest.mark.breach(96)
async def test_acknowledged_before_it_is_stored_a_removal_is_lost(database: Database, monkeypatch: Patch) -> None:
    storing: list[asyncio.Task[Outcome]] = []

    async def acknowledge(self: Tenantry, told: Delivery) -> Outcome:
        storing.append(asyncio.create_task(self._inbox.submit(told)))
        return Outcome(told.message_id, "applied")

    monkeypatch.setattr(starlette.Tenantry, "_submit", acknowledge)
    async with Relay(database) as relay, serving(database, build, database_url=relay.dsn) as world:
        await fill(world)
        await relay.cut()
        assert (await world.post(removed(), "msg_1")).status_code == 200
        await asyncio.gather(*storing, return_exceptions=True)
        await relay.restore()
        assert await is_let_in(world)


@contextmanager
def stalled(database: Database) -> Iterator[None]:
    """The database answers, and the inbox cannot be written."""
    with database.connect(SUPERUSER, autocommit=False) as blocker:
        blocker.execute("lock table tenantry.webhook_events in access exclusive mode")
        yield


@pytest.mark.parametrize(
    ("seconds", "answered"),
    [pytest.param(0.1, True, marks=pytest.mark.attack(96)), pytest.param(None, False, marks=pytest.mark.breach(96))],
)
async def test_a_delivery_is_answered_although_the_database_stalls(
    world: World, monkeypatch: Patch, seconds: float | None, answered: bool
) -> None:
    monkeypatch.setattr(starlette, "_ANSWER_SECONDS", seconds)
    with stalled(world.database):
        posting = asyncio.create_task(world.post(removed()))
        done, _ = await asyncio.wait([posting], timeout=10 if answered else 0.5)
        assert bool(done) is answered
    assert (await posting).status_code == (503 if answered else 200)


POISON = event("user.updated", user(updated_at=10**30))


def deliver_beside_poison(mirror: Mirror) -> None:
    mirror.deliver(JOINED)
    removal = event("organizationMembership.deleted", membership(), at=START + 9)
    mirror.deliver_all([mirror.delivery(POISON, "msg_poison"), mirror.delivery(removal)])


@pytest.mark.attack(97)
def test_an_event_that_cannot_be_read_does_not_hold_up_the_removal_behind_it(mirror: Mirror) -> None:
    deliver_beside_poison(mirror)
    assert mirror.state().members == {}
    assert mirror.column("select outcome from tenantry.webhook_events where message_id = 'msg_poison'") == ["failed"]


@pytest.mark.breach(97)
def test_without_dead_letters_it_does(mirror: Mirror) -> None:
    unread = "when data_exception or program_limit_exceeded then"
    rewrite_sql(mirror.connection, "open_letter", unread, "when sqlstate 'TY099' then")
    with pytest.raises(psycopg.errors.DataError):
        deliver_beside_poison(mirror)
    assert mirror.state().members == {("org_1", "user_1"): "org:admin"}


def revoked_of_odd_user() -> bytes:
    """The end of a session whose user wrote a number into their metadata that PostgreSQL cannot hold."""
    shown = session("sess_of_user_1", at=now_ms(), user=user(unsafe_metadata="ODD"))
    return json.dumps(event("session.revoked", shown, at=now_ms())).replace('"ODD"', "1e131072").encode()


@pytest.mark.attack(72, 97)
async def test_the_end_of_a_session_is_not_lost_by_what_its_user_wrote_into_their_metadata(world: World) -> None:
    assert (await world.post(revoked_of_odd_user())).json()["outcome"] == "applied"
    assert code_of(await world.client.get("/documents", headers=earlier())) == (401, "session_ended")


@pytest.mark.breach(72, 97)
async def test_read_whole_or_not_at_all_it_is(world: World, superuser: psycopg.Connection[Any]) -> None:
    rewrite_sql(superuser, "read_body", "where d.key", "where true or d.key")
    assert (await world.post(revoked_of_odd_user())).json()["outcome"] == "failed"
    assert await is_let_in(world)


# --- 98: the app's own authentication ---------------------------------------------------------------------------------


async def ask_for_session(request: Request, call_next: Any) -> Response:
    if "authorization" not in request.headers:
        return Response(status_code=401)
    answer: Response = await call_next(request)
    return answer


@pytest.mark.attack(98)
@pytest.mark.parametrize("documented", [True, False])
async def test_authentication_of_every_route_does_not_stand_before_webhooks(world: World, documented: bool) -> None:
    app = FastAPI(dependencies=[Depends(require_tenant)], openapi_url="/openapi.json" if documented else None)
    world.tenancy.install(app)

    @app.get("/mine")
    async def mine() -> str:
        return "alpha"

    world.turn_to(app)
    assert code_of(await world.client.get("/mine")) == (401, "missing_token")
    assert (await world.post(removed())).status_code == 200
    assert code_of(await world.client.get("/mine", headers=earlier())) == (403, "not_a_member")
    if documented:
        assert "/webhooks/clerk" not in (await world.client.get("/openapi.json")).text


@pytest.mark.breach(98)
async def test_a_middleware_that_wants_a_session_of_everybody_keeps_removals_away(world: World) -> None:
    app = FastAPI()
    world.tenancy.install(app)
    app.add_middleware(BaseHTTPMiddleware, dispatch=ask_for_session)
    world.turn_to(app)
    assert (await world.post(removed())).status_code == 401
    world.turn_to(world.app)
    assert await is_let_in(world)


# --- 99 and 100: what the mirror keeps, and who reads it --------------------------------------------------------------


def readable(connection: psycopg.Connection[Any]) -> str:
    """All that may be read in the schema `tenantry`, as one text."""
    names = "select relname from pg_class where relnamespace = 'tenantry'::regnamespace and relkind in ('r', 'v')"
    found = ""
    for (name,) in connection.execute(names).fetchall():
        try:
            with connection.transaction():
                rows = connection.execute(sql.SQL("select t::text from tenantry.{} as t").format(sql.Identifier(name)))
                found += "\n".join(text for (text,) in rows.fetchall())
        except psycopg.errors.InsufficientPrivilege:
            pass
    return found


@contextmanager
def reading(database: Database, org_id: str | None = None) -> Iterator[psycopg.Connection[Any]]:
    """The app's login, inside an organization or, as an operator's script, across them."""
    with database.connect(APP) as connection, connection.transaction():
        if org_id is None:
            connection.execute("select tenantry.bypass_tenant_v1('a look')")
        else:
            found = "select tenantry.set_tenant_by_id_v1((tenantry.find_tenant(%s)).id, 'a look')"
            connection.execute(found, [org_id])
        yield connection


HIDDEN: Json = {"private_metadata": {"margin": "alpha's secret"}}


@pytest.mark.parametrize(
    ("keep", "shown"),
    [pytest.param(False, False, marks=pytest.mark.attack(99)), pytest.param(True, True, marks=pytest.mark.breach(99))],
)
async def test_private_metadata_is_nowhere_the_app_can_read(database: Database, keep: bool, shown: bool) -> None:
    async with serving(database, keep_private_metadata=keep) as world:
        at = now_ms()
        of = organization(at=at, **HIDDEN)
        await world.deliver(
            event("organization.created", of, at=at),
            event("user.created", user(at=at, **HIDDEN), at=at),
            event("organizationMembership.created", membership(of=of, at=at, **HIDDEN), at=at),
        )
        await world.post(event("user.updated", user(updated_at=10**30, **HIDDEN)))  # a dead letter
    with reading(database) as operator:
        assert ("alpha's secret" in readable(operator)) is shown
    with reading(database, "org_1") as tenant:
        assert "alpha's secret" not in readable(tenant)


LISTED = user(organization_memberships=[membership(of=organization(**HIDDEN), **HIDDEN)], **HIDDEN)
NEVER = 10**30  # a time that makes a dead letter
WITHHELD = {
    "memberships of a user": event("user.created", LISTED),
    "memberships of a user, unread": event("user.created", LISTED | {"updated_at": NEVER}),
    "user of a session": event("session.ended", session(user=LISTED)),
    "user of a session, unread": event("session.ended", session(user=LISTED), at=NEVER),
    "code in an e-mail": event("email.created", {"id": "ema_1", "data": {"otp_code": "alpha's secret"}}),
    "code in an e-mail, unread": event("email.created", {"id": "ema_1", "body": "alpha's secret"}, at=NEVER),
    "invitation's link": event("organizationInvitation.created", invitation(url="alpha's secret")),
    "invitation's link, unread": event("organizationInvitation.created", invitation(url="alpha's secret"), at=NEVER),
}


@pytest.mark.attack(99)
@pytest.mark.parametrize("told", WITHHELD.values(), ids=WITHHELD.keys())
def test_what_is_not_to_be_kept_is_not_kept_in_whatever_place_it_comes(mirror: Mirror, told: Json) -> None:
    mirror.deliver(told)
    assert "alpha's secret" not in readable(mirror.connection)


@pytest.mark.attack(100)
async def test_a_member_reads_nothing_that_is_the_operators(world: World) -> None:
    at = now_ms()
    await world.deliver(event("organization.updated", organization("org_2", at=at, name="bravo"), at=at))
    with reading(world.database, "org_1") as tenant:
        found = readable(tenant)
    assert "org_1" in found
    assert "bravo" not in found
    assert "org_2" not in found


@pytest.mark.breach(100)
@pytest.mark.parametrize("table", ["webhook_events", "changes"])
async def test_with_a_grant_on_what_is_the_operators_a_member_reads_of_others(
    world: World, superuser: psycopg.Connection[Any], table: str
) -> None:
    at = now_ms()
    await world.deliver(event("organization.updated", organization("org_2", at=at, name="bravo"), at=at))
    superuser.execute(sql.SQL("grant select on tenantry.{} to tenantry_tenant").format(sql.Identifier(table)))
    with reading(world.database, "org_1") as tenant:
        assert "bravo" in readable(tenant)
