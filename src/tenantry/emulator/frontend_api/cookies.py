"""The cookies by which a browser and its app know who is signed in."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

CLIENT = "__client"
CLIENT_CHANGED = "__client_uat"  # when somebody last signed in at this browser, in seconds; 0 while nobody is
SESSION = "__session"
DEV_BROWSER = "__clerk_db_jwt"
_YEAR = 365 * 86_400


def suffix(publishable_key: str) -> str:
    """What tells the cookies of two instances on one host apart."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:8]


def set_client(response: Response, emulator: Emulator, client_id: str, *, secure: bool) -> None:
    """What every answer about a client sets: its own cookie, and for the app the time of its last sign-in."""
    client = emulator.store.clients.get(client_id)
    changed = str(emulator.store.clients.signed_in_at(client) // 1000)
    response.set_cookie(CLIENT, client.secret, max_age=_YEAR, httponly=True, secure=secure, samesite="lax")
    for name in (CLIENT_CHANGED, f"{CLIENT_CHANGED}_{suffix(emulator.instance.publishable_key)}"):
        response.set_cookie(name, changed, max_age=_YEAR, secure=secure, samesite="lax")


def set_session(response: Response, emulator: Emulator, token: str, *, secure: bool) -> None:
    """The token for the app, where no page is there to write it; clerk-js keeps it fresh from then on."""
    for name in (SESSION, f"{SESSION}_{suffix(emulator.instance.publishable_key)}"):
        response.set_cookie(name, token, max_age=_YEAR, secure=secure, samesite="lax")
