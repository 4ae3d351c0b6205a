"""The routes of the Backend API, and what is answered where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.emulator.backend_api import (
    clients,
    domains,
    instance,
    invitations,
    memberships,
    organizations,
    roles,
    sessions,
    users,
)
from tenantry.emulator.backend_api.call import Handler, create_endpoint
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.http import write_error

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

# In order: a fixed path stands before one with a parameter in its place.
ROUTES: dict[str, dict[str, Handler]] = {
    "/users": {"GET": users.list_users, "POST": users.create},
    "/users/count": {"GET": users.count},
    "/users/ban": {"POST": users.ban_many},
    "/users/unban": {"POST": users.unban_many},
    "/users/{user_id}": {"GET": users.get, "PATCH": users.update, "DELETE": users.delete},
    "/users/{user_id}/ban": {"POST": users.ban},
    "/users/{user_id}/unban": {"POST": users.unban},
    "/users/{user_id}/lock": {"POST": users.lock},
    "/users/{user_id}/unlock": {"POST": users.unlock},
    "/users/{user_id}/metadata": {"PATCH": users.merge_metadata, "PUT": users.replace_metadata},
    "/users/{user_id}/organization_memberships": {"GET": users.list_memberships},
    "/users/{user_id}/organization_invitations": {"GET": users.list_invitations},
    "/email_addresses": {"POST": users.create_email},
    "/email_addresses/{email_address_id}": {
        "GET": users.get_email,
        "PATCH": users.update_email,
        "DELETE": users.delete_email,
    },
    "/organizations": {"GET": organizations.list_organizations, "POST": organizations.create},
    "/organizations/{organization_id}": {
        "GET": organizations.get,
        "PATCH": organizations.update,
        "DELETE": organizations.delete,
    },
    "/organizations/{organization_id}/metadata": {
        "PATCH": organizations.merge_metadata,
        "PUT": organizations.replace_metadata,
    },
    "/organizations/{organization_id}/memberships": {
        "GET": memberships.list_memberships,
        "POST": memberships.create,
    },
    "/organizations/{organization_id}/memberships/{user_id}": {
        "PATCH": memberships.update,
        "DELETE": memberships.delete,
    },
    "/organizations/{organization_id}/memberships/{user_id}/metadata": {"PATCH": memberships.merge_metadata},
    "/organization_memberships": {"GET": memberships.list_all},
    "/organizations/{organization_id}/invitations": {
        "GET": invitations.list_invitations,
        "POST": invitations.create,
    },
    "/organizations/{organization_id}/invitations/bulk": {"POST": invitations.create_many},
    "/organizations/{organization_id}/invitations/pending": {"GET": invitations.list_pending},
    "/organizations/{organization_id}/invitations/{invitation_id}": {"GET": invitations.get},
    "/organizations/{organization_id}/invitations/{invitation_id}/revoke": {"POST": invitations.revoke},
    "/organization_invitations": {"GET": invitations.list_all},
    "/organizations/{organization_id}/domains": {"GET": domains.list_domains, "POST": domains.create},
    "/organizations/{organization_id}/domains/{domain_id}": {"PATCH": domains.update, "DELETE": domains.delete},
    "/organizations/{organization_id}/domains/{domain_id}/verify_ownership": {"POST": domains.verify_ownership},
    "/organization_domains": {"GET": domains.list_all},
    "/organization_roles": {"GET": roles.list_roles, "POST": roles.create_role},
    "/organization_roles/{role_id}": {
        "GET": roles.get_role,
        "PATCH": roles.update_role,
        "DELETE": roles.delete_role,
    },
    "/organization_roles/{role_id}/permissions/{permission_id}": {
        "POST": roles.add_permission,
        "DELETE": roles.remove_permission,
    },
    "/organization_permissions": {"GET": roles.list_permissions, "POST": roles.create_permission},
    "/organization_permissions/{permission_id}": {
        "GET": roles.get_permission,
        "PATCH": roles.update_permission,
        "DELETE": roles.delete_permission,
    },
    "/sessions": {"GET": sessions.list_sessions, "POST": sessions.create},
    "/sessions/{session_id}": {"GET": sessions.get},
    "/sessions/{session_id}/revoke": {"POST": sessions.revoke},
    "/sessions/{session_id}/tokens": {"POST": sessions.create_token},
    "/clients/handshake_payload": {"GET": clients.get_handshake_payload},
    "/sign_in_tokens": {"POST": sessions.create_sign_in_token},
    "/sign_in_tokens/{sign_in_token_id}/revoke": {"POST": sessions.revoke_sign_in_token},
    "/instance": {"GET": instance.get},
    "/instance/organization_settings": {
        "GET": instance.get_organization_settings,
        "PATCH": instance.update_organization_settings,
    },
}
UNLIMITED: dict[str, dict[str, Handler]] = {"/jwks": {"GET": instance.get_keys}}


def _is_theirs(path: str) -> bool:
    """Whether there is anything at the path only while the instance has organizations."""
    return "/organization" in path and not path.startswith("/instance")


def create_app(emulator: Emulator) -> Starlette:
    """To be mounted at `/v1`."""
    routes = [
        Route(path, create_endpoint(emulator, handlers, about_organizations=_is_theirs(path)), methods=_METHODS)
        for path, handlers in ROUTES.items()
    ] + [
        Route(path, create_endpoint(emulator, handlers, limited=False), methods=_METHODS)
        for path, handlers in UNLIMITED.items()
    ]

    async def find_nothing(request: Request, error: Exception) -> Response:
        missing = ClerkError(404, "resource_not_found", "The emulator's Backend API has no such path.")
        return write_error(missing, emulator.store.identifiers.hex(32))

    app = Starlette(routes=routes, exception_handlers={404: find_nothing})
    app.router.redirect_slashes = False
    return app
