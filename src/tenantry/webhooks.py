"""Verifies a webhook delivery: (signing secrets, headers, raw body) -> Delivery, or one WebhookError.

Clerk sends through Svix, which speaks Standard Webhooks v1: `HMAC-SHA256(secret, "<id>.<timestamp>.<body>")` in base64,
in a header that lists several signatures while a secret is being rotated. Nothing here touches the network or a
database, and nothing but a WebhookError comes out, whatever comes in.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Never

from tenantry.errors import BadSignature, ConfigurationError, PayloadTooLarge, WebhookNotConfigured

Headers = Mapping[str, str] | Iterable[tuple[bytes, bytes]]
"""What a framework has: a mapping of names to values, or ASGI's raw list of pairs."""

MAX_BYTES = 1024 * 1024
TOLERANCE = 300
UNREAD = "unread"
"""The type of a delivery whose body only the database can read."""

_SIGNING_HEADERS = {
    spelling: name
    for name in (
        *("svix-id", "svix-timestamp", "svix-signature"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    )
    for spelling in (name, name.encode())
}
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")  # no dot: the signed text joins id, time and body with dots
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")
_MAX_SIGNATURES = 4096  # characters of the header; Svix sends under 50 per secret
_MIN_KEY_BYTES = 16
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified delivery.

    `message_id` is the same on every retry; `sent_at` is this attempt's time in Unix seconds. `body` is the JSON text
    as it was signed (PostgreSQL can keep no NUL and no lone surrogate: those become U+FFFD), `event` the same, parsed.
    """

    message_id: str
    sent_at: int
    type: str
    body: str = field(repr=False)
    event: Mapping[str, Any] = field(repr=False)


def verify(
    secrets: Sequence[str],
    headers: Headers,
    body: bytes,
    *,
    now: float | None = None,
    tolerance: int = TOLERANCE,
    max_bytes: int = MAX_BYTES,
) -> Delivery:
    """Check size, headers, time and signature, in this order, then parse.

    `secrets`: `whsec_…` texts, any of which may have signed. `now`: Unix seconds, the clock when None. `tolerance`:
    seconds the timestamp may lie before or after it. Raises WebhookNotConfigured, PayloadTooLarge, BadSignature.
    """
    if len(body) > max_bytes:
        raise PayloadTooLarge(f"The webhook body has {len(body)} bytes; {max_bytes} are accepted.")
    keys = _read_keys(secrets)
    message_id, timestamp, signatures = _read_headers(headers)
    _check_time(timestamp, time.time() if now is None else now, tolerance)
    _check_signature(keys, b"%s.%s.%s" % (message_id.encode(), timestamp.encode(), body), signatures)
    return _read_event(message_id, int(timestamp), body)


def parse_secret(secret: str) -> bytes:
    """The key of a `whsec_<base64>` signing secret. Raises ConfigurationError, which never shows the secret."""
    encoded = secret.removeprefix("whsec_")
    try:
        key = a2b_base64(encoded.encode("ascii"), strict_mode=True)
    except (Base64Error, UnicodeEncodeError):
        key = b""
    if encoded == secret or len(key) < _MIN_KEY_BYTES:
        raise ConfigurationError(
            "A webhook signing secret is not of the form whsec_<base64>.",
            hint="Copy it whole from the endpoint's page in the Clerk dashboard.",
        )
    return key


def _read_keys(secrets: Sequence[str]) -> list[bytes]:
    if not secrets:
        raise WebhookNotConfigured(hint="Set CLERK_WEBHOOK_SIGNING_SECRET to the endpoint's signing secret.")
    try:
        return [parse_secret(secret) for secret in secrets]
    except ConfigurationError as error:
        raise WebhookNotConfigured(error.message, hint=error.hint) from None


def _read_headers(headers: Headers) -> tuple[str, str, bytes]:
    """Message id, timestamp and signature list: one header each, all of one spelling."""
    found = _find_signing_headers(headers)
    prefix = "svix" if any(name.startswith("svix-") for name in found) else "webhook"
    message_id, timestamp, signatures = (found.get(f"{prefix}-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message_id and timestamp and signatures):
        _refuse("does not carry all of svix-id, svix-timestamp and svix-signature")
    if not _MESSAGE_ID.fullmatch(message_id):
        _refuse("has a malformed message id")
    if not _TIMESTAMP.fullmatch(timestamp):
        _refuse("has a timestamp that is not whole Unix seconds")
    if len(signatures) > _MAX_SIGNATURES:
        _refuse(f"has a signature header of {len(signatures)} characters; {_MAX_SIGNATURES} are accepted")
    return message_id, timestamp, signatures.encode("utf-8", "replace")


def _find_signing_headers(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in headers.items() if isinstance(headers, Mapping) else headers:
        name = _SIGNING_HEADERS.get(raw_name.lower())
        if name is not None:
            if name in found:
                # Two values: a proxy and we might each believe another one.
                _refuse(f"repeats the {name} header")
            found[name] = _as_text(raw_value).strip(" \t")
    return found


def _as_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


def _check_time(timestamp: str, now: float, tolerance: int) -> None:
    distance = int(timestamp) - now
    if abs(distance) > tolerance:
        side = "ahead of" if distance > 0 else "behind"
        _refuse(
            f"is stamped {abs(distance):.0f} s {side} this server's clock; {tolerance} s are tolerated",
            hint="If deliveries are fresh, set this server's clock (NTP).",
        )


def _check_signature(keys: list[bytes], signed: bytes, signatures: bytes) -> None:
    given = [entry[3:] for entry in signatures.split(b" ") if entry.startswith(b"v1,")]
    for key in keys:
        expected = b64encode(hmac.digest(key, signed, "sha256"))
        if any(hmac.compare_digest(expected, candidate) for candidate in given):
            return
    _refuse(
        "is not signed with this endpoint's secret",
        hint="Compare CLERK_WEBHOOK_SIGNING_SECRET with the endpoint in the Clerk dashboard; pass the raw body on.",
    )


def _read_event(message_id: str, sent_at: int, body: bytes) -> Delivery:
    try:
        text, event = _read_json(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        _refuse("has a body that is not JSON in UTF-8")
    except (ValueError, RecursionError):
        # Signed, and JSON beyond Python's limits (numbers of 4300 digits, nesting of 1000), which a user can put into
        # their own metadata: the database reads it, or keeps it as a dead letter.
        return Delivery(message_id=message_id, sent_at=sent_at, type=UNREAD, body=body.decode(), event={})
    if not isinstance(event, dict):
        _refuse("has a body that is not a JSON object")
    kind = event.get("type")
    if not isinstance(kind, str) or not 0 < len(kind) <= 255:
        _refuse("has a body without an event type")
    return Delivery(message_id=message_id, sent_at=sent_at, type=kind, body=text, event=event)


def _read_json(body: bytes) -> tuple[str, Any]:
    text = body.decode("utf-8")
    event = _parse(text)
    if "\\u" in text:  # a NUL or a lone surrogate can stand in valid JSON only as an escape
        storable = _replace_unstorable(event)
        if storable != event:
            return json.dumps(storable, ensure_ascii=False, separators=(",", ":")), storable
    return text, event


def _refuse_constant(name: str) -> Never:
    raise json.JSONDecodeError("no JSON, though Python reads it", name, 0)  # NaN and Infinity


_parse = json.JSONDecoder(parse_constant=_refuse_constant).decode  # json.loads would make a decoder for each body


def _replace_unstorable(value: Any) -> Any:
    match value:
        case str():
            return _UNSTORABLE.sub("\ufffd", value)
        case list():
            return [_replace_unstorable(item) for item in value]
        case dict():
            return {_replace_unstorable(key): _replace_unstorable(item) for key, item in value.items()}
        case _:
            return value


def _refuse(problem: str, hint: str | None = None) -> Never:
    raise BadSignature(f"The webhook delivery {problem}.", hint=hint)
