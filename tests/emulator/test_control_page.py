"""The control page: its forms do what they say with and without a script, for nobody but this machine."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import jwt
import markupsafe
import pytest

from emulator.world import Receiver, Runner, Running, wait_until
from tenantry.emulator.control.views import PAGES
from tenantry.emulator.seed import DEFAULT
from tenantry.emulator.store.users import NewUser

APP = "http://127.0.0.1:8000"
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def running(run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Running:
    """Without npm and without a cache: what the page is when nothing can be fetched."""
    monkeypatch.setenv("TENANTRY_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return run(seed_data=DEFAULT)


class Forms(HTMLParser):
    """The forms of a page: the control each names, with its fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.found.append({})
        elif tag == "input" and self.found and given.get("type") != "checkbox":
            self.found[-1][given.get("name", "")] = given.get("value", "")


def form(page: str, do: str) -> dict[str, str]:
    """The fields of the form that names this control."""
    return next(fields for fields in Forms(page).found if re.fullmatch(do, fields.get("_do", "")))


def load(running: Running, path: str = "/", status: int = 200) -> str:
    response = httpx.get(running.url + path)
    assert response.status_code == status, response.text
    return response.text


def send(running: Running, path: str, do: str, status: int = 303, **typed: str) -> httpx.Response:
    """Fills in the form that names this control, and sends it as a browser would."""
    fields = form(load(running, path), do)
    origin = {"origin": running.url, "sec-fetch-site": "same-origin"}
    response = httpx.post(running.url + path, data={**fields, **typed}, headers=origin)
    assert response.status_code == status, response.text
    return response


def organization(running: Running, name: str = "acme") -> str:
    return f"/organizations/{running.emulator.store.organizations.find(name).id}"


def person(running: Running, name: str) -> str:
    return f"/people/{running.emulator.store.users.find(f'{name}@example.test').id}"


def test_every_page_shows_itself_without_script_and_style(running: Running) -> None:
    running.emulator.webhooks.add_endpoint(APP)
    running.user("kay")
    delivery = running.emulator.webhooks.deliveries()[0].id
    known = {"{user}": person(running, "ada")[8:], "{organization}": organization(running)[15:]}
    for path in PAGES:
        for name, value in {**known, "{delivery_id}": delivery}.items():
            path = path.replace(name, value)
        page = load(running, path)
        assert "<h1>" in page
        assert "This page is plain HTML for now" in page
        assert "npm" in page
        assert "htmx.js" not in page
    assert "font" in load(running, "/assets/plain.css")
    assert httpx.get(f"{running.url}/assets/pico.css").status_code == 503
    assert httpx.get(f"{running.url}/assets/../page.py").status_code == 404


def test_people_are_made_and_found(running: Running) -> None:
    send(running, "/", "POST /users", email_address="kay@example.test", first_name="Kay", last_name="McNulty")
    assert "Kay McNulty" in load(running)
    found = load(running, "/?q=hopper")
    assert "Grace Hopper" in found
    assert "Kay McNulty" not in found


def test_a_person_is_renamed_banned_locked_and_deleted(running: Running) -> None:
    page = person(running, "grace")
    send(running, page, "PATCH /users/.*", first_name="Amazing")
    send(running, page, "POST /users/.*/ban")
    assert "banned" in load(running, page)
    assert send(running, page, "POST /users/.*/unban").headers["location"] == page
    send(running, page, "POST /users/.*/lock")
    assert running.emulator.store.users.find("grace@example.test").locked
    assert send(running, page, "DELETE /users/.*").headers["location"] == "/"
    assert "grace@example.test" not in load(running)
    assert "No user was found" in load(running, page, status=404)


def test_members_come_change_role_and_go(running: Running, receiver: Receiver) -> None:
    running.emulator.webhooks.add_endpoint(receiver.url)
    page = organization(running, "globex")
    send(running, page, "POST /memberships", user="grace@example.test", role="org:member")
    globex = running.emulator.store.organizations.find("globex")
    grace = running.emulator.store.users.find("grace@example.test")
    membership = running.emulator.store.memberships.get(globex.id, grace.id)
    send(running, page, f"PATCH /memberships/{membership.id}", role="org:admin")
    send(running, page, f"DELETE /memberships/{membership.id}")
    running.drain()
    changes = {event["type"] for event in receiver.events}
    assert changes == {f"organizationMembership.{change}" for change in ("created", "updated", "deleted")}


def test_an_invitation_is_made_accepted_as_the_invited_and_revoked(running: Running) -> None:
    page = organization(running)
    for address in ("kay@new.test", "joan@new.test"):
        send(running, page, "POST /invitations", email_address=address, role="org:editor")
    offered = running.emulator.store.state.invitations.values()
    first, second = (each.id for each in offered)
    send(running, page, f"POST /invitations/{first}/accept")
    send(running, page, f"POST /invitations/{second}/revoke")
    assert [each.status for each in running.emulator.store.state.invitations.values()] == ["accepted", "revoked"]
    assert "kay@new.test" in load(running)


def test_who_asks_to_be_let_in_is_let_in_or_rejected(running: Running) -> None:
    page, store = organization(running), running.emulator.store
    send(running, page, "POST /domains", name="new.test", enrollment_mode="automatic_suggestion")
    for name in ("kay", "joan"):
        user = store.users.create(NewUser(email_addresses=(f"{name}@new.test",)))
        [suggestion] = store.state.suggestions_to(user.id)
        store.membership_requests.ask(suggestion)
    first, second = store.state.membership_requests
    send(running, page, f"POST /membership-requests/{first}/accept")
    send(running, page, f"POST /membership-requests/{second}/reject")
    assert [each.status for each in store.state.membership_requests.values()] == ["accepted", "rejected"]
    assert store.memberships.get(page[15:], store.users.find("kay@new.test").id)


def test_an_organization_is_made_renamed_and_deleted(running: Running) -> None:
    made = send(running, "/organizations", "POST /organizations", name="Initech", created_by="ada@example.test")
    page = made.headers["location"]
    assert page == organization(running, "initech")
    send(running, page, "PATCH /organizations/.*", name="Initrode", max_allowed_memberships="7")
    assert running.emulator.store.organizations.find("initrode").max_allowed_memberships == 7
    assert send(running, page, "DELETE /organizations/.*").headers["location"] == "/organizations"
    assert "Initrode" not in load(running, "/organizations")


def test_a_role_gets_the_permissions_that_are_ticked(running: Running) -> None:
    send(running, "/roles", "POST /permissions", key="org:reports:read", name="Read reports")
    send(running, "/roles", "POST /roles", key="org:analyst", name="Analyst")
    role = running.emulator.store.roles.find("org:analyst")
    fields = form(load(running, "/roles"), f"PATCH /roles/{role.id}")
    ticked = {**fields, "permissions[]": ["", "org:reports:read", "org:sys_memberships:read"]}
    httpx.post(f"{running.url}/roles", data=ticked)
    held = running.emulator.store.state.permissions_of(running.emulator.store.roles.find("org:analyst"))
    assert {each.key for each in held} == {"org:reports:read", "org:sys_memberships:read"}
    httpx.post(f"{running.url}/roles", data={**fields, "permissions[]": [""]})
    assert not running.emulator.store.roles.find("org:analyst").permission_ids


def test_settings_are_switched_and_what_is_wrong_is_said(running: Running) -> None:
    page = load(running, "/settings")
    for name in running.emulator.store.state.settings.__dataclass_fields__:
        assert f'name="{name}"' in page or f'name="{name}[]"' in page, name
    send(running, "/settings", "PATCH /settings", slugs="true", membership_required="false")
    settings = running.emulator.store.state.settings
    assert (settings.slugs, settings.membership_required) == (True, False)
    wrong = send(running, "/settings", "PATCH /settings", status=422, max_allowed_roles="many")
    assert "Max allowed roles must be an integer" in wrong.text
    assert 'value="many"' in wrong.text


@pytest.mark.parametrize("place", [{}, {"organization": "acme"}])
def test_a_button_signs_a_person_in_to_the_app(running: Running, place: dict[str, str]) -> None:
    running.emulator.webhooks.add_endpoint(f"{APP}/webhooks/clerk")
    store = running.emulator.store
    acme = store.organizations.find("acme").id
    buttons = [each for each in Forms(load(running)).found if each.get("_do") == "POST /sign-in-links"]
    ada = store.users.find("ada@example.test").id
    [pressed] = [
        each for each in buttons if each["user"] == ada and each.get("organization") == (acme if place else None)
    ]
    response = httpx.post(running.url, data=pressed, headers={"origin": running.url})
    assert response.status_code == 303
    url = httpx.URL(response.headers["location"])
    assert str(url).startswith(f"{APP}/__clerk/v1/tickets/accept?")
    assert url.params["redirect_url"] == f"{APP}/"
    [token] = store.state.sign_in_tokens.values()
    assert (token.token, token.user_id, token.organization_id) == (url.params["ticket"], ada, acme if place else None)


def test_without_an_app_the_page_asks_where_it_is(running: Running) -> None:
    assert "Where is your app?" in load(running)
    refused = send(running, "/", "PUT /app", status=422, app_url="javascript:alert(1)")
    assert 'value="javascript:alert(1)"' in refused.text
    send(running, "/", "PUT /app", app_url=APP)
    assert "Where is your app?" not in load(running)


def test_an_error_is_said_in_plain_words_and_nothing_typed_is_lost(running: Running) -> None:
    typed = {"email_address": "ada@example.test", "first_name": "Another", "last_name": '"><b>Ada'}
    page = httpx.post(running.url, data={**form(load(running), "POST /users"), **typed}).text
    assert "That email address is taken" in page
    for value in typed.values():
        assert f'value="{markupsafe.escape(value)}"' in page
    assert 'name="email_address" type="email"' in page
    assert page.count('aria-invalid="true"') == 1
    assert re.search(r'<details class="card" open>\s*<summary>New person', page)


def test_names_with_markup_are_inert(running: Running) -> None:
    store = running.emulator.store
    user = store.users.create(
        NewUser(email_addresses=("evil@example.test",), fields={"first_name": EVIL, "last_name": "' onfocus='alert(1)"})
    )
    running.emulator.webhooks.add_endpoint(f"{APP}/webhooks/clerk")
    store.users.update(user.id, {"first_name": f"{EVIL}!"})
    role = store.roles.create(EVIL, "org:evil", EVIL, [])
    store.memberships.create(store.organizations.find("acme"), user.id, role)
    delivery = running.emulator.webhooks.deliveries()[-1].id
    paths = ["/", "/?q=<script>alert(1)</script>", person(running, "evil"), organization(running), "/roles", "/tokens"]
    for path in [*paths, "/webhooks", f"/webhooks/{delivery}", "/settings"]:
        response = httpx.get(running.url + path)
        assert EVIL not in response.text, path
        assert "' onfocus='" not in response.text, path
        assert "script-src 'self'" in response.headers["content-security-policy"]
    assert html.escape(EVIL) in load(running)


def test_deliveries_are_watched_held_back_and_sent_again(running: Running, receiver: Receiver) -> None:
    running.emulator.webhooks.add_endpoint(receiver.url)
    send(running, "/webhooks", "POST /webhooks/pause")
    running.user("kay")
    assert "paused" in load(running, "/webhooks")
    send(running, "/webhooks", "POST /webhooks/release")
    running.drain()
    delivery = running.emulator.webhooks.deliveries()[0].id
    shown = html.unescape(load(running, f"/webhooks/{delivery}"))
    assert '"email_address": "kay@example.test"' in shown
    assert "stored" in shown
    send(running, f"/webhooks/{delivery}", f"POST /deliveries/{delivery}/resend")
    wait_until(lambda: len(receiver.requests) == 2)
    assert len(set(receiver.ids)) == 1


def test_disorder_is_set_and_put_in_order_again(running: Running) -> None:
    webhooks = running.emulator.webhooks
    send(running, "/webhooks", "PUT /disorder", _form="disorder", twice="0.5", slow_seconds="2", rate_limit="0.1")
    assert (webhooks.disorder.twice, webhooks.disorder.slow_seconds, webhooks.disorder.rate_limit) == (0.5, 2, 0.1)
    wrong = httpx.post(f"{running.url}/webhooks", data={"_do": "PUT /disorder", "_form": "disorder", "twice": "2"})
    assert wrong.status_code == 422
    assert "a probability is between 0 and 1" in wrong.text
    send(running, "/webhooks", "PUT /disorder", twice="")
    assert webhooks.disorder.twice == 0


def test_an_event_is_made_to_happen_from_the_page(running: Running) -> None:
    type, user = "organizationMembership.deleted", "grace@example.test"
    made = send(running, "/webhooks", "POST /trigger", status=200, type=type, user=user, organization="acme")
    assert "Announced organizationMembership.deleted, but no endpoint wants it" in made.text
    refused = send(running, "/webhooks", "POST /trigger", status=404, type=type, user=user, organization="acme")
    assert "is no member of Acme" in refused.text
    assert re.search(r'<option value="organizationMembership.deleted" selected>', refused.text)


def test_a_session_is_ended(running: Running) -> None:
    running.emulator.mint_token("ada@example.test")
    send(running, person(running, "ada"), "POST /sessions/.*/end")
    [session] = running.emulator.store.state.sessions.values()
    assert session.status == "ended"


def test_a_token_is_shown_decoded(running: Running) -> None:
    page = send(
        running, "/tokens", "POST /tokens", status=200, user="ada@example.test", organization="acme", version="1"
    )
    [token] = re.findall(r">(eyJ[\w.-]+)<", page.text)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["org_role"] == "org:admin"
    assert f'data-expires="{claims["exp"]}"' in page.text
    assert "org_role" in page.text


def test_the_live_part_comes_again_only_when_it_is_another(running: Running) -> None:
    page = load(running)
    [version] = re.findall(r'"Known-Version": "(\w+)"', page)
    asking = {"hx-trigger": "live", "known-version": version}
    same = httpx.get(running.url, headers=asking)
    assert (same.status_code, same.text) == (204, "")
    running.user("kay")
    other = httpx.get(running.url, headers=asking)
    assert other.text.strip().startswith('<div id="live"')
    assert "kay@example.test" in other.text


@pytest.mark.attack(100)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.test"},
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9"},  # another app on this machine
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_form_does_nothing(running: Running, headers: dict[str, str]) -> None:
    grace = running.emulator.store.users.find("grace@example.test").id
    response = httpx.post(running.url, data={"_do": f"DELETE /users/{grace}"}, headers=headers)
    assert response.status_code == 403
    assert running.emulator.store.state.users[grace]


def test_another_sites_name_for_this_machine_shows_nothing(running: Running) -> None:
    response = httpx.get(running.url, headers={"host": "evil.test"})
    assert response.status_code == 403
    assert "ada@example.test" not in response.text
    assert "only on this machine" in response.text


@pytest.mark.parametrize("next", ["//evil.test/", "https://evil.test/", "/\\evil.test"])
def test_a_form_leads_to_no_other_site(running: Running, next: str) -> None:
    response = httpx.post(running.url, data={"_do": "POST /webhooks/pause", "_next": next})
    assert response.headers["location"] == "/"


@pytest.mark.parametrize("next", ["url", "", "/{id}"])
def test_a_form_whose_control_answers_a_text_leads_back(running: Running, next: str) -> None:
    response = httpx.post(running.url, data={"_do": "POST /token", "_next": next, "user": "ada@example.test"})
    assert response.status_code == 303
    assert response.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/tokens", "/webhooks", "/settings", "/"])
@pytest.mark.parametrize("do", ["GET /", "GET /deliveries", "POST /token", "PUT /app"])
def test_a_form_that_names_another_page_s_control_is_shown_nothing_of_it(running: Running, path: str, do: str) -> None:
    sent = {"_do": do, "_next": "show", "user": "ada@example.test", "app_url": APP}
    assert "The token" not in load_sent(running, path, sent)


def load_sent(running: Running, path: str, sent: dict[str, str]) -> str:
    response = httpx.post(running.url + path, data=sent)
    assert response.status_code == 200, response.text
    return response.text


@pytest.mark.parametrize("do", ["", "DELETE", "DELETE /", "GET /users/../x", "POST /nowhere", "\x00"])
def test_a_form_that_names_no_control_is_refused(running: Running, do: str) -> None:
    assert httpx.post(running.url, data={"_do": do}).status_code == 404


def test_a_page_that_is_not_there_says_so(running: Running) -> None:
    assert "There is no such page" in load(running, "/nowhere", status=404)
    assert httpx.post(f"{running.url}/people/user_x", data={"_do": "POST /nowhere"}).status_code == 404
