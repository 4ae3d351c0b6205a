"""The app's own permissions: `tenantry.toml` maps each Clerk role to patterns such as `documents:*`, and `can()` asks.

A permission is one or more segments of `[a-z0-9_.-]` joined by colons: `documents:read`. A pattern is the same with
`*` in place of whole segments: in the middle it stands for exactly one segment, at the end for one or more. So `*`
alone matches every permission, and `*:read` matches `documents:read` but not `billing:invoices:read`.

The database compares patterns the same way (`role_permissions`); `tests/vectors/can.json` holds both to it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tenantry.errors import ConfigurationError

_SEGMENT = r"[a-z0-9_.-]+"
_PERMISSION = re.compile(rf"{_SEGMENT}(?::{_SEGMENT})*")
_PATTERN = re.compile(rf"(?:{_SEGMENT}|\*)(?::(?:{_SEGMENT}|\*))*")
_ROLE = re.compile(r"org:[a-z0-9_]+")
_MAX_NAME = 200


def normalise_role(role: str) -> str:
    """A key with exactly one `org:` in front: tokens v2 and old instances write none."""
    while role.startswith("org:"):
        role = role[4:]
    return f"org:{role}"


def is_permission(text: str) -> bool:
    """Whether the text is a well-formed app permission (a permission, not a pattern)."""
    return len(text) <= _MAX_NAME and _PERMISSION.fullmatch(text) is not None


def matches(pattern: str, permission: str) -> bool:
    """Whether one pattern covers one permission; what is not a well-formed permission is covered by none."""
    return is_permission(permission) and _matches(pattern, permission)


def can(patterns: Iterable[str], permission: str) -> bool:
    """Whether any of the patterns covers the permission."""
    return is_permission(permission) and any(_matches(pattern, permission) for pattern in patterns)


def _matches(pattern: str, permission: str) -> bool:
    wanted, given = pattern.split(":"), permission.split(":")
    if wanted[-1] == "*" and len(given) > len(wanted):
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


@dataclass(frozen=True, slots=True)
class RoleMap:
    """Clerk role -> the patterns it holds, inheritance already resolved."""

    grants: Mapping[str, frozenset[str]]

    @property
    def roles(self) -> frozenset[str]:
        """The roles this map knows, each with its `org:`."""
        return frozenset(self.grants)

    def permissions(self, role: str) -> frozenset[str]:
        """The patterns of a role, own and inherited; a role the map does not know has none."""
        return self.grants.get(normalise_role(role), frozenset())

    def rows(self) -> list[tuple[str, str]]:
        """`(role, pattern)` pairs in a stable order: the rows of `role_permissions`."""
        return sorted((role, pattern) for role, patterns in self.grants.items() for pattern in patterns)


DEFAULT = RoleMap(
    MappingProxyType(
        {
            "org:admin": frozenset({"*"}),
            "org:member": frozenset({"*:read"}),
            "org:basic_member": frozenset({"*:read"}),  # what old Clerk instances call a member
        }
    )
)


def load(path: str | Path | None) -> RoleMap:
    """The role map of a TOML file, or the default map for None. Raises ConfigurationError."""
    if path is None:
        return DEFAULT
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text.", hint="Save the file as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise ConfigurationError(
            f"The roles file {str(path)!r} cannot be read: {reason}.",
            hint="Create it, or point TENANTRY_ROLES_FILE at the right file.",
        ) from None
    return parse(text, source=str(path))


def parse(text: str, *, source: str = "tenantry.toml") -> RoleMap:
    """The role map a TOML text describes; `source` names the file in errors. Raises ConfigurationError."""
    return _Reader(source).read(text)


@dataclass(frozen=True, slots=True)
class _Role:
    permissions: frozenset[str]
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reader:
    source: str

    def read(self, text: str) -> RoleMap:
        roles = self._roles(self._table(text))
        return RoleMap(MappingProxyType({role: self._flatten(role, roles) for role in roles}))

    def _error(self, where: str, problem: str, fix: str) -> ConfigurationError:
        return ConfigurationError(f"{self.source}: {where} {problem}", hint=fix)

    def _table(self, text: str) -> Mapping[str, Any]:
        try:
            document = tomllib.loads(text)
        except RecursionError:
            raise self._error("the file", "is nested too deeply.", "Write one table for each role.") from None
        except ValueError as error:
            raise self._error("the file", f"is not valid TOML: {error}.", "Correct the syntax at that place.") from None
        for key in document:
            if key != "roles":
                raise self._error(f"key {key!r}", "is not known.", 'Roles are tables named [roles."org:member"].')
        table = document.get("roles")
        if not isinstance(table, dict) or not table:
            raise self._error(
                "key 'roles'", "holds no roles.", 'Add a table such as [roles."org:member"], or remove the file.'
            )
        return table

    def _roles(self, table: Mapping[str, Any]) -> dict[str, _Role]:
        roles: dict[str, _Role] = {}
        for key, value in table.items():
            role = self._role_key(f"roles.{key}", key)
            if role in roles:
                raise self._error(f"roles.{key}", f"defines {role} a second time.", "Keep one table for each role.")
            roles[role] = self._role(f"roles.{key}", value)
        return roles

    def _role(self, where: str, value: object) -> _Role:
        if not isinstance(value, dict):
            raise self._error(where, "must be a table.", "Give it `permissions = […]`, `inherits = […]` or both.")
        for key in value:
            if key not in ("permissions", "inherits"):
                raise self._error(f"{where}.{key}", "is not known.", "A role has `permissions` and `inherits`.")
        patterns = [
            self._pattern(f"{where}.permissions", item) for item in self._strings(f"{where}.permissions", value)
        ]
        parents = [self._role_key(f"{where}.inherits", item) for item in self._strings(f"{where}.inherits", value)]
        return _Role(frozenset(patterns), tuple(parents))

    def _strings(self, where: str, table: Mapping[str, Any]) -> list[str]:
        name = where.rpartition(".")[2]
        value = table.get(name, [])
        if name == "inherits" and isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._error(where, "must be a list of strings.", f'Write {name} = ["…", "…"].')
        return value

    def _role_key(self, where: str, key: str) -> str:
        role = normalise_role(key)
        if len(role) > _MAX_NAME or not _ROLE.fullmatch(role):
            raise self._error(
                where,
                f"names {_shown(key)}, which is no Clerk role key.",
                "Use org: and [a-z0-9_], as in org:member.",
            )
        return role

    def _pattern(self, where: str, text: str) -> str:
        if len(text) > _MAX_NAME or not _PATTERN.fullmatch(text):
            raise self._error(
                where,
                f"holds {_shown(text)}, which is no permission.",
                "Use segments of [a-z0-9_.-], with * for a whole one, joined by colons: documents:read, documents:*.",
            )
        return text

    def _flatten(self, role: str, roles: Mapping[str, _Role]) -> frozenset[str]:
        """Own and inherited patterns. Walks without recursion: a chain of parents may be as long as the file."""
        found: set[str] = set()
        seen: set[str] = {role}
        waiting = [(role, parent) for parent in roles[role].parents]
        found |= roles[role].permissions
        while waiting:
            child, parent = waiting.pop()
            if parent == role:
                raise self._error(
                    f"roles.{child}.inherits", f"closes a circle: {role} inherits itself.", "Remove one `inherits`."
                )
            if parent not in roles:
                raise self._error(
                    f"roles.{child}.inherits",
                    f"names {parent}, which the file does not define.",
                    f'Add [roles."{parent}"], or correct the name.',
                )
            if parent not in seen:
                seen.add(parent)
                found |= roles[parent].permissions
                waiting += [(parent, grandparent) for grandparent in roles[parent].parents]
        return frozenset(found)


def _shown(text: str) -> str:
    """A name from the file, short enough for an error."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
