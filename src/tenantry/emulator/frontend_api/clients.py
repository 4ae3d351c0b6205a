"""The browser itself."""

from __future__ import annotations

from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.render.clients import client as render_client


def get(call: Call) -> Json:
    return render_client(call.emulator, call.client, call.origin) if call.client else None


def create(call: Call) -> Json:
    return render_client(call.emulator, call.need_client(), call.origin)


def delete(call: Call) -> Json:
    """Signs everybody out."""
    client = call.need_client()
    for session in call.store.clients.sessions_of(client):
        call.store.clients.sign_out(client, session, "removed")
    return render_client(call.emulator, client, call.origin)
