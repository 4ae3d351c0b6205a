"""Links that carry a ticket: one click, and its person is signed in."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from tenantry.emulator import errors
from tenantry.emulator.frontend_api import cookies
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.pages import HEADERS, refuse
from tenantry.emulator.frontend_api.redirects import checked_redirect, origin_of
from tenantry.emulator.frontend_api.sign_ins import invalid_ticket


def accept(call: Call) -> Response:
    """303 to `redirect_url`, signed in by a sign-in token in place of whoever was: the first page already shows it."""
    try:
        return _accept(call, call.query.text("ticket"), call.query.text("redirect_url"))
    except errors.ClerkError as error:
        return refuse(error)


def _accept(call: Call, ticket: str | None, url: str | None) -> Response:
    if ticket is None or url is None:
        raise errors.missing("redirect_url" if ticket else "ticket")
    url = checked_redirect(call.store.state.settings, "redirect_url", url)
    token = call.store.sessions.use_sign_in_token(ticket)
    if token is None:
        raise invalid_ticket()
    call.store.sessions.check_sign_in(token.user_id)
    client = call.need_client()
    call.store.clients.sign_out_all(client, "removed")
    session = call.store.clients.sign_in(client, token.user_id, token.organization_id)
    response = RedirectResponse(url, 303, headers=HEADERS)
    jwt = call.emulator.mint_session_token(session, authorized_party=origin_of(url))
    cookies.set_session(response, call.emulator, jwt, secure=url.startswith("https:"))
    return response
