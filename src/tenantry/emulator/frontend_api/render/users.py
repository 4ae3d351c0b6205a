"""A user as they see themselves."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import render
from tenantry.emulator.frontend_api.render.organizations import membership
from tenantry.emulator.records import EmailAddress, User
from tenantry.emulator.state import State
from tenantry.emulator.store.codes import LIFE

Json = dict[str, Any]

_HIDDEN = ("private_metadata", "locale", "bypass_client_trust", "scim")


def user(state: State, record: User) -> Json:
    """With all memberships, and no private metadata."""
    shown = render.user(record)
    for name in _HIDDEN:
        del shown[name]
    if record.create_organizations_limit is None:
        del shown["create_organizations_limit"]
    shown["email_addresses"] = [email_address(each) for each in record.email_addresses]
    shown["organization_memberships"] = [membership(state, each) for each in state.memberships_of_user(record.id)]
    shown["create_organization_enabled"] = record.create_organization_enabled and may_create_organizations(state)
    return shown


def may_create_organizations(state: State) -> bool:
    settings = state.settings
    return settings.enabled and settings.users_may_create_organizations


def email_address(record: EmailAddress) -> Json:
    """One that is not verified waits for a code."""
    shown = render.email_address(record)
    if not record.verified:
        shown["verification"] = {
            "object": "verification_otp",
            "status": "unverified",
            "strategy": "email_code",
            "attempts": 0,
            "expire_at": record.updated_at + LIFE,
        }
    return shown
