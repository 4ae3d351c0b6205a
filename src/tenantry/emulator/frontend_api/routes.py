"""The routes of the Frontend API, and what is answered where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from tenantry.emulator.bundles import Bundles
from tenantry.emulator.bundles import create_app as serve_bundles
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api import (
    clients,
    domains,
    environment,
    handshake,
    invitations,
    me,
    membership_requests,
    memberships,
    my_organizations,
    organizations,
    people,
    sessions,
    sign_ins,
    sign_ups,
    tickets,
)
from tenantry.emulator.frontend_api.call import Handler, create_endpoint
from tenantry.emulator.http import write_error

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

# In order: a fixed path stands before one with a parameter in its place.
ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/client": {
        "GET": clients.get,
        "PUT": clients.create,
        "POST": clients.create,
        "DELETE": clients.remove_sessions,
    },
    "/v1/client/sign_ins": {"POST": sign_ins.create},
    "/v1/client/sign_ins/{sign_in_id}": {"GET": sign_ins.get},
    "/v1/client/sign_ins/{sign_in_id}/prepare_first_factor": {"POST": sign_ins.prepare_first_factor},
    "/v1/client/sign_ins/{sign_in_id}/attempt_first_factor": {"POST": sign_ins.attempt_first_factor},
    "/v1/client/sign_ins/{sign_in_id}/prepare_second_factor": {"POST": sign_ins.refuse_second_factor},
    "/v1/client/sign_ins/{sign_in_id}/attempt_second_factor": {"POST": sign_ins.refuse_second_factor},
    "/v1/client/sign_ins/{sign_in_id}/reset_password": {"POST": sign_ins.reset_password},
    "/v1/client/sign_ups": {"POST": sign_ups.create},
    "/v1/client/sign_ups/{sign_up_id}": {"GET": sign_ups.get, "PATCH": sign_ups.update},
    "/v1/client/sign_ups/{sign_up_id}/prepare_verification": {"POST": sign_ups.prepare_verification},
    "/v1/client/sign_ups/{sign_up_id}/attempt_verification": {"POST": sign_ups.attempt_verification},
    "/v1/client/sessions": {"DELETE": clients.remove_sessions},
    "/v1/client/sessions/{session_id}": {"GET": sessions.get},
    "/v1/client/sessions/{session_id}/touch": {"POST": sessions.touch},
    "/v1/client/sessions/{session_id}/end": {"POST": sessions.end},
    "/v1/client/sessions/{session_id}/remove": {"POST": sessions.remove},
    "/v1/client/sessions/{session_id}/verify": {"POST": sessions.start_verification},
    "/v1/client/sessions/{session_id}/verify/prepare_first_factor": {"POST": sessions.prepare_verification},
    "/v1/client/sessions/{session_id}/verify/attempt_first_factor": {"POST": sessions.attempt_verification},
    "/v1/client/sessions/{session_id}/verify/prepare_second_factor": {"POST": sessions.refuse_second_factor},
    "/v1/client/sessions/{session_id}/verify/attempt_second_factor": {"POST": sessions.refuse_second_factor},
    "/v1/me": {"GET": me.get, "PATCH": me.update, "DELETE": me.delete},
    "/v1/me/metadata": {"PATCH": me.merge_metadata},
    "/v1/me/change_password": {"POST": me.change_password},
    "/v1/me/remove_password": {"POST": me.remove_password},
    "/v1/me/profile_image": {"POST": me.set_image, "DELETE": me.delete_image},
    "/v1/me/external_accounts": {"POST": me.refuse_external_account},
    "/v1/me/email_addresses": {"POST": me.create_email},
    "/v1/me/email_addresses/{email_id}": {"GET": me.get_email, "DELETE": me.delete_email},
    "/v1/me/email_addresses/{email_id}/prepare_verification": {"POST": me.prepare_email_verification},
    "/v1/me/email_addresses/{email_id}/attempt_verification": {"POST": me.attempt_email_verification},
    "/v1/me/sessions/{session_id}/revoke": {"POST": sessions.revoke},
    "/v1/me/organization_memberships": {"GET": my_organizations.list_memberships},
    "/v1/me/organization_memberships/{organization_id}": {"DELETE": my_organizations.leave},
    "/v1/me/organization_invitations": {"GET": my_organizations.list_invitations},
    "/v1/me/organization_invitations/{invitation_id}/accept": {"POST": my_organizations.accept_invitation},
    "/v1/me/organization_suggestions": {"GET": my_organizations.list_suggestions},
    "/v1/me/organization_suggestions/{suggestion_id}/accept": {"POST": my_organizations.accept_suggestion},
    "/v1/me/organization_creation_defaults": {"GET": my_organizations.get_creation_defaults},
    "/v1/organizations": {"POST": organizations.create},
    "/v1/organizations/{organization_id}": {
        "GET": organizations.get,
        "PATCH": organizations.update,
        "DELETE": organizations.delete,
    },
    "/v1/organizations/{organization_id}/logo": {"PUT": organizations.set_logo, "DELETE": organizations.delete_logo},
    "/v1/organizations/{organization_id}/roles": {"GET": organizations.list_roles},
    "/v1/organizations/{organization_id}/memberships": {
        "GET": memberships.list_memberships,
        "POST": memberships.create,
    },
    "/v1/organizations/{organization_id}/memberships/{user_id}": {
        "PATCH": memberships.update,
        "DELETE": memberships.delete,
    },
    "/v1/organizations/{organization_id}/invitations": {
        "GET": invitations.list_invitations,
        "POST": invitations.create,
    },
    "/v1/organizations/{organization_id}/invitations/bulk": {"POST": invitations.create_many},
    "/v1/organizations/{organization_id}/invitations/pending": {"GET": invitations.list_pending},
    "/v1/organizations/{organization_id}/invitations/{invitation_id}/revoke": {"POST": invitations.revoke},
    "/v1/organizations/{organization_id}/membership_requests": {"GET": membership_requests.list_requests},
    "/v1/organizations/{organization_id}/membership_requests/{request_id}/accept": {
        "POST": membership_requests.accept,
    },
    "/v1/organizations/{organization_id}/membership_requests/{request_id}/reject": {
        "POST": membership_requests.reject,
    },
    "/v1/organizations/{organization_id}/domains": {"GET": domains.list_domains, "POST": domains.create},
    "/v1/organizations/{organization_id}/domains/{domain_id}": {"GET": domains.get, "DELETE": domains.delete},
    "/v1/organizations/{organization_id}/domains/{domain_id}/update_enrollment_mode": {
        "POST": domains.update_enrollment_mode,
    },
    "/v1/organizations/{organization_id}/domains/{domain_id}/prepare_affiliation_verification": {
        "POST": domains.prepare_affiliation_verification,
    },
    "/v1/organizations/{organization_id}/domains/{domain_id}/attempt_affiliation_verification": {
        "POST": domains.attempt_affiliation_verification,
    },
}
# Answered as they are, without `response` and `client` around them.
BARE: dict[str, dict[str, Handler]] = {
    "/v1/environment": {"GET": environment.get, "PATCH": environment.get},
    "/v1/health": {"GET": environment.check_health},
    "/v1/dev_browser": {"POST": clients.create_dev_browser},
    "/v1/client/handshake": {"GET": handshake.go_back},
    "/v1/tickets/accept": {"GET": tickets.accept},
    "/v1/client/sessions/{session_id}/tokens": {"POST": sessions.create_token},
    "/v1/client/sessions/{session_id}/tokens/{template_name}": {"POST": sessions.create_token_from_template},
    "/v1/me/email_addresses": {"GET": me.list_emails},
    "/v1/me/sessions": {"GET": sessions.list_of_user},
    "/v1/me/sessions/active": {"GET": sessions.list_active},
    "/v1/me/tokens": {"POST": me.create_service_token},
    "/people": {"GET": people.show, "POST": people.choose},
}


def create_app(emulator: Emulator, bundles: Bundles) -> Starlette:
    """To be mounted at `/__clerk`, where Clerk's SDKs look for a proxied Frontend API."""
    endpoints = {
        path: create_endpoint(emulator, ROUTES.get(path, {}), BARE.get(path, {})) for path in {**ROUTES, **BARE}
    }
    routes: list[BaseRoute] = [
        Route(spelling, endpoint, methods=_METHODS)
        for path, endpoint in endpoints.items()
        for spelling in (path, f"{path}/")  # clerk-js ends some of its paths so
    ]

    async def show_keys(request: Request) -> Response:
        return JSONResponse(emulator.instance.jwks)

    async def find_nothing(request: Request, error: Exception) -> Response:
        missing = ClerkError(404, "resource_not_found", "The emulator's Frontend API has no such path.")
        return write_error(missing, emulator.store.identifiers.hex(32))

    routes += [Route("/.well-known/jwks.json", show_keys), Mount("/npm", serve_bundles(bundles))]
    app = Starlette(routes=routes, exception_handlers={404: find_nothing})
    app.router.redirect_slashes = False
    return app
