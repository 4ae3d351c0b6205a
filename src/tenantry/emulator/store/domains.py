"""Domains of an organization, by which people may join it."""

from __future__ import annotations

import re
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.records import Domain, Organization
from tenantry.emulator.store import codes
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.users import checked_email

ENROLLMENT_MODES = ("manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso")
_NAME = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_ATTEMPTS = 5  # at one code
# Where anybody gets an address: the best known ones only.
_COMMON = frozenset({
    "aol.com", "fastmail.com", "gmail.com", "gmx.com", "gmx.net", "hotmail.com", "icloud.com", "live.com", "mail.com",
    "me.com", "msn.com", "outlook.com", "proton.me", "protonmail.com", "web.de", "yahoo.com", "zoho.com",
})  # fmt: skip


class Domains:
    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, organization_id: str, id: str) -> Domain:
        domain = self._core.state.domains.get(id)
        if domain is None or domain.organization_id != organization_id:
            raise errors.not_found("organization domain", id)
        return domain

    def create(
        self,
        organization: Organization,
        name: str,
        enrollment_mode: str | None,
        *,
        verified: bool,
        affiliation_email_address: str | None = None,
    ) -> Domain:
        """`affiliation_email_address` is the one that verified it, if one did."""
        self._check_room(organization)
        now = self._core.clock()
        domain = Domain(
            id=self._core.identifiers.new("orgdmn"),
            created_at=now,
            updated_at=now,
            organization_id=organization.id,
            name=self._free_name(name),
            enrollment_mode=_checked_mode(enrollment_mode or "manual_invitation"),
            verified_at=now if verified else None,
            affiliation_email_address=affiliation_email_address,
        )
        return self._core.create(domain)

    def update(self, domain: Domain, *, enrollment_mode: str | None, verified: bool | None) -> Domain:
        changes: dict[str, Any] = {}
        if enrollment_mode is not None:
            changes["enrollment_mode"] = _checked_mode(enrollment_mode)
        if verified is not None:
            changes["verified_at"] = (domain.verified_at or self._core.clock()) if verified else None
        return self._core.update(domain, **changes)

    def send_code(self, domain: Domain, email_address: str) -> Domain:
        """A new code to an address of the domain, by which its affiliation is verified."""
        address = checked_email("affiliation_email_address", email_address)
        if address.partition("@")[2] != domain.name:
            message = "The provided email address doesn't match the organization domain name."
            raise ClerkError(422, "organization_domain_mismatch", message, param="affiliation_email_address")
        self._check_unverified(domain)
        expires = self._core.clock() + codes.LIFE
        return self._core.update(domain, affiliation_email_address=address, code_expires_at=expires, code_attempts=0)

    def try_code(self, domain: Domain, code: str) -> Domain:
        """The domain, verified. ClerkError when the code is wrong, came too late, or too many were tried."""
        self._check_unverified(domain)
        if domain.code_attempts >= _ATTEMPTS:
            message = "Too many failed attempts. You have to try again with the same or another method."
            raise errors.refused("verification_failed", message, status=400)
        now, expires = self._core.clock(), domain.code_expires_at
        tried = self._core.update(domain, announce=False, code_attempts=domain.code_attempts + 1)
        codes.check_code(code, expires - codes.LIFE if expires else None, now)
        return self._core.update(tried, verified_at=now, code_expires_at=None)

    def verify_ownership(self, domain: Domain) -> Domain:
        return domain if domain.owned_at else self._core.update(domain, owned_at=self._core.clock())

    def delete(self, domain: Domain) -> None:
        self._core.delete(domain)

    def _check_unverified(self, domain: Domain) -> None:
        if domain.verified_at is not None:
            message = "This verification has already been verified."
            raise errors.refused("verification_already_verified", message, status=400)

    def _check_room(self, organization: Organization) -> None:
        settings = self._core.state.settings
        if not settings.domains_enabled:
            message = "Organization domains are not enabled for this instance."
            raise errors.refused("organization_domains_not_enabled", message)
        if len(self._core.state.domains_of(organization.id)) >= settings.max_allowed_domains:
            message = f"You have reached your limit of {settings.max_allowed_domains} domains per organization."
            raise errors.refused("organization_domain_quota_exceeded", message)

    def _free_name(self, name: str) -> str:
        name = name.lower()
        if not _NAME.fullmatch(name):
            raise errors.malformed("name", "a domain name such as example.com")
        if name in _COMMON:
            message = "This is a common email provider domain. Please use a different one."
            raise ClerkError(422, "organization_domain_common", message, param="name")
        if name in self._core.state.domain_by_name:
            message = "This domain is already used by another organization."
            raise ClerkError(422, "organization_domain_already_exists", message, param="name")
        return name


def _checked_mode(mode: str) -> str:
    if mode not in ENROLLMENT_MODES:
        raise errors.invalid("enrollment_mode", f"must be one of {', '.join(ENROLLMENT_MODES)}")
    return mode
