"""The handshake: a server that cannot tell who is signed in sends the browser here, and gets it back with cookies."""

from __future__ import annotations

from starlette.responses import RedirectResponse

from tenantry.emulator import errors
from tenantry.emulator.frontend_api import cookies
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.redirects import checked_redirect, origin_of, with_query
from tenantry.emulator.records import Session
from tenantry.emulator.tokens import sign


def go_back(call: Call) -> RedirectResponse:
    """307 to `redirect_url`: with a nonce to fetch the cookies by, or with the cookies in a signed token."""
    url = call.query.text("redirect_url")
    if url is None:
        raise errors.missing("redirect_url")
    url = checked_redirect(call.store.state.settings, "redirect_url", url)
    directives = _directives(call, url)
    if call.query.text("format") == "nonce":
        return RedirectResponse(with_query(url, __clerk_handshake_nonce=call.store.handshakes.put(directives)), 307)
    header = {"alg": "RS256", "kid": call.emulator.instance.id, "typ": "JWT"}
    token = sign(call.emulator.instance, header, {"handshake": directives})
    return RedirectResponse(with_query(url, __clerk_handshake=token), 307)


def _directives(call: Call, url: str) -> list[str]:
    """Set-Cookie values for the app's own origin."""
    client = call.need_client()
    session = _choose_organization(call, call.store.clients.session(client))
    suffix = cookies.suffix(call.emulator.instance.publishable_key)
    values = {
        cookies.DEV_BROWSER: client.dev_browser,
        cookies.CLIENT_CHANGED: str(call.store.clients.signed_in_at(client) // 1000),
        cookies.SESSION: call.emulator.mint_session_token(session, authorized_party=origin_of(url)) if session else "",
    }
    attributes = "Path=/; SameSite=None; Secure" if url.startswith("https:") else "Path=/; SameSite=Lax"
    return [
        f"{full_name}={value}; {attributes}" + ("" if value else "; Max-Age=0")
        for name, value in values.items()
        for full_name in (name, f"{name}_{suffix}")
    ]


def _choose_organization(call: Call, session: Session | None) -> Session | None:
    """The app's path may name the organization to be active; one the user is not in changes nothing."""
    state, query = call.store.state, call.query
    if session is None or not query.has("organization_id"):
        return session
    stated = query.text("organization_id") or ""
    wanted = state.organization_by_slug.get(stated, stated)
    if wanted and state.membership(wanted, session.user_id) is None:
        return session
    if not wanted and state.settings.needs_organization:
        return session
    return call.store.sessions.activate(session, wanted or None)
