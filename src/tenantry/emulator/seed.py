"""People, organizations, roles and permissions to begin with, from a TOML file or a pleasant default."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.records import Organization
from tenantry.emulator.settings import Settings
from tenantry.emulator.store import Store
from tenantry.emulator.store.users import NewUser

DEFAULT_PASSWORD = "tenantry-emulator"
_TYPES = {"str": str, "int": int, "bool": bool, "dict": dict}


@dataclass(frozen=True, slots=True)
class SeedUser:
    email: str
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    password: str = DEFAULT_PASSWORD
    public_metadata: dict[str, Any] = field(default_factory=dict)
    private_metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeedOrganization:
    """`members` maps e-mail addresses to role keys; `slug` counts only where the settings turn slugs on."""

    name: str
    slug: str | None = None
    created_by: str | None = None
    max_allowed_memberships: int | None = None
    members: dict[str, str] = field(default_factory=dict)
    public_metadata: dict[str, Any] = field(default_factory=dict)
    private_metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeedRole:
    """`permissions` are keys, system ones included; they are added to what the role holds."""

    key: str
    name: str
    description: str | None = None
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeedPermission:
    key: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Seed:
    """`settings` are fields of `Settings`."""

    settings: dict[str, Any] = field(default_factory=dict)
    permissions: tuple[SeedPermission, ...] = ()
    roles: tuple[SeedRole, ...] = ()
    users: tuple[SeedUser, ...] = ()
    organizations: tuple[SeedOrganization, ...] = ()


EMPTY = Seed()
DEFAULT = Seed(
    permissions=(
        SeedPermission("org:documents:read", "Read documents"),
        SeedPermission("org:documents:create", "Create documents"),
        SeedPermission("org:documents:update", "Edit documents"),
        SeedPermission("org:documents:delete", "Delete documents"),
    ),
    roles=(
        SeedRole(
            "org:editor",
            "Editor",
            "Writes documents",
            (
                "org:sys_memberships:read",
                "org:sys_billing:read",
                "org:documents:read",
                "org:documents:create",
                "org:documents:update",
            ),
        ),
        SeedRole(
            "org:admin",
            "Admin",
            permissions=(
                "org:documents:read",
                "org:documents:create",
                "org:documents:update",
                "org:documents:delete",
            ),
        ),
        SeedRole("org:member", "Member", permissions=("org:documents:read",)),
    ),
    users=(
        SeedUser("ada@example.test", "Ada", "Lovelace"),
        SeedUser("grace@example.test", "Grace", "Hopper"),
        SeedUser("alan@example.test", "Alan", "Turing"),
    ),
    organizations=(
        SeedOrganization(
            "Acme",
            "acme",
            created_by="ada@example.test",
            members={"grace@example.test": "org:editor", "alan@example.test": "org:member"},
        ),
        SeedOrganization(
            "Globex", "globex", created_by="alan@example.test", members={"ada@example.test": "org:member"}
        ),
    ),
)


def read_seed(path: Path) -> Seed:
    """ValueError, with a sentence that names the file and what is wrong in it; OSError when it cannot be read."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}.") from None
    try:
        return _parse(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def plant(store: Store, seed: Seed) -> None:
    """Adds what is not there yet. ValueError when the seed contradicts itself or a rule of Clerk's.

    A seed that was planted into this state before is left alone: what somebody deleted since does not return.
    """
    fingerprint = hashlib.sha256(json.dumps(asdict(seed), sort_keys=True, default=str).encode()).hexdigest()
    planted = store.state.meta.get("seeds", [])
    if fingerprint in planted:
        return
    try:
        _plant(store, seed)
    except errors.ClerkError as error:
        where = f" ({error.param})" if error.param else ""
        raise ValueError(f"The seed cannot be used: {error.message}{where}") from None
    store.state.put_meta("seeds", [*planted, fingerprint])


def _plant(store: Store, seed: Seed) -> None:
    state = store.state
    if seed.settings:
        state.put_settings(replace(state.settings, **seed.settings))
    for permission in seed.permissions:
        if permission.key not in state.permission_by_key:
            store.permissions.create(permission.name, permission.key, permission.description)
    for role in seed.roles:
        _plant_role(store, role)
    for user in seed.users:
        if user.email.lower() not in state.user_by_email:
            _plant_user(store, user)
    known = {organization.name: organization for organization in state.organizations.values()}
    for organization in seed.organizations:
        _plant_organization(store, organization, known.get(organization.name))


def _plant_role(store: Store, role: SeedRole) -> None:
    wanted = [store.permissions.find(key).id for key in role.permissions]
    if role.key not in store.state.role_by_key:
        store.roles.create(role.name, role.key, role.description, wanted)
        return
    known = store.roles.find(role.key)
    if not set(wanted) <= set(known.permission_ids):
        store.roles.update(known.id, {"permission_ids": [*known.permission_ids, *wanted]})


def _plant_user(store: Store, user: SeedUser) -> None:
    metadata = {"public_metadata": user.public_metadata, "private_metadata": user.private_metadata}
    names = {"first_name": user.first_name, "last_name": user.last_name}
    new = NewUser(
        email_addresses=(user.email,), username=user.username, password=user.password, fields=names | metadata
    )
    store.users.create(new)


def _plant_organization(store: Store, wanted: SeedOrganization, known: Organization | None) -> None:
    organization = known or store.organizations.create(
        wanted.name,
        created_by=store.users.find(wanted.created_by).id if wanted.created_by else None,
        slug=wanted.slug if store.state.settings.slugs else None,
        max_allowed_memberships=wanted.max_allowed_memberships,
        public_metadata=wanted.public_metadata,
        private_metadata=wanted.private_metadata,
    )
    for email, role in wanted.members.items():
        user = store.users.find(email)
        if store.state.membership(organization.id, user.id) is None:
            store.memberships.create(organization, user.id, store.roles.find(role))


def _parse(content: dict[str, Any]) -> Seed:
    _check_names("the file", set(content), {field.name for field in fields(Seed)})
    return Seed(
        settings=_values(Settings, "settings", content.get("settings", {})),
        permissions=tuple(SeedPermission(**each) for each in _tables(SeedPermission, "permissions", content)),
        roles=tuple(SeedRole(**each) for each in _tables(SeedRole, "roles", content)),
        users=tuple(SeedUser(**each) for each in _tables(SeedUser, "users", content)),
        organizations=tuple(SeedOrganization(**each) for each in _tables(SeedOrganization, "organizations", content)),
    )


def _tables(cls: type[Any], name: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    tables = content.get(name, [])
    if not isinstance(tables, list):
        raise ValueError(f"{name} must be tables; begin each with [[{name}]].")
    return [_values(cls, f"{name}[{index}]", table) for index, table in enumerate(tables)]


def _values(cls: type[Any], where: str, table: Any) -> dict[str, Any]:
    """The table's values, as the dataclass `cls` takes them."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table.")
    known = {each.name: each for each in fields(cls)}
    _check_names(where, set(table), set(known))
    for name, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and name not in table:
            raise ValueError(f"{where} has no {name}.")
    return {name: _value(f"{where}.{name}", str(known[name].type), value) for name, value in table.items()}


def _check_names(where: str, names: set[str], known: set[str]) -> None:
    if unknown := names - known:
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, but knows only {', '.join(sorted(known))}.")


def _value(where: str, declared: str, value: Any) -> Any:
    """`declared` is the annotation as written: `str | None`, `tuple[str, ...]`, `dict[str, Any]`."""
    if declared.startswith("tuple"):
        _check_strings(where, value if isinstance(value, list) else [None])
        return tuple(value)
    if declared == "dict[str, str]":
        _check_strings(where, value.values() if isinstance(value, dict) else [None])
    if type(value) is not _TYPES[declared.split("[")[0].split(" ")[0]]:
        raise ValueError(f"{where} must be {declared.removesuffix(' | None')}.")
    _check_json(where, value)
    return value


def _check_strings(where: str, values: Iterable[Any]) -> None:
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where} must hold strings only.")


def _check_json(where: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(f"{where} holds something that JSON cannot, such as a date or nan.") from None
