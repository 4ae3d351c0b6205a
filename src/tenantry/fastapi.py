"""Tenantry in a FastAPI app: dependencies for the tenant, the identity and permissions, documented in OpenAPI.

tenancy = Tenantry.from_env()
app = FastAPI(lifespan=tenancy.lifespan)
tenancy.install(app)

@app.delete("/documents/{id}", dependencies=[requires(permission="org:documents:delete")])
async def delete(id: int, tenant: CurrentTenant): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Security
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from tenantry.context import TenantContext
from tenantry.errors import MissingToken, NoOrganization, PermissionDenied
from tenantry.identity import Identity
from tenantry.starlette import WEBHOOK_PATH, request_identity, request_scope, tenancy_of
from tenantry.starlette import Tenantry as StarletteTenantry

__all__ = [
    "CurrentIdentity",
    "CurrentTenant",
    "OptionalIdentity",
    "OptionalTenant",
    "Tenantry",
    "requires",
]

SCHEME = "Clerk session"


class _SessionToken(SecurityBase):
    """Shows in the documentation that a route wants a session token; the middleware has read it already."""

    def __init__(self) -> None:
        self.model = HTTPBearerModel(bearerFormat="JWT", description="A Clerk session token (`session.getToken()`).")
        self.scheme_name = SCHEME

    async def __call__(self, connection: HTTPConnection) -> HTTPConnection:
        return connection


_Authenticated = Annotated[HTTPConnection, Security(_SessionToken())]


async def current_tenant(connection: _Authenticated) -> TenantContext:
    """The tenant of this request, as the database decides now. Raises an AuthenticationFailed or AccessDenied."""
    return await tenancy_of(connection).resolve(connection)


async def optional_tenant(connection: _Authenticated) -> TenantContext | None:
    """The tenant, or None for who is not signed in or has no active organization. A bad token is still refused."""
    try:
        return await current_tenant(connection)
    except (MissingToken, NoOrganization):
        return None


async def current_identity(connection: _Authenticated) -> Identity:
    """Who is signed in, with or without an organization. Raises an AuthenticationFailed."""
    return request_identity(connection)


async def optional_identity(connection: _Authenticated) -> Identity | None:
    """Who is signed in, or None. A bad token is still refused."""
    try:
        return request_identity(connection)
    except MissingToken:
        return None


CurrentTenant = Annotated[TenantContext, Depends(current_tenant)]
OptionalTenant = Annotated[TenantContext | None, Depends(optional_tenant)]
CurrentIdentity = Annotated[Identity, Depends(current_identity)]
OptionalIdentity = Annotated[Identity | None, Depends(optional_identity)]


def requires(
    *,
    role: str | None = None,
    permission: str | None = None,
    feature: str | None = None,
    plan: str | None = None,
    can: str | None = None,
) -> Any:
    """A dependency that refuses (403) members without all that is named.

    `role`, `permission`, `feature` and `plan` are Clerk's (`TenantContext.has`), `can` is a permission of the app's own
    map (`TenantContext.can`).
    """
    asked = {"role": role, "permission": permission, "feature": feature, "plan": plan}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked and can is None:
        raise TypeError("requires() wants at least one of role, permission, feature, plan, can")

    def refuse(tenant: TenantContext) -> None:
        if (asked and not tenant.has(**asked)) or (can is not None and not tenant.can(can)):
            missing = asked | ({"can": can} if can is not None else {})
            raise PermissionDenied(hint=f"It takes {', '.join(f'{name} {value}' for name, value in missing.items())}.")

    async def check(connection: _Authenticated, tenant: CurrentTenant) -> TenantContext:
        refuse(tenant)
        request_scope(connection).rules.append(refuse)  # what stays open is asked again
        return tenant

    return Depends(check)


class Tenantry(StarletteTenantry):
    """Everything a FastAPI app needs, from its settings: see `tenantry.starlette.Tenantry`."""

    def install(self, app: FastAPI, *, webhook_path: str = WEBHOOK_PATH, health: str | None = None) -> None:
        """Adds the middleware, the handler of Tenantry's errors and the webhook endpoint, and documents the errors.

        `health`: a path, if you like, for `show_health`.
        """
        super().install(app, webhook_path=webhook_path, health=health)
        app.openapi = _documenting(app.openapi)  # type: ignore[method-assign]


_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "An error, as RFC 9457 has it.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:tenantry:not_a_member"]},
        "title": {"type": "string", "examples": ["You are not a member of this organization."]},
        "status": {"type": "integer", "examples": [403]},
        "code": {"type": "string", "examples": ["not_a_member"]},
        "detail": {"type": "string"},
    },
}
_ANSWERS = {
    "401": "Nobody is signed in, or the token is not valid.",
    "403": "Signed in, but not allowed: no active organization, not a member, or a missing permission.",
    "409": "The organization the client expects is not the one its token is for.",
}


def _documenting(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """FastAPI's schema, with the problems that routes behind a session may answer."""

    def documented() -> dict[str, Any]:
        document = openapi()
        for path in document.get("paths", {}).values():
            for operation in path.values():
                if any(SCHEME in scheme for scheme in operation.get("security", ())):
                    for status, description in _ANSWERS.items():
                        operation["responses"].setdefault(status, _problem_response(description))
                    document["components"].setdefault("schemas", {})["Problem"] = _PROBLEM
        return document

    return documented


def _problem_response(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}
