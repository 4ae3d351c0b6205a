"""Invitations: made and revoked by who manages the members, accepted by the invited person."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from emulator.frontend_api.offices import Browser, Office, open_office
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.store.invitations import NewInvitation


@pytest.fixture
def office() -> Office:
    return open_office()


@pytest.fixture
def ada(office: Office) -> Browser:
    return office.person("ada")


@pytest.fixture
def acme(office: Office, ada: Browser) -> str:
    return office.organization(ada)


def invite(admin: Browser, organization_id: str, *names: str) -> list[str]:
    """Their ids."""
    addresses = [f"{name}@example.test" for name in names]
    made = admin.post(f"/organizations/{organization_id}/invitations/bulk", email_address=addresses, role="org:member")
    return [each["id"] for each in made]


def test_an_invited_person_sees_it_accepts_and_is_a_member(office: Office, ada: Browser, acme: str) -> None:
    path, ben = f"/organizations/{acme}/invitations", office.person("ben")
    office.heard()
    made = ada.post(path, email_address="Ben@example.test", role="org:member", notify="true")
    assert (made["email_address"], made["status"], made["role"]) == ("ben@example.test", "pending", "org:member")
    assert ada.get(f"/organizations/{acme}")["pending_invitations_count"] == 1
    (offered,) = ben.get("/me/organization_invitations", status="pending")["data"]
    assert (offered["id"], offered["public_organization_data"]["name"]) == (made["id"], "Acme")
    accepted = ben.call("POST", f"/me/organization_invitations/{made['id']}/accept")
    assert accepted["response"]["status"] == "accepted"
    (session,) = accepted["client"]["sessions"]
    assert [each["role"] for each in session["user"]["organization_memberships"]] == ["org:member"]
    assert office.heard() == [
        "organizationInvitation.created",
        "organizationMembership.created",
        "organizationInvitation.accepted",
    ]
    shown = ada.get(f"/organizations/{acme}")
    assert (shown["members_count"], shown["pending_invitations_count"]) == (2, 0)


def test_invitations_are_listed_by_status_page_by_page(ada: Browser, acme: str) -> None:
    path = f"/organizations/{acme}/invitations"
    ids = invite(ada, acme, "a", "b", "c")
    ada.post(f"{path}/{ids[1]}/revoke")
    page = ada.get(path, status="pending", limit=1, offset=1)
    assert ([each["id"] for each in page["data"]], page["total_count"]) == ([ids[0]], 2)
    assert ada.get(path, status=["pending", "revoked"])["total_count"] == 3
    assert [each["id"] for each in ada.get(f"{path}/pending")] == [ids[2], ids[0]]
    assert ada.refusal("GET", f"{path}?status=lost", 422) == "form_param_value_invalid"


def test_many_are_invited_or_none(office: Office, ada: Browser, acme: str) -> None:
    office.join(acme, "ben")
    path = f"/organizations/{acme}/invitations/bulk"
    for addresses, status, code in (
        (["cleo@example.test", "ben@example.test"], 400, "already_a_member_in_organization"),
        (["cleo@example.test", "CLEO@example.test"], 400, "duplicate_record"),
        (["cleo@example.test", "nonsense"], 422, "form_param_format_invalid"),
        ([f"c{number}@example.test" for number in range(51)], 400, "bulk_size_exceeded"),
        ([], 422, "form_param_missing"),
    ):
        assert ada.refusal("POST", path, status, email_address=addresses, role="org:member") == code
    assert ada.get(f"/organizations/{acme}/invitations")["total_count"] == 0


def test_a_second_invitation_names_the_address_that_has_one(ada: Browser, acme: str) -> None:
    invite(ada, acme, "ben")
    path, form = f"/organizations/{acme}/invitations", {"email_address": "ben@example.test", "role": "org:member"}
    error = ada.error("POST", path, 400, **form)
    assert (error["code"], error["meta"]) == ("duplicate_record", {"email_addresses": ["ben@example.test"]})


def test_outstanding_invitations_take_seats_too() -> None:
    office = open_office(max_allowed_memberships=3)
    ada = office.person("ada")
    acme = office.organization(ada)
    first, _ = invite(ada, acme, "ben", "cleo")
    path, form = f"/organizations/{acme}/invitations", {"email_address": "dora@example.test", "role": "org:member"}
    assert ada.refusal("POST", path, 403, **form) == "organization_membership_quota_exceeded"
    ada.post(f"{path}/{first}/revoke")
    assert ada.post(path, **form)["status"] == "pending"


def test_a_member_neither_sees_nor_makes_nor_revokes_invitations(office: Office, ada: Browser, acme: str) -> None:
    (id,) = invite(ada, acme, "cleo")
    ben, path = office.join(acme, "ben"), f"/organizations/{acme}/invitations"
    form = {"email_address": "dora@example.test", "role": "org:admin"}
    for method, one in (("GET", path), ("POST", path), ("POST", f"{path}/bulk"), ("POST", f"{path}/{id}/revoke")):
        assert ben.refusal(method, one, 403, **form) == "missing_organization_permission"


def test_what_is_revoked_accepted_or_another_persons_is_not_accepted(office: Office, ada: Browser, acme: str) -> None:
    ben, eve, path = office.person("ben"), office.person("eve"), "/me/organization_invitations"
    (revoked,) = invite(ada, acme, "ben")
    ada.post(f"/organizations/{acme}/invitations/{revoked}/revoke")
    assert ada.refusal("POST", f"/organizations/{acme}/invitations/{revoked}/revoke", 404) == (
        "organization_invitation_not_pending"
    )
    assert ben.refusal("POST", f"{path}/{revoked}/accept", 404) == "organization_invitation_not_pending"
    (id,) = invite(ada, acme, "ben")
    assert eve.get(path)["total_count"] == 0
    assert eve.refusal("POST", f"{path}/{id}/accept", 404) == "organization_invitation_not_found"
    ben.post(f"{path}/{id}/accept")
    assert ben.refusal("POST", f"{path}/{id}/accept", 404) == "organization_invitation_not_pending"


def test_an_invitation_expires(office: Office, ada: Browser, acme: str) -> None:
    (id,) = invite(ada, acme, "ben")
    ben = office.person("ben")
    office.clock.pass_seconds(31 * 86_400)
    ben = Browser(office.emulator, ben.user_id)
    assert ben.get("/me/organization_invitations", status="pending")["total_count"] == 0
    assert ben.get("/me/organization_invitations", status="expired")["total_count"] == 1
    assert ben.refusal("POST", f"/me/organization_invitations/{id}/accept", 404) == (
        "organization_invitation_not_pending"
    )


def test_an_address_that_is_not_verified_is_offered_nothing(office: Office, ada: Browser, acme: str) -> None:
    ben, users = office.person("ben"), office.emulator.store.users
    invite(ada, acme, "bens-other")
    email = users.add_email(ben.user_id, "bens-other@example.test", verified=False, primary=False)
    assert ben.get("/me/organization_invitations")["total_count"] == 0
    users.update_email(email.id, verified=True, primary=None)
    assert ben.get("/me/organization_invitations")["total_count"] == 1


@pytest.mark.parametrize(("name", "status"), [("nobody", "sign_up"), ("ben", "sign_in")])
def test_the_link_of_an_invitation_hands_its_ticket_to_the_inviters_page(
    office: Office, acme: str, name: str, status: str
) -> None:
    office.person("ben")
    store = office.emulator.store
    new = NewInvitation(
        email_address=f"{name}@example.test",
        role=store.roles.find("org:member"),
        redirect_url="http://127.0.0.1:8000/join?from=mail#here",
    )
    invitation = store.invitations.create(store.organizations.get(acme), new)
    link = urlsplit(invitation.url or "")
    query = parse_qs(link.query)
    assert (link.path, link.fragment, query["from"]) == ("/join", "here", ["mail"])
    assert query["__clerk_status"] == [status]
    assert store.invitations.find_by_ticket(query["__clerk_ticket"][0]) == invitation


@pytest.mark.parametrize("url", ["http://[", "javascript:alert(1)", "/join", "http://"])
def test_a_link_to_nowhere_is_refused(office: Office, acme: str, url: str) -> None:
    store = office.emulator.store
    new = NewInvitation(email_address="ben@example.test", role=store.roles.find("org:member"), redirect_url=url)
    with pytest.raises(ClerkError) as raised:
        store.invitations.create(store.organizations.get(acme), new)
    assert (raised.value.status, raised.value.code) == (422, "invalid_redirect_url")


def test_a_ticket_is_good_until_the_invitation_is_answered(office: Office, ada: Browser, acme: str) -> None:
    store, ben = office.emulator.store, office.person("ben")
    revoked, accepted, expired = (store.invitations.get(id) for id in invite(ada, acme, "x", "ben", "y"))
    store.invitations.revoke(revoked, None)
    store.invitations.accept(accepted, ben.user_id)
    office.clock.pass_seconds(31 * 86_400)
    for invitation, code in (
        (revoked, "organization_invitation_revoked_code"),
        (accepted, "organization_invitation_already_accepted"),
        (expired, "ticket_expired_code"),
    ):
        with pytest.raises(ClerkError) as raised:
            store.invitations.find_by_ticket(invitation.ticket or "")
        assert raised.value.code == code
    assert store.invitations.find_by_ticket("no ticket") is None


def test_no_page_of_a_member_shows_the_link(ada: Browser, acme: str) -> None:
    invite(ada, acme, "ben")
    (shown,) = ada.get(f"/organizations/{acme}/invitations")["data"]
    assert shown["url"] is None
    assert not {"private_metadata", "ticket"} & {*shown}
