"""The JSON API of the controls: whatever can be done, by one request, for nobody but this machine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, fields
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.world import Receiver, Runner, Running, wait_until
from tenantry.emulator.control import Controls
from tenantry.emulator.control.call import ControlForm
from tenantry.emulator.control.routes import ROUTES
from tenantry.emulator.control.triggers import TRIGGERS
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.params import Body
from tenantry.emulator.seed import DEFAULT
from tenantry.emulator.settings import Settings


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


def ask(running: Running, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    response = httpx.request(method, control(running, path), json=body)
    assert response.status_code == status, response.text
    return response.json()


def test_a_person_is_made_changed_banned_locked_and_deleted(running: Running) -> None:
    made = ask(running, "POST", "/users", {"email_address": "kay@example.test", "first_name": "Kay"})
    assert made["first_name"] == "Kay"
    assert ask(running, "PATCH", "/users/kay@example.test", {"last_name": "McNulty"})["last_name"] == "McNulty"
    for verb, field, value in (("ban", "banned", True), ("unban", "banned", False), ("lock", "locked", True)):
        assert ask(running, "POST", f"/users/{made['id']}/{verb}")[field] is value
    assert ask(running, "DELETE", f"/users/{made['id']}")["deleted"] is True
    assert made["id"] not in {each["id"] for each in ask(running, "GET", "/users")["data"]}


def test_an_organization_with_its_members_invitations_and_domains(running: Running) -> None:
    initech = ask(running, "POST", "/organizations", {"name": "Initech", "created_by": "ada@example.test"})
    assert initech["members_count"] == 1
    renamed = ask(running, "PATCH", "/organizations/initech", {"name": "Initrode", "max_allowed_memberships": 2})
    assert (renamed["name"], renamed["max_allowed_memberships"]) == ("Initrode", 2)
    joined = ask(running, "POST", "/memberships", {"organization": "initrode", "user": "grace@example.test"})
    assert joined["role"] == "org:member"
    assert ask(running, "PATCH", f"/memberships/{joined['id']}", {"role": "org:admin"})["role"] == "org:admin"
    full = {"organization": "initrode", "user": "alan@example.test"}
    ask(running, "POST", "/memberships", full, status=403)
    ask(running, "DELETE", f"/memberships/{joined['id']}")
    invited = ask(running, "POST", "/invitations", {"organization": "initrode", "email_address": "kay@new.test"})
    assert ask(running, "POST", f"/invitations/{invited['id']}/revoke")["status"] == "revoked"
    domain = ask(running, "POST", "/domains", {"organization": "initrode", "name": "initrode.test"})
    assert domain["verification"]["status"] == "verified"
    assert ask(running, "PATCH", f"/domains/{domain['id']}", {"verified": False})["verification"] is None
    assert ask(running, "DELETE", f"/domains/{domain['id']}")["deleted"] is True
    assert ask(running, "DELETE", f"/organizations/{initech['id']}")["deleted"] is True
    ask(running, "GET", "/organizations/initrode", status=404)


def test_a_role_holds_exactly_the_permissions_given(running: Running) -> None:
    ask(running, "POST", "/permissions", {"key": "org:reports:read", "name": "Read reports"})
    held = ["org:reports:read", "org:sys_memberships:read"]
    made = ask(running, "POST", "/roles", {"key": "org:analyst", "name": "Analyst", "permissions": held})
    assert {each["key"] for each in made["permissions"]} == {*held}
    changed = ask(running, "PATCH", "/roles/org:analyst", {"name": "Reader", "permissions": held[:1]})
    assert (changed["name"], [each["key"] for each in changed["permissions"]]) == ("Reader", held[:1])
    ask(running, "DELETE", "/permissions/org:reports:read")
    [role] = [each for each in ask(running, "GET", "/roles")["data"] if each["key"] == "org:analyst"]
    assert role["permissions"] == []
    assert ask(running, "DELETE", "/roles/org:analyst")["deleted"] is True
    ask(running, "DELETE", "/roles/org:admin", status=403)


def test_every_setting_can_be_read_and_changed_by_its_name(running: Running) -> None:
    before = ask(running, "GET", "/settings")
    assert before == json.loads(json.dumps(asdict(running.emulator.store.state.settings)))
    for name, value in before.items():
        new: Any = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value
        assert ask(running, "PATCH", "/settings", {name: new})[name] == new
    ask(running, "PATCH", "/settings", {"domains_enrollment_modes": []})
    assert running.emulator.store.state.settings.domains_enrollment_modes == ()
    wrong: dict[str, Any]
    for wrong in ({"slugs": "yes"}, {"nonsense": 1}, {"creator_role": "org:nobody"}, {"max_allowed_roles": -1}):
        ask(running, "PATCH", "/settings", wrong, status=422)


def test_a_sign_in_link_leads_to_the_app(running: Running) -> None:
    asked = {"user": "ada@example.test", "organization": "acme"}
    assert "app_url" in ask(running, "POST", "/sign-in-links", asked, status=422)["errors"][0]["message"]
    ask(running, "POST", "/sign-in-links", {**asked, "app_url": "javascript:alert(1)"}, status=422)
    made = ask(running, "POST", "/sign-in-links", {**asked, "app_url": "http://localhost:3000/x?y"})
    assert made["url"] == (
        f"http://localhost:3000/__clerk/v1/tickets/accept?ticket={made['ticket']}&redirect_url=http%3A%2F%2Flocalhost%3A3000%2F"
    )
    ask(running, "PUT", "/app", {"app_url": "http://127.0.0.1:8000"})
    assert ask(running, "POST", "/sign-in-links", asked)["url"].startswith(
        "http://127.0.0.1:8000/__clerk/v1/tickets/accept?"
    )
    ask(running, "POST", "/sign-in-links", {"user": "grace@example.test", "organization": "globex"}, status=404)


def test_without_an_address_of_the_app_it_is_where_webhooks_go(running: Running) -> None:
    running.emulator.webhooks.add_endpoint("http://127.0.0.1:8123/webhooks/clerk")
    made = ask(running, "POST", "/sign-in-links", {"user": "ada@example.test"})
    assert made["url"].startswith("http://127.0.0.1:8123/__clerk/v1/tickets/accept?ticket=")


def test_a_delivery_is_shown_with_its_body(running: Running, receiver: Receiver) -> None:
    running.emulator.webhooks.add_endpoint(receiver.url)
    made = ask(running, "POST", "/users", {"email_address": "kay@example.test"})
    running.drain()
    [delivery] = ask(running, "GET", "/deliveries")["data"]
    shown = ask(running, "GET", f"/deliveries/{delivery['id']}")
    assert (shown["body"]["type"], shown["body"]["data"]["id"]) == ("user.created", made["id"])
    assert "body" not in delivery


# What each event needs to happen in the seeded instance, after the events before it in this list.
EVENTS: list[tuple[str, dict[str, str]]] = [
    ("user.created", {"user": "kay@example.test", "name": "Kay McNulty"}),
    ("user.updated", {"user": "kay@example.test"}),
    ("session.created", {"user": "ada@example.test", "organization": "globex"}),
    ("session.ended", {"user": "ada@example.test"}),
    ("session.pending", {"user": "ada@example.test"}),
    ("session.removed", {"user": "ada@example.test"}),
    ("session.created", {"user": "ada@example.test"}),
    ("session.revoked", {"user": "ada@example.test"}),
    ("organization.created", {"organization": "Initech", "user": "ada@example.test"}),
    ("organization.updated", {"organization": "initech", "name": "Initech 2"}),
    ("organizationMembership.created", {"user": "kay@example.test", "organization": "initech 2"}),
    (
        "organizationMembership.updated",
        {"user": "kay@example.test", "organization": "initech 2", "role": "org:admin"},
    ),
    ("organizationMembership.deleted", {"user": "kay@example.test", "organization": "initech 2"}),
    ("organizationInvitation.created", {"user": "new@example.test", "organization": "initech 2"}),
    ("organizationInvitation.accepted", {"user": "new@example.test", "organization": "initech 2"}),
    ("organizationInvitation.created", {"user": "other@example.test", "organization": "initech 2"}),
    ("organizationInvitation.revoked", {"user": "other@example.test", "organization": "initech 2"}),
    ("organizationDomain.created", {"organization": "initech 2", "domain": "initech.test"}),
    ("organizationDomain.updated", {"domain": "initech.test"}),
    ("organizationDomain.deleted", {"domain": "initech.test"}),
    ("organization.deleted", {"organization": "initech 2"}),
    ("role.created", {"role": "org:analyst"}),
    ("role.updated", {"role": "org:analyst", "name": "Reader"}),
    ("role.deleted", {"role": "org:analyst"}),
    ("permission.created", {"permission": "org:reports:read"}),
    ("permission.updated", {"permission": "org:reports:read", "name": "See reports"}),
    ("permission.deleted", {"permission": "org:reports:read"}),
    ("user.deleted", {"user": "kay@example.test"}),
]


def test_every_event_can_be_made_to_happen_and_arrives(running: Running, receiver: Receiver) -> None:
    running.emulator.webhooks.add_endpoint(receiver.url)
    for type, stated in EVENTS:
        made = ask(running, "POST", "/trigger", {"type": type, **stated})
        assert type in made["events"], (type, made)
        bodies = [ask(running, "GET", f"/deliveries/{id}")["body"]["type"] for id in made["deliveries"]]
        assert bodies == made["events"]
    running.drain()
    listed = {each["type"] for each in ask(running, "GET", "/trigger")["data"]}
    assert listed == {type for type, _ in EVENTS} <= {event["type"] for event in receiver.events}


def test_an_event_that_cannot_happen_says_what_it_needs(running: Running) -> None:
    def refused(body: Any, status: int) -> str:
        message: str = ask(running, "POST", "/trigger", body, status)["errors"][0]["message"]
        return message

    assert "organizationMembership.deleted" in refused({"type": "membership.deleted"}, 422)
    assert "needs user and organization" in refused({"type": "organizationMembership.deleted"}, 422)
    assert "is no member" in refused(
        {"type": "organizationMembership.deleted", "user": "grace@example.test", "organization": "globex"}, 404
    )
    assert "role" in refused({"type": "user.deleted", "user": "grace@example.test", "role": "x"}, 422)
    assert "no session" in refused({"type": "session.ended", "user": "grace@example.test"}, 404)


def test_the_backend_api_refuses_as_often_as_the_disorder_says(running: Running) -> None:
    ask(running, "PUT", "/disorder", {"rate_limit": 1})
    refused = running.api.get("/users")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    ask(running, "PUT", "/disorder", {})
    assert running.api.get("/users").status_code == 200


NAMES = [
    *("user", "organization", "role", "permission", "domain", "name", "type", "email_address", "first_name", "key"),
    *("password", "username", "slug", "created_by", "max_allowed_memberships", "permissions", "enrollment_mode"),
    *("verified", "app_url", "url", "secret", "events", "expires_in", "version", "azp", "twice", "slow_seconds"),
    *(field.name for field in fields(Settings)),
]
TEXTS = st.text() | st.sampled_from(["acme", "ada@example.test", "org:admin", "org:reports:read", *TRIGGERS])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.lists(TEXTS | st.integers())
)


@pytest.fixture(scope="module")
def controls() -> Iterator[Controls]:
    with closing(Emulator()) as emulator:
        yield Controls(emulator)


@given(data=st.data(), body=st.dictionaries(st.sampled_from(NAMES), VALUES), form=st.booleans())
def test_whatever_a_control_is_sent_it_answers_or_refuses(
    controls: Controls, data: st.DataObject, body: dict[str, Any], form: bool
) -> None:
    path = data.draw(st.sampled_from(list(ROUTES)))
    action = data.draw(st.sampled_from(list(ROUTES[path].values())))
    held = {name: data.draw(TEXTS) for name in re.findall(r"{(\w+)}", path)}
    sent = ControlForm.from_pairs((name, str(value)) for name, value in body.items()) if form else Body(body)
    with suppress(ClerkError):
        json.dumps(controls.use(action, held, sent))


def test_a_head_request_is_answered_like_a_get(running: Running) -> None:
    assert httpx.head(control(running, "/settings")).status_code == 200
