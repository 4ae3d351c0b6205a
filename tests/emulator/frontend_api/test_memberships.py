"""Members, as they see and manage each other, and leave."""

from __future__ import annotations

import pytest

from emulator.frontend_api.offices import Browser, Office, open_office


@pytest.fixture
def office() -> Office:
    return open_office()


@pytest.fixture
def ada(office: Office) -> Browser:
    return office.person("ada")


@pytest.fixture
def acme(office: Office, ada: Browser) -> str:
    return office.organization(ada)


def test_members_are_listed_the_newest_first_page_by_page(office: Office, ada: Browser, acme: str) -> None:
    for name in ("ben", "cleo", "dora"):
        office.join(acme, name)
    page = ada.get(f"/organizations/{acme}/memberships", paginated="true", limit=2, offset=1)
    assert [each["public_user_data"]["first_name"] for each in page["data"]] == ["cleo", "ben"]
    assert page["total_count"] == 4
    everybody = ada.get(f"/organizations/{acme}/memberships")
    assert [each["public_user_data"]["first_name"] for each in everybody] == ["dora", "cleo", "ben", "ada"]
    assert not any("private_metadata" in each for each in everybody)


def test_members_are_found_by_a_part_of_their_name_and_by_role(office: Office, ada: Browser, acme: str) -> None:
    office.join(acme, "ben")
    path = f"/organizations/{acme}/memberships"
    for query, names in (("BEN", ["ben"]), ("example.test", ["ben", "ada"]), ("nobody", [])):
        found = ada.get(path, paginated="true", query=query)
        assert [each["public_user_data"]["first_name"] for each in found["data"]] == names
    assert ada.get(path, paginated="true", role="org:admin")["total_count"] == 1
    assert ada.refusal("GET", f"{path}?role=org:none", 422) == "form_param_value_invalid"
    assert ada.refusal("GET", f"{path}?paginated=true&limit=many", 422) == "form_param_format_invalid"


def test_a_member_reads_the_members_and_a_role_without_permissions_does_not(office: Office, acme: str) -> None:
    office.emulator.store.roles.create("Guest", "org:guest", None, [])
    path = f"/organizations/{acme}/memberships"
    assert len(office.join(acme, "ben").get(path)) == 2
    assert office.join(acme, "gus", "org:guest").refusal("GET", path, 403) == "missing_organization_permission"


def test_an_admin_adds_changes_and_removes_a_member(office: Office, ada: Browser, acme: str) -> None:
    path, ben = f"/organizations/{acme}/memberships", office.person("ben")
    office.heard()
    added = ada.post(path, user_id=ben.user_id, role="org:member")
    assert (added["role"], added["organization"]["members_count"]) == ("org:member", 2)
    assert ada.patch(f"{path}/{ben.user_id}", role="org:admin")["role_name"] == "Admin"
    ben.touch(acme)
    assert ada.delete(f"{path}/{ben.user_id}")["id"] == added["id"]
    assert office.heard() == [f"organizationMembership.{change}" for change in ("created", "updated", "deleted")]
    assert office.emulator.store.sessions.get(ben.session_id).organization_id is None
    assert ada.get(f"/organizations/{acme}")["members_count"] == 1


def test_a_member_manages_nobody(office: Office, ada: Browser, acme: str) -> None:
    ben, path = office.join(acme, "ben"), f"/organizations/{acme}/memberships"
    for method, one, form in (
        ("POST", path, {"user_id": ben.user_id, "role": "org:admin"}),
        ("PATCH", f"{path}/{ben.user_id}", {"role": "org:admin"}),
        ("DELETE", f"{path}/{ada.user_id}", {}),
    ):
        assert ben.refusal(method, one, 403, **form) == "missing_organization_permission"


def test_the_last_admin_can_neither_go_nor_be_made_less(office: Office, ada: Browser, acme: str) -> None:
    ben, code = office.join(acme, "ben"), "organization_minimum_permissions_needed"
    path, mine = f"/organizations/{acme}/memberships/{ada.user_id}", f"/me/organization_memberships/{acme}"
    assert ada.refusal("PATCH", path, 400, role="org:member") == code
    assert ada.refusal("DELETE", path, 400) == code
    assert ada.refusal("DELETE", mine, 400) == code
    ada.patch(f"/organizations/{acme}/memberships/{ben.user_id}", role="org:admin")
    assert ada.patch(path, role="org:member")["role"] == "org:member"
    assert ada.delete(mine)["deleted"] is True


def test_a_custom_role_that_manages_members_is_as_good_as_an_admin(office: Office, ada: Browser, acme: str) -> None:
    store = office.emulator.store
    manage = store.permissions.find("org:sys_memberships:manage").id
    store.roles.create("Manager", "org:manager", None, [manage])
    office.join(acme, "mia", "org:manager")
    assert ada.delete(f"/me/organization_memberships/{acme}")["object"] == "organization_membership"


def test_who_leaves_has_the_organization_active_no_longer(office: Office, acme: str) -> None:
    ben = office.join(acme, "ben")
    ben.touch(acme)
    answer = ben.call("DELETE", f"/me/organization_memberships/{acme}")
    (session,) = answer["client"]["sessions"]
    assert (session["last_active_organization_id"], session["user"]["organization_memberships"]) == (None, [])
    assert ben.refusal("DELETE", f"/me/organization_memberships/{acme}", 404) == (
        "organization_not_found_or_unauthorized"
    )


def test_who_is_no_member_switches_nowhere(office: Office, acme: str) -> None:
    eve = office.person("eve")
    path = f"/client/sessions/{eve.session_id}/touch"
    assert eve.send("POST", path, data={"active_organization_id": acme}).status_code in (403, 404)
    assert office.emulator.store.sessions.get(eve.session_id).organization_id is None


def test_a_full_organization_takes_nobody_more() -> None:
    office = open_office(max_allowed_memberships=2)
    ada = office.person("ada")
    acme = office.organization(ada)
    office.join(acme, "ben")
    cleo, path = office.person("cleo"), f"/organizations/{acme}/memberships"
    assert ada.refusal("POST", path, 403, user_id=cleo.user_id, role="org:member") == (
        "organization_membership_quota_exceeded"
    )


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"user_id": "user_none", "role": "org:member"}, 404, "resource_not_found"),
        ({"user_id": "user_none"}, 422, "form_param_missing"),
        ({"role": "org:member"}, 422, "form_param_missing"),
        ({"user_id": "user_none", "role": "org:none"}, 404, "resource_not_found"),
    ],
)
def test_a_membership_of_nobody_or_nothing_is_refused(
    ada: Browser, acme: str, form: dict[str, str], status: int, code: str
) -> None:
    assert ada.refusal("POST", f"/organizations/{acme}/memberships", status, **form) == code
