"""Handshakes: cookies that wait for an app's server to fetch them, once, by a nonce."""

from __future__ import annotations

import secrets

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.store.core import Core

_LIFE = 60_000  # milliseconds
_MOST = 1000


class Handshakes:
    """Not kept: who waits for one is on its way."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: dict[str, tuple[int, list[str]]] = {}  # nonce -> until, directives

    def put(self, directives: list[str]) -> str:
        """The nonce to fetch these Set-Cookie values by, for a minute."""
        nonce = secrets.token_hex(16)
        self._waiting[nonce] = (self._core.clock() + _LIFE, directives)
        while len(self._waiting) > _MOST:
            del self._waiting[next(iter(self._waiting))]
        return nonce

    def take(self, nonce: str) -> list[str]:
        """ClerkError when there are none, or not any more."""
        until, directives = self._waiting.pop(nonce, (0, []))
        if until <= self._core.clock():
            message = "No handshake waits for this nonce: it was fetched already, or is older than a minute."
            raise ClerkError(404, "resource_not_found", message)
        return directives
