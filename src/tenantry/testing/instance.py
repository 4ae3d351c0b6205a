"""A Clerk instance for tests: signs session tokens and webhook deliveries as Clerk does, with keys of its own."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tenantry.testing.objects import Json, create_id

HOST = "clerk.tenantry.test"  # RFC 6761: nobody can own a name under .test
ORIGIN = "http://testserver"  # where Starlette's TestClient says it is
_SESSION_CATEGORY = "cl_B7d4PD111AAA"  # the header's `cat` of a session token


@dataclass(frozen=True)
class Webhook:
    """A signed delivery, to post to your endpoint."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Instance:
    """One Clerk instance: its keys are made with it, and are no secret beyond the run."""

    def __init__(self) -> None:
        self.id = create_id("ins", secrets.token_hex(8))
        self.issuer = f"https://{HOST}"
        self.publishable_key = "pk_test_" + b64encode(f"{HOST}$".encode()).decode()
        self.secret_key = "sk_test_" + secrets.token_urlsafe(30)
        self._webhook_key = secrets.token_bytes(24)
        self._messages = count(1)
        self._last_moment = 0

    @cached_property
    def _key(self) -> Any:
        return generate_private_key(65537, 2048)  # Clerk's own size: its SDK reads no other from a PEM

    @property
    def public_key(self) -> RSAPublicKey:
        key: RSAPublicKey = self._key.public_key()
        return key

    @property
    def webhook_secret(self) -> str:
        return "whsec_" + b64encode(self._webhook_key).decode()

    def environment(self) -> dict[str, str]:
        """What an app of this instance is configured with; it needs no network."""
        pem = self.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return {
            "CLERK_PUBLISHABLE_KEY": self.publishable_key,
            "CLERK_SECRET_KEY": self.secret_key,
            "CLERK_JWT_KEY": pem,
            "CLERK_ISSUER": self.issuer,
            "CLERK_WEBHOOK_SIGNING_SECRET": self.webhook_secret,
            "CLERK_AUTHORIZED_PARTIES": ORIGIN,
        }

    def now(self) -> int:
        """Clerk's clock in milliseconds. It moves on each time, so that of two changes one is the later."""
        self._last_moment = max(int(time.time() * 1000), self._last_moment + 1)
        return self._last_moment

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A session token of these claims, whatever they are."""
        parts = {"alg": "RS256", "cat": _SESSION_CATEGORY, "kid": self.id, "typ": "JWT"} | header
        signed = f"{_encode(parts)}.{_encode(claims)}"
        return f"{signed}.{_base64(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"

    def webhook(self, type: str, data: Json, *, at: int | None = None) -> Webhook:
        """A delivery of this event, signed now; `at` is the event's own time in milliseconds."""
        event = {
            "object": "event",
            "type": type,
            "timestamp": self.now() if at is None else at,
            "instance_id": self.id,
            "event_attributes": {"http_request": {"client_ip": "", "user_agent": ""}},
            "data": data,
        }
        body = json.dumps(event).encode()
        id, sent_at = f"msg_{secrets.token_hex(8)}{next(self._messages)}", str(int(time.time()))
        signature = hmac.digest(self._webhook_key, b".".join((id.encode(), sent_at.encode(), body)), "sha256")
        headers = {
            "content-type": "application/json",
            "svix-id": id,
            "svix-timestamp": sent_at,
            "svix-signature": f"v1,{b64encode(signature).decode()}",
        }
        return Webhook(headers, body)


def _encode(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
