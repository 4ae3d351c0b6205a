"""Organizations: names, slugs, and what goes with them when they go."""

from __future__ import annotations

import re
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.records import Metadata, Organization, Record
from tenantry.emulator.store import metadata
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.memberships import Memberships
from tenantry.emulator.store.roles import Roles

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MARKUP = re.compile(r"https?://|www\.|<[^>]*>", re.IGNORECASE)


class Organizations:
    def __init__(self, core: Core, memberships: Memberships, roles: Roles) -> None:
        self._core = core
        self._memberships = memberships
        self._roles = roles

    def check_enabled(self) -> None:
        """ClerkError where this instance has organizations turned off."""
        if not self._core.state.settings.enabled:
            message = "The organizations feature is not enabled for this instance."
            raise errors.refused("organization_not_enabled_in_instance", message)

    def get(self, id: str) -> Organization:
        """By id or slug."""
        state = self._core.state
        organization = state.organizations.get(state.organization_by_slug.get(id, id))
        if organization is None:
            raise errors.not_found("organization", id)
        return organization

    def find(self, name: str) -> Organization:
        """By id, slug or name; `acme` finds Acme, as people type it, even where slugs are off."""
        state = self._core.state
        if name in state.organizations or name in state.organization_by_slug:
            return self.get(name)
        wanted = slugify(name)
        for organization in state.organizations.values():
            if slugify(organization.name) == wanted:
                return organization
        raise errors.not_found("organization", name)

    def create(
        self,
        name: str,
        *,
        created_by: str | None = None,
        slug: str | None = None,
        max_allowed_memberships: int | None = None,
        public_metadata: Metadata | None = None,
        private_metadata: Metadata | None = None,
        created_at: int | None = None,
    ) -> Organization:
        """`created_by` becomes a member with the creator role; without, nobody is a member."""
        settings = self._core.state.settings
        if created_by is not None:
            self._check_creator(created_by)
        now = created_at or self._core.clock()
        organization = Organization(
            id=self._core.identifiers.new("org"),
            created_at=now,
            updated_at=now,
            name=_checked_name(name),
            slug=self._new_slug(name, slug),
            created_by=created_by,
            max_allowed_memberships=_or(max_allowed_memberships, settings.max_allowed_memberships),
            admin_delete_enabled=settings.admin_delete_enabled,
            last_active_at=now,
            public_metadata=metadata.check("public_metadata", public_metadata or {}),
            private_metadata=metadata.check("private_metadata", private_metadata or {}),
        )
        self._core.create(organization)
        if created_by is not None:
            self._memberships.create(organization, created_by, self._roles.find(settings.creator_role))
        return organization

    def update(self, id: str, changes: dict[str, Any]) -> Organization:
        """`changes` by field of the record."""
        organization = self.get(id)
        if "name" in changes:
            _checked_name(changes["name"])
        if "slug" in changes and changes["slug"] != organization.slug:
            changes = {**changes, "slug": self._new_slug(organization.name, changes["slug"])}
        return self._core.update(organization, **changes)

    def merge_metadata(self, id: str, new: dict[str, Metadata]) -> Organization:
        organization = self.get(id)
        old = {param: getattr(organization, param) for param in new}
        return self._core.update(organization, **metadata.merged(old, new))

    def replace_metadata(self, id: str, new: dict[str, Metadata]) -> Organization:
        return self._core.update(self.get(id), **metadata.replaced(new))

    def set_logo(self, organization: Organization, logo: str | None) -> Organization:
        """`logo` is a data: URL, as it is then shown."""
        return self._core.update(organization, logo=logo)

    def delete(self, id: str) -> Organization:
        """Memberships, invitations, domains and what those led to go with it; the children first."""
        organization = self.get(id)
        state, announce = self._core.state, self._core.assumptions.cascade_events
        asked: list[Record] = [*state.membership_requests_of(organization.id), *state.suggestions_of(organization.id)]
        for each in asked:
            self._core.delete(each, announce=False)
        for invitation in state.invitations_of(organization.id):
            if announce and invitation.status == "pending":
                invitation = self._core.update(invitation, status="revoked")
            self._core.delete(invitation, announce=False)
        for domain in state.domains_of(organization.id):
            self._core.delete(domain, announce=announce)
        self._memberships.end_all(state.memberships_of(organization.id))
        self._core.delete(organization)
        return organization

    def _check_creator(self, user_id: str) -> None:
        user = self._core.state.users.get(user_id)
        if user is None:
            raise errors.not_found("user", user_id)
        limit = 100 if user.create_organizations_limit is None else user.create_organizations_limit
        if limit and self._core.state.created_by[user_id] >= limit:
            message = f"The user has reached the limit of {limit} organizations."
            raise errors.refused("organization_creation_quota_exceeded", message)

    def _new_slug(self, name: str, slug: str | None) -> str | None:
        if not self._core.state.settings.slugs:
            if slug:
                message = "Organization slugs are disabled for this instance."
                raise errors.refused("organization_slugs_disabled", message)
            return self._slug_when_disabled(name)
        if slug is None:
            return self._free_slug(name)
        if not _SLUG.fullmatch(slug):
            raise errors.malformed("slug", "lowercase letters, digits and single dashes between them")
        if slug in self._core.state.organization_by_slug:
            raise errors.taken("slug")
        return slug

    def _slug_when_disabled(self, name: str) -> str | None:
        match self._core.assumptions.slug_when_disabled:
            case "null":
                return None
            case "empty":
                return ""
            case "generated":
                return self._free_slug(name)

    def _free_slug(self, name: str) -> str:
        slug = slugify(name) or "org"
        taken = self._core.state.organization_by_slug
        return slug if slug not in taken else f"{slug}-{self._core.identifiers.hex(10)}"


def slugify(name: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def _checked_name(name: str) -> str:
    if not name.strip():
        raise errors.missing("name")
    if len(name) > 256:
        raise errors.invalid("name", "must not exceed 256 characters")
    if _MARKUP.search(name):
        raise errors.invalid("name", "must not contain URLs or HTML")
    return name


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
