"""One emulated Clerk instance: its identity and every key and secret an app needs to trust it."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tenantry.emulator.identifiers import Identifiers, digest
from tenantry.emulator.journal import write_atomically
from tenantry.emulator.keys import derive_private_key

# A host with a dot, or Clerk's frontend refuses the key; not a Clerk development host, or it wants its "dev browser".
FRONTEND_HOST = "clerk.emulator.test"


@dataclass(frozen=True)
class Instance:
    """`id` is also the `kid` of its tokens, as at Clerk. `webhook_secret` is that of the first endpoint."""

    seed: int
    id: str
    frontend_host: str
    secret_key: str
    webhook_secret: str
    private_key_pem: str

    @property
    def publishable_key(self) -> str:
        return "pk_test_" + base64.b64encode(f"{self.frontend_host}$".encode()).decode().rstrip("=")

    @property
    def issuer(self) -> str:
        return f"https://{self.frontend_host}"

    @cached_property
    def private_key(self) -> RSAPrivateKey:
        key = load_pem_private_key(self.private_key_pem.encode(), password=None)
        if not isinstance(key, RSAPrivateKey):
            raise TypeError("The instance's private key is not an RSA key.")
        return key

    @cached_property
    def public_key_pem(self) -> str:
        return self.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @cached_property
    def jwks(self) -> dict[str, Any]:
        numbers = self.private_key.public_key().public_numbers()
        key = {"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256", "n": _b64(numbers.n), "e": _b64(numbers.e)}
        return {"keys": [key]}

    def environment(self, base_url: str, *, jwt_key: bool = False) -> dict[str, str]:
        """Clerk's environment variables for an app that shall use the emulator at `base_url`.

        `jwt_key` adds CLERK_JWT_KEY (a PEM of several lines); without it an app fetches `{CLERK_API_URL}/v1/jwks`.
        """
        names = {
            "CLERK_PUBLISHABLE_KEY": self.publishable_key,
            "CLERK_SECRET_KEY": self.secret_key,
            "CLERK_API_URL": base_url.rstrip("/"),
            "CLERK_PROXY_URL": "/__clerk",
            "CLERK_WEBHOOK_SIGNING_SECRET": self.webhook_secret,
        }
        return names | ({"CLERK_JWT_KEY": self.public_key_pem} if jwt_key else {})

    def nextjs_environment(self, base_url: str) -> dict[str, str]:
        """The same as Clerk's SDK for Next.js names it; the app rewrites `/__clerk/:path*` to the emulator itself."""
        return {
            "NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY": self.publishable_key,
            "NEXT_PUBLIC_CLERK_PROXY_URL": "/__clerk",
            "NEXT_PUBLIC_CLERK_SIGN_IN_URL": "/sign-in",  # else Clerk sends people to the key's host
            "NEXT_PUBLIC_CLERK_TELEMETRY_DISABLED": "1",
            "NEXT_PUBLIC_CLERK_KEYLESS_DISABLED": "1",
            "CLERK_SECRET_KEY": self.secret_key,
            "CLERK_API_URL": base_url.rstrip("/"),
            "CLERK_WEBHOOK_SIGNING_SECRET": self.webhook_secret,
        }


def derive_instance(seed: int) -> Instance:
    """The instance that belongs to `seed`: the same everywhere, for development only."""
    return Instance(
        seed=seed,
        id=Identifiers(seed).new("ins"),
        frontend_host=FRONTEND_HOST,
        secret_key="sk_test_" + digest(seed, "secret key").hex()[:42],
        webhook_secret=derive_webhook_secret(seed, 0),
        private_key_pem=derive_private_key(f"tenantry emulator {seed}"),
    )


def derive_webhook_secret(seed: int, endpoint: int) -> str:
    """The signing secret of the n-th endpoint: `whsec_` and 24 bytes in base64."""
    return "whsec_" + base64.b64encode(digest(seed, "webhook secret", endpoint)[:24]).decode()


def open_instance(folder: Path | None, seed: int) -> Instance:
    """The instance kept in `folder`; derived from `seed`, and kept there, when there is none. OSError, ValueError."""
    if folder is None:
        return derive_instance(seed)
    path = folder / "instance.json"
    if path.exists():
        return _read_instance(path)
    instance = derive_instance(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(instance), indent=2) + "\n")
    return instance


def _read_instance(path: Path) -> Instance:
    try:
        return Instance(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError):
        raise ValueError(f"{path} is damaged. Restore it, or delete its folder to begin anew.") from None


def _b64(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
