"""A walk over all of the Frontend API, as browsers make it: each operation succeeds at least once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from emulator.specs.apis import FRONTEND
from emulator.specs.recording import Recording, operations
from emulator.world import Running
from tenantry.emulator.frontend_api.render.attempts import PEOPLE_STRATEGY

PASSWORD = "correct horse battery"
CODE = "424242"  # what development instances take for every address


@dataclass
class Browser:
    """One browser: its cookies, its session, and forms as clerk-js sends them."""

    http: httpx.Client
    session: str | None = None

    @property
    def acting(self) -> dict[str, str]:
        return {} if self.session is None else {"_clerk_session_id": self.session}

    def request(self, method: str, path: str, **form: Any) -> httpx.Response:
        """What is neither GET nor POST goes as a POST that says so; a GET's form is its query."""
        if method == "GET":
            return self.http.get(path, params=self.acting | form)
        override = {} if method == "POST" else {"_method": method}
        return self.http.post(path, params=self.acting | override, data=form)

    def get(self, path: str, **query: Any) -> Any:
        return self.succeed("GET", path, **query)

    def post(self, path: str, **form: Any) -> Any:
        return self.succeed("POST", path, **form)

    def patch(self, path: str, **form: Any) -> Any:
        return self.succeed("PATCH", path, **form)

    def delete(self, path: str) -> Any:
        return self.succeed("DELETE", path)

    def succeed(self, method: str, path: str, **form: Any) -> Any:
        """The object asked for."""
        response = self.request(method, path, **form)
        assert response.status_code == 200, f"{method} {path}: {response.text}"
        answer = response.json()
        return answer["response"] if isinstance(answer, dict) and "response" in answer else answer

    def error(self, status: int, method: str, path: str, **form: Any) -> None:
        response = self.request(method, path, **form)
        assert response.status_code == status, f"{method} {path}: {response.text}"


@dataclass
class Browsers:
    """Opens browsers at one running emulator; what they hear is recorded."""

    running: Running
    recording: Recording

    @contextmanager
    def open(self, signed_in_as: str | None = None) -> Iterator[Browser]:
        """`signed_in_as` is the name part of an address."""
        hooks, headers = {"response": [self.recording.hear]}, {"origin": self.running.url}
        base_url = f"{self.running.url}{FRONTEND.prefix}/v1"
        with httpx.Client(base_url=base_url, headers=headers, event_hooks=hooks) as http:
            browser = Browser(http)
            if signed_in_as:
                form = {"identifier": f"{signed_in_as}@example.test", "password": PASSWORD}
                browser.session = browser.post("/client/sign_ins", **form)["created_session_id"]
            yield browser


def walk(browsers: Browsers) -> None:
    """The emulator begins empty."""
    for name in ("ada", "ben", "cleo"):
        browsers.running.user(name, password=PASSWORD, first_name=name.title())
    _look_around(browsers)
    _sign_up(browsers)
    _sign_in(browsers)
    _walk_sessions(browsers)
    _walk_profile(browsers)
    _walk_organization(browsers)
    _meet_errors(browsers)
    _meet_refusals(browsers)


def _look_around(browsers: Browsers) -> None:
    with browsers.open() as browser:
        browser.get("/environment")
        browser.patch("/environment")
        browser.get("/client")
        browser.succeed("PUT", "/client")
        browser.post("/client")
        browser.get("/client")
        browser.delete("/client")
        browser.post("/dev_browser")
        browser.get("/health")
        browser.http.get("../.well-known/jwks.json").raise_for_status()


def _sign_up(browsers: Browsers) -> None:
    with browsers.open() as browser:
        path = "/client/sign_ups/" + browser.post("/client/sign_ups", email_address="dora@example.test")["id"]
        browser.patch(path, password=PASSWORD, first_name="Dora")
        browser.get(path)
        browser.post(f"{path}/prepare_verification", strategy="email_code")
        browser.error(422, "POST", f"{path}/attempt_verification", strategy="email_code", code="000000")
        browser.get("/client")
        done = browser.post(f"{path}/attempt_verification", strategy="email_code", code=CODE)
        assert done["status"] == "complete"
        browser.get("/client")
    with browsers.open() as browser:
        browser.error(422, "POST", "/client/sign_ups", email_address="dora@example.test", password=PASSWORD)
        browser.error(422, "POST", "/client/sign_ups", email_address="nonsense")


def _sign_in(browsers: Browsers) -> None:
    with browsers.open() as browser:
        path = "/client/sign_ins/" + browser.post("/client/sign_ins", identifier="ada@example.test")["id"]
        browser.get(path)
        browser.get("/client")
        address = browsers.running.get("/users", email_address="ada@example.test")[0]["primary_email_address_id"]
        browser.post(f"{path}/prepare_first_factor", strategy="email_code", email_address_id=address)
        browser.error(422, "POST", f"{path}/attempt_first_factor", strategy="password", password="wrong")
        browser.post(f"{path}/attempt_first_factor", strategy="password", password=PASSWORD)
        browser.get("/client")
    _choose_person(browsers)
    _reset_password(browsers)
    with browsers.open() as browser:
        user = browsers.running.get("/users", email_address="ada@example.test")[0]["id"]
        ticket = browsers.running.post("/sign_in_tokens", {"user_id": user})["token"]
        browser.post("/client/sign_ins", strategy="ticket", ticket=ticket)
    with browsers.open() as browser:
        ticket = browsers.running.post("/sign_in_tokens", {"user_id": user})["token"]
        link = {"ticket": ticket, "redirect_url": f"{browsers.running.url}/back"}
        assert browser.http.get("/tickets/accept", params=link).status_code == 303
        browser.error(400, "GET", "/tickets/accept", **link)
    with browsers.open() as browser:
        browser.error(422, "POST", "/client/sign_ins", identifier="nobody@example.test")
        browser.error(422, "POST", "/client/sign_ins", identifier="ada@example.test", password="wrong")


def _choose_person(browsers: Browsers) -> None:
    """Being one of the people, by what stands in for a provider's page; at a sign-up that leads to a sign-in."""
    ada = browsers.running.get("/users", email_address="ada@example.test")[0]["id"]
    form = {"strategy": PEOPLE_STRATEGY, "redirect_url": f"{browsers.running.url}/back"}
    with browsers.open() as browser:
        begun = browser.post("/client/sign_ins", **form)
        _choose(browser, begun["id"], begun["first_factor_verification"], ada)
        assert browser.get(f"/client/sign_ins/{begun['id']}")["status"] == "complete"
    with browsers.open() as browser:
        begun = browser.post("/client/sign_ups", **form)
        _choose(browser, begun["id"], begun["verifications"]["external_account"], ada)
        browser.get(f"/client/sign_ups/{begun['id']}")
        assert browser.post("/client/sign_ins", transfer=True)["status"] == "complete"


def _choose(browser: Browser, attempt: str, verification: dict[str, str], user: str) -> None:
    page = verification["external_verification_redirect_url"]
    browser.http.get(page).raise_for_status()
    assert browser.http.post(page, data={"attempt": attempt, "user_id": user}).status_code == 303


def _reset_password(browsers: Browsers) -> None:
    with browsers.open() as browser:
        path = "/client/sign_ins/" + browser.post("/client/sign_ins", identifier="cleo@example.test")["id"]
        strategy = "reset_password_email_code"
        address = browsers.running.get("/users", email_address="cleo@example.test")[0]["primary_email_address_id"]
        browser.post(f"{path}/prepare_first_factor", strategy=strategy, email_address_id=address)
        browser.post(f"{path}/attempt_first_factor", strategy=strategy, code=CODE)
        browser.post(f"{path}/reset_password", password=PASSWORD)


def _walk_sessions(browsers: Browsers) -> None:
    with browsers.open("ben") as other, browsers.open("ben") as browser:
        path = f"/client/sessions/{browser.session}"
        browser.get(path)
        browser.post(f"{path}/touch", active_organization_id="")
        browser.post(f"{path}/tokens")
        browser.get("/me/sessions")
        browser.get("/me/sessions/active")
        browser.post(f"/me/sessions/{other.session}/revoke")
        browser.post(f"{path}/verify", level="first_factor")
        browser.post(f"{path}/verify/prepare_first_factor", strategy="email_code")
        browser.post(f"{path}/verify/attempt_first_factor", strategy="password", password=PASSWORD)
        browser.error(404, "POST", f"{path}/tokens/no-such-template")
        for level in ("first", "second"):
            browser.error(400, "POST", f"{path}/verify/attempt_{level}_factor", strategy="phone_code", code=CODE)
        _shake_hands(browsers, browser)
        browser.post(f"{path}/end")
    with browsers.open("ben") as browser:
        browser.post(f"/client/sessions/{browser.session}/remove")
    with browsers.open("ben") as browser:
        browser.delete("/client/sessions")


def _shake_hands(browsers: Browsers, browser: Browser) -> None:
    for form in ("nonce", "token"):
        query = {"redirect_url": f"{browsers.running.url}/dashboard", "format": form}
        assert browser.http.get("/client/handshake", params=query).status_code == 307


def _walk_profile(browsers: Browsers) -> None:
    with browsers.open("dora") as browser:
        browser.get("/me")
        browser.patch("/me", first_name="Theodora", last_name="Doe")
        _walk_image(browser, "POST", "/me/profile_image")
        browser.patch("/me/metadata", unsafe_metadata='{"theme": "dark"}')
        email = browser.post("/me/email_addresses", email_address="dora@work.test")["id"]
        browser.get("/me/email_addresses")
        browser.get(f"/me/email_addresses/{email}")
        browser.get("/me")  # with an address that is not verified
        browser.post(f"/me/email_addresses/{email}/prepare_verification", strategy="email_code")
        browser.error(422, "POST", f"/me/email_addresses/{email}/attempt_verification", code="000000")
        browser.post(f"/me/email_addresses/{email}/attempt_verification", code=CODE)
        browser.delete(f"/me/email_addresses/{email}")
        browser.post("/me/change_password", current_password=PASSWORD, new_password=PASSWORD + "!")
        browser.post("/me/remove_password", current_password=PASSWORD + "!")
        browser.delete("/me")


def _walk_organization(browsers: Browsers) -> None:
    with browsers.open("ada") as ada, browsers.open("ben") as ben, browsers.open("cleo") as cleo:
        organization = ada.post("/organizations", name="Acme")["id"]
        ada.post(f"/client/sessions/{ada.session}/touch", active_organization_id=organization)
        ada.post(f"/client/sessions/{ada.session}/tokens", organization_id=organization)
        path = f"/organizations/{organization}"
        ada.get(path)
        ada.patch(path, name="Acme & Sons")
        ada.get(f"{path}/roles")
        ada.get("/me/organization_creation_defaults")
        ben.error(404, "GET", path)
        ben.error(422, "POST", "/organizations")
        _walk_invitations(ada, ben, path)
        _sign_up_invited(browsers, path)
        _walk_memberships(ada, ben, path)
        _walk_domains(ada, path)
        _walk_requests(ada, {"reject": ben, "accept": cleo}, path)
        _walk_image(ada, "PUT", f"{path}/logo")
        ada.get(path)
        ada.delete(path)


def _walk_invitations(ada: Browser, ben: Browser, organization: str) -> None:
    path = f"{organization}/invitations"
    first = ada.post(path, email_address="emil@example.test", role="org:member")["id"]
    ada.post(f"{path}/bulk", email_address=["ben@example.test", "fred@example.test"], role="org:member")
    ada.get(path)
    ada.get(f"{path}/pending")
    ada.post(f"{path}/{first}/revoke")
    ada.error(422, "POST", path, email_address="nonsense", role="org:member")
    invitation = ben.get("/me/organization_invitations")["data"][0]["id"]
    ben.post(f"/me/organization_invitations/{invitation}/accept")


def _sign_up_invited(browsers: Browsers, organization: str) -> None:
    """By the link in the invitation's mail."""
    new = {"email_address": "gus@example.test", "role": "org:member", "redirect_url": "https://app.test/join"}
    invitation = browsers.running.post(f"{organization}/invitations", new)
    ticket = httpx.URL(invitation["url"]).params["__clerk_ticket"]
    with browsers.open() as browser:
        begun = browser.post("/client/sign_ups", strategy="ticket", ticket=ticket)
        assert browser.patch(f"/client/sign_ups/{begun['id']}", password=PASSWORD)["status"] == "complete"


def _walk_memberships(ada: Browser, ben: Browser, organization: str) -> None:
    path = f"{organization}/memberships"
    ada.get(path)
    ben.get("/me/organization_memberships", paginated="true")
    ben.get("/me/organization_memberships")
    ben.get("/me")
    ben_id = ben.get("/me")["id"]
    ada.patch(f"{path}/{ben_id}", role="org:admin")
    ada.delete(f"{path}/{ben_id}")
    ada.post(path, user_id=ben_id, role="org:member")
    ben.error(403, "PATCH", f"{path}/{ben_id}", role="org:admin")
    ben.delete(f"/me{organization.replace('organizations', 'organization_memberships')}")


def _walk_domains(ada: Browser, organization: str) -> None:
    path = f"{organization}/domains"
    acme = ada.post(path, name="acme.test")["id"]
    ada.get(f"{path}/{acme}")
    ada.post(f"{path}/{acme}/prepare_affiliation_verification", affiliation_email_address="ada@acme.test")
    ada.get(f"{path}/{acme}")
    ada.post(f"{path}/{acme}/attempt_affiliation_verification", code=CODE)
    own = ada.post(path, name="example.test")["id"]
    ada.post(f"{path}/{own}/update_enrollment_mode", enrollment_mode="automatic_suggestion")
    ada.get(path)
    ada.delete(f"{path}/{acme}")


def _walk_requests(ada: Browser, others: dict[str, Browser], organization: str) -> None:
    """Those whose addresses are of the organization's domain ask to be let in."""
    path = f"{organization}/membership_requests"
    for verdict, browser in others.items():
        suggestion = browser.get("/me/organization_suggestions")["data"][0]["id"]
        browser.post(f"/me/organization_suggestions/{suggestion}/accept")
        request = ada.get(path)["data"][0]["id"]
        ada.post(f"{path}/{request}/{verdict}")


def _walk_image(browser: Browser, method: str, path: str) -> None:
    query, file = {"_method": method} | browser.acting, ("image.gif", b"GIF89a and so on")
    browser.http.post(path, params=query, files={"file": file}).raise_for_status()
    browser.get("/client")
    browser.delete(path)


def _meet_refusals(browsers: Browsers) -> None:
    """Where organizations are off, everything about them is refused."""
    settings = "/instance/organization_settings"
    with browsers.open("ada") as ada:
        browsers.running.patch(settings, {"enabled": False})
        for method, route in operations(FRONTEND.routes):
            if "organization" in route:
                assert ada.request(method, re.sub("{[^}]*}", "nothing", route.removeprefix("/v1"))).status_code >= 400
        ada.get("/environment")
        ada.get("/me")
        browsers.running.patch(settings, {"enabled": True})


def _meet_errors(browsers: Browsers) -> None:
    """Every operation is asked about nothing: by nobody, and by somebody who may do nothing."""
    with browsers.open() as nobody, browsers.open("cleo") as cleo:
        for method, route in operations(FRONTEND.routes):
            path = re.sub("{[^}]*}", "nothing", route.removeprefix("/v1"))
            if route.startswith("/v1/") and route not in ("/v1/me", "/v1/client", "/v1/client/sessions"):
                for browser in (nobody, cleo):
                    browser.request(method, path)
