"""The person's own profile, and what of it other people hear."""

from __future__ import annotations

import base64

import pytest

from emulator.frontend_api.browsers import CODE, Browser, Site
from tenantry.emulator.seed import DEFAULT_PASSWORD

EMAILS = "/me/email_addresses"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


@pytest.fixture
def ada(site: Site, browser: Browser) -> Browser:
    browser.sign_in("ada")
    site.heard()
    return browser


def test_a_person_sees_themselves_with_all_their_organizations(ada: Browser) -> None:
    shown = ada.get("/me")
    names = [each["organization"]["name"] for each in shown["organization_memberships"]]
    assert (shown["first_name"], names) == ("Ada", ["Acme", "Globex"])
    assert "private_metadata" not in shown
    assert shown["password_enabled"] is True


def test_a_changed_name_is_announced(site: Site, ada: Browser) -> None:
    assert ada.patch("/me", first_name="Augusta", last_name="")["first_name"] == "Augusta"
    assert site.heard() == ["user.updated"]
    assert site.running.get(f"/users/{site.user_id('ada')}")["last_name"] is None


def test_the_unsafe_metadata_are_the_person_s_own_and_no_other(site: Site, ada: Browser) -> None:
    ada.patch("/me", unsafe_metadata={"theme": "dark", "size": 2}, public_metadata={"plan": "gold"})
    merged = ada.patch("/me/metadata", unsafe_metadata={"size": None, "lang": "en"})
    assert merged["unsafe_metadata"] == {"theme": "dark", "lang": "en"}
    assert merged["public_metadata"] == {}
    assert ada.code("PATCH", "/me/metadata", 422) == "form_param_missing"
    assert ada.code("PATCH", "/me/metadata", 422, unsafe_metadata="[1]") == "form_param_format_invalid"


def test_a_new_address_is_verified_by_a_code_and_may_then_be_primary(site: Site, ada: Browser) -> None:
    added = ada.post(EMAILS, email_address="countess@example.test")
    assert added["verification"]["status"] == "unverified"
    path = f"{EMAILS}/{added['id']}"
    assert ada.code("PATCH", "/me", 422, primary_email_address_id=added["id"]) == "form_param_value_invalid"
    ada.post(f"{path}/prepare_verification", strategy="email_code")
    assert ada.code("POST", f"{path}/attempt_verification", 422, code="000000") == "form_code_incorrect"
    assert ada.post(f"{path}/attempt_verification", code=CODE)["verification"]["status"] == "verified"
    assert ada.code("POST", f"{path}/attempt_verification", 400, code=CODE) == "verification_already_verified"
    assert ada.patch("/me", primary_email_address_id=added["id"])["primary_email_address_id"] == added["id"]
    assert [each["email_address"] for each in ada.answer("GET", EMAILS)] == [
        "ada@example.test",
        "countess@example.test",
    ]
    assert set(site.heard()) == {"user.updated"}


def test_an_address_that_is_not_verified_signs_nobody_in_by_code(ada: Browser) -> None:
    ada.post(EMAILS, email_address="countess@example.test")
    ada.delete("/client")
    factors = ada.post("/client/sign_ins", identifier="ada@example.test")["supported_first_factors"]
    assert {each.get("safe_identifier") for each in factors} == {None, "ada@example.test"}


def test_the_last_verified_address_stays(ada: Browser) -> None:
    added = ada.post(EMAILS, email_address="countess@example.test")["id"]
    first = ada.answer("GET", EMAILS)[0]["id"]
    assert ada.code("DELETE", f"{EMAILS}/{first}", 403) == "identification_deletion_failed"
    ada.post(f"{EMAILS}/{added}/attempt_verification", code=CODE)
    assert ada.delete(f"{EMAILS}/{first}") == {"object": "email_address", "id": first, "deleted": True}
    assert ada.get("/me")["primary_email_address_id"] == added


def test_another_person_s_address_is_neither_seen_nor_taken(site: Site, ada: Browser) -> None:
    grace = site.browser()
    grace.sign_in("grace")
    id = grace.answer("GET", EMAILS)[0]["id"]
    assert ada.code("GET", f"{EMAILS}/{id}", 404) == "resource_not_found"
    assert ada.code("DELETE", f"{EMAILS}/{id}", 404) == "resource_not_found"
    assert ada.code("POST", EMAILS, 422, email_address="Grace@example.test") == "form_identifier_exists"


def test_a_new_password_is_the_one_to_sign_in_with(ada: Browser) -> None:
    form = {"current_password": DEFAULT_PASSWORD, "new_password": "a-new-password"}
    wrong = ada.error("POST", "/me/change_password", 422, **form | {"current_password": "wrong-password"})
    assert (wrong["code"], wrong["meta"]["param_name"]) == ("form_password_incorrect", "current_password")
    ada.post("/me/change_password", **form)
    ada.delete("/client")
    form = {"identifier": "ada@example.test", "password": DEFAULT_PASSWORD}
    assert ada.code("POST", "/client/sign_ins", 422, **form) == "form_password_incorrect"
    assert ada.post("/client/sign_ins", **form | {"password": "a-new-password"})["status"] == "complete"


def test_a_new_password_can_sign_out_everywhere_else(site: Site, ada: Browser) -> None:
    other = site.browser()
    other.sign_in("ada")
    ada.post("/me/change_password", new_password="a-new-password", sign_out_of_other_sessions="true")
    assert other.code("GET", "/me", 401) == "authentication_invalid"
    assert ada.get("/me")["first_name"] == "Ada"


def test_who_removed_their_password_signs_in_by_code(ada: Browser) -> None:
    assert ada.post("/me/remove_password", current_password=DEFAULT_PASSWORD)["password_enabled"] is False
    ada.delete("/client")
    form = {"identifier": "ada@example.test", "password": DEFAULT_PASSWORD}
    assert ada.code("POST", "/client/sign_ins", 400, **form) == "strategy_for_user_invalid"
    begun = ada.post("/client/sign_ins", identifier="ada@example.test", strategy="email_code")
    assert begun["first_factor_verification"]["strategy"] == "email_code"


def test_what_needs_a_recent_sign_in_is_refused_until_it_is_verified_again(site: Site, ada: Browser) -> None:
    site.clock.pass_seconds(10 * 60)
    asked = [
        ("POST", "/me/change_password", {"new_password": "a-new-password"}),
        ("POST", "/me/remove_password", {}),
        ("POST", EMAILS, {"email_address": "countess@example.test"}),
        ("DELETE", "/me", {}),
    ]
    for method, path, form in asked:
        error = ada.error(method, path, 403, **form)
        assert error["code"] == "session_reverification_required"
        assert error["meta"]["reverification"] == {"level": "first_factor", "after_minutes": 10}
    attempt = {"strategy": "password", "password": DEFAULT_PASSWORD}
    ada.post(f"{ada.path}/verify/attempt_first_factor", **attempt)
    assert ada.post(EMAILS, email_address="countess@example.test")["email_address"] == "countess@example.test"


def test_who_deletes_their_account_is_gone_from_everywhere(site: Site, ada: Browser) -> None:
    id, other = site.user_id("ada"), site.browser()
    other.sign_in("ada")
    assert ada.delete("/me") == {"object": "user", "id": id, "deleted": True}
    assert (ada.client["sessions"], ada.client["last_active_session_id"]) == ([], None)
    assert other.code("GET", "/me", 401) == "authentication_invalid"
    assert "user.deleted" in site.heard()
    assert site.running.error("GET", f"/users/{id}", status=404)


def test_who_may_not_delete_their_account_keeps_it(site: Site, ada: Browser) -> None:
    site.running.patch(f"/users/{site.user_id('ada')}", {"delete_self_enabled": False})
    assert ada.code("DELETE", "/me", 403) == "user_delete_self_not_enabled"
    assert ada.get("/me")["first_name"] == "Ada"


def test_a_profile_image_is_kept_and_shown(ada: Browser) -> None:
    sent = ada.http.post("/v1/me/profile_image", files={"file": ("me.png", PIXEL)}).json()
    assert sent["response"]["public_url"].startswith("data:image/png;base64,")
    shown = ada.get("/me")
    assert (shown["image_url"], shown["has_image"]) == (sent["response"]["public_url"], True)
    ada.delete("/me/profile_image")
    assert ada.get("/me")["has_image"] is False
    assert ada.code("DELETE", "/me/profile_image", 404) == "image_not_found"
    refused = ada.http.post("/v1/me/profile_image", files={"file": ("me.svg", b"<svg onload='alert(1)'/>")})
    assert refused.status_code == 400


def test_what_is_not_emulated_is_refused_in_shape(ada: Browser) -> None:
    assert ada.code("POST", "/me/tokens", 404, service="firebase") == "resource_not_found"
    assert ada.code("POST", "/me/external_accounts", 422, strategy="oauth_google") == "oauth_provider_not_enabled"
    assert ada.code("POST", "/me/passkeys", 404) == "resource_not_found"


@pytest.mark.parametrize("path", ["/me", EMAILS, "/me/sessions", "/me/sessions/active"])
def test_nobody_signed_in_is_401(browser: Browser, path: str) -> None:
    assert browser.code("GET", path, 401) == "authentication_invalid"
