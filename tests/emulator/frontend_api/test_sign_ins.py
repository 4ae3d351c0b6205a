"""Signing in: with a password, a code, a ticket, or as somebody chosen on the page of people."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.frontend_api.browsers import APP, CODE, Browser, Json, Site, SiteMaker
from tenantry.emulator.seed import DEFAULT_PASSWORD

SIGN_INS = "/client/sign_ins"
BACK = f"{APP}/sign-in#/sso-callback"


def identified(browser: Browser, name: str = "ada") -> str:
    """The path of a sign-in that knows whose it is."""
    return f"{SIGN_INS}/{browser.post(SIGN_INS, identifier=f'{name}@example.test')['id']}"


def ticket_for(site: Site, name: str, **more: object) -> str:
    return str(site.running.post("/sign_in_tokens", {"user_id": site.user_id(name), **more})["token"])


def test_an_identifier_and_then_a_password_sign_in(site: Site, browser: Browser) -> None:
    path = identified(browser)
    begun = browser.get(path)
    assert (begun["status"], begun["identifier"]) == ("needs_first_factor", "ada@example.test")
    strategies = [factor["strategy"] for factor in begun["supported_first_factors"]]
    assert strategies == ["password", "email_code", "reset_password_email_code"]
    assert begun["user_data"]["first_name"] == "Ada"
    site.heard()
    done = browser.post(f"{path}/attempt_first_factor", strategy="password", password=DEFAULT_PASSWORD)
    assert (done["status"], done["created_session_id"]) == ("complete", browser.client["last_active_session_id"])
    assert site.heard() == ["session.created"]
    assert browser.session["user"]["id"] == site.user_id("ada")


def test_case_and_spaces_around_an_identifier_do_not_matter(browser: Browser) -> None:
    assert browser.post(SIGN_INS, identifier=" Ada@Example.TEST ")["identifier"] == "ada@example.test"


def test_an_unknown_person_and_a_wrong_password_are_refused_at_their_field(browser: Browser) -> None:
    unknown = browser.error("POST", SIGN_INS, 422, identifier="nobody@example.test")
    assert (unknown["code"], unknown["meta"]["param_name"]) == ("form_identifier_not_found", "identifier")
    path = f"{identified(browser)}/attempt_first_factor"
    wrong = browser.error("POST", path, 422, strategy="password", password="not-the-password")
    assert (wrong["code"], wrong["meta"]["param_name"]) == ("form_password_incorrect", "password")
    assert browser.get("/client")["sessions"] == []


@pytest.mark.parametrize(("change", "code"), [("ban", "user_banned"), ("lock", "user_locked")])
def test_who_is_banned_or_locked_cannot_sign_in(site: Site, browser: Browser, change: str, code: str) -> None:
    path = f"{identified(browser)}/attempt_first_factor"
    site.running.post(f"/users/{site.user_id('ada')}/{change}")
    assert browser.code("POST", path, 403, strategy="password", password=DEFAULT_PASSWORD) == code
    assert browser.code("POST", SIGN_INS, 403, identifier="ada@example.test") == code


def test_a_code_by_mail_signs_in(browser: Browser) -> None:
    path = identified(browser)
    prepared = browser.post(f"{path}/prepare_first_factor", strategy="email_code", email_address_id="idn_1")
    assert prepared["first_factor_verification"]["status"] == "unverified"
    attempt = f"{path}/attempt_first_factor"
    assert browser.code("POST", attempt, 422, strategy="email_code", code="000000") == "form_code_incorrect"
    assert browser.post(attempt, strategy="email_code", code=CODE)["status"] == "complete"


def test_a_code_that_was_not_asked_for_or_came_too_late_is_refused(site: Site, browser: Browser) -> None:
    path = identified(browser)
    attempt = f"{path}/attempt_first_factor"
    assert browser.code("POST", attempt, 400, strategy="email_code", code=CODE) == "client_state_invalid"
    browser.post(f"{path}/prepare_first_factor", strategy="email_code")
    site.clock.pass_seconds(600)
    assert browser.code("POST", attempt, 400, strategy="email_code", code=CODE) == "verification_expired"


def test_a_code_for_a_new_password_is_good_for_nothing_else(browser: Browser) -> None:
    path = identified(browser)
    browser.post(f"{path}/prepare_first_factor", strategy="reset_password_email_code")
    attempt = f"{path}/attempt_first_factor"
    assert browser.code("POST", attempt, 400, strategy="email_code", code=CODE) == "client_state_invalid"
    assert browser.code("POST", f"{path}/reset_password", 400, password="a-new-password") == "client_state_invalid"
    verified = browser.post(attempt, strategy="reset_password_email_code", code=CODE)
    assert (verified["status"], verified["created_session_id"]) == ("needs_new_password", None)
    short = browser.code("POST", f"{path}/reset_password", 422, password="short")
    assert short == "form_password_length_too_short"
    assert browser.post(f"{path}/reset_password", password="a-new-password")["status"] == "complete"
    browser.delete("/client")
    assert browser.post(SIGN_INS, identifier="ada@example.test", password="a-new-password")["status"] == "complete"


def test_a_new_password_can_sign_out_the_other_browsers(site: Site, browser: Browser) -> None:
    other = site.browser()
    other.sign_in()
    path = identified(browser)
    browser.post(f"{path}/prepare_first_factor", strategy="reset_password_email_code")
    browser.post(f"{path}/attempt_first_factor", strategy="reset_password_email_code", code=CODE)
    browser.post(f"{path}/reset_password", password="a-new-password", sign_out_of_other_sessions="true")
    assert other.code("GET", "/me", 401) == "authentication_invalid"
    assert browser.get("/me")["first_name"] == "Ada"


def test_strategies_that_are_switched_off_are_refused(browser: Browser) -> None:
    path = identified(browser)
    for strategy in ("passkey", "phone_code", "totp", "oauth_google", "enterprise_sso", ""):
        for action in ("prepare_first_factor", "attempt_first_factor"):
            status, code = (400, "strategy_for_user_invalid") if strategy else (422, "form_param_missing")
            assert browser.code("POST", f"{path}/{action}", status, strategy=strategy) == code
    assert browser.code("POST", f"{path}/attempt_second_factor", 400, strategy="totp") == "strategy_for_user_invalid"


def test_a_sign_in_token_signs_in_once(site: Site, browser: Browser) -> None:
    ticket = ticket_for(site, "ada")
    assert browser.post(SIGN_INS, strategy="ticket", ticket=ticket)["status"] == "complete"
    assert browser.session["user"]["first_name"] == "Ada"
    again = site.browser().code("POST", SIGN_INS, 400, strategy="ticket", ticket=ticket)
    assert again == "sign_in_token_already_used_code"


def test_a_ticket_that_is_invalid_revoked_or_old_signs_nobody_in(site: Site, browser: Browser) -> None:
    assert browser.code("POST", SIGN_INS, 400, strategy="ticket", ticket="made-up") == "ticket_invalid_code"
    revoked = site.running.post("/sign_in_tokens", {"user_id": site.user_id("ada")})
    site.running.post(f"/sign_in_tokens/{revoked['id']}/revoke")
    assert browser.code("POST", SIGN_INS, 400, ticket=revoked["token"]) == "sign_in_token_revoked_code"
    old = ticket_for(site, "ada", expires_in_seconds=60)
    site.clock.pass_seconds(60)
    assert browser.code("POST", SIGN_INS, 400, ticket=old) == "ticket_expired_code"


def test_an_invitation_signs_its_person_in_as_a_member(site: Site, browser: Browser) -> None:
    globex = site.organization_id("globex")
    invited = {"email_address": "grace@example.test", "role": "org:member", "redirect_url": f"{APP}/sign-in"}
    url = site.running.post(f"/organizations/{globex}/invitations", invited)["url"]
    query = parse_qs(urlsplit(url).query)
    assert query["__clerk_status"] == ["sign_in"]
    assert browser.post(SIGN_INS, strategy="ticket", ticket=query["__clerk_ticket"][0])["status"] == "complete"
    assert browser.session["last_active_organization_id"] == globex
    assert "organizationInvitation.accepted" in site.heard()


def begin_choosing(browser: Browser, path: str = SIGN_INS, back: str = BACK) -> tuple[Json, str]:
    """An attempt by the one-click provider, and the path of the page it leads to."""
    attempt = browser.post(
        path, strategy="oauth_custom_mock", redirect_url=back, action_complete_redirect_url=f"{APP}/"
    )
    part = "first_factor_verification" if path == SIGN_INS else "verifications"
    verification = attempt[part] if path == SIGN_INS else attempt[part]["external_account"]
    url = verification["external_verification_redirect_url"]
    assert url.startswith(f"{APP}/__clerk/people?")
    return attempt, url.removeprefix(f"{APP}/__clerk")


def test_one_click_signs_in_as_a_person_of_the_emulator(site: Site, browser: Browser) -> None:
    attempt, page = begin_choosing(browser)
    shown = browser.http.get(page)
    assert "Grace Hopper" in shown.text
    assert "Acme (Editor)" in shown.text
    chosen = browser.http.post(page, data={"attempt": attempt["id"], "user_id": site.user_id("grace")})
    assert (chosen.status_code, chosen.headers["location"]) == (303, BACK)
    client = browser.get("/client")
    assert (client["sign_in"]["status"], len(client["sessions"])) == ("complete", 1)
    assert client["sign_in"]["created_session_id"] == client["last_active_session_id"]
    assert client["sessions"][0]["user"]["first_name"] == "Grace"
    browser.post(f"/client/sessions/{client['last_active_session_id']}/touch", intent="select_session")
    assert browser.client["sign_in"] is None


def test_who_may_not_sign_in_is_refused_by_the_component(site: Site, browser: Browser) -> None:
    site.running.post(f"/users/{site.user_id('grace')}/ban")
    attempt, page = begin_choosing(browser)
    browser.http.post(page, data={"attempt": attempt["id"], "user_id": site.user_id("grace")})
    verification = browser.get("/client")["sign_in"]["first_factor_verification"]
    assert (verification["status"], verification["error"]["code"]) == ("failed", "user_banned")


def test_the_page_of_people_serves_only_the_browser_that_began(site: Site, browser: Browser) -> None:
    attempt, page = begin_choosing(browser)
    stranger = site.browser()
    assert stranger.http.get(page).status_code == 404
    form = {"attempt": attempt["id"], "user_id": site.user_id("grace")}
    assert stranger.http.post(page, data=form).status_code == 404
    assert browser.http.post(page, data=form | {"user_id": "user_made_up"}).status_code == 404
    assert browser.http.post(page, data=form).status_code == 303
    assert browser.http.post(page, data=form).status_code == 404


def test_names_on_the_page_of_people_are_inert(site: Site, browser: Browser) -> None:
    site.running.user("mallory", first_name="<script>alert(1)</script>")
    shown = browser.http.get(begin_choosing(browser)[1])
    assert "<script>" not in shown.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.text
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")


def test_many_people_are_found_by_name(site: Site, browser: Browser) -> None:
    for number in range(60):
        site.running.user(f"person{number}")
    page = begin_choosing(browser)[1]
    assert "And 13 more" in browser.http.get(page).text
    found = browser.http.get(f"{page}&query=person59").text
    assert "person59@example.test" in found
    assert "person58@example.test" not in found


def test_signing_up_as_somebody_who_exists_signs_them_in(site: Site, browser: Browser) -> None:
    attempt, page = begin_choosing(browser, "/client/sign_ups")
    browser.http.post(page, data={"attempt": attempt["id"], "user_id": site.user_id("alan")})
    external = browser.get("/client")["sign_up"]["verifications"]["external_account"]
    assert (external["status"], external["error"]["code"]) == ("transferable", "external_account_exists")
    assert browser.post(SIGN_INS, transfer="true")["status"] == "complete"
    assert browser.session["user"]["first_name"] == "Alan"


def test_nobody_is_transferred_who_was_not_chosen(browser: Browser) -> None:
    assert browser.code("POST", SIGN_INS, 400, transfer="true") == "account_transfer_invalid"
    assert browser.code("POST", "/client/sign_ups", 400, transfer="true") == "account_transfer_invalid"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/", "//evil.example/", "/relative", "javascript:alert(1)", "http://localhost@evil.example/",
        "http://evil.example\\@localhost/", "http://localhost.evil.example/", "http://user@localhost/", "http:///x",
        "http://[::1", "http://localhost:99999/", "", "http://127.0.0.1.evil.example/", " http://evil.example",
    ],
)  # fmt: skip
def test_a_sign_in_leads_back_to_this_machine_only(browser: Browser, url: str) -> None:
    code = "form_param_value_invalid" if url else "form_param_missing"
    assert browser.code("POST", SIGN_INS, 422, strategy="oauth_custom_mock", redirect_url=url) == code


@pytest.mark.parametrize("url", [f"{APP}/x", "http://localhost/", "https://[::1]:3000/a#b", "http://app.localhost:1/"])
def test_a_sign_in_leads_back_to_any_page_of_this_machine(browser: Browser, url: str) -> None:
    begun = browser.post(SIGN_INS, strategy="oauth_custom_mock", redirect_url=url)
    assert begun["first_factor_verification"]["external_verification_redirect_url"]


def test_another_origin_is_led_back_to_when_the_settings_say_so(open_site: SiteMaker) -> None:
    browser = open_site(allowed_origins=("https://app.example",)).browser()
    form = {"strategy": "oauth_custom_mock", "redirect_url": "https://app.example/sign-in"}
    begun = browser.post(SIGN_INS, **form)
    url = begun["first_factor_verification"]["external_verification_redirect_url"]
    assert url.startswith("https://app.example/__clerk/people?")
    other = form | {"redirect_url": "https://app.example:8443/"}
    assert browser.code("POST", SIGN_INS, 422, **other) == "form_param_value_invalid"


def test_a_sign_in_of_another_browser_does_not_exist(site: Site, browser: Browser) -> None:
    path = identified(browser)
    other = site.browser()
    assert other.code("GET", path, 404) == "resource_not_found"
    attempt = f"{path}/attempt_first_factor"
    assert other.code("POST", attempt, 404, strategy="password", password=DEFAULT_PASSWORD) == "resource_not_found"


def test_a_new_sign_in_takes_the_place_of_the_one_before(site: Site, browser: Browser) -> None:
    before = identified(browser)
    after = identified(browser, "grace")
    assert browser.code("GET", before, 404) == "resource_not_found"
    assert browser.client["sign_in"]["id"] == after.rpartition("/")[2]
    assert len(site.running.emulator.store.state.sign_ins) == 1


_TEXTS = st.text(max_size=30) | st.sampled_from(["ada@example.test", "password", "ticket", "email_code", "true", CODE])


@given(
    form=st.dictionaries(
        st.sampled_from(["strategy", "identifier", "password", "ticket", "transfer", "redirect_url", "code"]), _TEXTS
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_form_breaks_a_sign_in(browser: Browser, form: dict[str, str]) -> None:
    data = {name: value.encode(errors="replace").decode() for name, value in form.items()}
    for path in (SIGN_INS, "/client/sign_ups"):
        response = browser.http.post(f"/v1{path}", data=data)
        assert response.status_code in (200, 400, 403, 404, 422), response.text
        assert response.json()["client"] if response.status_code == 200 else response.json()["errors"]
        if response.status_code == 200:
            browser.delete("/client")


def claim_unverified(browser: Browser, name: str, address: str) -> str:
    """The path of an address that this person says is theirs, before they have proved it."""
    browser.sign_in(name)
    return f"/me/email_addresses/{browser.post('/me/email_addresses', email_address=address)['id']}"


def test_an_unverified_address_takes_nobody_s_invitation_and_signs_nobody_in(site: Site, browser: Browser) -> None:
    claim_unverified(browser, "grace", "Kay@example.test")
    globex = site.organization_id("globex")
    path, form = f"/organizations/{globex}/invitations", {"email_address": "kay@example.test", "role": "org:admin"}
    invited = site.running.post(path, {**form, "redirect_url": f"{APP}/join"})
    query = parse_qs(urlsplit(invited["url"]).query)
    assert query["__clerk_status"] == ["sign_up"]
    (ticket,) = query["__clerk_ticket"]
    kay = site.browser()
    assert kay.code("POST", SIGN_INS, 404, strategy="ticket", ticket=ticket) == "invitation_account_not_exists"
    assert kay.code("POST", SIGN_INS, 422, identifier="kay@example.test") == "form_identifier_not_found"
    done = kay.post("/client/sign_ups", strategy="ticket", ticket=ticket, password="a long password")
    assert done["status"] == "complete"
    assert [each["organization"]["id"] for each in kay.session["user"]["organization_memberships"]] == [globex]


def test_who_proves_an_address_first_has_it(site: Site, browser: Browser) -> None:
    path = claim_unverified(browser, "grace", "kay@example.test")
    assert (
        browser.code("POST", "/me/email_addresses", 422, email_address="KAY@example.test") == "form_identifier_exists"
    )
    ada = site.browser()
    proved = claim_unverified(ada, "ada", "kay@example.test")
    ada.post(f"{proved}/attempt_verification", code=CODE)
    assert browser.code("POST", f"{path}/attempt_verification", 422, code=CODE) == "form_identifier_exists"
    browser.delete(path)
    assert site.user_id("kay") == site.user_id("ada")
    taken = site.browser().code("POST", "/client/sign_ups", 422, email_address="kay@example.test")
    assert taken == "form_identifier_exists"
