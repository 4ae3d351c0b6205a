"""Clerk's keys over real HTTP: shared fetches, rotation, outage, floods of unknown key ids."""

from __future__ import annotations

import asyncio
import json
import socket
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
from tenantry.clerk import Jwks, fetch_keys, find_keys, read_jwks
from tenantry.errors import ClerkUnavailable, ConfigurationError, InvalidToken
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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: Request) -> Response:
        self.requests.append((request.url.path, request.headers.get("authorization")))
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
