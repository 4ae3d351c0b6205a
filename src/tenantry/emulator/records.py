"""The objects an instance holds, as it holds them: frozen, by id, times in Unix milliseconds."""

from __future__ import annotations

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

    @property
    def primary_email(self) -> EmailAddress | None:
        return next((email for email in self.email_addresses if email.id == self.primary_email_address_id), None)

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
    """`status`: pending, accepted or revoked; that one has expired is read off `expires_at`."""

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


@dataclass(frozen=True, slots=True)
class Domain:
    kind: ClassVar[str] = "domain"
    id: str
    created_at: int
    updated_at: int
    organization_id: str
    name: str
    enrollment_mode: str
    verified_at: int | None
    owned_at: int | None = None


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

    @property
    def is_alive(self) -> bool:
        return self.status in ("active", "pending")


@dataclass(frozen=True, slots=True)
class Client:
    """A browser. `secret` is the value of its cookie."""

    kind: ClassVar[str] = "client"
    id: str
    created_at: int
    updated_at: int
    secret: str
    last_active_session_id: str | None = None


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


Record = User | Organization | Membership | Invitation | Domain | Role | Permission | Session | Client | SignInToken
TYPES: tuple[type[Record], ...] = (
    User, Organization, Membership, Invitation, Domain, Role, Permission, Session, Client, SignInToken,
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
