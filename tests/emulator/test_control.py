"""The controls: tokens by one request, for nobody but this machine."""

from __future__ import annotations

import time
from typing import Any

import httpx
import jwt
import pytest

from emulator.world import Receiver, Runner, Running, wait_until
from tenantry.emulator.seed import DEFAULT


@pytest.fixture
def running(run: Runner) -> Running:
    return run(seed_data=DEFAULT)


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def control(running: Running, path: str) -> str:
    return f"{running.url}/emulator{path}"


def test_a_token_comes_by_json_by_form_and_by_query(running: Running) -> None:
    asked = {"user": "ada@example.test", "organization": "acme"}
    tokens = [
        httpx.post(control(running, "/tokens"), json=asked).json()["jwt"],
        httpx.post(control(running, "/tokens"), data=asked).json()["jwt"],
        httpx.get(control(running, "/tokens"), params=asked).json()["jwt"],
        httpx.post(control(running, "/token"), data=asked).text,
    ]
    acme = running.emulator.store.organizations.find("acme").id
    assert {claims(token)["o"]["id"] for token in tokens} == {acme}
    assert len({claims(token)["sid"] for token in tokens}) == 1


def test_a_token_may_be_old_short_of_version_1_and_for_a_party(running: Running) -> None:
    asked = {"user": "ada@example.test", "organization": "globex"}
    url = control(running, "/tokens")
    expired = claims(httpx.post(url, json={**asked, "expires_in": -60}).json()["jwt"])
    assert expired["iat"] < expired["exp"] < time.time()
    older = claims(httpx.post(url, json={**asked, "version": 1, "azp": "http://127.0.0.1:8000"}).json()["jwt"])
    assert (older["org_role"], older["azp"]) == ("org:member", "http://127.0.0.1:8000")
    personal = claims(httpx.get(url, params={"user": "ada@example.test", "organization": ""}).json()["jwt"])
    assert "o" not in personal


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"user": "nobody@example.test"}, 404),
        ({"user": "ada@example.test", "organization": "nowhere"}, 404),
        ({"user": "grace@example.test", "organization": "globex"}, 404),
        ({"user": "ada@example.test", "expires_in": "soon"}, 422),
        ({"user": 1}, 422),
        ([], 400),
    ],
)
def test_a_token_that_cannot_be_is_an_error_in_clerks_form(running: Running, body: Any, status: int) -> None:
    response = httpx.post(control(running, "/tokens"), json=body)
    assert response.status_code == status
    assert response.json()["errors"][0]["message"]


@pytest.mark.attack(100)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.test"},
        {"host": "127.0.0.1.evil.test"},
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"host": "[::1"},
    ],
)
def test_another_sites_page_gets_nothing(running: Running, headers: dict[str, str]) -> None:
    response = httpx.get(control(running, "/tokens?user=ada@example.test"), headers=headers)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (403, "loopback_only")


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:8000"])
def test_a_page_of_this_machine_gets_its_token(running: Running, origin: str) -> None:
    response = httpx.get(control(running, "/tokens?user=ada@example.test"), headers={"origin": origin})
    assert response.status_code == 200


def test_the_state_is_summed_up_without_secrets(running: Running) -> None:
    response = httpx.get(control(running, "/"))
    shown = response.json()
    assert (shown["users"], shown["organizations"], shown["memberships"]) == (3, 2, 5)
    assert shown["webhooks"]["paused"] is False
    assert running.emulator.instance.secret_key not in response.text


def test_disorder_is_read_set_and_refused(running: Running) -> None:
    url = control(running, "/disorder")
    assert httpx.put(url, json={"twice": 0.5, "lost": 0}).json()["disorder"]["twice"] == 0.5
    assert httpx.get(url).json()["disorder"]["twice"] == 0.5
    assert httpx.put(url, json={}).json()["disorder"]["twice"] == 0
    for wrong in ({"twice": 2}, {"twice": "often"}, {"twice": True}, {"often": 1}):
        assert httpx.put(url, json=wrong).status_code == 422


def test_an_endpoint_is_added_while_running(running: Running, receiver: Receiver) -> None:
    added = httpx.post(control(running, "/endpoints"), json={"url": receiver.url, "events": ["user.created"]}).json()
    assert added["secret"] == running.emulator.instance.webhook_secret
    assert httpx.get(control(running, "/endpoints")).json()["data"] == [added]
    running.user("kay")
    running.drain()
    listed = httpx.get(control(running, "/deliveries")).json()["data"]
    assert [(each["type"], each["status"]) for each in listed] == [("user.created", "delivered")]
    assert listed[0]["attempts"][0]["status"] == 200
    for wrong in ({"url": "nonsense"}, {"url": receiver.url, "secret": "x"}, {}):
        assert httpx.post(control(running, "/endpoints"), json=wrong).status_code == 422
    assert httpx.post(control(running, "/deliveries/dlv_x/resend")).status_code == 404


def test_an_invitation_is_accepted_by_somebody_who_signs_up_for_it(running: Running) -> None:
    acme = running.emulator.store.organizations.find("acme").id
    invitation = running.post(
        f"/organizations/{acme}/invitations", {"email_address": "kay@new.test", "role": "org:editor"}
    )
    accepted = httpx.post(control(running, f"/invitations/{invitation['id']}/accept")).json()
    assert (accepted["role"], accepted["public_user_data"]["identifier"]) == ("org:editor", "kay@new.test")
    assert httpx.post(control(running, f"/invitations/{invitation['id']}/accept")).status_code == 400


def test_signing_out_ends_the_session(running: Running, receiver: Receiver) -> None:
    running.emulator.webhooks.add_endpoint(receiver.url)
    session = claims(running.emulator.mint_token("ada@example.test"))["sid"]
    ended = httpx.post(control(running, f"/sessions/{session}/end")).json()
    assert ended["status"] == "ended"
    running.drain()
    wait_until(lambda: len(receiver.requests) == 2)
    assert {event["type"] for event in receiver.events} == {"session.created", "session.ended"}
