"""Suggestions of a domain, the requests they lead to, and the answers."""

from __future__ import annotations

import pytest

from emulator.frontend_api.offices import Browser, Office, open_office


@pytest.fixture
def office() -> Office:
    return open_office()


@pytest.fixture
def ada(office: Office) -> Browser:
    return office.person("ada", at="acme.test")


@pytest.fixture
def acme(office: Office, ada: Browser) -> str:
    """It suggests itself to whoever has an address at acme.test."""
    organization_id = office.organization(ada)
    ada.post(f"/organizations/{organization_id}/domains", name="acme.test", enrollment_mode="automatic_suggestion")
    return organization_id


@pytest.fixture
def ben(office: Office, acme: str) -> Browser:
    return office.person("ben", at="acme.test")


def ask(person: Browser) -> str:
    """Accepts the one suggestion; its id."""
    (suggestion,) = person.get("/me/organization_suggestions", status=["pending", "accepted"])["data"]
    assert person.post(f"/me/organization_suggestions/{suggestion['id']}/accept")["status"] == "accepted"
    return str(suggestion["id"])


def test_who_accepts_a_suggestion_waits_for_an_admin_who_lets_them_in(
    office: Office, ada: Browser, acme: str, ben: Browser
) -> None:
    path = f"/organizations/{acme}/membership_requests"
    office.heard()
    ask(ben)
    assert ben.get("/me/organization_memberships", paginated="true")["total_count"] == 0
    (request,) = ada.get(path, status="pending")["data"]
    assert (request["status"], request["public_user_data"]["identifier"]) == ("pending", "ben@acme.test")
    assert office.heard() == []
    assert ada.post(f"{path}/{request['id']}/accept")["status"] == "accepted"
    assert office.heard() == ["organizationMembership.created"]
    assert ada.get(path, status="pending") == {"data": [], "total_count": 0}
    (membership,) = ben.get("/me/organization_memberships", paginated="true")["data"]
    assert membership["role"] == "org:member"
    assert ben.get("/me/organization_suggestions", status=["pending", "accepted"])["total_count"] == 0


def test_who_is_rejected_is_no_member_and_is_not_asked_again(
    office: Office, ada: Browser, acme: str, ben: Browser
) -> None:
    ask(ben)
    path = f"/organizations/{acme}/membership_requests"
    (request,) = ada.get(path)["data"]
    assert ada.post(f"{path}/{request['id']}/reject")["status"] == "rejected"
    assert ada.refusal("POST", f"{path}/{request['id']}/accept", 404) == "resource_not_found"
    office.emulator.store.users.update(ben.user_id, {"first_name": "Benjamin"})
    assert ben.get("/me/organization_suggestions", status=["pending", "accepted"])["total_count"] == 0
    assert ben.get("/me/organization_memberships", paginated="true")["total_count"] == 0


def test_a_suggestion_is_accepted_once_and_by_its_person_alone(office: Office, ben: Browser) -> None:
    eve = office.person("eve")
    path = f"/me/organization_suggestions/{ask(ben)}/accept"
    assert ben.refusal("POST", path, 400) == "organization_suggestion_already_accepted"
    assert eve.refusal("POST", path, 404) == "resource_not_found"


def test_a_member_answers_no_requests(office: Office, ada: Browser, acme: str, ben: Browser) -> None:
    ask(ben)
    cleo, path = office.join(acme, "cleo"), f"/organizations/{acme}/membership_requests"
    (request,) = ada.get(path)["data"]
    for method, one in (("GET", path), *(("POST", f"{path}/{request['id']}/{verb}") for verb in ("accept", "reject"))):
        assert cleo.refusal(method, one, 403) == "missing_organization_permission"


def test_a_request_is_settled_when_its_person_comes_in_by_another_way(ada: Browser, acme: str, ben: Browser) -> None:
    ask(ben)
    ada.post(f"/organizations/{acme}/memberships", user_id=ben.user_id, role="org:member")
    assert ada.get(f"/organizations/{acme}/membership_requests", status="pending")["total_count"] == 0
    assert ben.get("/me/organization_suggestions", status=["pending", "accepted"])["total_count"] == 0


def test_a_request_of_a_person_who_is_deleted_goes_with_them(
    office: Office, ada: Browser, acme: str, ben: Browser
) -> None:
    ask(ben)
    office.emulator.store.users.delete(ben.user_id)
    assert ada.get(f"/organizations/{acme}/membership_requests")["total_count"] == 0


def test_what_an_organization_suggested_goes_with_it(ada: Browser, acme: str, ben: Browser) -> None:
    ada.delete(f"/organizations/{acme}")
    assert ben.get("/me/organization_suggestions") == {"data": [], "total_count": 0}
