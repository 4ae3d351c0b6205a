"""The browser itself, and the people signed in at it."""

from __future__ import annotations

from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.render.clients import client as render_client


def get(call: Call) -> Json:
    return show(call) if call.client else None


def create(call: Call) -> Json:
    call.need_client()
    return show(call)


def remove_sessions(call: Call) -> Json:
    """Signs everybody out; the browser stays known."""
    call.store.clients.sign_out_all(call.need_client(), "removed")
    return show(call)


def create_dev_browser(call: Call) -> Json:
    """The name that stands for the browser's cookie where the cookie does not reach."""
    client = call.need_client()
    return {
        "id": client.dev_browser,
        "instance_id": call.emulator.instance.id,
        "client_id": client.id,
        "created_at": client.created_at,
        "updated_at": client.updated_at,
    }


def show(call: Call) -> Json:
    client = call.store.clients.get(call.need_client().id)
    return render_client(call.emulator, client, call.origin)
