"""`/sessions`, their tokens, and `/sign_in_tokens`."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors, render
from tenantry.emulator.backend_api.call import Call

Json = dict[str, Any]

_STATUSES = ("abandoned", "active", "ended", "expired", "pending", "removed", "replaced", "revoked")


def list_sessions(call: Call) -> list[Json]:
    """Newest first. One of `user_id` and `client_id` is needed."""
    user_id, client_id, status = (call.query.text(name) for name in ("user_id", "client_id", "status"))
    if user_id is None and client_id is None:
        raise errors.missing("user_id")
    if status is not None and status not in _STATUSES:
        raise errors.invalid("status", f"must be one of {', '.join(_STATUSES)}")
    found = [
        each
        for each in reversed(call.store.state.sessions.values())
        if user_id in (None, each.user_id) and client_id in (None, each.client_id) and status in (None, each.status)
    ]
    return [render.session(each) for each in call.query.page(found)]


def create(call: Call) -> Json:
    body = call.body
    session = call.store.sessions.create(body.need("user_id"), body.text("active_organization_id") or None)
    return render.session(session)


def get(call: Call) -> Json:
    return render.session(call.store.sessions.get(call.path["session_id"]))


def revoke(call: Call) -> Json:
    session = call.store.sessions.get(call.path["session_id"])
    return render.session(call.store.sessions.end(session, "revoked"))


def create_token(call: Call) -> Json:
    """Without `azp`: no browser asks. A caller that sends an Origin gets it."""
    seconds = call.body.integer("expires_in_seconds", 30, 315_360_000)
    session = call.store.sessions.get(call.path["session_id"])
    jwt = call.emulator.mint_session_token(session, seconds=seconds, authorized_party=call.origin)
    return {"object": "token", "jwt": jwt}


def create_sign_in_token(call: Call) -> Json:
    body = call.body
    seconds = body.integer("expires_in_seconds", 1) or 2_592_000
    token = call.store.sessions.create_sign_in_token(body.need("user_id"), body.text("org_id"), seconds)
    return render.sign_in_token(token)


def revoke_sign_in_token(call: Call) -> Json:
    return render.sign_in_token(call.store.sessions.revoke_sign_in_token(call.path["sign_in_token_id"]))
