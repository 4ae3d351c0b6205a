"""Clerk's objects as its webhooks show them, with every field they have; times in milliseconds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IMAGE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"  # nothing to fetch


def create_id(prefix: str, label: str) -> str:
    """An id of Clerk's length, which begins with the label: the same for the same label."""
    readable = re.sub(r"[^0-9A-Za-z]", "", label)[:12]
    digest = hashlib.sha256(f"{prefix} {label}".encode()).digest()
    filler = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)
    return f"{prefix}_{(readable + filler)[:27]}"


def organization(id: str, *, name: str, slug: str | None, at: int) -> Json:
    """An Organization, created at `at`."""
    return {
        "object": "organization",
        "id": id,
        "name": name,
        "slug": slug,
        "image_url": _IMAGE,
        "has_image": False,
        "members_count": 0,
        "missing_member_with_elevated_permissions": False,
        "pending_invitations_count": 0,
        "max_allowed_memberships": 0,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_by": None,
        "created_at": at,
        "updated_at": at,
        "last_active_at": at,
        "role_set_key": "role_set:default",
    }


def user(id: str, *, first_name: str, email: str, at: int) -> Json:
    """A User with one verified address."""
    address = email_address(create_id("idn", email), email, at=at)
    return {
        "object": "user",
        "id": id,
        "external_id": None,
        "primary_email_address_id": address["id"],
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "username": None,
        "first_name": first_name,
        "last_name": None,
        "locale": None,
        "profile_image_url": _IMAGE,
        "image_url": _IMAGE,
        "has_image": False,
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "email_addresses": [address],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": True,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "password_last_updated_at": at,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": at,
        "banned": False,
        "locked": False,
        "deprovisioned": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "created_at": at,
        "updated_at": at,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "last_active_at": at,
        "legal_accepted_at": None,
        "bypass_client_trust": False,
        "scim": None,
    }


def email_address(id: str, email: str, *, at: int) -> Json:
    return {
        "id": id,
        "object": "email_address",
        "email_address": email,
        "reserved": False,
        "verification": {
            "object": "verification_otp",
            "status": "verified",
            "strategy": "email_code",
            "attempts": 1,
            "expire_at": at + 600_000,
        },
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": at,
        "updated_at": at,
    }


def membership(id: str, *, of: Json, user: Json, role: str, permissions: Iterable[str], at: int) -> Json:
    """An OrganizationMembership, with a full snapshot of the organization `of` and a part of the user."""
    return {
        "object": "organization_membership",
        "id": id,
        "role": role,
        "role_name": role.removeprefix("org:").replace("_", " ").capitalize(),
        "permissions": list(permissions),
        "public_metadata": {},
        "private_metadata": {},
        "organization": dict(of),
        "public_user_data": {
            "user_id": user["id"],
            "first_name": user["first_name"],
            "last_name": user["last_name"],
            "profile_image_url": user["profile_image_url"],
            "image_url": user["image_url"],
            "has_image": user["has_image"],
            "identifier": user["email_addresses"][0]["email_address"],
            "username": user["username"],
            "banned": user["banned"],
            "deprovisioned": user["deprovisioned"],
        },
        "created_at": at,
        "updated_at": at,
    }


def session(id: str, *, user: Json, organization_id: str, status: str, at: int) -> Json:
    return {
        "object": "session",
        "id": id,
        "user_id": user["id"],
        "client_id": create_id("client", id),
        "actor": None,
        "status": status,
        "last_active_organization_id": organization_id,
        "last_active_at": at,
        "latest_activity": None,
        "expire_at": at + 7 * 24 * 3_600_000,
        "abandon_at": at + 30 * 24 * 3_600_000,
        "created_at": at,
        "updated_at": at,
        "user": dict(user),
    }


def deleted(shown: Json) -> Json:
    """What is left of a user or organization that was deleted: no times."""
    kept = "slug" if shown["object"] == "organization" else "external_id"
    return {"object": shown["object"], "id": shown["id"], kept: shown[kept], "deleted": True}
