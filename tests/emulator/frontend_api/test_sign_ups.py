"""Signing up: what is missing is asked for, and at the end there is a user, signed in."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from emulator.frontend_api.browsers import APP, CODE, Browser, Json, Site, SiteMaker

SIGN_UPS = "/client/sign_ups"
FORM = {"email_address": "Mary@Example.test", "password": "a-long-password"}


def begin(browser: Browser, **more: Any) -> str:
    """The path of a sign-up that lacks only its code."""
    form: Json = {**FORM, **more}
    return f"{SIGN_UPS}/{browser.post(SIGN_UPS, **form)['id']}"


def finish(browser: Browser, path: str) -> Json:
    browser.post(f"{path}/prepare_verification", strategy="email_code")
    return dict(browser.post(f"{path}/attempt_verification", strategy="email_code", code=CODE))


def invite(site: Site, address: str, organization: str = "globex") -> str:
    """The ticket of a new invitation."""
    invited = {"email_address": address, "role": "org:member", "redirect_url": f"{APP}/sign-up"}
    url = site.running.post(f"/organizations/{site.organization_id(organization)}/invitations", invited)["url"]
    return str(parse_qs(urlsplit(url).query)["__clerk_ticket"][0])


def test_an_address_a_password_and_a_code_make_a_user(site: Site, browser: Browser) -> None:
    path = begin(browser, first_name="Mary", last_name="Shelley", unsafe_metadata={"theme": "dark"})
    begun = browser.get(path)
    assert (begun["status"], begun["unverified_fields"]) == ("missing_requirements", ["email_address"])
    assert begun["verifications"]["email_address"]["next_action"] == "needs_prepare"
    site.heard()
    done = finish(browser, path)
    assert (done["status"], done["missing_fields"], done["unverified_fields"]) == ("complete", [], [])
    assert site.heard() == ["user.created", "session.pending"]
    user = browser.session["user"]
    assert (user["id"], user["first_name"]) == (done["created_user_id"], "Mary")
    assert user["email_addresses"][0]["email_address"] == "mary@example.test"
    assert user["email_addresses"][0]["verification"]["status"] == "verified"
    assert user["unsafe_metadata"] == {"theme": "dark"}


def test_who_signed_up_signs_in_with_the_same_password(browser: Browser) -> None:
    finish(browser, begin(browser))
    browser.delete("/client")
    form = {"identifier": "mary@example.test", "password": FORM["password"]}
    assert browser.post("/client/sign_ins", **form)["status"] == "complete"


def test_what_is_missing_can_be_told_later(browser: Browser) -> None:
    started = browser.post(SIGN_UPS)
    assert started["missing_fields"] == ["email_address", "password"]
    path = f"{SIGN_UPS}/{started['id']}"
    assert browser.patch(path, email_address="mary@example.test")["missing_fields"] == ["password"]
    assert finish(browser, path)["status"] == "missing_requirements"
    assert browser.patch(path, password="a-long-password")["status"] == "complete"


def test_a_changed_address_must_be_verified_again(browser: Browser) -> None:
    path = begin(browser)
    browser.post(f"{path}/prepare_verification", strategy="email_code")
    changed = browser.patch(path, email_address="other@example.test")
    assert changed["verifications"]["email_address"]["next_action"] == "needs_prepare"
    attempt = f"{path}/attempt_verification"
    assert browser.code("POST", attempt, 400, strategy="email_code", code=CODE) == "client_state_invalid"


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"email_address": "ada@example.test"}, "form_identifier_exists", "email_address"),
        ({"email_address": "ADA@example.test"}, "form_identifier_exists", "email_address"),
        ({"email_address": "no address"}, "form_param_format_invalid", "email_address"),
        ({"password": "short"}, "form_password_length_too_short", "password"),
        ({"password": "x" * 73}, "form_password_length_too_long", "password"),
        ({"unsafe_metadata": {"a": "x" * 9000}}, "form_param_exceeds_allowed_size", "unsafe_metadata"),
    ],
)
def test_what_no_user_may_have_is_refused_at_its_field(browser: Browser, form: Json, code: str, param: str) -> None:
    error = browser.error("POST", SIGN_UPS, 422, **FORM | form)
    assert (error["code"], error["meta"]["param_name"]) == (code, param)


def test_a_wrong_or_late_code_makes_nobody(site: Site, browser: Browser) -> None:
    path = begin(browser)
    browser.post(f"{path}/prepare_verification", strategy="email_code")
    attempt = f"{path}/attempt_verification"
    assert browser.code("POST", attempt, 422, strategy="email_code", code="111111") == "form_code_incorrect"
    site.clock.pass_seconds(600)
    assert browser.code("POST", attempt, 400, strategy="email_code", code=CODE) == "verification_expired"
    assert "user.created" not in site.heard()


def test_an_address_taken_meanwhile_makes_nobody(site: Site, browser: Browser) -> None:
    path = begin(browser)
    browser.post(f"{path}/prepare_verification", strategy="email_code")
    site.running.user("mary")
    attempt = f"{path}/attempt_verification"
    assert browser.code("POST", attempt, 422, strategy="email_code", code=CODE) == "form_identifier_exists"
    assert browser.get("/client")["sessions"] == []


def test_an_invited_person_signs_up_as_a_member(site: Site, browser: Browser) -> None:
    begun = browser.post(SIGN_UPS, strategy="ticket", ticket=invite(site, "mary@example.test"))
    assert (begun["email_address"], begun["missing_fields"]) == ("mary@example.test", ["password"])
    assert begun["verifications"]["email_address"]["strategy"] == "ticket"
    site.heard()
    done = browser.patch(f"{SIGN_UPS}/{begun['id']}", password="a-long-password", first_name="Mary")
    assert done["status"] == "complete"
    assert site.heard() == [
        "user.created", "organizationMembership.created", "organizationInvitation.accepted", "session.created",
    ]  # fmt: skip
    assert browser.session["last_active_organization_id"] == site.organization_id("globex")
    assert browser.session["status"] == "active"


def test_an_invitation_revoked_meanwhile_makes_nobody(site: Site, browser: Browser) -> None:
    begun = browser.post(SIGN_UPS, strategy="ticket", ticket=invite(site, "mary@example.test"))
    globex = site.organization_id("globex")
    (invitation,) = site.running.get(f"/organizations/{globex}/invitations")["data"]
    site.running.post(f"/organizations/{globex}/invitations/{invitation['id']}/revoke")
    site.heard()
    browser.error("PATCH", f"{SIGN_UPS}/{begun['id']}", 400, password="a-long-password")
    assert site.heard() == []


def test_a_full_organization_makes_nobody(open_site: SiteMaker) -> None:
    site = open_site()
    browser, acme = site.browser(), site.organization_id("acme")
    begun = browser.post(SIGN_UPS, strategy="ticket", ticket=invite(site, "mary@example.test", "acme"))
    site.running.patch(f"/organizations/{acme}", {"max_allowed_memberships": 3})
    site.heard()
    code = browser.code("PATCH", f"{SIGN_UPS}/{begun['id']}", 403, password="a-long-password")
    assert (code, site.heard()) == ("organization_membership_quota_exceeded", [])


def test_a_ticket_of_somebody_who_exists_and_one_made_up_sign_nobody_up(site: Site, browser: Browser) -> None:
    ticket = invite(site, "grace@example.test")
    assert browser.code("POST", SIGN_UPS, 422, strategy="ticket", ticket=ticket) == "form_identifier_exists"
    assert browser.code("POST", SIGN_UPS, 400, strategy="ticket", ticket="made-up") == "ticket_invalid_code"


def test_a_finished_sign_up_is_not_used_again(browser: Browser) -> None:
    path = begin(browser)
    finish(browser, path)
    assert browser.code("PATCH", path, 400, first_name="Again") == "client_state_invalid"
    assert browser.code("POST", SIGN_UPS, 400, email_address="more@example.test") == "session_exists"


def test_strategies_that_are_switched_off_are_refused(browser: Browser) -> None:
    path = begin(browser)
    for action in ("prepare_verification", "attempt_verification"):
        assert browser.code("POST", f"{path}/{action}", 400, strategy="phone_code") == "strategy_for_user_invalid"
    assert browser.code("POST", SIGN_UPS, 400, strategy="oauth_google") == "strategy_for_user_invalid"


def test_a_sign_up_of_another_browser_does_not_exist(site: Site, browser: Browser) -> None:
    path = begin(browser)
    assert site.browser().code("GET", path, 404) == "resource_not_found"
