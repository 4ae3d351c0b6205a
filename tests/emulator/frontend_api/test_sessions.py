"""Sessions: switched between organizations, asked for tokens, verified again, ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulator.frontend_api.browsers import CODE, Browser, Site, SiteMaker
from tenantry.emulator.seed import DEFAULT_PASSWORD


def test_a_touch_switches_the_organization_and_says_so_at_once(site: Site, browser: Browser) -> None:
    browser.sign_in()
    for name in ("acme", "globex"):
        id = site.organization_id(name)
        session = browser.touch(active_organization_id=id, intent="select_org")
        assert session["last_active_organization_id"] == browser.session["last_active_organization_id"] == id
        assert browser.token()["o"]["id"] == id


def test_an_organization_is_found_by_its_slug(open_site: SiteMaker) -> None:
    site = open_site(slugs=True)
    browser = site.browser()
    browser.sign_in()
    browser.touch(active_organization_id="acme")
    assert browser.token(organization_id="globex")["o"]["slg"] == "globex"
    assert browser.token()["o"]["slg"] == "acme"


def test_no_switch_and_no_token_leads_where_somebody_is_no_member(site: Site, browser: Browser) -> None:
    browser.sign_in("grace")
    before = browser.session["last_active_organization_id"]
    for id in (site.organization_id("globex"), "org_made_up"):
        forged = browser.code("POST", f"{browser.path}/touch", 403, active_organization_id=id, intent="select_org")
        assert forged == "organization_not_found_or_unauthorized"
        token = browser.code("POST", f"{browser.path}/tokens", 403, organization_id=id)
        assert token == "organization_not_found_or_unauthorized"
    assert browser.get(browser.path)["last_active_organization_id"] == before


def test_where_a_membership_is_required_the_personal_account_is_the_organization_before(browser: Browser) -> None:
    browser.sign_in()
    before = browser.session["last_active_organization_id"]
    assert browser.touch(active_organization_id="")["last_active_organization_id"] == before
    assert browser.token(organization_id="")["o"]["id"] == before


def test_where_it_is_not_there_is_a_personal_account(open_site: SiteMaker) -> None:
    browser = open_site(membership_required=False).browser()
    browser.sign_in()
    assert "o" not in browser.token(organization_id="")
    assert browser.touch(active_organization_id="")["last_active_organization_id"] is None
    assert "o" not in browser.token()


def test_a_session_without_an_organization_is_pending_until_there_is_one(site: Site, browser: Browser) -> None:
    site.running.user("mary", password=DEFAULT_PASSWORD)
    session = browser.sign_in("mary")
    assert (session["status"], session["tasks"]) == ("pending", [{"key": "choose-organization"}])
    assert browser.token()["sts"] == "pending"
    site.heard()
    made = browser.post("/organizations", name="Frankenstein")
    session = browser.touch(active_organization_id=made["id"])
    assert (session["status"], session["tasks"], browser.token()["sts"]) == ("active", None, "active")
    assert site.heard()[-1] == "session.created"


def test_without_organizations_nobody_waits_for_one(open_site: SiteMaker) -> None:
    site = open_site(enabled=False)
    site.running.user("mary", password=DEFAULT_PASSWORD)
    browser = site.browser()
    assert browser.sign_in("mary")["status"] == "active"


def test_switched_off_organizations_are_in_no_token_and_no_switch(site: Site, browser: Browser) -> None:
    browser.sign_in()
    state = site.running.emulator.store.state
    state.put_settings(replace(state.settings, enabled=False))
    assert "o" not in browser.token()
    touch = {"active_organization_id": site.organization_id("acme")}
    assert browser.code("POST", f"{browser.path}/touch", 403, **touch) == "organization_not_enabled_in_instance"


def test_a_removed_member_loses_the_organization_at_once(site: Site, browser: Browser) -> None:
    browser.sign_in("grace")
    acme = site.organization_id("acme")
    browser.touch(active_organization_id=acme)
    site.running.delete(f"/organizations/{acme}/memberships/{site.user_id('grace')}")
    assert browser.get(browser.path)["last_active_organization_id"] is None
    assert "o" not in browser.token()


def test_a_token_from_a_template_is_refused_in_shape(browser: Browser) -> None:
    browser.sign_in()
    assert browser.code("POST", f"{browser.path}/tokens/hasura", 404) == "resource_not_found"


@pytest.mark.parametrize(("action", "status"), [("end", "ended"), ("remove", "removed")])
def test_a_session_that_is_over_gives_no_token(site: Site, browser: Browser, action: str, status: str) -> None:
    browser.sign_in()
    path = browser.path
    site.heard()
    over = browser.post(f"{path}/{action}")
    assert (over["status"], over["last_active_token"], browser.client["sessions"]) == (status, None, [])
    assert site.heard() == [f"session.{status}"]
    assert browser.code("POST", f"{path}/tokens", 404) == "resource_not_found"


def test_of_two_people_the_one_touched_last_acts(open_site: SiteMaker) -> None:
    browser = open_site(single_session=False).browser()
    ada = browser.sign_in("ada")["id"]
    browser.sign_in("grace")
    assert browser.get("/me")["first_name"] == "Grace"
    assert browser.answer("GET", "/me", query={"_clerk_session_id": ada})["response"]["first_name"] == "Ada"
    browser.post(f"/client/sessions/{ada}/touch", intent="select_session")
    assert browser.get("/me")["first_name"] == "Ada"
    browser.post(f"/client/sessions/{ada}/end")
    assert browser.get("/me")["first_name"] == "Grace"


def test_another_browser_s_session_does_not_exist(site: Site, browser: Browser) -> None:
    browser.sign_in("ada")
    other = site.browser()
    other.sign_in("grace")
    for action in ("touch", "tokens", "end", "remove", "verify"):
        assert other.code("POST", f"{browser.path}/{action}", 404) == "resource_not_found"
    assert site.browser().code("POST", f"{browser.path}/tokens", 401) == "authentication_invalid"
    assert browser.token()["sub"] == site.user_id("ada")


def test_a_person_sees_and_revokes_their_sessions_elsewhere(site: Site, browser: Browser) -> None:
    other = site.browser()
    elsewhere = other.sign_in()["id"]
    browser.sign_in()
    sessions = browser.answer("GET", "/me/sessions/active")
    assert {each["id"] for each in sessions} == {elsewhere, browser.session["id"]}
    assert all(each["latest_activity"]["object"] == "session_activity" for each in sessions)
    assert len(browser.answer("GET", "/me/sessions")) == 2
    assert browser.post(f"/me/sessions/{elsewhere}/revoke")["status"] == "revoked"
    assert other.code("GET", "/me", 401) == "authentication_invalid"


def test_nobody_revokes_another_person_s_session(site: Site, browser: Browser) -> None:
    other = site.browser()
    elsewhere = other.sign_in("grace")["id"]
    browser.sign_in("ada")
    assert browser.code("POST", f"/me/sessions/{elsewhere}/revoke", 404) == "resource_not_found"
    assert other.get("/me")["first_name"] == "Grace"


@pytest.mark.parametrize("factor", ["password", "email_code"])
def test_a_first_factor_verified_again_makes_the_session_fresh(site: Site, browser: Browser, factor: str) -> None:
    browser.sign_in()
    site.clock.pass_seconds(25 * 60)
    assert browser.token()["fva"] == [25, -1]
    begun = browser.post(f"{browser.path}/verify", level="second_factor")
    assert (begun["status"], begun["level"]) == ("needs_first_factor", "first_factor")
    assert {each["strategy"] for each in begun["supported_first_factors"]} == {"password", "email_code"}
    attempt = f"{browser.path}/verify/attempt_first_factor"
    if factor == "password":
        assert browser.code("POST", attempt, 422, strategy=factor, password="wrong-one") == "form_password_incorrect"
        done = browser.post(attempt, strategy=factor, password=DEFAULT_PASSWORD)
    else:
        assert browser.code("POST", attempt, 400, strategy=factor, code=CODE) == "client_state_invalid"
        browser.post(f"{browser.path}/verify/prepare_first_factor", strategy=factor)
        done = browser.post(attempt, strategy=factor, code=CODE)
    assert (done["status"], done["first_factor_verification"]["status"]) == ("complete", "verified")
    assert browser.token()["fva"] == browser.session["factor_verification_age"] == [0, -1]


def test_what_a_session_cannot_be_asked_is_refused(browser: Browser) -> None:
    browser.sign_in()
    assert browser.code("POST", f"{browser.path}/touch", 422, intent="dance") == "form_param_value_invalid"
    assert browser.code("POST", f"{browser.path}/verify", 422, level="third") == "form_param_value_invalid"
    for action in ("prepare_first_factor", "attempt_first_factor", "prepare_second_factor", "attempt_second_factor"):
        code = browser.code("POST", f"{browser.path}/verify/{action}", 400, strategy="passkey")
        assert code == "strategy_for_user_invalid"


def test_a_session_lasts_a_week(site: Site, browser: Browser) -> None:
    browser.sign_in()
    site.clock.pass_seconds(7 * 86_400 - 1)
    assert browser.get("/me")["first_name"] == "Ada"
    site.clock.pass_seconds(1)
    assert browser.get("/client")["sessions"] == []
    assert browser.code("GET", "/me", 401) == "authentication_invalid"


def test_a_session_ended_from_elsewhere_leaves_the_other_one_active(open_site: SiteMaker) -> None:
    site = open_site(single_session=False)
    browser = site.browser()
    browser.sign_in("ada")
    site.running.post(f"/sessions/{browser.sign_in('grace')['id']}/revoke")
    assert browser.get("/me")["first_name"] == "Ada"
    assert browser.get("/client")["last_active_session_id"] == browser.client["sessions"][0]["id"]
