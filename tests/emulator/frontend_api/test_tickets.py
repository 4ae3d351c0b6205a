"""Links that carry a ticket."""

from __future__ import annotations

import httpx

from emulator.frontend_api.browsers import APP, Browser, Site, claims

ACCEPT = "/v1/tickets/accept"


def follow(site: Site, browser: Browser, name: str, **more: str) -> httpx.Response:
    """Clicks a new link to be this person."""
    token = site.running.post("/sign_in_tokens", {"user_id": site.user_id(name)})["token"]
    return browser.http.get(ACCEPT, params={"ticket": token, "redirect_url": f"{APP}/documents", **more})


def test_one_click_signs_in_for_the_server_and_for_the_browser(site: Site, browser: Browser) -> None:
    answer = follow(site, browser, "ada")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{APP}/documents")
    token = claims(browser.http.cookies["__session"])
    assert (token["sub"], token["azp"]) == (site.user_id("ada"), APP)
    assert browser.get("/me")["first_name"] == "Ada"


def test_one_click_takes_the_place_of_who_was_signed_in(site: Site, browser: Browser) -> None:
    browser.sign_in("ada")
    site.heard()
    follow(site, browser, "grace")
    assert site.heard() == ["session.removed", "session.created"]
    assert [each["user"]["first_name"] for each in browser.get("/client")["sessions"]] == ["Grace"]


def test_who_is_banned_leaves_the_browser_as_it_was(site: Site, browser: Browser) -> None:
    browser.sign_in("ada")
    site.running.post(f"/users/{site.user_id('grace')}/ban")
    assert follow(site, browser, "grace").status_code == 403
    assert browser.get("/me")["first_name"] == "Ada"


def test_a_link_leads_to_this_machine_only_and_with_a_ticket_only(site: Site, browser: Browser) -> None:
    away = follow(site, browser, "ada", redirect_url="https://evil.example/")
    assert away.status_code == 422
    assert "location" not in away.headers
    assert follow(site, browser, "ada", ticket="<b>made up</b>").status_code == 400
    assert browser.http.get(ACCEPT).status_code == 422
    assert browser.http.get(ACCEPT, params={"ticket": "x"}).headers["content-type"].startswith("text/html")
    assert browser.get("/client") is None
