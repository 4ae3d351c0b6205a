"""Sessions, their tokens, and links that sign somebody in to the app."""

from __future__ import annotations

from urllib.parse import urlencode

from tenantry.emulator import render
from tenantry.emulator.control.call import Call, Json, read_app_url
from tenantry.emulator.errors import ClerkError

_LINK_LIFE = 3600  # seconds


def mint_token(call: Call) -> Json:
    """`user` (e-mail or id), `organization` (id, slug or name; empty for the personal account), `expires_in`."""
    body = call.body
    jwt = call.emulator.mint_token(
        body.need("user"),
        body.text("organization"),
        seconds=body.integer("expires_in", -86_400, 315_360_000),
        version=body.integer("version", 1, 2),
        authorized_party=body.text("azp") or None,
    )
    return {"jwt": jwt}


def mint_bare_token(call: Call) -> str:
    """The same for a shell: `TOKEN=$(curl -s .../emulator/token -d user=ada@example.test -d organization=acme)`."""
    return str(mint_token(call)["jwt"])


def create_sign_in_link(call: Call) -> Json:
    """`user`, and `organization` to begin in; `app_url` where the emulator cannot know it.

    Opened, it signs them in at the app's own origin, in place of whoever was, and leads to the app.
    """
    call.body.only("user", "organization", "app_url", "expires_in")
    user = call.store.users.find(call.body.need("user"))
    wanted = call.body.text("organization")
    organization_id = call.store.organizations.find(wanted).id if wanted else None
    url = _app_url(call)
    seconds = call.body.integer("expires_in", 1, 315_360_000) or _LINK_LIFE
    ticket = call.store.sessions.create_sign_in_token(user.id, organization_id, seconds).token
    query = urlencode({"ticket": ticket, "redirect_url": f"{url}/"})
    return {"url": f"{url}/__clerk/v1/tickets/accept?{query}", "ticket": ticket}


def list_sessions(call: Call) -> Json:
    """Newest first; of one `user`, or all."""
    user = call.body.text("user")
    user_id = call.store.users.find(user).id if user else None
    found = [each for each in reversed(call.state.sessions.values()) if user_id in (None, each.user_id)]
    return {"data": [render.session(each) for each in found]}


def end_session(call: Call) -> Json:
    """As a person who signs out."""
    session = call.store.sessions.get(call.path["session_id"])
    return render.session(call.store.sessions.end(session, "ended"))


def _app_url(call: Call) -> str:
    if given := call.body.text("app_url"):
        return read_app_url(given)
    if call.controls.app_url is None:
        message = "Where is your app? Give app_url, something like http://127.0.0.1:8000."
        raise ClerkError(422, "form_param_missing", message, param="app_url")
    return call.controls.app_url
