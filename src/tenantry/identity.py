"""Who is asking: the verified facts of one session token, and Clerk's `has()` over them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeGuard

from tenantry.roles import normalise_role


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The verified facts of one session token.

    `role` and `permissions` carry `org:`; times are Unix seconds. `features` are the organization's, None where
    the token cannot tell (version 1). `instance_id` is the signing key's id where that is an instance's. `claims`
    holds the whole payload, custom claims included; what is read from it seldom is a property.
    """

    user_id: str
    issued_at: int
    expires_at: int
    org_id: str | None = None
    org_slug: str | None = None
    role: str | None = None
    permissions: frozenset[str] = frozenset()
    features: frozenset[str] | None = None
    session_id: str | None = None
    instance_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def issuer(self) -> str | None:
        """The Clerk instance's Frontend API address."""
        return self.claims.get("iss")

    @property
    def authorized_party(self) -> str | None:
        """The origin the token was made for; tokens not made for a browser have none."""
        return self.claims.get("azp")

    @property
    def actor(self) -> Mapping[str, Any] | None:
        """Who impersonates the user: `{"sub": …, "iss": …, "sid": …}`."""
        return self.claims.get("act")

    @property
    def factor_verification_age(self) -> tuple[float, float] | None:
        """Minutes since the first and the second factor were verified, -1 for never or none; None when not told."""
        return _read_factor_age(self.claims.get("fva"))

    def has(
        self,
        *,
        role: str | None = None,
        permission: str | None = None,
        feature: str | None = None,
        plan: str | None = None,
        reverification: str | Mapping[str, object] | None = None,
    ) -> bool:
        """Clerk's `has()`: True when something is asked and all of it holds.

        `feature` and `plan` may carry a scope (`org:` or `user:`). `reverification` is `strict_mfa`, `strict`,
        `moderate`, `lax`, or `{"level": …, "afterMinutes": …}`. System permissions (`org:sys_…`) are never in a token.
        """
        verdicts = [
            check(asked)
            for asked, check in (
                (role, self._has_role),
                (permission, self._has_permission),
                (feature, self._has_feature),
                (plan, self._has_plan),
                (reverification, self._is_reverified),
            )
            if asked is not None
        ]
        return bool(verdicts) and all(verdicts)

    def _has_role(self, role: object) -> bool:
        return (
            isinstance(role, str)
            and self.org_id is not None
            and self.role is not None
            and normalise_role(self.role) == normalise_role(role)
        )

    def _has_permission(self, permission: object) -> bool:
        return (
            isinstance(permission, str)
            and self.org_id is not None
            and normalise_role(permission) in self.permissions  # the same rule: exactly one `org:`
        )

    def _has_feature(self, feature: object) -> bool:
        return _holds(self.claims.get("fea"), feature)

    def _has_plan(self, plan: object) -> bool:
        return _holds(self.claims.get("pla"), plan)

    def _is_reverified(self, asked: object) -> bool:
        requirement = _read_reverification(asked)
        ages = self.factor_verification_age
        if requirement is None or ages is None:
            return False
        (level, minutes), (first, second) = requirement, ages
        if level == "first_factor" or second == -1:  # without a second factor Clerk settles for the first
            return first != -1 and first < minutes
        if level == "second_factor":
            return second < minutes
        return first != -1 and first < minutes and second < minutes

    def as_json(self) -> dict[str, Any]:
        """The identity as the database functions take it."""
        return {
            "user_id": self.user_id,
            "org_id": self.org_id,
            "org_slug": self.org_slug,
            "role": self.role,
            "permissions": sorted(self.permissions),
            "features": None if self.features is None else sorted(self.features),
            "session_id": self.session_id,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "instance_id": self.instance_id,
        }

    def to_json(self) -> str:
        """`as_json()` as text, computed once: every transaction of a request sends it."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return _encode(self.as_json())


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_PRESETS: Mapping[str, tuple[str, float]] = {
    "strict_mfa": ("multi_factor", 10),
    "strict": ("second_factor", 10),
    "moderate": ("second_factor", 60),
    "lax": ("second_factor", 1440),
}
_LEVELS = ("first_factor", "second_factor", "multi_factor")
_QUERY_SCOPES = {"o": "o", "org": "o", "organization": "o", "u": "u", "user": "u"}


def _read_reverification(asked: object) -> tuple[str, float] | None:
    if isinstance(asked, str):
        return _PRESETS.get(asked)
    if not isinstance(asked, Mapping):
        return None
    level, minutes = asked.get("level"), asked.get("afterMinutes")
    return (level, minutes) if level in _LEVELS and _is_number(minutes) and minutes > 0 else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _holds(claim: object, asked: object) -> bool:
    """Whether a `fea` or `pla` claim lists what is asked: `pro` in any scope, `org:pro` or `user:pro` in that one."""
    if not isinstance(claim, str) or not claim or not isinstance(asked, str):
        return False
    try:
        elements = split_scopes(claim)
    except ValueError:
        return False
    first, *rest = asked.split(":")
    if not rest:
        return any(name == first for scope, name in elements if scope in ("o", "u", "ou", "uo"))
    scope = _QUERY_SCOPES.get(first)
    # Clerk reads `org:` with nothing behind as a feature named `org`, and ignores what follows a second colon.
    wanted = rest[0] or first
    return scope is not None and any(name == wanted and scope in held for held, name in elements if held in _SCOPES)


_SCOPES = ("o", "u", "ou", "uo")


def split_scopes(claim: str) -> list[tuple[str, str]]:
    """`o:teams,u:themes` -> [("o", "teams"), ("u", "themes")]. Raises ValueError where an element has no colon."""
    elements = []
    for element in claim.split(","):
        scope, colon, name = element.strip().partition(":")
        if not colon:
            raise ValueError("an element has no scope")
        elements.append((scope, name))
    return elements


def _read_factor_age(value: object) -> tuple[float, float] | None:
    """`fva`: minutes since the first and the second factor, -1 for none; None when absent or malformed."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = value
    return (first, second) if _is_age(first) and _is_age(second) else None


def _is_age(value: object) -> bool:
    return _is_number(value) and (value == -1 or 0 <= value < math.inf)
