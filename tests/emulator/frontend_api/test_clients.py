"""A browser: its cookies, the people signed in at it, and what it is told of the instance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.frontend_api.browsers import APP, Browser, Site, SiteMaker, claims
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.frontend_api.cookies import suffix


def test_a_new_browser_has_no_client(browser: Browser) -> None:
    assert browser.answer("GET", "/client") == {"response": None, "client": None}


def test_a_browser_is_known_again_by_a_cookie_that_no_script_can_read(browser: Browser) -> None:
    made = browser.http.put("/v1/client")
    cookie = next(value for value in made.headers.get_list("set-cookie") if value.startswith("__client="))
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    assert browser.get("/client")["id"] == made.json()["response"]["id"]


def test_the_cookies_are_secure_where_the_page_is(browser: Browser) -> None:
    made = browser.http.put("/v1/client", headers={"x-forwarded-proto": "https"})
    assert all("secure" in value.lower() for value in made.headers.get_list("set-cookie"))


def test_the_app_is_told_when_somebody_signed_in(site: Site, browser: Browser) -> None:
    browser.sign_in()
    name = f"__client_uat_{suffix(site.running.emulator.instance.publishable_key)}"
    assert browser.http.cookies["__client_uat"] == browser.http.cookies[name] == str(site.clock.now // 1000)
    browser.delete("/client")
    assert browser.http.cookies["__client_uat"] == "0"


def test_the_client_holds_a_fresh_token_for_the_page_s_origin(browser: Browser) -> None:
    session = browser.sign_in()
    assert claims(session["last_active_token"]["jwt"])["azp"] == APP
    assert session["user"]["primary_email_address_id"]
    assert "private_metadata" not in session["user"]


def test_a_get_of_the_page_itself_tells_its_origin_by_the_referer(browser: Browser) -> None:
    browser.sign_in()
    del browser.http.headers["origin"]
    browser.http.headers["referer"] = "http://localhost:3000/documents?id=1"
    session = browser.get("/client")["sessions"][0]
    assert claims(session["last_active_token"]["jwt"])["azp"] == "http://localhost:3000"


def test_nothing_depends_on_the_host_that_a_proxy_states(open_site: SiteMaker) -> None:
    browser = open_site(allowed_origins=("https://proxied.example",)).browser()
    browser.http.headers["host"] = "proxied.example"
    browser.sign_in()
    assert browser.session["user"]["first_name"] == "Ada"
    begun = browser.answer("DELETE", "/client") and browser.post(
        "/client/sign_ins", strategy="oauth_custom_mock", redirect_url=f"{APP}/sign-in#/sso-callback"
    )
    assert begun["first_factor_verification"]["external_verification_redirect_url"].startswith(f"{APP}/__clerk/people?")


def test_another_browser_sees_nobody(site: Site, browser: Browser) -> None:
    browser.sign_in()
    other = site.browser()
    assert other.get("/client") is None
    assert other.code("GET", "/me", 401) == "authentication_invalid"
    other.http.cookies.set("__client", "guessed")
    assert other.get("/client") is None


def test_one_person_at_a_time_is_signed_in_unless_the_settings_allow_more(open_site: SiteMaker) -> None:
    browser = open_site().browser()
    browser.sign_in()
    assert browser.code("POST", "/client/sign_ins", 400, identifier="grace@example.test") == "session_exists"
    several = open_site(single_session=False).browser()
    several.sign_in("ada")
    several.sign_in("grace")
    assert [each["user"]["first_name"] for each in several.client["sessions"]] == ["Ada", "Grace"]
    error = several.error("POST", "/client/sign_ins", 400, identifier="ada@example.test")
    assert error["code"] == "identifier_already_signed_in"
    assert error["meta"]["session_id"] == several.client["sessions"][0]["id"]


def test_signing_out_ends_every_session_of_the_browser(site: Site, browser: Browser) -> None:
    browser.sign_in()
    site.heard()
    browser.delete("/client/sessions")
    assert site.heard() == ["session.removed"]
    assert (browser.client["sessions"], browser.client["last_active_session_id"]) == ([], None)
    assert browser.code("GET", "/me", 401) == "authentication_invalid"


def test_where_its_cookie_does_not_reach_a_browser_is_known_by_its_name(site: Site, browser: Browser) -> None:
    name = browser.answer("POST", "/dev_browser")["id"]
    browser.sign_in()
    other = site.browser()
    assert other.answer("GET", "/me", query={"__clerk_db_jwt": name})["response"]["first_name"] == "Ada"
    assert site.browser().answer("GET", "/client", query={"__clerk_db_jwt": "dvb_guessed"})["response"] is None


def test_who_knows_a_browser_s_name_alone_is_not_given_its_cookie(site: Site, browser: Browser) -> None:
    name = browser.answer("POST", "/dev_browser")["id"]
    browser.sign_in()
    other = site.browser().http
    assert other.get("/v1/client", params={"__clerk_db_jwt": name}).headers.get_list("set-cookie") == []
    assert other.post("/v1/me", params={"__clerk_db_jwt": name, "_method": "PATCH"}).status_code == 200
    assert not other.cookies


def test_no_page_of_another_site_asks_anything_not_even_by_a_browser_s_name(site: Site, browser: Browser) -> None:
    name = browser.answer("POST", "/dev_browser")["id"]
    browser.sign_in()
    for origin in (
        "https://evil.test",
        "null",
        "http://localhost.evil.test",
        "http://127.0.0.1.nip.io",
        "",
        "http://[",
    ):
        browser.http.headers["origin"] = origin
        assert browser.code("PATCH", "/me", 403, first_name="Eve") == "origin_invalid"
        refused = site.browser().http.post(
            "/v1/client/sign_ins", params={"__clerk_db_jwt": name}, headers={"origin": origin}
        )
        assert (refused.status_code, refused.headers.get_list("set-cookie")) == (403, [])
    browser.http.headers["origin"] = "http://app.localhost:3000"
    assert browser.get("/me")["first_name"] == "Ada"


@pytest.mark.parametrize("headers", [{"host": "rebind.test:4010"}, {"x-forwarded-host": "rebind.test"}])
def test_under_a_foreign_name_nobody_is_answered_and_told_what_to_do(browser: Browser, headers: dict[str, str]) -> None:
    browser.http.headers.update(headers)
    error = browser.error("GET", "/client", 403)
    assert error["code"] == "host_invalid"
    assert "add 'http://rebind.test" in error["message"]
    assert "allowed_origins" in error["message"]


def test_a_page_may_not_state_a_name_of_this_machine_over_its_own(browser: Browser) -> None:
    browser.http.headers.update({"host": "rebind.test:4010", "x-forwarded-host": "localhost"})
    assert browser.code("GET", "/client", 403) == "host_invalid"


def test_an_app_at_an_allowed_origin_is_answered_there_and_by_its_proxy(open_site: SiteMaker) -> None:
    browser = open_site(allowed_origins=("https://app.example",)).browser()
    browser.http.headers.update({"x-forwarded-host": "app.example", "origin": "https://app.example"})
    browser.sign_in()
    assert browser.session["user"]["first_name"] == "Ada"
    browser.http.headers["origin"] = "http://app.example"
    assert browser.code("GET", "/me", 403) == "origin_invalid"


def test_the_environment_follows_the_settings(open_site: SiteMaker) -> None:
    usual = open_site().browser().answer("GET", "/environment")
    assert usual["organization_settings"]["force_organization_selection"] is True
    assert usual["auth_config"]["single_session_mode"] is True
    changed = (
        open_site(enabled=False, slugs=True, single_session=False, application_name="Shop")
        .browser()
        .answer("PATCH", "/environment")
    )
    assert changed["display_config"]["application_name"] == "Shop"
    assert changed["organization_settings"]["enabled"] is False
    assert changed["organization_settings"]["force_organization_selection"] is False
    assert changed["organization_settings"]["slug"] == {"disabled": False}
    assert changed["user_settings"]["actions"]["create_organization"] is False
    assert changed["auth_config"]["single_session_mode"] is False


def test_the_environment_leads_nowhere_but_to_the_page_s_origin(browser: Browser) -> None:
    shown = json.dumps(browser.answer("GET", "/environment"))
    assert shown.count(APP) > 10
    assert "http" not in shown.replace(APP, "")


def test_a_broken_request_is_an_error_in_clerk_s_shape(browser: Browser) -> None:
    assert browser.code("GET", "/nowhere", 404) == "resource_not_found"
    assert browser.code("DELETE", "/environment", 405) == "method_not_allowed"
    fields = "&".join(f"f{number}=1" for number in range(1001))
    crowded = browser.http.post("/v1/client/sign_ins", content=fields)
    assert crowded.status_code == 400
    assert crowded.json()["errors"][0]["code"] == "request_body_invalid"
    huge = browser.http.post("/v1/client/sign_ins", content=b"a=" + b"1" * (1 << 20))
    assert huge.status_code == 413


def test_a_path_that_ends_in_a_slash_is_the_same(browser: Browser) -> None:
    browser.sign_in()
    assert (
        browser.post("/me/email_addresses/", email_address="more@example.test")["email_address"] == "more@example.test"
    )


def test_a_restart_keeps_who_is_signed_in_and_who_is_about_to(tmp_path: Path) -> None:
    first = Emulator(folder=tmp_path, settings={"allowed_origins": ("https://app.example",)})
    clients, user = first.store.clients, first.store.users.find("ada@example.test")
    signed_in, about_to = clients.create(), clients.create()
    clients.sign_in(signed_in, user.id)
    sign_in = first.store.sign_ins.identify(first.store.sign_ins.create(about_to), "grace@example.test")
    sign_up = first.store.sign_ups.create(clients.create())
    first.close()
    second = Emulator(folder=tmp_path)
    state = second.store.state
    assert second.store.clients.find(signed_in.secret) == state.clients[signed_in.id]
    assert second.store.clients.find_by_dev_browser(about_to.dev_browser) == state.clients[about_to.id]
    assert second.store.sign_ins.get(about_to, sign_in.id) == sign_in
    assert state.sign_ups == {sign_up.id: sign_up}
    assert state.settings.allowed_origins == ("https://app.example",)
    second.close()


def test_nothing_that_a_browser_does_later_outdates_its_session_cookie(site: Site, browser: Browser) -> None:
    """clerk-js notes the client's `updated_at`, and an app's server believes no cookie from before it."""
    browser.sign_in()
    token = browser.token()
    site.clock.pass_seconds(5)
    browser.touch(active_organization_id=site.organization_id("globex"), intent="select_org")
    assert browser.client["updated_at"] // 1000 <= token["iat"]
