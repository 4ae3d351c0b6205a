"""What can be set: the instance's own settings, the emulator's options, and what only a real instance could tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Settings:
    """A Clerk instance's settings, with the defaults of an application created today. Kept with the state.

    Roles are named by key, as the Backend API shows them.
    """

    application_name: str = "Tenantry"  # "Sign in to …"
    enabled: bool = True
    slugs: bool = False
    membership_required: bool = True
    max_allowed_memberships: int = 5
    max_allowed_roles: int = 10
    max_allowed_domains: int = 10
    admin_delete_enabled: bool = True
    domains_enabled: bool = True
    domains_enrollment_modes: tuple[str, ...] = ("manual_invitation", "automatic_invitation", "automatic_suggestion")
    users_may_create_organizations: bool = True  # off, organizations come from the Backend API alone
    creator_role: str = "org:admin"
    domains_default_role: str = "org:member"
    single_session: bool = True  # one person at a time is signed in at a browser
    allowed_origins: tuple[str, ...] = ()  # may ask, and be led back to, besides this machine's own

    @property
    def needs_organization(self) -> bool:
        """Whether a session waits for an organization before it is active."""
        return self.enabled and self.membership_required


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What Clerk's documents do not say; each a switch. `docs/emulator.md` says what each one is about."""

    cascade_events: bool = False
    organization_updated_on_counts: bool = False
    membership_updated_on_role_change: bool = False
    role_updated_on_permission_change: bool = False
    user_updated_on_sign_in: bool = False
    equal_timestamps: bool = False
    slug_when_disabled: Literal["null", "empty", "generated"] = "null"


@dataclass(frozen=True, slots=True)
class Options:
    """How this emulator runs; not kept. Lives are in seconds."""

    token_version: Literal[1, 2] = 2
    token_seconds: int = 60
    rate_limits: bool = True
    assumptions: Assumptions = field(default_factory=Assumptions)
