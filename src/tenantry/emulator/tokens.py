"""Session tokens as Clerk signs them: version 2, and version 1 for older applications."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tenantry.emulator import errors
from tenantry.emulator.instance import Instance
from tenantry.emulator.records import Membership, Permission, Session
from tenantry.emulator.state import State

_SESSION_CATEGORY = "cl_B7d4PD111AAA"  # the header's `cat` of a session token
_USUAL_LIFE = 60
_NOT_BEFORE = 10  # seconds before `iat`


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a token is minted for. `now` is in milliseconds, `seconds` is its life.

    `organization_id` names an organization other than the session's active one, `""` the personal account.
    """

    session: Session
    now: int
    jti: str
    seconds: int = 60
    version: Literal[1, 2] = 2
    organization_id: str | None = None
    authorized_party: str | None = None


def mint(instance: Instance, state: State, request: TokenRequest) -> str:
    """A signed token. ClerkError when the session has ended or its user is not in the organization."""
    claims = build_claims(instance, state, request)
    header = {"alg": "RS256", "cat": _SESSION_CATEGORY, "kid": instance.id, "oiat": claims["iat"], "typ": "JWT"}
    return sign(instance, header, claims)


def sign(instance: Instance, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A JWT in compact form, RS256, whatever `header` says."""
    signed = f"{_encode(header)}.{_encode(claims)}"
    signature = instance.private_key.sign(signed.encode(), PKCS1v15(), SHA256())
    return f"{signed}.{_b64(signature)}"


def build_claims(instance: Instance, state: State, request: TokenRequest) -> dict[str, Any]:
    """The claims alone: times in seconds, `o` or `org_*` only with an active organization."""
    session, now = request.session, request.now // 1000
    expires = now + request.seconds
    issued = now if request.seconds > 0 else expires - _USUAL_LIFE  # asked for an expired one: it was valid once
    if not session.is_alive:
        raise errors.not_found("active session", session.id)
    membership = _active_membership(state, request)
    claims: dict[str, Any] = {
        "exp": expires,
        "fva": session.factor_ages(request.now),
        "iat": issued,
        "iss": instance.issuer,
        "jti": request.jti,
        "nbf": issued - _NOT_BEFORE,
        "sid": session.id,
        "sts": "pending" if state.settings.needs_organization and membership is None else "active",
        "sub": session.user_id,
    }
    if request.authorized_party:
        claims["azp"] = request.authorized_party
    if request.version == 2:
        claims |= {"v": 2} | _features(state)
    if membership:
        claims |= _organization(state, membership) if request.version == 2 else _organization_v1(state, membership)
    return dict(sorted(claims.items()))


def _active_membership(state: State, request: TokenRequest) -> Membership | None:
    session = request.session
    wanted = session.organization_id if request.organization_id is None else request.organization_id
    if not wanted or not state.settings.enabled:
        return None
    membership = state.membership(wanted, session.user_id)
    if membership is None:
        message = "The user is not a member of this organization, or there is none with this id."
        raise errors.refused("organization_not_found_or_unauthorized", message, status=404)
    return membership


def _organization(state: State, membership: Membership) -> dict[str, Any]:
    organization, role = state.organizations[membership.organization_id], state.roles[membership.role_id]
    claim: dict[str, Any] = {"id": organization.id, "rol": role.key.removeprefix("org:")}
    if organization.slug:
        claim["slg"] = organization.slug
    return {"o": claim | _permission_bits(state, _custom(state.permissions_of(role)))}


def _organization_v1(state: State, membership: Membership) -> dict[str, Any]:
    organization, role = state.organizations[membership.organization_id], state.roles[membership.role_id]
    held = [permission.key for permission in _custom(state.permissions_of(role))]
    claims = {"org_id": organization.id, "org_role": role.key, "org_permissions": held}
    return claims | ({"org_slug": organization.slug} if organization.slug else {})


def _features(state: State) -> dict[str, str]:
    """Every feature that has a custom permission is one of the organization's; system permissions are in no token."""
    names = _feature_names(_custom(list(state.permissions.values())))
    return {"fea": ",".join(f"o:{name}" for name in names)} if names else {}


def _permission_bits(state: State, held: list[Permission]) -> dict[str, str]:
    """`per` lists the actions; the i-th mask of `fpm` has bit j when the i-th feature's j-th action is held."""
    all_custom = _custom(list(state.permissions.values()))
    if not all_custom:
        return {}
    actions = list(dict.fromkeys(_action(permission) for permission in all_custom))
    masks = dict.fromkeys(_feature_names(all_custom), 0)
    for permission in held:
        masks[_feature(permission)] |= 1 << actions.index(_action(permission))
    return {"per": ",".join(actions), "fpm": ",".join(map(str, masks.values()))}


def _custom(permissions: list[Permission]) -> list[Permission]:
    return [permission for permission in permissions if not permission.is_system]


def _feature_names(permissions: list[Permission]) -> list[str]:
    return list(dict.fromkeys(_feature(permission) for permission in permissions))


def _feature(permission: Permission) -> str:
    return permission.key.split(":")[1]


def _action(permission: Permission) -> str:
    return permission.key.split(":")[2]


def _encode(part: dict[str, Any]) -> str:
    return _b64(json.dumps(part, separators=(",", ":")).encode())


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
