"""Organizations, as the pages of their members make, change and delete them."""

from __future__ import annotations

import base64

import pytest

from emulator.frontend_api.offices import Browser, Office, open_office
from tenantry.emulator.settings import Settings

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def office() -> Office:
    return open_office()


@pytest.fixture
def ada(office: Office) -> Browser:
    return office.person("ada")


def test_who_creates_an_organization_is_its_admin(office: Office, ada: Browser) -> None:
    made = ada.post("/organizations", name="Acme")
    assert (made["name"], made["members_count"], made["pending_invitations_count"]) == ("Acme", 1, 0)
    (membership,) = ada.get("/me/organization_memberships", paginated="true")["data"]
    assert (membership["role"], membership["organization"]) == ("org:admin", made)
    assert "org:sys_memberships:manage" in membership["permissions"]
    assert office.heard() == ["organization.created", "organizationMembership.created"]


def test_the_creators_session_may_switch_to_a_new_organization_at_once(ada: Browser) -> None:
    answer = ada.call("POST", "/organizations", data={"name": "Acme"})
    (session,) = answer["client"]["sessions"]
    assert [each["organization"]["name"] for each in session["user"]["organization_memberships"]] == ["Acme"]
    assert ada.touch(answer["response"]["id"])["last_active_organization_id"] == answer["response"]["id"]


def test_nobody_who_is_not_signed_in_is_answered(office: Office, ada: Browser) -> None:
    office.emulator.store.sessions.end_all(ada.user_id, "revoked")
    for method, path in (("POST", "/organizations"), ("GET", "/me/organization_memberships")):
        assert ada.refusal(method, path, 401) == "authentication_invalid"


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("enabled", "organization_not_enabled_in_instance"),
        ("users_may_create_organizations", "user_create_organization_not_enabled"),
    ],
)
def test_a_forged_create_is_refused_where_people_may_not_create(setting: str, code: str) -> None:
    office = open_office(**{setting: False})
    assert office.person("ada").refusal("POST", "/organizations", 403, name="Acme") == code
    assert not office.emulator.store.state.organizations


def test_one_person_alone_can_be_kept_from_creating(office: Office, ada: Browser) -> None:
    office.emulator.store.users.update(ada.user_id, {"create_organization_enabled": False})
    assert ada.refusal("POST", "/organizations", 403, name="Acme") == "user_create_organization_not_enabled"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "form_param_missing"),
        ({"name": " "}, "form_param_missing"),
        ({"name": "x" * 257}, "form_param_value_invalid"),
        ({"name": "<b>Acme</b>"}, "form_param_value_invalid"),
        ({"name": "Acme", "colour": "red"}, "form_param_unknown"),
    ],
)
def test_a_name_that_will_not_do_is_refused(ada: Browser, form: dict[str, str], code: str) -> None:
    assert ada.refusal("POST", "/organizations", 422, **form) == code


def test_a_slug_is_refused_where_there_are_none(ada: Browser) -> None:
    refused = ada.refusal("POST", "/organizations", 403, name="Acme", slug="acme")
    assert refused == "organization_slugs_disabled"


def test_slugs_where_on_are_made_taken_and_changed() -> None:
    ada = open_office(slugs=True).person("ada")
    acme = ada.post("/organizations", name="Acme", slug="acme")
    assert ada.post("/organizations", name="Globex")["slug"] == "globex"
    assert ada.refusal("POST", "/organizations", 422, name="Acme", slug="acme") == "form_identifier_exists"
    assert ada.patch(f"/organizations/{acme['id']}", slug="acme-inc")["slug"] == "acme-inc"
    assert ada.get("/organizations/acme-inc")["id"] == acme["id"]


def test_an_admin_renames_an_organization_and_a_member_may_not(office: Office, ada: Browser) -> None:
    path = f"/organizations/{(acme := office.organization(ada))}"
    ben = office.join(acme, "ben")
    assert office.heard()[-1] == "organizationMembership.created"
    assert ada.patch(path, name="Acme Inc")["name"] == "Acme Inc"
    assert office.heard() == ["organization.updated"]
    error = ben.error("PATCH", path, 403, name="Bens")
    assert error["code"] == "missing_organization_permission"
    assert error["meta"] == {"permissions": ["org:sys_profile:manage"]}
    assert ben.get(path)["name"] == "Acme Inc"
    assert ada.refusal("PATCH", path, 422, name="") == "form_param_missing"


def test_a_stranger_is_not_told_whether_there_is_an_organization(office: Office, ada: Browser) -> None:
    acme, eve = office.organization(ada), office.person("eve")
    for id in (acme, "org_none"):
        assert eve.refusal("GET", f"/organizations/{id}", 404) == "organization_not_found_or_unauthorized"
        for method in ("PATCH", "DELETE"):
            assert eve.refusal(method, f"/organizations/{id}", 404) == "organization_not_found_or_unauthorized"
        for child in ("memberships", "invitations", "domains", "membership_requests", "roles"):
            assert eve.refusal("GET", f"/organizations/{id}/{child}", 403) == "not_a_member_in_organization"


def test_a_deleted_organization_is_active_in_no_session_and_has_no_members(office: Office, ada: Browser) -> None:
    acme = office.organization(ada)
    ben = office.join(acme, "ben")
    ada.touch(acme)
    ada.post(f"/organizations/{acme}/invitations", email_address="cleo@example.test", role="org:member")
    assert office.heard()[-1] == "organizationInvitation.created"
    assert ada.delete(f"/organizations/{acme}") == {"object": "organization", "id": acme, "deleted": True}
    assert office.heard() == ["organization.deleted"]
    assert office.emulator.store.sessions.get(ada.session_id).organization_id is None
    for person in (ada, ben):
        assert person.get("/me/organization_memberships", paginated="true") == {"data": [], "total_count": 0}


def test_deleting_needs_the_permission_and_that_the_organization_allows_it(office: Office, ada: Browser) -> None:
    acme = office.organization(ada)
    path, ben = f"/organizations/{acme}", office.join(acme, "ben")
    assert ben.refusal("DELETE", path, 403) == "missing_organization_permission"
    office.emulator.store.organizations.update(acme, {"admin_delete_enabled": False})
    assert ada.refusal("DELETE", path, 403) == "organization_admin_delete_not_enabled"


def test_a_logo_is_shown_to_members_until_it_is_taken_away(office: Office, ada: Browser) -> None:
    path = f"/organizations/{office.organization(ada)}"
    shown = ada.call("PUT", f"{path}/logo", files={"file": ("logo.png", PNG)})["response"]
    assert shown["has_image"] is True
    assert shown["image_url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert ada.delete(f"{path}/logo") == {"object": "image", "deleted": True}
    assert ada.get(path)["has_image"] is False
    assert ada.refusal("DELETE", f"{path}/logo", 404) == "image_not_found"
    assert office.heard()[-2:] == ["organization.updated", "organization.updated"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"<svg onload='alert(1)'/>", 400, "request_body_invalid"),
        (PNG + bytes(65536), 413, "image_too_large"),
        (b"", 400, "form_param_missing"),
    ],
)
def test_what_is_no_fit_image_is_no_logo(office: Office, ada: Browser, content: bytes, status: int, code: str) -> None:
    path = f"/organizations/{office.organization(ada)}/logo"
    response = ada.send("PUT", path, files={"file": ("logo.png", content)})
    assert (response.status_code, response.json()["errors"][0]["code"]) == (status, code)


def test_a_logo_may_come_in_base64(office: Office, ada: Browser) -> None:
    path = f"/organizations/{office.organization(ada)}/logo"
    sent = {"content": base64.b64encode(PNG), "headers": {"content-type": "application/octet-stream"}}
    assert ada.call("PUT", path, **sent)["response"]["has_image"] is True
    assert ada.send("PUT", path, **sent | {"content": "no image"}).status_code == 400


def test_roles_are_listed_with_their_permissions(office: Office, ada: Browser) -> None:
    acme, store = office.organization(ada), office.emulator.store
    permission = store.permissions.create("Read reports", "org:reports:read")
    store.roles.create("Analyst", "org:analyst", None, [permission.id])
    found = office.join(acme, "ben").get(f"/organizations/{acme}/roles", limit=20)
    assert [each["key"] for each in found["data"]] == ["org:analyst", "org:member", "org:admin"]
    assert (found["total_count"], found["has_role_set_migration"]) == (3, False)
    assert [each["type"] for each in found["data"][0]["permissions"]] == ["user"]
    assert {each["type"] for each in found["data"][2]["permissions"]} == {"system"}


def test_an_organization_is_made_with_the_limit_of_the_instance() -> None:
    office = open_office(max_allowed_memberships=Settings().max_allowed_memberships)
    assert office.person("ada").post("/organizations", name="Acme")["max_allowed_memberships"] == 5


def test_there_are_no_defaults_for_a_new_organization(ada: Browser) -> None:
    assert ada.get("/me/organization_creation_defaults") == {"form": None, "advisory": None}
