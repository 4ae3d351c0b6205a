"""`/clients`: what an app's server fetches to finish a handshake."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.backend_api.call import Call, Json


def get_handshake_payload(call: Call) -> Json:
    """The cookies to set, as Set-Cookie values; once."""
    nonce = call.query.text("nonce")
    if nonce is None:
        raise errors.missing("nonce")
    return {"directives": call.store.handshakes.take(nonce)}
