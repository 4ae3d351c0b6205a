"""Organizations and what belongs to them, as the Frontend API shows them: never private metadata."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import render
from tenantry.emulator.records import (
    Domain,
    Invitation,
    Membership,
    MembershipRequest,
    Organization,
    Role,
    Suggestion,
)
from tenantry.emulator.state import State

Json = dict[str, Any]

_ORGANIZATION = (
    *("object", "id", "name", "slug", "image_url", "has_image", "members_count", "pending_invitations_count"),
    *("max_allowed_memberships", "admin_delete_enabled", "public_metadata", "created_at", "updated_at"),
)


def organization(state: State, record: Organization) -> Json:
    shown = render.organization(state, record, elevated=False)
    return {name: shown[name] for name in _ORGANIZATION} | {"self_serve_sso_enabled": False}


def membership(state: State, record: Membership) -> Json:
    shown = _without(render.membership(state, record), "private_metadata")
    return shown | {"organization": organization(state, state.organizations[record.organization_id])}


def invitation(state: State, record: Invitation, *, now: int) -> Json:
    """As members and the invited person see it: the link in `url` is for the invited person's mailbox alone."""
    shown = render.invitation_with_organization(state, record, now=now)
    return _without(shown, "private_metadata", "inviter_id", "public_inviter_data") | {"url": None}


def suggestion(state: State, record: Suggestion) -> Json:
    return {
        "object": "organization_suggestion",
        "id": record.id,
        "public_organization_data": render.public_organization(state.organizations[record.organization_id]),
        "status": record.status,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def membership_request(state: State, record: MembershipRequest) -> Json:
    return {
        "object": "organization_membership_request",
        "id": record.id,
        "organization_id": record.organization_id,
        "status": record.status,
        "public_user_data": render.public_user(state.users[record.user_id]),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def domain(state: State, record: Domain) -> Json:
    return render.domain(state, record)


def role(state: State, record: Role) -> Json:
    """What the Backend API calls a custom permission is a user's here."""
    shown = render.role(state, record)
    permissions = [each | {"type": "system" if each["type"] == "system" else "user"} for each in shown["permissions"]]
    return shown | {"permissions": permissions, "description": shown["description"] or ""}


def deleted(kind: str, id: str | None = None) -> Json:
    return {"object": kind, "deleted": True} | ({"id": id} if id else {})


def _without(shown: Json, *names: str) -> Json:
    return {name: value for name, value in shown.items() if name not in names}
