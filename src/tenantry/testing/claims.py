"""The claims of session tokens, versions 1 and 2: (organization, role, permissions, features, plan) -> claims."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tenantry.errors import InvalidArgument

_PERMISSION = re.compile(r"org:[^\s:,]+:[^\s:,]+")
_NOT_BEFORE = 10  # seconds before `iat`


@dataclass(frozen=True, kw_only=True)
class ActiveOrganization:
    """What a token says of the organization it is for. `role` and `permissions` carry `org:`; the latter are custom
    ones. `features` are `name` or `scope:name`."""

    id: str
    slug: str | None
    role: str
    permissions: tuple[str, ...] = ()


def session_claims(
    *, user_id: str, session_id: str, issuer: str, origin: str, issued_at: int, life: int
) -> dict[str, Any]:
    """The claims of every version; times in seconds."""
    return {
        "azp": origin,
        "exp": issued_at + life,
        "fva": [0, -1],
        "iat": issued_at,
        "iss": issuer,
        "jti": secrets.token_hex(10),
        "nbf": issued_at - _NOT_BEFORE,
        "sid": session_id,
        "sub": user_id,
    }


def claims_v1(active: ActiveOrganization | None) -> dict[str, Any]:
    """What version 1 adds: flat, with whole permissions."""
    if active is None:
        return {}
    claims = {"org_id": active.id, "org_role": active.role, "org_permissions": list(active.permissions)}
    return claims | ({"org_slug": active.slug} if active.slug else {})


def claims_v2(active: ActiveOrganization | None, *, features: Iterable[str], plan: str | None) -> dict[str, Any]:
    """What version 2 adds: permissions as a mask of actions for each of the organization's features."""
    permissions = active.permissions if active else ()
    named, actions, masks = encode_permissions(permissions)
    scoped = dict.fromkeys([f"o:{name}" for name in named] + [_scoped(name) for name in features])
    # Masks go by position: a user's own feature before an organization's would shift them.
    ordered = sorted(scoped, key=lambda name: name.startswith("u:"))
    claims: dict[str, Any] = {"v": 2, "sts": "active"}
    if ordered:
        claims["fea"] = ",".join(ordered)
    if plan:
        claims["pla"] = _scoped(plan)
    if active:
        claims["o"] = {"id": active.id, "rol": active.role.removeprefix("org:")}
        if active.slug:
            claims["o"]["slg"] = active.slug
        if actions:
            padded = [*masks, *[0] * (len(ordered) - len(masks))]
            claims["o"] |= {"per": ",".join(actions), "fpm": ",".join(map(str, padded))}
    return claims


def encode_permissions(permissions: Iterable[str]) -> tuple[list[str], list[str], list[int]]:
    """Features, actions and a mask for each feature: bit j of mask i is `org:<feature i>:<action j>`."""
    pairs = [permission.split(":")[1:] for permission in permissions]
    features = list(dict.fromkeys(feature for feature, _ in pairs))
    actions = list(dict.fromkeys(action for _, action in pairs))
    masks = dict.fromkeys(features, 0)
    for feature, action in pairs:
        masks[feature] |= 1 << actions.index(action)
    return features, actions, list(masks.values())


def check_permissions(permissions: Iterable[str]) -> tuple[str, ...]:
    """The permissions, each once. Raises InvalidArgument for one that is not Clerk's."""
    kept = tuple(dict.fromkeys(permissions))
    for permission in kept:
        if not _PERMISSION.fullmatch(permission):
            raise InvalidArgument(
                f"{permission!r} is no permission of Clerk's: those look like org:orders:delete.",
                hint="What can() asks is not the member's but the role's, in tenantry.toml.",
            )
    return kept


def is_system(permission: str) -> bool:
    """Whether Clerk keeps it out of tokens."""
    return permission.startswith("org:sys_")


def _scoped(name: str) -> str:
    return name if ":" in name else f"o:{name}"
