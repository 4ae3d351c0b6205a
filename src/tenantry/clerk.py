"""Clerk's Backend API over httpx: its lists and objects, within its rate limit; and the instance's public keys.

Keys are fetched rarely and kept through an outage. A request for data is sent again, with pauses, where Clerk is busy,
away, or answers with something that is not whole; what it answers in the end is what it said, and when it was true.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from tenantry.errors import ClerkRefused, ClerkUnavailable, ConfigurationError, InvalidToken, TenantryError
from tenantry.settings import Settings
from tenantry.tokens import MIN_KEY_BITS, FixedKey, KeySource

_FRESH_SECONDS = 60 * 60
_UNKNOWN_KID_SECONDS = 30
_EMPTY_RETRY_SECONDS = 10  # meanwhile requests with a token are answered at once, and public pages too
_TIMEOUT_SECONDS = 3
_MAX_JWKS_BYTES = 256 * 1024
_MAX_KEYS = 64

LARGEST_PAGE = 500  # Clerk's own limit
_API_VERSION = "2025-11-10"
_WINDOW_SECONDS = 10  # of Clerk's rate limit
_REQUESTS_LIVE, _REQUESTS_TEST = 1000, 100
_ANSWER_SECONDS = 30
_TRIES = 8
_PAUSE_SECONDS = 0.5  # after the first failure; doubled after each
_LONGEST_PAUSE = 20
_LONGEST_RETRY_AFTER = 120
_WITHOUT_DATE_SECONDS = 60  # how wrong this machine's clock may be, where an answer does not tell Clerk's

Json = dict[str, Any]
T = TypeVar("T")


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


# --- lists and objects ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Objects of a list, and how many the list has, where it says so. `observed_at`: see `ServerClock`."""

    objects: list[Json]
    total: int | None
    observed_at: int


@dataclass(frozen=True, slots=True)
class Found:
    """One object, or None where Clerk says that there is none."""

    object: Json | None
    observed_at: int


class ServerClock:
    """Clerk's clock, from the `Date` of its answers, which tells whole seconds: in ms, and never later than it was.

    An answer was made after its request was sent and before it arrived; every further one narrows down how far apart
    the two clocks are. Where answers contradict each other, the earlier time holds.
    """

    def __init__(self) -> None:
        self._least = float("-inf")  # that Clerk's clock is ahead of ours, in seconds
        self._most = float("inf")

    def learn(self, date: float, sent: float, received: float) -> None:
        self._least = max(self._least, date - received)
        self._most = min(self._most, date + 1 - sent)

    def at(self, moment: float) -> int:
        """Clerk's time at a `time.monotonic()` of ours."""
        if self._least == float("-inf"):
            return int((moment + time.time() - time.monotonic() - _WITHOUT_DATE_SECONDS) * 1000)
        return int((moment + min(self._least, self._most)) * 1000)


class Budget:
    """Lets at most `requests` pass in any ten seconds, and none while Clerk wants a pause."""

    def __init__(self, requests: float, clock: Callable[[], float] = time.monotonic) -> None:
        burst = max(1.0, requests / 5)
        self._gap = _WINDOW_SECONDS / max(requests - burst, 0.5)
        self._ahead = (burst - 1) * self._gap
        self._clock = clock
        self._next = 0.0
        self._closed_until = 0.0

    async def take(self) -> None:
        """Waits for its turn."""
        now = self._clock()
        turn = max(self._next, now - self._ahead)
        self._next = turn + self._gap
        while (wait := max(turn, self._closed_until) - self._clock()) > 0:  # noqa: ASYNC110  only time ends it
            await asyncio.sleep(wait)

    def close(self, seconds: float) -> None:
        """Nobody passes for so long."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)


class _Again(Exception):
    """An answer that says nothing: to be asked for again."""


class BackendApi:
    """Clerk's Backend API. Raises ClerkRefused for a key or request it does not take, ClerkUnavailable where
    it has not answered properly after several tries. `pause`: seconds after a first failure.
    """

    def __init__(
        self, client: httpx.AsyncClient, budget: Budget, *, pause: float = _PAUSE_SECONDS, tries: int = _TRIES
    ) -> None:
        self._client = client
        self._budget = budget
        self._pause = pause
        self._tries = tries
        self.clock = ServerClock()

    def now(self) -> int:
        """Clerk's time in ms, as far as its answers have told it."""
        return self.clock.at(time.monotonic())

    async def instance_id(self) -> str:
        """The instance the secret key is of."""
        found, _ = await self._ask("/instance", {}, _read_object)
        if found is None:  # Clerk's keys are named after their instance
            found, _ = await self._ask("/jwks", {}, lambda content: {"id": content["keys"][0]["kid"]})
        if found is None:
            raise ClerkRefused("Clerk does not say which instance the secret key is of.", hint="Check CLERK_API_URL.")
        return str(found["id"])

    async def page(self, path: str, *, offset: int = 0, limit: int = LARGEST_PAGE, **query: Any) -> Page | None:
        """A page of a list, or None where there is no such list."""
        found, observed_at = await self._ask(path, {"limit": limit, "offset": offset, **query}, _read_list)
        return None if found is None else Page(*found, observed_at)

    async def one(self, path: str, **query: Any) -> Found:
        """The object at this path."""
        return Found(*await self._ask(path, query, _read_object))

    async def create(self, path: str, body: Mapping[str, Any], find: Callable[[], Awaitable[Found]]) -> Found:
        """Creates an object; None where Clerk has not what the path or the body names.

        Where an answer does not tell whether it was made, `find` is asked before it is tried again: a second try makes
        no second object.
        """
        problem = ""
        for number in range(self._tries):
            await self._wait(number)
            sent = time.monotonic()
            try:
                response = await self._client.post(path, json=body)
                self._learn_time(response, sent)
                return Found(self._read(path, response, _read_object), self.clock.at(sent))
            except _Again as error:
                problem = str(error)
            except httpx.HTTPError as error:
                problem = type(error).__name__
            if (found := await find()).object is not None:
                return found
        raise self._unavailable(path, problem)

    async def count(self, path: str) -> int:
        """The `total_count` at this path, as that of users."""
        found, _ = await self._ask(path, {}, lambda content: int(content["total_count"]))
        return found or 0

    async def _ask(self, path: str, query: Mapping[str, Any], read: Callable[[Any], T]) -> tuple[T | None, int]:
        """What `read` makes of the answer, or None for a 404 of Clerk's own; and when that was true."""
        problem = ""
        for number in range(self._tries):
            await self._wait(number)
            sent = time.monotonic()
            try:
                response = await self._client.get(path, params=query)
                self._learn_time(response, sent)
                return self._read(path, response, read), self.clock.at(sent)
            except _Again as error:
                problem = str(error)
            except httpx.HTTPError as error:
                problem = type(error).__name__
        raise self._unavailable(path, problem)

    async def _wait(self, number: int) -> None:
        """For a try's turn; after failures for longer and longer."""
        if number:
            await asyncio.sleep(random.uniform(0.5, 1) * min(self._pause * 2 ** (number - 1), _LONGEST_PAUSE))
        await self._budget.take()

    def _unavailable(self, path: str, problem: str) -> ClerkUnavailable:
        return ClerkUnavailable(
            f"Clerk's {path} did not answer properly in {self._tries} tries, last: {problem}.",
            hint="Try again later: what was begun goes on where it stopped.",
        )

    def _learn_time(self, response: httpx.Response, sent: float) -> None:
        try:
            date = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, OverflowError):
            return
        self.clock.learn(date, sent, time.monotonic())

    def _read(self, path: str, response: httpx.Response, read: Callable[[Any], T]) -> T | None:
        status = response.status_code
        if status == 429:
            self._budget.close(_retry_after(response))
        if status == 429 or status >= 500:
            raise _Again(str(status))
        try:
            content = response.json()
            if status == 200:
                return read(content)
        except (ValueError, LookupError, TypeError, RecursionError):
            if status in (200, 404):
                raise _Again(f"{status} with a body that is not whole") from None
            content = None
        code = _error_code(content)
        if status == 404:
            if code == "resource_not_found":
                return None
            raise _Again("404 that is not Clerk's")
        raise ClerkRefused(
            f"Clerk refused {path} with {status}{f' ({code})' if code else ''}.",
            hint="Check CLERK_SECRET_KEY." if status in (401, 403) else "Check CLERK_API_URL.",
        )


@asynccontextmanager
async def open_api(
    settings: Settings, *, tries: int = _TRIES, within: float = _ANSWER_SECONDS
) -> AsyncIterator[BackendApi]:
    """The Backend API of these settings. `within`: seconds a try. Raises ConfigurationError without a secret key."""
    if settings.secret_key is None:
        raise ConfigurationError("There is no key to ask Clerk with.", hint="Set CLERK_SECRET_KEY.")
    live = settings.secret_key.startswith("sk_live_")
    requests = (_REQUESTS_LIVE if live else _REQUESTS_TEST) * settings.clerk_budget / 100
    headers = {"Authorization": f"Bearer {settings.secret_key}", "Clerk-API-Version": _API_VERSION}
    client = await asyncio.to_thread(
        httpx.AsyncClient, base_url=f"{settings.api_url}/v1", headers=headers, timeout=within
    )
    async with client:
        yield BackendApi(client, Budget(requests), pause=_PAUSE_SECONDS, tries=tries)


def _read_list(content: Any) -> tuple[list[Json], int | None]:
    """The objects of a list in either of Clerk's forms, and its total. Raises ValueError for what is neither."""
    objects, total = (content["data"], content["total_count"]) if isinstance(content, dict) else (content, None)
    if not isinstance(objects, list) or not (total is None or isinstance(total, int)):
        raise ValueError("not a list")
    return [_read_object(each) for each in objects], total


def _read_object(content: Any) -> Json:
    if not isinstance(content, dict) or not isinstance(content.get("id"), str) or not content["id"]:
        raise ValueError("not an object with an id")
    return content


def _error_code(content: Any) -> str:
    try:
        code = str(content["errors"][0]["code"])
    except (LookupError, TypeError):
        return ""
    return code if re.fullmatch(r"[a-z0-9_]{1,60}", code) else ""


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,6}", text) else 1.0
