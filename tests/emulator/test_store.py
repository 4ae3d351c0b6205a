"""The store: every change announces itself, Clerk's rules hold, what belongs together goes together."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.world import World, WorldMaker
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.records import Organization
from tenantry.emulator.settings import Assumptions
from tenantry.emulator.store import HttpRequest, http_request
from tenantry.emulator.store.invitations import NewInvitation
from tenantry.emulator.store.metadata import merge
from tenantry.emulator.store.users import NewUser


def acme(world: World, *members: str) -> tuple[Organization, str]:
    """Acme, created by Ada, with further members; the events so far are taken."""
    ada = world.user("ada")
    organization = world.store.organizations.create("Acme", created_by=ada)
    for member in members:
        world.store.memberships.create(organization, world.user(member), world.store.roles.find("org:member"))
    world.take()
    return organization, ada


def invite(world: World, organization: Organization, name: str, **more: Any) -> Any:
    role = world.store.roles.find("org:member")
    new = NewInvitation(email_address=f"{name}@example.test", role=role, **more)
    return world.store.invitations.create(organization, new)


def refusal(action: Any, *arguments: Any, **more: Any) -> str:
    """The code of the error that the call must raise."""
    with pytest.raises(ClerkError) as caught:
        action(*arguments, **more)
    return caught.value.code


def test_creating_an_organization_announces_it_and_its_creators_membership(world: World) -> None:
    ada = world.user("ada")
    world.take()
    organization = world.store.organizations.create("Acme", created_by=ada)
    created, joined = world.events
    assert (created.type, joined.type) == ("organization.created", "organizationMembership.created")
    assert created.data["id"] == joined.data["organization"]["id"] == organization.id
    assert (joined.data["role"], joined.data["public_user_data"]["user_id"]) == ("org:admin", ada)


def test_an_organization_without_a_creator_has_no_members_and_no_created_by(world: World) -> None:
    world.store.organizations.create("Acme")
    (created,) = world.events
    assert created.data["members_count"] == 0
    assert "created_by" not in created.data


def test_a_membership_carries_system_permissions_though_tokens_do_not(world: World) -> None:
    organization, ada = acme(world)
    world.store.memberships.merge_metadata(world.store.memberships.get(organization.id, ada), {})
    assert "org:sys_memberships:manage" in world.events[0].data["permissions"]


def test_removing_a_member_announces_the_whole_membership_and_a_count_without_it(world: World) -> None:
    organization, _ = acme(world, "ben")
    ben = world.store.users.find("ben@example.test")
    membership = world.store.memberships.get(organization.id, ben.id)
    world.clock.pass_seconds(60)
    world.store.memberships.delete(membership)
    (deleted,) = world.events
    assert deleted.type == "organizationMembership.deleted"
    assert deleted.data["id"] == membership.id
    assert deleted.data["organization"]["members_count"] == 1
    assert deleted.data["updated_at"] == membership.updated_at < deleted.timestamp


def test_a_member_who_joins_again_has_a_new_membership_id(world: World) -> None:
    organization, _ = acme(world, "ben")
    ben = world.store.users.find("ben@example.test")
    first = world.store.memberships.get(organization.id, ben.id)
    world.store.memberships.delete(first)
    second = world.store.memberships.create(organization, ben.id, world.store.roles.find("org:member"))
    assert first.id != second.id


@pytest.mark.parametrize(
    ("assumptions", "expected"),
    [
        (Assumptions(), ["organization.deleted"]),
        (
            Assumptions(cascade_events=True),
            [
                "organizationInvitation.revoked",
                "organizationDomain.deleted",
                "organizationMembership.deleted",
                "organizationMembership.deleted",
                "organization.deleted",
            ],
        ),
    ],
)
def test_deleting_an_organization_takes_its_children_along(
    make_world: WorldMaker, assumptions: Assumptions, expected: list[str]
) -> None:
    world = make_world(assumptions)
    organization, _ = acme(world, "ben")
    invite(world, organization, "cleo")
    world.store.domains.create(organization, "acme.test", None, verified=True)
    world.take()
    world.store.organizations.delete(organization.id)
    assert world.types == expected
    state = world.store.state
    assert [*state.memberships, *state.invitations, *state.domains, *state.organizations] == []


def test_a_deleted_organization_is_active_in_no_session(world: World) -> None:
    organization, ada = acme(world)
    session = world.store.sessions.create(ada)
    assert session.organization_id == organization.id
    world.store.organizations.delete(organization.id)
    left = world.store.sessions.get(session.id)
    assert (left.organization_id, left.status) == (None, "pending")


def test_deleting_a_user_ends_memberships_and_sessions(world: World) -> None:
    organization, _ = acme(world, "ben")
    ben = world.store.users.find("ben@example.test")
    world.store.sessions.create(ben.id)
    world.take()
    world.store.users.delete(ben.id)
    assert world.types == ["session.removed", "user.deleted"]
    assert world.events[1].data == {"object": "user", "id": ben.id, "external_id": None, "deleted": True}
    assert world.store.state.membership(organization.id, ben.id) is None
    assert not world.store.state.sessions


def test_a_ban_revokes_all_sessions_keeps_memberships_and_stops_sign_in(world: World) -> None:
    organization, ada = acme(world)
    world.store.sessions.create(ada)
    world.take()
    world.store.users.ban(ada)
    assert world.types == ["user.updated", "session.revoked"]
    assert world.events[0].data["banned"] is True
    assert world.store.state.membership(organization.id, ada) is not None
    assert refusal(world.store.sessions.create, ada) == "user_banned"
    world.store.users.unban(ada)
    assert world.store.sessions.create(ada).status == "active"


def test_a_locked_user_cannot_sign_in(world: World) -> None:
    _, ada = acme(world)
    world.store.users.lock(ada, locked=True)
    assert refusal(world.store.sessions.create, ada) == "user_locked"


def test_who_belongs_nowhere_gets_a_pending_session_where_membership_is_required(world: World) -> None:
    user = world.user("dora")
    world.take()
    session = world.store.sessions.create(user)
    assert (session.status, world.types) == ("pending", ["session.pending"])
    organization = world.store.organizations.create("Acme", created_by=user)
    world.take()
    assert world.store.sessions.activate(session, organization.id).status == "active"
    assert world.types == ["session.created"]


def test_who_belongs_nowhere_has_a_personal_account_where_membership_is_not_required(make_world: WorldMaker) -> None:
    world = make_world(membership_required=False)
    assert world.store.sessions.create(world.user("dora")).status == "active"


def test_switching_the_organization_is_told_by_no_event(world: World) -> None:
    organization, ada = acme(world)
    other = world.store.organizations.create("Globex", created_by=ada)
    session = world.store.sessions.create(ada)
    assert session.organization_id == other.id
    world.take()
    assert world.store.sessions.activate(session, organization.id).organization_id == organization.id
    assert world.types == []


def test_an_organization_of_others_cannot_be_activated(world: World) -> None:
    organization, _ = acme(world)
    session = world.store.sessions.create(world.user("ben"))
    assert refusal(world.store.sessions.activate, session, organization.id) == "organization_not_found_or_unauthorized"


def test_an_accepted_invitation_makes_a_member_with_its_role_and_metadata(world: World) -> None:
    organization, ada = acme(world)
    invitation = invite(world, organization, "cleo", inviter_id=ada, public_metadata={"team": "design"})
    cleo = world.user("cleo")
    world.take()
    membership = world.store.invitations.accept(invitation, cleo)
    assert membership.public_metadata == {"team": "design"}
    assert world.types == ["organizationMembership.created", "organizationInvitation.accepted"]
    assert world.events[1].data["user_id"] == cleo
    assert refusal(world.store.invitations.accept, world.store.invitations.get(invitation.id), cleo) == (
        "organization_invitation_not_pending"
    )


def test_an_expired_invitation_cannot_be_accepted_and_may_be_made_anew(world: World) -> None:
    organization, _ = acme(world)
    invitation = invite(world, organization, "cleo", expires_in_days=1)
    assert refusal(invite, world, organization, "cleo") == "duplicate_record"
    world.clock.pass_seconds(86_400)
    assert refusal(world.store.invitations.accept, invitation, world.user("cleo")) == (
        "organization_invitation_not_pending"
    )
    assert invite(world, organization, "cleo").id != invitation.id


def test_only_who_may_manage_members_invites(world: World) -> None:
    organization, _ = acme(world, "ben")
    ben = world.store.users.find("ben@example.test").id
    assert refusal(invite, world, organization, "cleo", inviter_id=ben) == "not_an_admin_in_organization"


def test_a_full_organization_takes_no_member_and_a_limit_of_0_is_none(make_world: WorldMaker) -> None:
    world = make_world(max_allowed_memberships=1)
    organization, _ = acme(world)
    role = world.store.roles.find("org:member")
    ben = world.user("ben")
    assert refusal(world.store.memberships.create, organization, ben, role) == "organization_membership_quota_exceeded"
    unlimited = world.store.organizations.update(organization.id, {"max_allowed_memberships": 0})
    world.store.memberships.create(unlimited, ben, role)


def test_slugs_are_off_at_first_and_refused(world: World) -> None:
    assert world.store.organizations.create("Acme").slug is None
    assert refusal(world.store.organizations.create, "Globex", slug="globex") == "organization_slugs_disabled"


def test_slugs_where_on_are_unique_and_made_from_the_name(make_world: WorldMaker) -> None:
    world = make_world(slugs=True)
    assert world.store.organizations.create("Acme, Inc.").slug == "acme-inc"
    assert world.store.organizations.create("Acme Inc").slug not in (None, "acme-inc")
    assert refusal(world.store.organizations.create, "Other", slug="acme-inc") == "form_identifier_exists"
    assert refusal(world.store.organizations.create, "Other", slug="Acme") == "form_param_format_invalid"


@pytest.mark.parametrize(("choice", "slug"), [("null", None), ("empty", ""), ("generated", "acme")])
def test_what_a_slug_is_where_they_are_off_can_be_chosen(make_world: WorldMaker, choice: Any, slug: str | None) -> None:
    world = make_world(Assumptions(slug_when_disabled=choice))
    assert world.store.organizations.create("Acme").slug == slug


def test_a_role_in_use_cannot_be_deleted(world: World) -> None:
    roles = world.store.roles
    organization, _ = acme(world)
    editor = roles.create("Editor", "org:editor", None, [])
    ben = world.user("ben")
    assert refusal(roles.delete, roles.find("org:admin").id) == "organization_role_in_use"
    assert refusal(roles.delete, roles.find("org:member").id) == "organization_role_in_use"
    membership = world.store.memberships.create(organization, ben, editor)
    assert refusal(roles.delete, editor.id) == "organization_role_in_use"
    world.store.memberships.delete(membership)
    new = NewInvitation(email_address="cleo@example.test", role=editor)
    invitation = world.store.invitations.create(organization, new)
    assert refusal(roles.delete, editor.id) == "organization_role_in_use"
    world.store.invitations.revoke(invitation, None)
    assert refusal(roles.delete, editor.id) == "organization_role_in_use"
    world.store.organizations.delete(organization.id)
    world.take()
    roles.delete(editor.id)
    assert world.events[0].data == {"object": "role", "id": editor.id, "slug": None, "deleted": True}


def test_a_renamed_role_stays_its_members_role_and_the_settings(world: World) -> None:
    organization, ada = acme(world)
    roles = world.store.roles
    roles.update(roles.find("org:admin").id, {"key": "org:owner"})
    assert world.types == ["role.updated"]
    assert world.store.state.settings.creator_role == "org:owner"
    world.store.memberships.merge_metadata(world.store.memberships.get(organization.id, ada), {})
    assert world.events[1].data["role"] == "org:owner"


def test_the_creator_role_keeps_the_permissions_it_needs(world: World) -> None:
    admin = world.store.roles.find("org:admin")
    assert refusal(world.store.roles.update, admin.id, {"permission_ids": []}) == "form_param_value_invalid"


@pytest.mark.parametrize("key", ["editor", "org:", "org:Editor", "org:a b", "org:a:b", "org:é"])
def test_a_role_key_has_clerks_form(world: World, key: str) -> None:
    assert refusal(world.store.roles.create, "Editor", key, None, []) == "form_param_format_invalid"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("org:a", "form_param_format_invalid"),
        ("org:a:B", "form_param_format_invalid"),
        ("org:sys_memberships:read", "form_param_value_invalid"),
    ],
)
def test_a_permission_key_has_clerks_form(world: World, key: str, code: str) -> None:
    assert refusal(world.store.permissions.create, "A", key) == code


def test_at_most_ten_roles(world: World) -> None:
    for number in range(8):
        world.store.roles.create("R", f"org:r{number}", None, [])
    assert refusal(world.store.roles.create, "R", "org:r9", None, []) == "organization_role_quota_exceeded"


def test_a_deleted_permission_leaves_its_roles(world: World) -> None:
    permission = world.store.permissions.create("Read", "org:reports:read")
    role = world.store.roles.create("Reader", "org:reader", None, [permission.id])
    world.take()
    world.store.permissions.delete(permission.id)
    assert world.types == ["permission.deleted"]
    assert world.store.roles.get(role.id).permission_ids == ()


def test_system_permissions_are_immutable(world: World) -> None:
    system = world.store.permissions.find("org:sys_billing:read")
    assert refusal(world.store.permissions.delete, system.id) == "system_permission_immutable"
    assert refusal(world.store.permissions.update, system.id, {"name": "x"}) == "system_permission_immutable"


def test_a_new_instances_own_roles_make_no_events_but_exist(world: World) -> None:
    assert world.events == []
    assert set(world.store.state.role_by_key) == {"org:admin", "org:member"}


@pytest.mark.parametrize(
    ("assumptions", "expected"),
    [
        (Assumptions(), ["role.updated"]),
        (Assumptions(membership_updated_on_role_change=True), ["role.updated", "organizationMembership.updated"]),
    ],
)
def test_whether_holders_hear_of_a_changed_role_can_be_chosen(
    make_world: WorldMaker, assumptions: Assumptions, expected: list[str]
) -> None:
    world = make_world(assumptions)
    acme(world)
    world.store.roles.update(world.store.roles.find("org:admin").id, {"name": "Boss"})
    assert world.types == expected


def test_two_changes_in_one_millisecond_have_different_times_unless_asked(make_world: WorldMaker) -> None:
    for equal in (False, True):
        world = make_world(Assumptions(equal_timestamps=equal))
        user = world.user("ada")
        times = {world.store.users.update(user, {"first_name": name}).updated_at for name in "abc"}
        assert len(times) == (1 if equal else 3)


def test_an_event_says_who_asked_only_when_a_request_did(world: World) -> None:
    world.user("ada")
    token = http_request.set(HttpRequest("127.0.0.1", "curl"))
    world.user("ben")
    http_request.reset(token)
    assert [event.request for event in world.events] == [HttpRequest("", ""), HttpRequest("127.0.0.1", "curl")]


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": 1}, {"a": {"b": 1, "c": None}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
    ],
)
def test_metadata_merges_deeply_and_null_removes(
    old: dict[str, Any], new: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge(old, new) == merged


def test_metadata_is_at_most_8_kilobytes(world: World) -> None:
    too_much = NewUser(email_addresses=("a@example.test",), fields={"public_metadata": {"a": "x" * 9000}})
    assert refusal(world.store.users.create, too_much) == "form_param_exceeds_allowed_size"


@pytest.mark.parametrize("name", ["", "  ", "x" * 257, "see https://evil.test", "<b>Acme</b>"])
def test_an_organizations_name_is_not_blank_long_or_markup(world: World, name: str) -> None:
    assert refusal(world.store.organizations.create, name) in ("form_param_missing", "form_param_value_invalid")


def test_an_email_address_belongs_to_one_user_until_that_user_is_deleted(world: World) -> None:
    ada = world.user("ada")
    assert refusal(world.user, "Ada") == "form_identifier_exists"
    world.store.users.delete(ada)
    assert world.user("ada") != ada


def test_a_domain_belongs_to_one_organization(world: World) -> None:
    organization, _ = acme(world)
    other = world.store.organizations.create("Globex")
    world.store.domains.create(organization, "acme.test", None, verified=True)
    create = world.store.domains.create
    assert refusal(create, other, "ACME.test", None, verified=True) == "organization_domain_already_exists"
    assert refusal(create, other, "nonsense", None, verified=True) == "form_param_format_invalid"
    assert refusal(create, other, "globex.test", "by_force", verified=True) == "form_param_value_invalid"


def test_an_organization_is_found_by_the_name_people_type(world: World) -> None:
    organization, _ = acme(world)
    assert world.store.organizations.find("acme") == world.store.organizations.find("ACME")
    assert world.store.organizations.find(organization.id).name == "Acme"
    assert refusal(world.store.organizations.find, "nobody") == "resource_not_found"
