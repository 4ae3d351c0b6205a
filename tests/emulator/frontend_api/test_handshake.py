"""The handshake: a server gets the cookies of who is signed in, and nobody else does."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from emulator.frontend_api.browsers import APP, Browser, Site, SiteMaker, claims
from tenantry.emulator.frontend_api.cookies import suffix

URL = f"{APP}/documents?page=2"


def shake(browser: Browser, url: str = URL, **query: str) -> str:
    """Where the browser is sent."""
    response = browser.http.get("/v1/client/handshake", params={"redirect_url": url, **query})
    assert response.status_code == 307, response.text
    return response.headers["location"]


def cookies_of(site: Site, location: str) -> dict[str, str]:
    """What the app's server would set, by name."""
    nonce = parse_qs(urlsplit(location).query)["__clerk_handshake_nonce"][0]
    directives = site.running.get("/clients/handshake_payload", nonce=nonce)["directives"]
    return dict(directive.partition(";")[0].split("=", 1) for directive in directives)


def test_a_server_gets_the_cookies_of_who_is_signed_in_by_a_nonce(site: Site, browser: Browser) -> None:
    session = browser.sign_in()
    location = shake(browser, format="nonce")
    assert location.startswith(f"{URL}&__clerk_handshake_nonce=")
    cookies = cookies_of(site, location)
    token = claims(cookies["__session"])
    assert (token["sid"], token["azp"]) == (session["id"], APP)
    assert cookies["__client_uat"] == str(session["created_at"] // 1000)
    assert cookies["__clerk_db_jwt"].startswith("dvb_")
    ending = suffix(site.running.emulator.instance.publishable_key)
    assert {f"{name}_{ending}" for name in cookies if not name.endswith(ending)} <= cookies.keys()


def test_a_nonce_is_good_once_and_for_a_minute(site: Site, browser: Browser) -> None:
    location = shake(browser, format="nonce")
    cookies_of(site, location)
    nonce = parse_qs(urlsplit(location).query)["__clerk_handshake_nonce"][0]
    path = f"/clients/handshake_payload?nonce={nonce}"
    assert site.running.error("GET", path, status=404)["code"] == "resource_not_found"
    late = parse_qs(urlsplit(shake(browser, format="nonce")).query)["__clerk_handshake_nonce"][0]
    site.clock.pass_seconds(60)
    assert site.running.error("GET", f"/clients/handshake_payload?nonce={late}", status=404)
    assert site.running.error("GET", "/clients/handshake_payload", status=422)["code"] == "form_param_missing"


def test_without_a_format_the_cookies_come_in_a_signed_token(browser: Browser) -> None:
    browser.sign_in()
    location = shake(browser)
    token = parse_qs(urlsplit(location).query)["__clerk_handshake"][0]
    assert any(directive.startswith("__session=ey") for directive in claims(token)["handshake"])


def test_nobody_signed_in_clears_the_cookies_and_makes_the_browser_known(site: Site, browser: Browser) -> None:
    cookies = cookies_of(site, shake(browser, format="nonce"))
    assert (cookies["__session"], cookies["__client_uat"]) == ("", "0")
    again = cookies_of(site, shake(browser, format="nonce"))
    assert again["__clerk_db_jwt"] == cookies["__clerk_db_jwt"]


def test_a_browser_without_its_cookie_is_known_by_its_name(site: Site, browser: Browser) -> None:
    browser.sign_in()
    name = cookies_of(site, shake(browser, format="nonce"))["__clerk_db_jwt"]
    other = cookies_of(site, shake(site.browser(), format="nonce", __clerk_db_jwt=name))
    assert claims(other["__session"])["sub"] == site.user_id("ada")


def test_the_app_s_path_can_name_the_organization(site: Site, browser: Browser) -> None:
    browser.sign_in("ada")
    for name in ("acme", "globex"):
        id = site.organization_id(name)
        cookies = cookies_of(site, shake(browser, format="nonce", organization_id=id))
        assert claims(cookies["__session"])["o"]["id"] == id


def test_an_organization_one_is_not_in_changes_nothing(site: Site, browser: Browser) -> None:
    browser.sign_in("grace")
    query = {"format": "nonce", "organization_id": site.organization_id("globex")}
    assert claims(cookies_of(site, shake(browser, **query))["__session"])["o"]["id"] == site.organization_id("acme")


def test_the_personal_account_is_named_by_an_empty_organization(open_site: SiteMaker) -> None:
    site = open_site(membership_required=False)
    browser = site.browser()
    browser.sign_in()
    assert "o" in claims(cookies_of(site, shake(browser, format="nonce"))["__session"])
    assert "o" not in claims(cookies_of(site, shake(browser, format="nonce", organization_id=""))["__session"])


@pytest.mark.parametrize(
    "url", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "http://a@localhost/"]
)
def test_a_handshake_sends_nobody_s_cookies_elsewhere(browser: Browser, url: str) -> None:
    browser.sign_in()
    response = browser.http.get("/v1/client/handshake", params={"redirect_url": url})
    assert response.status_code == 422
    assert "location" not in response.headers
    assert browser.http.get("/v1/client/handshake").json()["errors"][0]["code"] == "form_param_missing"


def test_cookies_for_a_secure_page_are_secure(browser: Browser) -> None:
    location = shake(browser, "https://localhost:3000/")
    directives = claims(parse_qs(urlsplit(location).query)["__clerk_handshake"][0])["handshake"]
    assert all(directive.endswith(("Secure", "Secure; Max-Age=0")) for directive in directives)


def test_an_old_nonce_in_the_url_is_replaced(browser: Browser) -> None:
    location = shake(browser, f"{URL}&__clerk_handshake_nonce=old", format="nonce")
    assert len(parse_qs(urlsplit(location).query)["__clerk_handshake_nonce"]) == 1
