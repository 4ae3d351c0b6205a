"""The environment, read once into a frozen `Settings`: Clerk's own variable names where it has one.

Every bad value raises ConfigurationError naming the variable and the fix; none ever shows the value of a secret.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from tenantry.errors import ConfigurationError
from tenantry.webhooks import parse_secret

MembershipSource = Literal["mirror", "token"]
PersonalAccounts = Literal["refuse", "allow"]

SHORTEST_JOB_SECRET = 32  # characters

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HOST = re.compile(r"[a-z0-9.-]+(?::[0-9]{1,5})?")
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----(.*)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Tenantry knows about its surroundings. Build it with `from_env`; durations are seconds."""

    publishable_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    jwt_key: str | None = field(default=None, repr=False)
    webhook_signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    api_url: str = "https://api.clerk.com"
    issuers: tuple[str, ...] = ()
    authorized_parties: frozenset[str] = frozenset()
    database_url: str | None = field(default=None, repr=False)
    membership_source: MembershipSource = "mirror"
    personal_accounts: PersonalAccounts = "refuse"
    allow_privileged_login: bool = False
    keep_private_metadata: bool = False
    token_leeway: int = 5
    max_token_life: int = 24 * 60 * 60
    webhook_max_bytes: int = 1024 * 1024
    roles_file: Path | None = None
    stream_interval: int = 30
    listen_url: str | None = field(default=None, repr=False)
    job_secrets: tuple[str, ...] = field(default=(), repr=False)
    clerk_budget: int = 60
    reconcile: int = 0
    silence: int = 3600
    retention: int = 90 * 24 * 60 * 60
    proxy_url: str | None = None
    sign_in_url: str | None = None
    sign_up_url: str | None = None
    emulator_url: str | None = None

    def __post_init__(self) -> None:
        if self.publishable_key and not self.issuers:
            object.__setattr__(self, "issuers", (f"https://{_frontend_host(self.publishable_key)}",))
        if len({_is_live(key) for key in (self.publishable_key, self.secret_key) if key}) > 1:
            raise ConfigurationError(
                "Of CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY one is a test key and one is live.",
                hint="Copy both from the same instance in the Clerk dashboard.",
            )
        if self.emulator_url and not self.development:
            raise ConfigurationError(
                "TENANTRY_EMULATOR_URL is set beside a live Clerk key.", hint="Unset it: it lets everybody sign in."
            )
        if self.emulator_url and not self.proxy_url:
            object.__setattr__(self, "proxy_url", "/__clerk")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
        """Settings from environment variables; an unset or empty variable means its default.

        An override is a field's value, or the text its variable would hold. Raises ConfigurationError.
        """
        given = cls._read_overrides(overrides)
        values = {name: reader(environ) for name, reader in _READERS.items()} | given
        return cls(**{name: value for name, value in values.items() if value is not None})

    def replace(self, **overrides: Any) -> Settings:
        """These settings with some changed; an override is as in `from_env`, and None changes nothing."""
        given = {name: value for name, value in self._read_overrides(overrides).items() if value is not None}
        derived = {"issuers": ()} if self.issuers == (f"https://{self.frontend_host}",) else {}
        return replace(self, **derived | given)

    @classmethod
    def _read_overrides(cls, overrides: Mapping[str, Any]) -> dict[str, Any]:
        unknown = overrides.keys() - {known.name for known in fields(cls)}
        if unknown:
            raise ConfigurationError(f"There is no setting named {', '.join(sorted(unknown))}.")
        return {
            name: _READERS[name].parse_override(value) if isinstance(value, str) else value
            for name, value in overrides.items()
        }

    @property
    def development(self) -> bool:
        """Whether this is a Clerk development instance, or none at all: no key says `live`."""
        return not any(key and _is_live(key) for key in (self.publishable_key, self.secret_key))

    @property
    def frontend_host(self) -> str | None:
        """The host of this instance's Frontend API, which the publishable key encodes."""
        return _frontend_host(self.publishable_key) if self.publishable_key else None

    @property
    def cookie_suffix(self) -> str | None:
        """What follows `__session_` in this instance's own cookies (clerk-js: base64url of SHA-1, 8 characters)."""
        if self.publishable_key is None:
            return None
        digest = hashlib.sha1(self.publishable_key.encode(), usedforsecurity=False).digest()
        return urlsafe_b64encode(digest)[:8].decode()


def normalise_origin(origin: str) -> str:
    """`scheme://host[:port]` as a browser sends it: lower case, no default port, no slash. Raises ValueError."""
    url = _split_url(origin.strip().rstrip("/"))
    if url.path or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("it has more than scheme, host and port")
    scheme, host, port = url.scheme.lower(), (url.hostname or "").lower(), url.port
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def _split_url(text: str) -> SplitResult:
    """A URL with scheme and host. Raises ValueError saying what is wrong with it."""
    if not text.isascii() or any(character <= " " or character == "*" for character in text):
        raise ValueError("it holds blanks, wildcards or characters outside ASCII")
    url = urlsplit(text)
    if not url.scheme or not url.hostname or url.port == 0:
        raise ValueError("it has no scheme or no host")
    return url


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one setting: its variables, the first set one wins, and how their text becomes a value."""

    variables: tuple[str, ...]
    parse: Callable[[str], Any]
    fix: str
    secret: bool = False

    def __call__(self, environ: Mapping[str, str]) -> Any:
        for name in self.variables:
            text = environ.get(name, "").strip()
            if text:
                return self._read(name, text)
        return None

    def parse_override(self, text: str) -> Any:
        return self._read(self.variables[0], text.strip()) if text.strip() else None

    def _read(self, name: str, text: str) -> Any:
        try:
            return self.parse(text)
        except (ValueError, ConfigurationError) as error:
            shown = "" if self.secret or "@" in text else f" {_shorten(text)!r}"  # an address may hold a password
            raise ConfigurationError(f"{name}{shown} is not usable: {_reason(error)}.", hint=self.fix) from None


def _reason(error: ValueError | ConfigurationError) -> str:
    text = error.message if isinstance(error, ConfigurationError) else str(error)
    return text.rstrip(".")


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"


def _key(kind: str) -> Callable[[str], str]:
    pattern = re.compile(rf"{kind}_(?:test|live)_[!-~]+")

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"it does not begin with {kind}_test_ or {kind}_live_, or holds foreign characters")
        return text

    return parse


def _is_live(key: str) -> bool:
    return key[2:].startswith("_live_")


def _publishable_key(text: str) -> str:
    key = _key("pk")(text)
    _frontend_host(key)
    return key


def _frontend_host(publishable_key: str) -> str:
    """The Frontend API host a publishable key encodes: base64 of `host$`. Raises ValueError."""
    encoded = publishable_key[len("pk_test_") :].rstrip("=")
    try:
        host = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode("ascii")
    except ValueError:
        raise ValueError("what follows pk_test_ or pk_live_ is not base64") from None
    if not host.endswith("$") or not _HOST.fullmatch(host[:-1]):
        raise ValueError("it does not encode a host name")
    return host[:-1]


def _pem(text: str) -> str:
    r"""A PEM public key; newlines may have become `\n` or blanks on the way through an environment file."""
    found = _PEM.search(text.replace("\\n", "\n"))
    if not found:
        raise ValueError("it is not a PEM text")
    if found[1] != "PUBLIC KEY":
        raise ValueError(f"it is a {found[1].lower()}, not a public key")
    body = "".join(found[2].split())
    try:
        b64decode(body, validate=True)
    except ValueError:
        raise ValueError("its body is not base64") from None
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def _secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(_items(text))
    for secret in secrets:
        parse_secret(secret)
    return secrets


def _job_secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(_items(text))
    if any(len(secret) < SHORTEST_JOB_SECRET for secret in secrets):
        raise ValueError(f"a secret is shorter than {SHORTEST_JOB_SECRET} characters")
    return secrets


def _items(text: str) -> Iterable[str]:
    return dict.fromkeys(re.split(r"[,\s]+", text.strip(", \t\n")))


def _url(text: str) -> str:
    url = _split_url(text)
    if url.scheme not in ("http", "https") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("it is not a plain http or https address")
    return text.rstrip("/")


def _api_url(text: str) -> str:
    return _url(text).removesuffix("/v1")


def _place(text: str) -> str:
    """A path of the app's own origin, or an address."""
    if not text.startswith("/"):
        return _url(text)
    if text.startswith("//") or not re.fullmatch(r"[!-;=?-~]+", text) or "\\" in text:
        raise ValueError("it is neither a path nor an address")
    return text


def _proxy_url(text: str) -> str:
    place = _place(text).rstrip("/")
    if not place or "?" in place or "#" in place:
        raise ValueError("it has no path of its own")
    return place


def _loopback_url(text: str) -> str:
    url = urlsplit(_url(text))
    if url.scheme != "http" or url.hostname not in ("127.0.0.1", "localhost", "::1") or url.path.strip("/"):
        raise ValueError("it is not an http address of this machine")
    return text.rstrip("/")


def _issuers(text: str) -> tuple[str, ...]:
    return tuple(_url(item) for item in _items(text))


def _origins(text: str) -> frozenset[str]:
    return frozenset(normalise_origin(item) for item in _items(text))


def _database_url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ValueError("it is not a PostgreSQL address")
    if "\0" in text or not text.isprintable():
        raise ValueError("it holds characters that are no text")
    return f"postgresql://{rest}"  # without the driver that SQLAlchemy's own form names


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"it is none of {', '.join(allowed)}")
        return text.lower()

    return parse


def _flag(text: str) -> bool:
    return _choice("1", "true", "yes", "on", "0", "false", "no", "off")(text) in ("1", "true", "yes", "on")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"it is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _duration(text: str) -> int:
    """Seconds, from `90s`, `15m`, `6h` or `1d`; 0 for `off`."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text.lower())
    if text.lower() in ("off", "0"):
        return 0
    if not found or not 60 <= (seconds := int(found[1]) * _UNITS[found[2]]) <= 7 * 86400:
        raise ValueError("it is not a time from 1m to 7d")
    return seconds


def _retention(text: str) -> int:
    """Seconds, from `90d`; 0 for `forever`. Not under a week: what Clerk's sender tries again must be known by then."""
    found = re.fullmatch(r"([0-9]{1,5})d", text.lower())
    if text.lower() in ("forever", "off", "0"):
        return 0
    if not found or not 7 <= int(found[1]) <= 36500:
        raise ValueError("it is not a time from 7d to 36500d")
    return int(found[1]) * _UNITS["d"]


def _file(text: str) -> Path:
    path = Path(text)
    if "\0" in text or not path.is_file():
        raise ValueError("there is no such file")
    return path


class _RolesFile(_Reader):
    """The roles file is used when it is simply there."""

    def __call__(self, environ: Mapping[str, str]) -> Any:
        default = Path("tenantry.toml")
        return super().__call__(environ) or (default if default.is_file() else None)


_COPY = "Copy it from the API keys page of the Clerk dashboard."
_READERS: Mapping[str, _Reader] = {
    "publishable_key": _Reader(("CLERK_PUBLISHABLE_KEY",), _publishable_key, _COPY),
    "secret_key": _Reader(("CLERK_SECRET_KEY",), _key("sk"), _COPY, secret=True),
    "jwt_key": _Reader(("CLERK_JWT_KEY",), _pem, f"{_COPY} It is the PEM public key.", secret=True),
    "webhook_signing_secrets": _Reader(
        ("CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SECRET"),
        _secrets,
        "Copy it whole from the endpoint's page in the Clerk dashboard; separate several with commas.",
        secret=True,
    ),
    "api_url": _Reader(("CLERK_API_URL",), _api_url, "Write it like https://api.clerk.com, or leave it unset."),
    "issuers": _Reader(
        ("CLERK_ISSUER",), _issuers, "Write the `iss` of your session tokens, like https://clerk.example.com."
    ),
    "authorized_parties": _Reader(
        ("CLERK_AUTHORIZED_PARTIES",),
        _origins,
        "List your frontends' origins: https://app.example.com,http://localhost:3000.",
    ),
    "database_url": _Reader(
        ("DATABASE_URL",), _database_url, "Write it like postgresql://user:password@host:5432/name.", secret=True
    ),
    "membership_source": _Reader(
        ("TENANTRY_MEMBERSHIP_SOURCE",), _choice("mirror", "token"), "Leave it unset, or write mirror or token."
    ),
    "personal_accounts": _Reader(
        ("TENANTRY_PERSONAL_ACCOUNTS",), _choice("refuse", "allow"), "Leave it unset, or write refuse or allow."
    ),
    "allow_privileged_login": _Reader(("TENANTRY_ALLOW_PRIVILEGED_LOGIN",), _flag, "Write true or false."),
    "keep_private_metadata": _Reader(("TENANTRY_KEEP_PRIVATE_METADATA",), _flag, "Write true or false."),
    "token_leeway": _Reader(("TENANTRY_TOKEN_LEEWAY",), _whole(0, 300), "Write seconds of clock skew; 5 is usual."),
    "max_token_life": _Reader(
        ("TENANTRY_MAX_TOKEN_LIFE",),
        _whole(60, 24 * 3600),
        "Write the longest life of a token, in seconds: at most a day.",
    ),
    "webhook_max_bytes": _Reader(
        ("TENANTRY_WEBHOOK_MAX_BYTES",), _whole(1024, 64 * 1024 * 1024), "Write a number of bytes; 1048576 is usual."
    ),
    "roles_file": _RolesFile(("TENANTRY_ROLES_FILE",), _file, "Create the file, or correct its path."),
    "stream_interval": _Reader(
        ("TENANTRY_STREAM_INTERVAL",), _whole(0, 24 * 3600), "Write seconds; 30 is usual, 0 checks no open stream."
    ),
    "listen_url": _Reader(
        ("TENANTRY_LISTEN_URL",),
        _database_url,
        "Write the database's own address, not a pooler's: postgresql://user:password@host:5432/name.",
        secret=True,
    ),
    "job_secrets": _Reader(
        ("TENANTRY_JOB_SECRET",),
        _job_secrets,
        "Make one with `openssl rand -hex 32`; separate several with commas, the one that signs first.",
        secret=True,
    ),
    "clerk_budget": _Reader(
        ("TENANTRY_CLERK_BUDGET",), _whole(1, 100), "Write a percentage of Clerk's rate limit; 60 is usual."
    ),
    "reconcile": _Reader(("TENANTRY_RECONCILE",), _duration, "Write how often, like 15m or 6h; off for never."),
    "silence": _Reader(("TENANTRY_SILENCE",), _duration, "Write a time without webhooks, like 1h; off for no alarm."),
    "retention": _Reader(("TENANTRY_RETENTION",), _retention, "Write days, like 90d; forever to keep all deliveries."),
    "proxy_url": _Reader(
        ("CLERK_PROXY_URL",), _proxy_url, "Write a path like /__clerk, or an address, or leave it unset."
    ),
    "sign_in_url": _Reader(("CLERK_SIGN_IN_URL",), _place, "Write a path like /sign-in, or an address."),
    "sign_up_url": _Reader(("CLERK_SIGN_UP_URL",), _place, "Write a path like /sign-up, or an address."),
    "emulator_url": _Reader(
        ("TENANTRY_EMULATOR_URL",), _loopback_url, "Write it like http://127.0.0.1:4010; outside development unset it."
    ),
}


def job_secrets(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The secrets jobs are sealed with, without a look at settings that a worker has no use for."""
    secrets: tuple[str, ...] | None = _READERS["job_secrets"](environ)
    return secrets or ()
