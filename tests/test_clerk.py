"""Clerk's keys over real HTTP: shared fetches, rotation, outage, floods of unknown key ids."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from signer import ISSUER, ORIGIN, Signer
from tenantry.clerk import BackendApi, Budget, Jwks, ServerClock, fetch_keys, find_keys, open_api, read_jwks
from tenantry.errors import ClerkRefused, ClerkUnavailable, ConfigurationError, InvalidToken
from tenantry.settings import Settings
from tenantry.tokens import FixedKey, Verifier

ONE, TWO = Signer("ins_1"), Signer("ins_2")


@dataclass
class Clerk:
    """A local stand-in for Clerk's two JWKS addresses."""

    signers: list[Signer] = field(default_factory=lambda: [ONE])
    port: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    delay: float = 0.0
    missing: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: Request) -> Response:
        self.requests.append((request.url.path, request.headers.get("authorization")))
        if request.url.path == self.missing:
            return Response(b'{"errors": [{"code": "resource_not_found"}]}', 404)
        await asyncio.sleep(self.delay)
        body = json.dumps({"keys": [signer.jwk for signer in self.signers]}).encode()
        return Response(body if self.body is None else self.body, self.status)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clerk() -> AsyncIterator[Clerk]:
    stand_in = Clerk()
    app = Starlette(routes=[Route("/{path:path}", stand_in.answer)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stand_in.port = listener.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield stand_in
        server.should_exit = True
        await serving


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jwks(clerk: Clerk, clock: Clock) -> Jwks:
    return Jwks(f"{clerk.url}/v1/jwks", secret_key="sk_test_hunter2", clock=clock)


async def settle(jwks: Jwks) -> None:
    """Wait for a refresh in the background."""
    if jwks._fetching is not None:
        await jwks._fetching


async def test_keys_are_asked_for_with_the_secret_key_and_kept(clerk: Clerk, jwks: Jwks) -> None:
    assert await jwks.find("ins_1") == ONE.key.public_key()
    assert await jwks.find("ins_1") == ONE.key.public_key()
    assert clerk.requests == [("/v1/jwks", "Bearer sk_test_hunter2")]


async def test_concurrent_callers_share_one_fetch(clerk: Clerk, jwks: Jwks) -> None:
    clerk.delay = 0.05
    found = await asyncio.gather(*(jwks.find("ins_1") for _ in range(50)))
    assert len(clerk.requests) == 1
    assert set(map(id, found)) == {id(found[0])}


async def test_a_caller_that_goes_away_leaves_the_fetch_to_the_others(clerk: Clerk, jwks: Jwks) -> None:
    clerk.delay = 0.05
    leaving, staying = (asyncio.create_task(jwks.find("ins_1")) for _ in range(2))
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert await staying == ONE.key.public_key()
    assert len(clerk.requests) == 1


async def test_the_loop_goes_on_during_a_fetch(clerk: Clerk, jwks: Jwks) -> None:
    clerk.delay = 0.2
    fetching = asyncio.create_task(jwks.find("ins_1"))
    turns = 0
    while not fetching.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 5


@pytest.mark.attack(69)
async def test_a_thousand_unknown_key_ids_cause_one_fetch_in_thirty_seconds(
    clerk: Clerk, jwks: Jwks, clock: Clock
) -> None:
    await jwks.find("ins_1")
    clock.now += 31
    for i in range(500):
        with pytest.raises(InvalidToken):
            await jwks.find(f"ins_random_{i}")
    outcomes = await asyncio.gather(*(jwks.find(f"ins_other_{i}") for i in range(500)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {InvalidToken}
    assert len(clerk.requests) == 2
    clock.now += 31
    with pytest.raises(InvalidToken):
        await jwks.find("ins_random")
    assert len(clerk.requests) == 3
    assert list(jwks._keys) == ["ins_1"]


async def test_a_token_without_a_key_id_causes_no_fetch(clerk: Clerk, jwks: Jwks) -> None:
    for kid in (None, ""):
        with pytest.raises(InvalidToken):
            await jwks.find(kid)
    assert clerk.requests == []


@pytest.mark.attack(70)
async def test_a_new_key_is_found_as_soon_as_a_fetch_is_due(clerk: Clerk, jwks: Jwks, clock: Clock) -> None:
    await jwks.find("ins_1")
    clerk.signers = [ONE, TWO]
    with pytest.raises(InvalidToken):
        await jwks.find("ins_2")
    clock.now += 31
    assert await jwks.find("ins_2") == TWO.key.public_key()
    assert jwks.revision == 0


@pytest.mark.attack(70)
async def test_a_flood_does_not_keep_a_new_key_away(clerk: Clerk, jwks: Jwks, clock: Clock) -> None:
    await jwks.find("ins_1")
    clerk.signers = [ONE, TWO]
    clock.now += 31
    with pytest.raises(InvalidToken):
        await jwks.find("ins_random")
    assert await jwks.find("ins_2") == TWO.key.public_key()


async def test_keys_are_refreshed_in_the_background_after_an_hour(clerk: Clerk, jwks: Jwks, clock: Clock) -> None:
    await jwks.find("ins_1")
    clerk.signers = [Signer("ins_1")]
    clock.now += 3599
    await jwks.find("ins_1")
    assert len(clerk.requests) == 1
    clock.now += 1
    assert await jwks.find("ins_1") == ONE.key.public_key()  # nobody waits
    await settle(jwks)
    assert await jwks.find("ins_1") == clerk.signers[0].key.public_key()
    assert (len(clerk.requests), jwks.revision) == (2, 1)


@pytest.mark.attack(70)
async def test_a_withdrawn_key_ends_what_it_had_verified(clerk: Clerk, jwks: Jwks, clock: Clock) -> None:
    clerk.signers = [ONE, TWO]
    verifier = Verifier(jwks, issuers=[ISSUER], authorized_parties=[ORIGIN])
    token = ONE.sign()
    assert await verifier.verify(token) is verifier.verify_cached(token)
    clerk.signers = [TWO]
    clock.now += 3600
    await verifier.verify(TWO.sign())
    await settle(jwks)
    assert verifier.verify_cached(token) is None
    with pytest.raises(InvalidToken, match="ins_1"):
        await verifier.verify(token)
    await verifier.verify(TWO.sign())


@pytest.mark.attack(70)
async def test_stale_keys_survive_an_outage_of_clerk(clerk: Clerk, jwks: Jwks, clock: Clock) -> None:
    await jwks.find("ins_1")
    for status, body in ((500, None), (200, b"<html>"), (200, b'{"keys": []}'), (302, None)):
        clerk.status, clerk.body = status, body
        clock.now += 7200
        assert await jwks.find("ins_1") == ONE.key.public_key()
        await settle(jwks)
    assert await jwks.find("ins_1") == ONE.key.public_key()
    assert (len(clerk.requests), jwks.revision) == (5, 0)


async def test_without_keys_an_outage_is_said_and_asked_about_again_soon(
    clerk: Clerk, jwks: Jwks, clock: Clock
) -> None:
    clerk.status = 401
    for _ in range(10):
        with pytest.raises(ClerkUnavailable, match="answered 401") as caught:
            await jwks.find("ins_1")
    assert caught.value.status == 503
    assert "CLERK_SECRET_KEY" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert len(clerk.requests) == 1
    clerk.status = 200
    clock.now += 10
    assert await jwks.find("ins_1") == ONE.key.public_key()


async def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/v1/jwks", "http://[/v1/jwks", "nothing"):
        with pytest.raises(ClerkUnavailable, match="could not be fetched"):
            await fetch_keys(url)


async def test_an_endless_answer_is_cut_off(clerk: Clerk) -> None:
    clerk.body = b" " * (1024 * 1024)
    with pytest.raises(ClerkUnavailable, match="more than"):
        await fetch_keys(clerk.url)


def test_a_fetch_on_another_event_loop_is_not_waited_for() -> None:
    """Sync callers run loops of their own; one that stands still must not hold the others up."""

    async def ask(jwks: Jwks) -> None:
        with pytest.raises(ClerkUnavailable):
            await asyncio.wait_for(jwks.find("ins_1"), 10)

    with socket.create_server(("127.0.0.1", 0)) as unused:
        jwks = Jwks(f"http://127.0.0.1:{unused.getsockname()[1]}", clock=(clock := Clock()))
    standing = asyncio.new_event_loop()
    waiting = standing.create_task(ask(jwks))
    standing.run_until_complete(asyncio.sleep(0))
    clock.now += 10
    asyncio.run(ask(jwks))
    assert not waiting.done()
    standing.run_until_complete(waiting)
    standing.close()


async def test_the_settings_decide_where_keys_come_from(clerk: Clerk) -> None:
    by_pem = find_keys(Settings(jwt_key=ONE.pem, secret_key="sk_test_x"))
    assert isinstance(by_pem, FixedKey)
    await find_keys(Settings(secret_key="sk_test_x", api_url=clerk.url)).find("ins_1")
    await find_keys(Settings(issuers=(f"{clerk.url}/__clerk",))).find("ins_1")
    assert clerk.requests == [("/v1/jwks", "Bearer sk_test_x"), ("/__clerk/.well-known/jwks.json", None)]
    with pytest.raises(ConfigurationError, match="no key"):
        find_keys(Settings())


@pytest.mark.parametrize(
    "change",
    [
        {"kid": None},
        {"kid": 5},
        {"kty": "EC"},
        {"alg": "HS256"},
        {"use": "enc"},
        {"n": "AQAB"},
        {"n": None},
        {"n": "é"},
        {"e": "AA"},
        {"e": ["AQAB"]},
        Signer("ins_1", bits=1024).jwk,
    ],
)
def test_a_key_that_cannot_serve_is_left_out(change: dict[str, Any]) -> None:
    document = {"keys": [ONE.jwk | change, TWO.jwk, "nonsense", None]}
    assert list(read_jwks(json.dumps(document).encode())) == ["ins_2"]


@given(
    st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda i: st.lists(i) | st.dictionaries(st.sampled_from(["keys", "kid", "n", "e", "kty"]), i),
        ).map(lambda v: json.dumps(v).encode()),
    )
)
def test_any_answer_is_a_possibly_empty_key_set(body: bytes) -> None:
    assert read_jwks(body) == {}


# --- lists and objects: the rest is tests/test_reconcile.py -----------------------------------------------------------


@given(
    ahead=st.floats(-1e6, 1e6),
    answers=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_clerks_clock_is_never_told_later_than_it_was(ahead: float, answers: list[tuple[float, float, float]]) -> None:
    clock, told = ServerClock(), []
    for sent, took, share in sorted(answers):
        answered = sent + took * share
        clock.learn(math.floor(answered + ahead), sent, sent + took)
        told.append((sent, clock.at(sent)))
        assert told[-1][1] <= (sent + ahead) * 1000 + 1
    assert told == sorted(told)


def test_clerks_clock_is_known_more_exactly_with_every_answer() -> None:
    clock = ServerClock()
    clock.learn(1000, 5.9, 6.0)
    assert clock.at(6.0) == 1_000_000
    clock.learn(1001, 6.0, 6.1)  # a second of Clerk's began in between
    assert clock.at(6.1) == 1_001_000


def test_clocks_that_contradict_each_other_are_told_by_the_earlier() -> None:
    clock = ServerClock()
    clock.learn(1000, 0, 0.1)
    clock.learn(1060, 1, 1.1)  # a server that is a minute ahead
    assert clock.at(2) <= 1_003_000


def test_without_a_date_the_own_clock_counts_with_a_margin() -> None:
    assert time.time() * 1000 - 61_000 < ServerClock().at(time.monotonic()) < time.time() * 1000 - 59_000


@pytest.mark.parametrize("requests", [1, 60, 600])
async def test_no_ten_seconds_see_more_requests_than_the_budget(requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, passed = Clock(), []

    async def sleep(seconds: float) -> None:
        clock.now += max(seconds, 1e-6)

    monkeypatch.setattr("tenantry.clerk.asyncio.sleep", sleep)
    budget = Budget(requests, clock)
    for _ in range(requests * 3 + 3):
        await budget.take()
        passed.append(clock.now)
    for moment in passed:
        assert sum(moment <= other < moment + 10 for other in passed) <= requests
    assert clock.now - passed[0] < 60 or requests == 1


async def test_nobody_passes_while_clerk_wants_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += max(seconds, 1e-6)

    monkeypatch.setattr("tenantry.clerk.asyncio.sleep", sleep)
    budget = Budget(600, clock)
    await budget.take()
    began = clock.now
    budget.close(7)
    await budget.take()
    assert clock.now - began >= 7


@pytest.fixture
async def api(clerk: Clerk) -> AsyncIterator[BackendApi]:
    async with open_api(Settings(secret_key="sk_test_hunter2", api_url=clerk.url)) as opened:
        opened._pause = 0.001
        yield opened


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"data": [{"id": 1}], "total_count": 1}', b'{"data": {}}', b"[1]", b"null", b"\xff", b'[{"id": ""}]'],
)
async def test_what_is_no_list_is_asked_for_again_and_then_an_error(clerk: Clerk, api: BackendApi, body: bytes) -> None:
    clerk.body = body
    with pytest.raises(ClerkUnavailable, match="8 tries"):
        await api.page("/users")
    assert len(clerk.requests) == 8


async def test_the_404_of_clerk_is_an_answer_and_that_of_anybody_else_is_none(clerk: Clerk, api: BackendApi) -> None:
    clerk.status, clerk.body = 404, b'{"errors": [{"code": "resource_not_found"}]}'
    assert (await api.one("/users/user_1")).object is None
    assert await api.page("/nothing") is None
    clerk.body = b'{"errors": [{"code": "route_not_found"}]}'
    with pytest.raises(ClerkUnavailable, match="not Clerk's"):
        await api.one("/users/user_1")


@pytest.mark.parametrize("status", [301, 400, 401, 403, 422])
async def test_a_refusal_is_told_once_with_its_code_and_without_the_key(
    clerk: Clerk, api: BackendApi, status: int
) -> None:
    clerk.status, clerk.body = status, b'{"errors": [{"code": "clerk_key_invalid"}]}'
    with pytest.raises(ClerkRefused, match=f"{status} .clerk_key_invalid.") as caught:
        await api.one("/users/user_1")
    assert len(clerk.requests) == 1
    assert "hunter2" not in str(caught.value)


async def test_an_instance_that_does_not_tell_its_id_is_known_by_its_key(clerk: Clerk, api: BackendApi) -> None:
    clerk.missing = "/v1/instance"
    assert await api.instance_id() == "ins_1"


async def test_a_budget_of_a_live_key_is_ten_times_as_large(clerk: Clerk) -> None:
    gaps = []
    for key in ("sk_test_a", "sk_live_a"):
        async with open_api(Settings(secret_key=key, api_url=clerk.url)) as opened:
            gaps.append(opened._budget._gap)
    assert gaps[0] == pytest.approx(gaps[1] * 10)
    with pytest.raises(ConfigurationError, match="no key"):
        async with open_api(Settings()):
            pass
