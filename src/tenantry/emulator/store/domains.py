"""Domains of an organization, by which people may join it."""

from __future__ import annotations

import re
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.records import Domain, Organization
from tenantry.emulator.store.core import Core

ENROLLMENT_MODES = ("manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso")
_NAME = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


class Domains:
    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, organization_id: str, id: str) -> Domain:
        domain = self._core.state.domains.get(id)
        if domain is None or domain.organization_id != organization_id:
            raise errors.not_found("organization domain", id)
        return domain

    def create(self, organization: Organization, name: str, enrollment_mode: str | None, *, verified: bool) -> Domain:
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
        )
        return self._core.create(domain)

    def update(self, domain: Domain, *, enrollment_mode: str | None, verified: bool | None) -> Domain:
        changes: dict[str, Any] = {}
        if enrollment_mode is not None:
            changes["enrollment_mode"] = _checked_mode(enrollment_mode)
        if verified is not None:
            changes["verified_at"] = (domain.verified_at or self._core.clock()) if verified else None
        return self._core.update(domain, **changes)

    def verify_ownership(self, domain: Domain) -> Domain:
        return domain if domain.owned_at else self._core.update(domain, owned_at=self._core.clock())

    def delete(self, domain: Domain) -> None:
        self._core.delete(domain)

    def _check_room(self, organization: Organization) -> None:
        settings = self._core.state.settings
        if not settings.domains_enabled:
            message = "Organization domains are not enabled for this instance."
            raise errors.refused("organization_domains_not_enabled", message)
        if len(self._core.state.domains_of(organization.id)) >= settings.max_allowed_domains:
            message = f"You have reached your limit of {settings.max_allowed_domains} domains in this organization."
            raise errors.refused("organization_domain_quota_exceeded", message)

    def _free_name(self, name: str) -> str:
        name = name.lower()
        if not _NAME.fullmatch(name):
            raise errors.malformed("name", "a domain name such as example.com")
        if any(domain.name == name for domain in self._core.state.domains.values()):
            raise errors.taken("name")
        return name


def _checked_mode(mode: str) -> str:
    if mode not in ENROLLMENT_MODES:
        raise errors.invalid("enrollment_mode", f"must be one of {', '.join(ENROLLMENT_MODES)}")
    return mode
