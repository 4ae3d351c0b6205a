"""The objects an instance holds, as it holds them: frozen, by id, times in Unix milliseconds."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

Metadata = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EmailAddress:
    id: str
    email_address: str
    verified: bool
    reserved: bool
    created_at: int
    updated_at: int

    @property
    def owned(self) -> bool:
        """Whether it is its user's alone: proved by them, or kept for them by who holds the secret key."""
        return self.verified or self.reserved


@dataclass(frozen=True, slots=True)
class User:
    kind: ClassVar[str] = "user"
    id: str
    created_at: int
    updated_at: int
    email_addresses: tuple[EmailAddress, ...] = ()
    primary_email_address_id: str | None = None
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    external_id: str | None = None
    password: str | None = None  # salt and digest, never the password
    password_updated_at: int | None = None
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    unsafe_metadata: Metadata = field(default_factory=dict)
    banned: bool = False
    locked: bool = False
    last_sign_in_at: int | None = None
    last_active_at: int | None = None
    legal_accepted_at: int | None = None
    delete_self_enabled: bool = True
    create_organization_enabled: bool = True
    create_organizations_limit: int | None = None
    bypass_client_trust: bool = False
    image: str | None = None  # a data: URL

    @property
    def primary_email(self) -> EmailAddress | None:
        return next((email for email in self.email_addresses if email.id == self.primary_email_address_id), None)

    @property
    def full_name(self) -> str:
        """First and last name; who has neither goes by the identifier."""
        return " ".join(name for name in (self.first_name, self.last_name) if name) or self.identifier

    @property
    def identifier(self) -> str:
        """What identifies this person to others: the primary address, else the username, else the id."""
        return self.primary_email.email_address if self.primary_email else self.username or self.id


@dataclass(frozen=True, slots=True)
class Organization:
    kind: ClassVar[str] = "organization"
    id: str
    created_at: int
    updated_at: int
    name: str
    slug: str | None
    created_by: str | None
    max_allowed_memberships: int
    admin_delete_enabled: bool
    last_active_at: int
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    logo: str | None = None  # as a data: URL


@dataclass(frozen=True, slots=True)
class Membership:
    """The role is held by id, so that a renamed role stays the member's."""

    kind: ClassVar[str] = "membership"
    id: str
    created_at: int
    updated_at: int
    organization_id: str
    user_id: str
    role_id: str
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Invitation:
    """`status`: pending, accepted or revoked; that one has expired is read off `expires_at`.

    `ticket` lets whoever holds it sign up as the invited person; `domain_id` is that of a domain that invites.
    """

    kind: ClassVar[str] = "invitation"
    id: str
    created_at: int
    updated_at: int
    organization_id: str
    email_address: str
    role_id: str
    inviter_id: str | None
    expires_at: int
    url: str | None
    status: str = "pending"
    user_id: str | None = None
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    ticket: str | None = None
    domain_id: str | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """Its affiliation is verified by a code sent to an address of the domain."""

    kind: ClassVar[str] = "domain"
    id: str
    created_at: int
    updated_at: int
    organization_id: str
    name: str
    enrollment_mode: str
    verified_at: int | None
    owned_at: int | None = None
    affiliation_email_address: str | None = None
    code_expires_at: int | None = None
    code_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A domain suggests its organization to a person. `status`: pending, accepted, completed once that was answered."""

    kind: ClassVar[str] = "suggestion"
    id: str
    created_at: int
    updated_at: int
    organization_id: str
    domain_id: str
    user_id: str
    status: str = "pending"


@dataclass(frozen=True, slots=True)
class MembershipRequest:
    """Who accepted a suggestion asks to be let in. `status`: pending, accepted or rejected."""

    kind: ClassVar[str] = "membership_request"
    id: str
    created_at: int
    updated_at: int
    organization_id: str
    user_id: str
    suggestion_id: str
    status: str = "pending"


@dataclass(frozen=True, slots=True)
class Role:
    kind: ClassVar[str] = "role"
    id: str
    created_at: int
    updated_at: int
    name: str
    key: str
    description: str | None
    permission_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Permission:
    kind: ClassVar[str] = "permission"
    id: str
    created_at: int
    updated_at: int
    name: str
    key: str
    description: str
    type: str  # "system" or "custom"

    @property
    def is_system(self) -> bool:
        return self.type == "system"


@dataclass(frozen=True, slots=True)
class Session:
    """`status`: active, pending (the user has yet to choose an organization), revoked, ended or removed."""

    kind: ClassVar[str] = "session"
    id: str
    created_at: int
    updated_at: int
    user_id: str
    client_id: str
    status: str
    organization_id: str | None
    last_active_at: int
    expire_at: int
    abandon_at: int
    verified_at: int | None = None  # when a first factor was verified again after the sign-in
    code_sent_at: int | None = None  # a code to verify it with

    @property
    def is_alive(self) -> bool:
        return self.status in ("active", "pending")

    def factor_ages(self, now: int) -> list[int]:
        """Minutes since the first and the second factor were verified; -1 for never."""
        return [(now - (self.verified_at or self.created_at)) // 60_000, -1]


@dataclass(frozen=True, slots=True)
class Client:
    """A browser. `secret` is the value of its cookie; of sign-ins and sign-ups it has one each, the newest."""

    kind: ClassVar[str] = "client"
    id: str
    created_at: int
    updated_at: int
    secret: str
    last_active_session_id: str | None = None
    sign_in_id: str | None = None
    sign_up_id: str | None = None

    @property
    def dev_browser(self) -> str:
        """What names this browser where its cookie does not reach: in the URL, from another site."""
        return "dvb_" + hashlib.sha256(self.secret.encode()).hexdigest()[:27]


@dataclass(frozen=True, slots=True)
class SignIn:
    """An attempt to sign in. `strategy` is that of the first factor, once prepared; `status` is in Clerk's words.

    `redirect_url` is where the page of people leads back to; `error_code` is why it could not sign the person in.
    """

    kind: ClassVar[str] = "sign_in"
    id: str
    created_at: int
    updated_at: int
    client_id: str
    status: str = "needs_identifier"
    identifier: str | None = None
    user_id: str | None = None
    strategy: str | None = None
    prepared_at: int | None = None
    verified: bool = False
    redirect_url: str | None = None
    error_code: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignUp:
    """An attempt to sign up. `existing_user_id` is who was chosen on the page of people: to be signed in instead."""

    kind: ClassVar[str] = "sign_up"
    id: str
    created_at: int
    updated_at: int
    client_id: str
    email_address: str | None = None
    email_strategy: str | None = None  # by which the address is, or is to be, verified
    email_verified: bool = False
    prepared_at: int | None = None
    first_name: str | None = None
    last_name: str | None = None
    password: str | None = None  # salt and digest, never the password
    unsafe_metadata: Metadata = field(default_factory=dict)
    invitation_id: str | None = None
    external_strategy: str | None = None
    redirect_url: str | None = None
    existing_user_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignInToken:
    kind: ClassVar[str] = "sign_in_token"
    id: str
    created_at: int
    updated_at: int
    user_id: str
    organization_id: str | None
    token: str
    expires_at: int
    status: str = "pending"


Record = (
    User | Organization | Membership | Invitation | Domain | Role | Permission | Session | Client
    | SignIn | SignUp | SignInToken | Suggestion | MembershipRequest
)  # fmt: skip
TYPES: tuple[type[Record], ...] = (
    User, Organization, Membership, Invitation, Domain, Role, Permission, Session, Client, SignInToken, SignIn, SignUp,
    Suggestion, MembershipRequest,
)  # fmt: skip


def dump(record: Record) -> dict[str, Any]:
    """The record as JSON takes it; `load` reads it back."""
    return asdict(record)


def load(record_type: type[Record], values: dict[str, Any]) -> Record:
    """ValueError or TypeError when `values` are of another release."""
    if record_type is User:
        emails = tuple(EmailAddress(**email) for email in values["email_addresses"])
        return User(**{**values, "email_addresses": emails})
    if record_type is Role:
        return Role(**{**values, "permission_ids": tuple(values["permission_ids"])})
    return record_type(**values)
