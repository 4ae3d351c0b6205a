"""Verified domains, and what they offer by themselves to whoever has an address there."""

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


def add(admin: Browser, organization_id: str, mode: str = "manual_invitation", name: str = "acme.test") -> str:
    """The path of a domain that is verified by a code."""
    path = f"/organizations/{organization_id}/domains"
    path += f"/{admin.post(path, name=name)['id']}"
    admin.post(f"{path}/prepare_affiliation_verification", affiliation_email_address=f"info@{name}")
    admin.post(f"{path}/attempt_affiliation_verification", code="424242")
    admin.post(f"{path}/update_enrollment_mode", enrollment_mode=mode)
    return path


def test_a_domain_is_verified_by_the_code_sent_to_an_address_of_it(office: Office, ada: Browser, acme: str) -> None:
    office.heard()
    made = ada.post(f"/organizations/{acme}/domains", name="Acme.test")
    assert (made["name"], made["affiliation_verification"]) == ("acme.test", None)
    path = f"/organizations/{acme}/domains/{made['id']}"
    prepared = ada.post(f"{path}/prepare_affiliation_verification", affiliation_email_address="info@acme.test")
    assert prepared["affiliation_email_address"] == "info@acme.test"
    verification = prepared["affiliation_verification"]
    assert (verification["status"], verification["strategy"]) == ("unverified", "affiliation_email_code")
    error = ada.error("POST", f"{path}/attempt_affiliation_verification", 422, code="111111")
    assert (error["code"], error["meta"]) == ("form_code_incorrect", {"param_name": "code"})
    assert ada.get(path)["affiliation_verification"]["attempts"] == 1
    verified = ada.post(f"{path}/attempt_affiliation_verification", code="424242")
    assert (verified["verification"]["status"], verified["verification"]["attempts"]) == ("verified", 2)
    assert office.heard() == [f"organizationDomain.{change}" for change in ("created", "updated", "updated")]


def test_a_code_is_good_for_some_minutes_and_some_attempts(office: Office, ada: Browser, acme: str) -> None:
    path = f"/organizations/{acme}/domains"
    path += f"/{ada.post(path, name='acme.test')['id']}"
    prepare, attempt = f"{path}/prepare_affiliation_verification", f"{path}/attempt_affiliation_verification"
    assert ada.send("POST", attempt, data={"code": "424242"}).status_code == 400
    ada.post(prepare, affiliation_email_address="info@acme.test")
    for _ in range(5):
        ada.refusal("POST", attempt, 422, code="000000")
    assert ada.refusal("POST", attempt, 400, code="424242") == "verification_failed"
    ada.post(prepare, affiliation_email_address="info@acme.test")
    office.clock.pass_seconds(601)
    assert ada.refusal("POST", attempt, 400, code="424242") == "verification_expired"
    wrong = {"affiliation_email_address": "info@globex.test"}
    assert ada.refusal("POST", prepare, 422, **wrong) == "organization_domain_mismatch"


def test_a_domain_is_verified_at_once_by_who_has_an_address_there(office: Office) -> None:
    ada = office.person("ada", at="acme.test")
    made = ada.post(f"/organizations/{office.organization(ada)}/domains", name="acme.test")
    assert made["affiliation_email_address"] == "ada@acme.test"
    assert made["affiliation_verification"]["status"] == "verified"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gmail.com", "organization_domain_common"),
        ("nonsense", "form_param_format_invalid"),
        ("taken.test", "organization_domain_already_exists"),
        ("", "form_param_missing"),
    ],
)
def test_a_domain_that_will_not_do_is_refused(office: Office, ada: Browser, acme: str, name: str, code: str) -> None:
    add(ada, office.organization(ada, "Globex"), name="taken.test")
    assert ada.refusal("POST", f"/organizations/{acme}/domains", 422, name=name) == code


def test_a_mode_that_is_not_enabled_is_refused() -> None:
    office = open_office(domains_enrollment_modes=("manual_invitation",))
    ada = office.person("ada")
    path = add(ada, office.organization(ada))
    for mode in ("automatic_invitation", "by_force"):
        code = ada.refusal("POST", f"{path}/update_enrollment_mode", 403, enrollment_mode=mode)
        assert code == "organization_domain_enrollment_mode_not_enabled"


def test_domains_are_listed_and_deleted_by_who_may(office: Office, ada: Browser, acme: str) -> None:
    path, ben = add(ada, acme, "automatic_suggestion"), office.join(acme, "ben")
    office.emulator.store.roles.create(
        "Clerk", "org:clerk", None, [office.emulator.store.permissions.find("org:sys_domains:read").id]
    )
    cleo, domains = office.join(acme, "cleo", "org:clerk"), f"/organizations/{acme}/domains"
    ada.post(domains, name="other.test")
    assert cleo.get(domains, verified="true")["total_count"] == 1
    assert cleo.get(domains, enrollment_mode="automatic_suggestion")["data"][0]["name"] == "acme.test"
    assert ben.refusal("GET", domains, 403) == "missing_organization_permission"
    assert cleo.refusal("DELETE", path, 403) == "missing_organization_permission"
    assert ada.delete(path) == {"object": "organization_domain", "id": path.rpartition("/")[2], "deleted": True}
    assert ada.refusal("GET", path, 404) == "resource_not_found"


def test_a_domain_invites_who_has_an_address_there_before_and_after(office: Office, ada: Browser, acme: str) -> None:
    early = office.person("early", at="acme.test")
    path = add(ada, acme, "automatic_invitation")
    late, other = office.person("late", at="acme.test"), office.person("other")
    office.heard()
    for person in (early, late):
        (invitation,) = person.get("/me/organization_invitations", status="pending")["data"]
        assert person.post(f"/me/organization_invitations/{invitation['id']}/accept")["status"] == "accepted"
    assert other.get("/me/organization_invitations")["total_count"] == 0
    assert ada.get(path)["total_pending_invitations"] == 0
    assert ada.get(f"/organizations/{acme}")["members_count"] == 3
    assert office.heard() == ["organizationMembership.created", "organizationInvitation.accepted"] * 2


def test_what_a_domain_offers_is_no_invitation_of_the_organizations_list(
    office: Office, ada: Browser, acme: str
) -> None:
    path = add(ada, acme, "automatic_invitation")
    office.person("ben", at="acme.test")
    assert ada.get(path)["total_pending_invitations"] == 1
    assert ada.get(f"/organizations/{acme}/invitations")["total_count"] == 0
    assert ada.get(f"/organizations/{acme}")["pending_invitations_count"] == 0


def test_a_domain_that_turns_manual_can_take_back_what_it_offered(office: Office, ada: Browser, acme: str) -> None:
    path = add(ada, acme, "automatic_invitation")
    ben = office.person("ben", at="acme.test")
    ada.post(f"{path}/update_enrollment_mode", enrollment_mode="manual_invitation", delete_pending="false")
    assert ben.get("/me/organization_invitations", status="pending")["total_count"] == 1
    ada.post(f"{path}/update_enrollment_mode", enrollment_mode="manual_invitation", delete_pending="true")
    assert ben.get("/me/organization_invitations", status="pending")["total_count"] == 0
    assert office.heard()[-2:] == ["organizationInvitation.revoked", "organizationDomain.updated"]


def test_an_address_that_is_verified_later_is_offered_to_then(office: Office, ada: Browser, acme: str) -> None:
    add(ada, acme, "automatic_suggestion")
    ben, users = office.person("ben"), office.emulator.store.users
    email = users.add_email(ben.user_id, "ben@acme.test", verified=False, primary=False)
    assert ben.get("/me/organization_suggestions")["total_count"] == 0
    users.update_email(email.id, verified=True, primary=None)
    assert ben.get("/me/organization_suggestions")["total_count"] == 1
