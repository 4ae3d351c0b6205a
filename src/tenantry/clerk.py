"""Clerk's Backend API over httpx: for now the instance's public keys, fetched rarely and kept through an outage."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from tenantry.errors import ClerkUnavailable, ConfigurationError, InvalidToken, TenantryError
from tenantry.settings import Settings
from tenantry.tokens import MIN_KEY_BITS, FixedKey, KeySource

_FRESH_SECONDS = 60 * 60
_UNKNOWN_KID_SECONDS = 30
_EMPTY_RETRY_SECONDS = 10  # meanwhile requests with a token are answered at once, and public pages too
_TIMEOUT_SECONDS = 3
_MAX_JWKS_BYTES = 256 * 1024
_MAX_KEYS = 64


def find_keys(settings: Settings) -> KeySource:
    """Where this app's token keys come from: the PEM key, else Clerk by secret key, else the issuer's public JWKS."""
    if settings.jwt_key:
        return FixedKey(settings.jwt_key)
    if settings.secret_key:
        return Jwks(f"{settings.api_url}/v1/jwks", secret_key=settings.secret_key)
    if settings.issuers:
        return Jwks(f"{settings.issuers[0]}/.well-known/jwks.json")
    raise ConfigurationError(
        "There is no key to verify session tokens with.",
        hint="Set CLERK_PUBLISHABLE_KEY, and CLERK_SECRET_KEY or CLERK_JWT_KEY.",
    )


class Jwks:
    """The keys of a JWKS address, by `kid`.

    Fetched when first needed; after an hour refreshed in the background while the old ones go on serving, for as long
    as Clerk is out of reach. Concurrent callers share one fetch. An unknown `kid` may be a new key, or noise: it causes
    at most one fetch every 30 seconds and nothing is remembered about it.
    """

    def __init__(self, url: str, *, secret_key: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._secret_key = secret_key
        self._clock = clock
        self._keys: Mapping[str, RSAPublicKey] = {}
        self.revision = 0
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failure: TenantryError | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> RSAPublicKey:
        """The key of this id. Raises InvalidToken when Clerk has none, ClerkUnavailable when it was never reached."""
        key = self._keys.get(kid) if kid else None
        if key is None:
            if kid:
                await self._seek()
            return self._known(kid)
        if self._age(self._fetched_at) >= _FRESH_SECONDS and self._age(self._tried_at) >= _UNKNOWN_KID_SECONDS:
            self._start()
        return key

    def _known(self, kid: str | None) -> RSAPublicKey:
        key = self._keys.get(kid) if kid else None
        if key is not None:
            return key
        if kid and not self._keys and self._failure:
            raise ClerkUnavailable(self._failure.message, hint=self._failure.hint)
        raise InvalidToken(
            f"The session token is signed with key {_shorten(kid)}, which this Clerk instance does not have.",
            hint="Compare the frontend's publishable key with this server's keys: they may be of different instances.",
        )

    async def _seek(self) -> None:
        """Join the fetch under way, or start one if enough time has passed since the last."""
        pause = _UNKNOWN_KID_SECONDS if self._keys else _EMPTY_RETRY_SECONDS
        if self._is_fetching() or self._age(self._tried_at) >= pause:
            # Shielded: a caller that goes away must not take the others' fetch with it.
            await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[None]:
        if self._fetching is None or not self._is_fetching():
            self._tried_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    def _is_fetching(self) -> bool:
        """Whether a fetch runs on this event loop; one left behind on another loop may never end."""
        task = self._fetching
        return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()

    async def _fetch(self) -> None:
        """Fetch and take over the keys; a failure is kept for callers that have no key at all."""
        try:
            keys = await fetch_keys(self._url, self._secret_key)
        except TenantryError as error:
            self._failure = error
            return
        if any(keys.get(kid) != key for kid, key in self._keys.items()):
            self.revision += 1
        self._keys, self._fetched_at, self._failure = keys, self._clock(), None

    def _age(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._clock() - moment


async def fetch_keys(url: str, secret_key: str | None = None) -> dict[str, RSAPublicKey]:
    """The RSA keys of a JWKS address, by `kid`. Raises ClerkUnavailable."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"} | (
        {"Authorization": f"Bearer {secret_key}"} if secret_key else {}
    )
    try:
        body = await asyncio.wait_for(_get(url, headers), _TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ClerkUnavailable(f"Clerk's keys could not be fetched from {url}: {type(error).__name__}.") from None
    keys = read_jwks(body)
    if not keys:
        raise ClerkUnavailable(f"{url} answered, but not with a set of RSA keys.", hint="Check CLERK_API_URL.")
    return keys


async def _get(url: str, headers: Mapping[str, str]) -> bytes:
    # A client reads the system's certificates when it is made, tens of milliseconds that the loop is spared.
    client = await asyncio.to_thread(httpx.AsyncClient, timeout=_TIMEOUT_SECONDS)
    async with client, client.stream("GET", url, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise ClerkUnavailable(
                f"{url} answered {response.status_code}.",
                hint="Check CLERK_SECRET_KEY." if response.status_code in (401, 403) else None,
            )
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_JWKS_BYTES:
                raise ClerkUnavailable(f"{url} answered with more than {_MAX_JWKS_BYTES} bytes.")
        return body


def read_jwks(body: bytes) -> dict[str, RSAPublicKey]:
    """The usable keys of a JWKS document, by `kid`; what is not a public RS256 key of 2048 bits or more is left out."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return {}
    found = {entry["kid"]: _read_key(entry) for entry in entries[:_MAX_KEYS] if _is_rs256(entry)}
    return {kid: key for kid, key in found.items() if key is not None}


def _is_rs256(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("kid"), str)
        and entry.get("kty") == "RSA"
        and entry.get("alg", "RS256") == "RS256"
        and entry.get("use", "sig") == "sig"
    )


def _read_key(entry: Mapping[str, Any]) -> RSAPublicKey | None:
    try:
        n, e = (int.from_bytes(urlsafe_b64decode(entry[name] + "==")) for name in ("n", "e"))
        key = RSAPublicNumbers(e, n).public_key()
    except (KeyError, TypeError, ValueError):
        return None
    return key if key.key_size >= MIN_KEY_BITS else None


def _shorten(kid: str | None) -> str:
    """A key id out of a token nobody has verified, fit for an error."""
    if kid is None:
        return "(none)"
    return repr(kid if len(kid) <= 40 else f"{kid[:40]}…")
