"""Every control by its path and method: the JSON API at `/emulator`, and what the page's forms name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, compile_path

from tenantry.emulator.control import instance, organizations, people, roles, sessions, triggers, webhooks
from tenantry.emulator.control.call import Action, ControlForm, Controls
from tenantry.emulator.control.local import check_local
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.http import read_body, write_error
from tenantry.emulator.params import Body, parse_json

ROUTES: dict[str, dict[str, Action]] = {
    "/": {"GET": instance.show_state},
    "/settings": {"GET": instance.show_settings, "PATCH": instance.change_settings},
    "/app": {"PUT": instance.set_app_url},
    "/users": {"GET": people.list_people, "POST": people.create},
    "/users/{user}": {"GET": people.get, "PATCH": people.update, "DELETE": people.delete},
    "/users/{user}/ban": {"POST": people.ban},
    "/users/{user}/unban": {"POST": people.unban},
    "/users/{user}/lock": {"POST": people.lock},
    "/users/{user}/unlock": {"POST": people.unlock},
    "/organizations": {"GET": organizations.list_organizations, "POST": organizations.create},
    "/organizations/{organization}": {
        "GET": organizations.get,
        "PATCH": organizations.update,
        "DELETE": organizations.delete,
    },
    "/memberships": {"POST": organizations.add_member},
    "/memberships/{membership_id}": {"PATCH": organizations.change_role, "DELETE": organizations.remove_member},
    "/invitations": {"POST": organizations.invite},
    "/invitations/{invitation_id}/accept": {"POST": organizations.accept_invitation},
    "/invitations/{invitation_id}/revoke": {"POST": organizations.revoke_invitation},
    "/membership-requests/{request_id}/accept": {"POST": organizations.accept_request},
    "/membership-requests/{request_id}/reject": {"POST": organizations.reject_request},
    "/domains": {"POST": organizations.add_domain},
    "/domains/{domain_id}": {"PATCH": organizations.update_domain, "DELETE": organizations.remove_domain},
    "/roles": {"GET": roles.list_roles, "POST": roles.create_role},
    "/roles/{role}": {"PATCH": roles.update_role, "DELETE": roles.delete_role},
    "/permissions": {"GET": roles.list_permissions, "POST": roles.create_permission},
    "/permissions/{permission}": {"PATCH": roles.update_permission, "DELETE": roles.delete_permission},
    "/tokens": {"GET": sessions.mint_token, "POST": sessions.mint_token},
    "/token": {"GET": sessions.mint_bare_token, "POST": sessions.mint_bare_token},
    "/sign-in-links": {"POST": sessions.create_sign_in_link},
    "/sessions": {"GET": sessions.list_sessions},
    "/sessions/{session_id}/end": {"POST": sessions.end_session},
    "/trigger": {"GET": triggers.list_triggers, "POST": triggers.trigger},
    "/deliveries": {"GET": webhooks.list_deliveries},
    "/deliveries/{delivery_id}": {"GET": webhooks.get_delivery},
    "/deliveries/{delivery_id}/resend": {"POST": webhooks.resend},
    "/webhooks/pause": {"POST": webhooks.pause},
    "/webhooks/release": {"POST": webhooks.release},
    "/disorder": {"GET": webhooks.show_disorder, "PUT": webhooks.set_disorder},
    "/endpoints": {"GET": webhooks.list_endpoints, "POST": webhooks.add_endpoint},
}
_PATTERNS = [(compile_path(path)[0], actions) for path, actions in ROUTES.items()]


def find_action(request_line: str) -> tuple[Action, dict[str, str]]:
    """The action of `DELETE /users/user_1`, and what its path holds. ClerkError 404."""
    method, _, path = request_line.partition(" ")
    for pattern, actions in _PATTERNS:
        if (match := pattern.fullmatch(path)) and method in actions:
            return actions[method], match.groupdict()
    raise ClerkError(404, "resource_not_found", f"There is no control {request_line[:100]}.")


def create_api(controls: Controls) -> Starlette:
    """To be mounted at `/emulator`."""
    return Starlette(
        routes=[Route(path, _endpoint(controls, actions), methods=[*actions]) for path, actions in ROUTES.items()]
    )


def _endpoint(controls: Controls, actions: dict[str, Action]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            check_local(request)
            body = await _read(request)
            action = actions["GET" if request.method == "HEAD" else request.method]
            shown = controls.use(action, request.path_params, body)
            return PlainTextResponse(shown) if isinstance(shown, str) else JSONResponse(shown)
        except ClerkError as error:
            return write_error(error, controls.emulator.store.identifiers.hex(32))

    return answer


async def _read(request: Request) -> Body:
    """A JSON object, or what `curl -d name=value` sends, or the query of a GET."""
    if request.method in ("GET", "HEAD"):
        return ControlForm.from_pairs(request.query_params.multi_items())
    raw = await read_body(request)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return ControlForm.from_pairs(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))
    content = parse_json(raw)
    if not isinstance(content, dict):
        raise ClerkError(400, "request_body_invalid", "The request body must be a JSON object.")
    return Body(content)
