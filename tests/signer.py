"""Signs session tokens for tests, with `cryptography` alone: it shares no code with what it tests."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SESSION_CATEGORY = "cl_B7d4PD111AAA"
ISSUER = "https://happy-otter-12.clerk.accounts.dev"
ORIGIN = "https://app.example.com"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_v2(now: float | None = None, **changes: Any) -> dict[str, Any]:
    """The claims of an ordinary token, version 2. A change to None removes the claim."""
    issued = int(time.time() if now is None else now)
    claims = {
        "azp": ORIGIN,
        "exp": issued + 60,
        "fea": "o:dashboard,o:teams",
        "fva": [0, -1],
        "iat": issued,
        "iss": ISSUER,
        "jti": "0123456789abcdef0123",
        "nbf": issued - 10,
        "o": {"id": "org_1", "slg": "acme", "rol": "admin", "per": "manage,read", "fpm": "3,2"},
        "pla": "o:pro",
        "sid": "sess_1",
        "sts": "active",
        "sub": "user_1",
        "v": 2,
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def claims_v1(now: float | None = None, **changes: Any) -> dict[str, Any]:
    """The claims of an ordinary token, version 1."""
    claims = claims_v2(now, v=None, fea=None, pla=None, sts=None, o=None) | {
        "org_id": "org_1",
        "org_slug": "acme",
        "org_role": "org:admin",
        "org_permissions": ["org:teams:read"],
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


class Signer:
    """One Clerk instance's private key."""

    def __init__(self, kid: str = "ins_1", bits: int = 2048) -> None:
        self.kid = kid
        self.key = rsa.generate_private_key(65537, bits)

    @property
    def pem(self) -> str:
        public = self.key.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        n = encode(numbers.n.to_bytes(self.key.key_size // 8))
        return {"use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": n, "e": encode(b"\1\0\1")}

    def sign(self, claims: Any = None, /, **header: Any) -> str:
        """A token of these claims; header changes to None remove the entry."""
        full = {"alg": "RS256", "cat": SESSION_CATEGORY, "kid": self.kid, "typ": "JWT"} | header
        kept = {name: value for name, value in full.items() if value is not None}
        return self.sign_text(json.dumps(kept), json.dumps(claims_v2() if claims is None else claims))

    def sign_text(self, header: str, payload: str) -> str:
        signed = f"{encode(header.encode())}.{encode(payload.encode())}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{encode(signature)}"
