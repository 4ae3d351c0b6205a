"""Records as Clerk's Backend API and webhooks show them: the same JSON in both, times in milliseconds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tenantry.emulator import avatars
from tenantry.emulator.records import (
    Domain,
    EmailAddress,
    Invitation,
    Membership,
    Organization,
    Permission,
    Record,
    Role,
    Session,
    SignInToken,
    User,
)
from tenantry.emulator.state import State

Json = dict[str, Any]

ROLE_SET_KEY = "role_set:default"
# Who holds these may create, and keep, an organization.
CREATOR_PERMISSIONS = frozenset({"org:sys_memberships:manage", "org:sys_memberships:read", "org:sys_profile:delete"})


def user(record: User) -> Json:
    return {
        "object": "user",
        "id": record.id,
        "external_id": record.external_id,
        "primary_email_address_id": record.primary_email_address_id,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "username": record.username,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "locale": record.locale,
        "profile_image_url": record.image or avatars.draw(record.full_name),
        "image_url": record.image or avatars.draw(record.full_name),
        "has_image": record.image is not None,
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "unsafe_metadata": record.unsafe_metadata,
        "email_addresses": [email_address(email) for email in record.email_addresses],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": record.password is not None,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "password_last_updated_at": record.password_updated_at,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": record.last_sign_in_at,
        "banned": record.banned,
        "locked": record.locked,
        "deprovisioned": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "delete_self_enabled": record.delete_self_enabled,
        "create_organization_enabled": record.create_organization_enabled,
        "create_organizations_limit": record.create_organizations_limit,
        "last_active_at": record.last_active_at,
        "legal_accepted_at": record.legal_accepted_at,
        "bypass_client_trust": record.bypass_client_trust,
        "scim": None,
    }


def email_address(email: EmailAddress) -> Json:
    verification = {"object": "verification_admin", "status": "verified", "strategy": "admin"}
    return {
        "id": email.id,
        "object": "email_address",
        "email_address": email.email_address,
        "reserved": email.reserved,
        "verification": {**verification, "attempts": None, "expire_at": None} if email.verified else None,
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": email.created_at,
        "updated_at": email.updated_at,
    }


def organization(state: State, record: Organization, *, counts: bool = True, elevated: bool = True) -> Json:
    """`counts` and `elevated` bring the two fields that the Backend API's lists give only when asked."""
    pending = [each for each in state.invitations_of(record.id) if each.status == "pending" and not each.domain_id]
    shown: Json = {
        "object": "organization",
        "id": record.id,
        "name": record.name,
        "slug": record.slug,
        "image_url": record.logo or avatars.draw(record.name),
        "has_image": record.logo is not None,
        "pending_invitations_count": len(pending),
        "max_allowed_memberships": record.max_allowed_memberships,
        "admin_delete_enabled": record.admin_delete_enabled,
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "last_active_at": record.last_active_at,
        "role_set_key": ROLE_SET_KEY,
    }
    if record.created_by in state.users:
        shown["created_by"] = record.created_by
    if counts:
        shown["members_count"] = len(state.members.get(record.id, {}))
    if elevated:
        shown["missing_member_with_elevated_permissions"] = not _has_elevated_member(state, record.id)
    return shown


def public_organization(record: Organization) -> Json:
    return {
        "id": record.id,
        "name": record.name,
        "slug": record.slug,
        "image_url": record.logo or avatars.draw(record.name),
        "has_image": record.logo is not None,
    }


def membership(state: State, record: Membership) -> Json:
    role_held = state.roles[record.role_id]
    return {
        "object": "organization_membership",
        "id": record.id,
        "role": role_held.key,
        "role_name": role_held.name,
        "permissions": [held.key for held in state.permissions_of(role_held)],
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "organization": organization(state, state.organizations[record.organization_id]),
        "public_user_data": public_user(state.users[record.user_id]),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def invitation(state: State, record: Invitation, *, now: int) -> Json:
    role_offered = state.roles[record.role_id]
    return {
        "object": "organization_invitation",
        "id": record.id,
        "email_address": record.email_address,
        "role": role_offered.key,
        "role_name": role_offered.name,
        "organization_id": record.organization_id,
        "inviter_id": record.inviter_id,
        "public_inviter_data": _inviter(state, record.inviter_id),
        "status": invitation_status(record, now),
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "url": record.url,
        "expires_at": record.expires_at,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def invitation_with_organization(state: State, record: Invitation, *, now: int) -> Json:
    """As the instance-wide list shows an invitation, and webhooks, which add who accepted it."""
    owner = state.organizations[record.organization_id]
    return invitation(state, record, now=now) | {"public_organization_data": public_organization(owner)}


def invitation_status(record: Invitation, now: int) -> str:
    return "expired" if record.status == "pending" and record.expires_at <= now else record.status


def domain(state: State, record: Domain) -> Json:
    affiliation = _affiliation(record)
    invited = [each for each in state.invitations_of(record.organization_id) if each.domain_id == record.id]
    suggested = [each for each in state.suggestions_of(record.organization_id) if each.domain_id == record.id]
    return {
        "object": "organization_domain",
        "id": record.id,
        "organization_id": record.organization_id,
        "name": record.name,
        "enrollment_mode": record.enrollment_mode,
        "affiliation_email_address": record.affiliation_email_address,
        "affiliation_verification": affiliation,
        "ownership_verification": _verification("manual_override", record.owned_at),
        "verification": affiliation,
        "total_pending_invitations": sum(each.status == "pending" for each in invited),
        "total_pending_suggestions": sum(each.status == "pending" for each in suggested),
        "public_organization_data": public_organization(state.organizations[record.organization_id]),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def role(state: State, record: Role) -> Json:
    held = state.permissions_of(record)
    return {
        "object": "role",
        "id": record.id,
        "name": record.name,
        "key": record.key,
        "description": record.description,
        "is_creator_eligible": {permission.key for permission in held} >= CREATOR_PERMISSIONS,
        "permissions": [permission(each) for each in held],
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def permission(record: Permission) -> Json:
    return {
        "object": "permission",
        "id": record.id,
        "name": record.name,
        "key": record.key,
        "description": record.description,
        "type": record.type,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def session(record: Session) -> Json:
    return {
        "object": "session",
        "id": record.id,
        "user_id": record.user_id,
        "client_id": record.client_id,
        "actor": None,
        "status": record.status,
        "last_active_organization_id": record.organization_id,
        "last_active_at": record.last_active_at,
        "expire_at": record.expire_at,
        "abandon_at": record.abandon_at,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "tasks": [{"key": "choose-organization"}] if record.status == "pending" else None,
    }


def sign_in_token(record: SignInToken) -> Json:
    return {
        "object": "sign_in_token",
        "id": record.id,
        "status": record.status,
        "user_id": record.user_id,
        "token": record.token,
        "url": None,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def event_data(state: State, record: Record, *, now: int) -> Json:
    """The `data` of a created or updated event, and of a deleted one about a membership."""
    match record:
        case User():
            return user(record)
        case Organization():
            return organization(state, record)
        case Membership():
            return membership(state, record)
        case Invitation():
            shown = invitation_with_organization(state, record, now=now)
            return shown | ({"user_id": record.user_id} if record.user_id else {})
        case Domain():
            return domain(state, record)
        case Role():
            return role(state, record)
        case Permission():
            return permission(record)
        case Session():
            return session(record) | {"user": user(state.users[record.user_id])}
        case _:
            raise TypeError(f"no event is about a {record.kind}")


def deleted(record: Record) -> Json:
    """A deleted object: no times, no key; which further fields come depends on its kind."""
    match record:
        case User():
            return {"object": "user", "id": record.id, "external_id": record.external_id, "deleted": True}
        case Organization():
            return {"object": "organization", "id": record.id, "slug": record.slug, "deleted": True}
        case Role():
            return {"object": "role", "id": record.id, "slug": None, "deleted": True}
        case Domain():
            return {"object": "organization_domain", "id": record.id, "deleted": True}
        case _:
            return {"object": record.kind, "id": record.id, "deleted": True}


def public_user(record: User) -> Json:
    return {
        "user_id": record.id,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "profile_image_url": record.image or avatars.draw(record.full_name),
        "image_url": record.image or avatars.draw(record.full_name),
        "has_image": record.image is not None,
        "identifier": record.identifier,
        "username": record.username,
        "banned": record.banned,
        "deprovisioned": False,
    }


def _inviter(state: State, user_id: str | None) -> Json | None:
    inviter = state.users.get(user_id or "")
    if inviter is None:
        return None
    shown = public_user(inviter)
    return {key: shown[key] for key in ("user_id", "first_name", "last_name", "image_url", "has_image", "identifier")}


def _verification(strategy: str, verified_at: int | None) -> Json | None:
    if verified_at is None:
        return None
    return {
        "status": "verified",
        "strategy": strategy,
        "attempts": None,
        "expire_at": None,
        "verified_at": verified_at,
    }


def _affiliation(record: Domain) -> Json | None:
    """By a code to an address of the domain, or without one by whoever holds the secret key."""
    if record.affiliation_email_address is None:
        return _verification("admin", record.verified_at)
    return {
        "status": "unverified" if record.verified_at is None else "verified",
        "strategy": "affiliation_email_code",
        "attempts": record.code_attempts,
        "expire_at": record.code_expires_at,
        "verified_at": record.verified_at,
    }


def _has_elevated_member(state: State, organization_id: str) -> bool:
    holders: dict[str, int] = state.role_holders.get(organization_id, Counter())
    roles = [state.roles[role_id] for role_id, members in holders.items() if members > 0]
    return any(held.key == "org:sys_memberships:manage" for each in roles for held in state.permissions_of(each))
