"""Verifies Clerk session tokens, versions 1 and 2: (token, keys, now) -> Identity, or one AuthenticationFailed.

Theory of operation
-------------------
A session token is a JWT that Clerk signs with RS256 for 60 seconds. Of each one this module asks, in this order:

1. Shape. At most 16 KB, three strict base64url segments. API keys and opaque machine tokens are told by prefix.
2. Header. `alg` is RS256 and nothing else, decided here and never by the token; `crit` is refused; a key named by the
   header itself (`jku`, `jwk`, `x5u`) is ignored. `cat` and `typ` tell JWT templates, machine and OAuth tokens apart.
3. Signature, with a key that a `KeySource` finds by `kid`. No claim is looked at before.
4. Claims. `exp`, `iat`, `sub`, `sid` present, `iss` one of ours, `azp` among the authorized parties, life bounded,
   session not pending. Then the organization, which versions 1 and 2 write differently and which are never mixed.

What passes becomes an `Identity` and is kept until the token expires, under the SHA-256 of the signature and beside the
text that was signed, so that the next request with the same token costs a short hash, two look-ups and a comparison.
Failures are not kept: a forged token costs one signature check each time, and an unknown `kid` costs no more than the
key source allows.

Permissions (version 2) are bit masks, one a feature. Clerk's JavaScript pairs the masks with the organization's
features, its documentation with all features. Both readings are computed and only what both grant is granted.
They differ only when a user's own feature stands before an organization's.
"""

from __future__ import annotations

import json
import time
from binascii import a2b_base64
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple, Never, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tenantry.errors import (
    AuthenticationFailed,
    ConfigurationError,
    InvalidToken,
    SessionPending,
    TokenExpired,
    WrongTokenKind,
)
from tenantry.identity import Identity, split_scopes
from tenantry.roles import normalise_role
from tenantry.settings import Settings

Headers = Mapping[str, str] | Iterable[tuple[bytes, bytes]]

MAX_TOKEN_LENGTH = 16 * 1024
_SESSION_CATEGORY = "cl_B7d4PD111AAA"
_OPAQUE_PREFIXES = ("ak_", "mt_", "oat_")
MIN_KEY_BITS = 2048
_PADDING, _SHA256 = PKCS1v15(), SHA256()


_decode_json = json.JSONDecoder().decode


# --- the organization in the claims -----------------------------------------------------------------------------------


class _Organization(NamedTuple):
    id: str | None = None
    slug: str | None = None
    role: str | None = None
    permissions: frozenset[str] = frozenset()
    features: frozenset[str] | None = None


def _read_organization(claims: Mapping[str, Any]) -> _Organization:
    version = claims.get("v", 1)
    if version == 2:
        return _read_v2(claims)
    if version != 1 or isinstance(version, bool):
        _refuse("is of a version this release does not know")
    return _read_v1(claims)


def _read_v1(claims: Mapping[str, Any]) -> _Organization:
    org_id = _optional_text(claims, "org_id")
    if org_id is None:
        return _Organization()
    role = _optional_text(claims, "org_role")
    granted = claims.get("org_permissions")
    permissions = [name for name in granted if isinstance(name, str)] if isinstance(granted, list) else []
    return _Organization(
        org_id, _optional_text(claims, "org_slug"), role and normalise_role(role), frozenset(permissions)
    )


def _read_v2(claims: Mapping[str, Any]) -> _Organization:
    organization = claims.get("o")
    if organization is not None and not isinstance(organization, dict):
        _refuse("has a malformed o claim")
    held = organization or {}
    features, permissions = _decode_grants(
        _optional_text(claims, "fea"), _optional_text(held, "per"), _optional_text(held, "fpm")
    )
    if organization is None:
        return _Organization(features=features)
    role = _optional_text(organization, "rol")
    return _Organization(
        _required_text(organization, "id"),
        _optional_text(organization, "slg"),
        role and normalise_role(role),
        permissions,
        features,
    )


@lru_cache(maxsize=4096)  # the members of one organization who share a role share these three
def _decode_grants(fea: str | None, per: str | None, fpm: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """The organization's features, and the permissions that both readings of the masks grant."""
    try:
        elements = split_scopes(fea) if fea else []
    except ValueError:
        _refuse("has a malformed fea claim")
    org_features = [name for scope, name in elements if scope in _ORG_SCOPES]
    masks = [_read_mask(mask) for mask in fpm.split(",")] if fpm else []
    actions = [action.strip() for action in per.split(",")] if per else []
    by_feature = _grant(zip(org_features, masks, strict=False), actions)
    by_element = _grant(
        [(name, mask) for (scope, name), mask in zip(elements, masks, strict=False) if scope in _ORG_SCOPES], actions
    )
    return frozenset(org_features), by_feature & by_element


_ORG_SCOPES = ("o", "ou", "uo")


def _read_mask(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 1000):
        _refuse("has a malformed fpm claim")  # a negative number, read as bits, would grant everything
    return int(digits)


def _grant(masked: Iterable[tuple[str, int]], actions: list[str]) -> frozenset[str]:
    return frozenset(
        [f"org:{name}:{action}" for name, mask in masked for bit, action in enumerate(actions) if mask >> bit & 1]
    )


# --- verification -----------------------------------------------------------------------------------------------------


class KeySource(Protocol):
    """Where verification keys come from: `FixedKey` here, `tenantry.clerk.Jwks` over the network."""

    revision: int
    """Grows whenever a key is withdrawn; what was verified before is then verified again."""

    async def find(self, kid: str | None) -> RSAPublicKey:
        """The key of this id. Raises InvalidToken when there is none."""


class FixedKey:
    """One public key from a PEM text (`CLERK_JWT_KEY`), used whatever `kid` a token names."""

    revision = 0

    def __init__(self, pem: str) -> None:
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
            raise ConfigurationError(
                f"CLERK_JWT_KEY is not a public RSA key of at least {MIN_KEY_BITS} bits in PEM form.",
                hint="Copy the JWKS public key (PEM) from the API keys page of the Clerk dashboard.",
            )
        self._key = key

    async def find(self, kid: str | None) -> RSAPublicKey:
        return self._key


class _Token(NamedTuple):
    """A token taken apart; nothing in it is verified yet."""

    kid: str | None
    header: bytes
    signed: bytes
    payload: bytes
    signature: bytes


class Verifier:
    """Verifies session tokens of one Clerk instance and remembers them until they expire.

    `issuers`: the accepted `iss`. `authorized_parties`: origins accepted as `azp`; empty accepts any for a Bearer
    token, and refuses cookies outside `development`. `leeway`, `max_life`: seconds. `cache_size`: tokens remembered.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuers: Collection[str],
        authorized_parties: Collection[str] = (),
        development: bool = False,
        leeway: float = 5,
        max_life: float = 24 * 60 * 60,
        cache_size: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not issuers:
            raise ConfigurationError(
                "The issuer of session tokens is not known.",
                hint="Set CLERK_PUBLISHABLE_KEY, which names it, or CLERK_ISSUER.",
            )
        self._keys = keys
        self._issuers = frozenset(issuers)
        self._parties = frozenset(authorized_parties)
        self._development = development
        self._leeway = leeway
        self._max_life = max_life
        self._cache_size = cache_size
        self._clock = clock
        self._revision = keys.revision
        self._cache: OrderedDict[bytes, tuple[str, Identity]] = OrderedDict()
        self._headers: dict[bytes, str] = {}

    @classmethod
    def from_settings(cls, settings: Settings, keys: KeySource) -> Verifier:
        """A verifier as the settings describe it; `tenantry.clerk.find_keys(settings)` gives the keys."""
        return cls(
            keys,
            issuers=settings.issuers,
            authorized_parties=settings.authorized_parties,
            development=settings.development,
            leeway=settings.token_leeway,
            max_life=settings.max_token_life,
        )

    async def verify(self, token: str, *, cookie: bool = False) -> Identity:
        """The identity a token proves. `cookie`: it came in a cookie, which demands a known `azp`.

        Raises an AuthenticationFailed, or what the key source raises when Clerk's keys cannot be had.
        """
        signed, digest = _divide(token)
        identity = self._recall(signed, digest)
        if identity is None:
            opened = self._open(token)
            key = await self._keys.find(opened.kid)
            identity = self._read(key, opened, self._clock())
            self._remember(signed, digest, identity)
        if cookie:
            self._check_cookie(identity)
        return identity

    def verify_cached(self, token: str, *, cookie: bool = False) -> Identity | None:
        """The identity of a token verified before and not expired since, else None. Never waits."""
        identity = self._recall(*_divide(token))
        if cookie and identity is not None:
            self._check_cookie(identity)
        return identity

    def verify_with(self, key: RSAPublicKey, token: str, *, now: float) -> Identity:
        """The identity a token proves under this key at this time: no input, output or memory."""
        return self._read(key, self._open(token), now)

    def _recall(self, signed: str, digest: bytes) -> Identity | None:
        if self._keys.revision != self._revision:
            self._cache.clear()
            self._revision = self._keys.revision
        known, identity = self._cache.get(digest, _NOTHING)
        if identity is None or known != signed or identity.expires_at <= self._clock():
            return None
        return identity

    def _remember(self, signed: str, digest: bytes, identity: Identity) -> None:
        if self._cache_size and identity.expires_at > self._clock():
            if len(self._cache) >= self._cache_size:
                self._cache.popitem(last=False)
            self._cache[digest] = signed, identity

    def _open(self, token: str) -> _Token:
        """Take a token apart and judge its header."""
        if token.startswith(_OPAQUE_PREFIXES):
            raise WrongTokenKind("This is an API key or a machine token, not a session token.")
        if len(token) > MAX_TOKEN_LENGTH:
            _refuse(f"has {len(token)} characters; {MAX_TOKEN_LENGTH} are accepted")
        try:
            signed, _, signature = token.encode("ascii").rpartition(b".")
            header, payload = signed.split(b".")
            # Tokens of one key share their header: only a header that passed with its signature is remembered.
            kid = self._headers.get(header) or _read_header(header)
            return _Token(kid, header, signed, payload, _decode_segment(signature))
        except ValueError:
            _refuse("is not a signed JWT")

    def _read(self, key: RSAPublicKey, token: _Token, now: float) -> Identity:
        try:
            key.verify(token.signature, token.signed, _PADDING, _SHA256)
        except InvalidSignature:
            _refuse("is not signed by this Clerk instance")
        if token.kid and token.header not in self._headers:
            if len(self._headers) >= 64:
                self._headers.clear()
            self._headers[token.header] = token.kid
        try:
            text = _decode_segment(token.payload).decode()
            claims = _decode_json(text)
        except (ValueError, RecursionError):
            _refuse("has a payload that is not JSON")
        if not isinstance(claims, dict):
            _refuse("has a payload that is not a JSON object")
        identity = self._read_claims(claims, token.kid, now)
        if "\\u" in text:  # the only way a NUL or a lone surrogate can stand in valid JSON
            _check_storable(identity)
        return identity

    def _read_claims(self, claims: dict[str, Any], kid: str | None, now: float) -> Identity:
        issued_at, expires_at = self._check_times(claims, now)
        issuer = _required_text(claims, "iss")
        if issuer not in self._issuers:
            _refuse(
                f"was issued by {issuer!r}, not by this instance",
                hint="Compare it with CLERK_PUBLISHABLE_KEY and CLERK_ISSUER.",
            )
        self._check_party(claims)
        _check_session(claims)
        actor = claims.get("act")
        if actor is not None and not isinstance(actor, dict):
            _refuse("has a malformed act claim")
        org = _read_organization(claims)
        # Past __init__, in which a frozen dataclass sets field by field: a tenth of all the time spent in this module.
        identity = object.__new__(Identity)
        identity.__dict__.update(
            user_id=_required_text(claims, "sub"),
            issued_at=issued_at,
            expires_at=expires_at,
            org_id=org.id,
            org_slug=org.slug,
            role=org.role,
            permissions=org.permissions,
            features=org.features,
            session_id=claims["sid"],
            instance_id=kid if kid and kid.startswith("ins_") else None,
            claims=MappingProxyType(claims),
        )
        return identity

    def _check_times(self, claims: Mapping[str, Any], now: float) -> tuple[int, int]:
        issued_at, expires_at, starts_at = claims.get("iat"), claims.get("exp"), claims.get("nbf", 0)
        if type(issued_at) is not int or type(expires_at) is not int or type(starts_at) is not int:
            _refuse("lacks a whole number of seconds in exp, iat or nbf")
        if not 0 <= issued_at < expires_at < 2**40:
            _refuse("has times that are out of range or out of order")
        if expires_at - issued_at > self._max_life:
            _refuse(f"is made to live {expires_at - issued_at} s; up to {self._max_life:g} s are accepted")
        if expires_at <= now - self._leeway:
            raise TokenExpired(f"The session token expired {now - expires_at:.0f} s ago.")
        if issued_at > now + self._leeway or starts_at > now + self._leeway:
            _refuse("is not valid yet", hint="Set this server's clock (NTP).")
        return issued_at, expires_at

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        party = _optional_text(claims, "azp")
        if party is not None and self._parties and party not in self._parties:
            _refuse(
                f"was made for {party!r}, which is not an authorized party",
                hint="If that is your frontend, add its origin to CLERK_AUTHORIZED_PARTIES.",
            )

    def _check_cookie(self, identity: Identity) -> None:
        """A browser sends cookies unasked, so that a cookie must say which frontend it belongs to."""
        if self._parties:
            if identity.authorized_party not in self._parties:
                _refuse("came in a cookie and names no authorized party", hint="Send it as Authorization: Bearer.")
        elif not self._development:
            _refuse(
                "came in a cookie, and no authorized parties are configured",
                hint="Set CLERK_AUTHORIZED_PARTIES to your frontends' origins.",
            )


_EMPTY = sha256()  # a copy is had sooner than a new one, which OpenSSL looks up by its name


_NOTHING: tuple[str, None] = ("", None)


def _divide(token: str) -> tuple[str, bytes]:
    """What a token is remembered by, all of it: what was signed, as it is, and its signature's digest.

    Without the signature nobody takes it for a token, so that no token stays in memory; and to hash the signature alone
    costs half of what hashing all of it does.
    """
    signed, _, signature = token.rpartition(".")
    digest = _EMPTY.copy()
    digest.update(signature.encode("utf-8", "surrogatepass"))
    return signed, digest.digest()


def _read_header(segment: bytes) -> str | None:
    """The `kid` of an acceptable header. Raises AuthenticationFailed, or ValueError when it is no JSON."""
    try:
        header = _decode_json(_decode_segment(segment).decode())
    except RecursionError:
        raise ValueError from None
    if not isinstance(header, dict):
        raise ValueError
    if header.get("typ") in ("at+jwt", "application/at+jwt"):
        raise WrongTokenKind("This is an OAuth access token, not a session token.")
    if header.get("cat", _SESSION_CATEGORY) != _SESSION_CATEGORY:
        raise WrongTokenKind("This token is not a session's: a JWT template or a machine made it.")
    if header.get("alg") != "RS256" or header.get("typ", "JWT") != "JWT" or "crit" in header:
        _refuse("is not an RS256 JWT without extensions")
    kid = header.get("kid")
    if kid is not None and not (isinstance(kid, str) and kid.isascii() and kid.isprintable() and len(kid) <= 255):
        _refuse("has a malformed kid")
    return kid


def _check_session(claims: Mapping[str, Any]) -> None:
    """It is a user's session, and an active one."""
    if str(claims.get("sub")).startswith("mch_"):
        raise WrongTokenKind("This is a machine token, not a session token.")
    if _optional_text(claims, "sid") is None:
        raise WrongTokenKind("This token names no session; a JWT template's token cannot stand for one.")
    status = claims.get("sts", "active")
    if status == "pending":
        raise SessionPending
    if status != "active":
        raise AuthenticationFailed("The session is not active.")


def _check_storable(identity: Identity) -> None:
    try:
        text = identity.to_json().encode()
    except UnicodeEncodeError:
        text = b"\\u0000"
    if b"\\u0000" in text:
        _refuse("holds characters that no database text can hold")


def _required_text(claims: Mapping[str, Any], name: str) -> str:
    text = _optional_text(claims, name)
    if text is None:
        _refuse(f"lacks {name}")
    return text


def _optional_text(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim's text; absent, null and empty are all None, as in Clerk's own reading."""
    value = claims.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        _refuse(f"has a malformed {name} claim")
    return value


_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
_LAST_CHARACTERS = {2: b"AQgw", 3: b"AEIMQUYcgkosw048"}  # those whose unused low bits are zero


def _decode_segment(segment: bytes) -> bytes:
    """Strict base64url (RFC 7515): its own alphabet, no padding, one spelling only. Raises ValueError."""
    tail = len(segment) % 4
    if not segment or tail == 1 or (tail and segment[-1] not in _LAST_CHARACTERS[tail]):
        raise ValueError("not base64url")
    return a2b_base64(segment.translate(_TO_STANDARD) + b"=" * (-tail % 4), strict_mode=True)


def _refuse(problem: str, hint: str | None = None) -> Never:
    raise InvalidToken(f"The session token {problem}.", hint=hint)


# --- where a request carries its token --------------------------------------------------------------------------------


class PresentedToken(NamedTuple):
    """A token as a request carries it."""

    token: str
    from_cookie: bool


def token_from_headers(headers: Headers, cookie_suffix: str | None = None) -> PresentedToken | None:
    """The token of a request, or None.

    `Authorization: Bearer …` wins, and a bare JWT there counts too; another scheme is none of ours. Then the cookie
    `__session_<suffix>` of this instance, then `__session`: the exact names, so that another app's cookie on the same
    host is never taken. Where the suffixed cookie is present the plain one is not tried, valid or not. Raises
    InvalidToken where the one that counts comes twice with different values: a neighbouring host can set a cookie of
    this very name and have it sent first, and nothing in the request says which is the app's.
    """
    cookies: list[bytes] = []
    for name, value in _raw_pairs(headers):
        if name == b"authorization":
            token = _read_authorization(value)
            if token:
                return PresentedToken(token, from_cookie=False)
        elif name == b"cookie":
            cookies += value.split(b";")
    wanted = [b"__session"] if cookie_suffix is None else [f"__session_{cookie_suffix}".encode(), b"__session"]
    found = _read_cookies(cookies, wanted)
    values = next((found[name] for name in wanted if name in found), None)
    if values is None:
        return None
    if len(values) > 1:
        _refuse("came in several cookies of one name", hint="Delete the cookies of this site and its parent domains.")
    return PresentedToken(values.pop(), from_cookie=True)


def _raw_pairs(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    if isinstance(headers, Mapping):
        return [
            (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in headers.items()
        ]
    return ((name.lower(), value) for name, value in headers)


def _read_authorization(value: bytes) -> str | None:
    scheme, _, credentials = value.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip().decode("latin-1")
    return scheme.decode("latin-1") if not credentials and scheme.count(b".") == 2 else None


def _read_cookies(pairs: Iterable[bytes], wanted: Collection[bytes]) -> dict[bytes, set[str]]:
    """The non-empty values of each wanted name. Reads by hand: a malformed neighbour must not hide ours."""
    found: dict[bytes, set[str]] = {}
    for pair in pairs:
        name, _, value = pair.strip().partition(b"=")
        value = value.strip(b' \t"')
        if value and name.strip() in wanted:
            found.setdefault(name.strip(), set()).add(value.decode("latin-1"))
    return found
