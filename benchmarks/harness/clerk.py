"""A Clerk instance for benchmarks: its key, its session tokens and its signed webhook deliveries."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://bench.clerk.accounts.dev"
ORIGIN = "http://localhost:3000"
INSTANCE = "ins_bench"
SECRET = "whsec_" + base64.b64encode(b"a key of benchmarks only").decode()
EPOCH = 1_760_000_000_000  # when everything here was made, in ms: long before any token
TOKEN_SECONDS = 7200  # a run is longer than the minute a real token lives


def organization_id(number: int) -> str:
    return f"org_{number:A>27}"


def user_id(number: int) -> str:
    return f"user_{number:A>27}"


def membership_id(number: int) -> str:
    return f"orgmem_{number:A>27}"


class Instance:
    """One Clerk instance's private key, and what is signed with it."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @cached_property
    def public_key(self) -> str:
        """PEM, as in CLERK_JWT_KEY."""
        public = self._key.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    @cached_property
    def jwks(self) -> dict[str, Any]:
        """The key set, as Clerk's Backend API answers it."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": INSTANCE}
        return {"keys": [key | {"n": _encode(numbers.n.to_bytes(256)), "e": _encode(b"\1\0\1")}]}

    @property
    def environment(self) -> dict[str, str]:
        """What an app of this instance has in its environment."""
        return {
            "CLERK_JWT_KEY": self.public_key,
            "CLERK_ISSUER": ISSUER,
            "CLERK_AUTHORIZED_PARTIES": ORIGIN,
            "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        }

    def token(self, organization: int, user: int, *, tenant_id: str = "", issued_at: int | None = None) -> str:
        """A session token of version 2; `tid` is a custom claim that gives peers their tenant's uuid for nothing."""
        issued = int(time.time()) if issued_at is None else issued_at
        claims = {
            "azp": ORIGIN,
            "exp": issued + TOKEN_SECONDS,
            "fea": "o:documents,o:billing",
            "fva": [0, -1],
            "iat": issued,
            "iss": ISSUER,
            "jti": f"{user:020}",
            "nbf": issued - 10,
            "o": {
                "id": organization_id(organization),
                "slg": f"harbor-pine-{organization}",
                "rol": "member",
                "per": "read,manage,delete",
                "fpm": "7,3",
            },
            "pla": "o:pro",
            "sid": f"sess_{user:A>27}",
            "sts": "active",
            "sub": user_id(user),
            "tid": tenant_id,
            "v": 2,
        }
        header = {"alg": "RS256", "cat": "cl_B7d4PD111AAA", "kid": INSTANCE, "typ": "JWT"}
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encode(signature)}"


def forge(token: str) -> str:
    """The token with one character of its signature changed."""
    head, signature = token.rsplit(".", 1)
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def organization(number: int) -> dict[str, Any]:
    """Clerk's Organization object."""
    return {
        "object": "organization",
        "id": organization_id(number),
        "name": f"Harbor & Pine {number}",
        "slug": f"harbor-pine-{number}",
        "image_url": "https://img.example.test/org.png",
        "has_image": False,
        "members_count": 50,
        "missing_member_with_elevated_permissions": False,
        "pending_invitations_count": 0,
        "max_allowed_memberships": 500,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_by": user_id(1),
        "created_at": EPOCH,
        "updated_at": EPOCH,
        "last_active_at": EPOCH,
        "role_set_key": "role_set:default",
    }


def joined(number: int, organization_number: int, user: int) -> dict[str, Any]:
    """The event that a user became a member: about 1.6 kB, the shape of Clerk's own sample."""
    at = EPOCH + number
    membership = {
        "object": "organization_membership",
        "id": membership_id(number),
        "role": "org:admin" if number % 10 == 0 else "org:member",
        "role_name": "Admin" if number % 10 == 0 else "Member",
        "permissions": ["org:sys_memberships:read", "org:sys_billing:read", "org:reports:read"],
        "public_metadata": {},
        "private_metadata": {},
        "organization": organization(organization_number),
        "public_user_data": {
            "user_id": user_id(user),
            "first_name": "Ben",
            "last_name": "Okafor",
            "profile_image_url": "https://img.example.test/ben.png",
            "image_url": "https://img.example.test/ben.png",
            "has_image": False,
            "identifier": f"ben{user}@harborpine.test",
            "username": None,
            "banned": False,
            "deprovisioned": False,
        },
        "created_at": at,
        "updated_at": at,
    }
    agent = {"client_ip": "203.0.113.24", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}
    return {
        "object": "event",
        "type": "organizationMembership.created",
        "timestamp": at + 25,
        "instance_id": INSTANCE,
        "event_attributes": {"http_request": agent},
        "data": membership,
    }


def delivery(event: Mapping[str, Any], number: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of an event as Svix delivers it."""
    body = json.dumps(event, separators=(",", ":")).encode()
    message_id, sent_at = f"msg_{number:B>27}", str(int(time.time()))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, "sha256")
    headers = {
        "content-type": "application/json",
        "user-agent": "Svix-Webhooks/1.70",
        "svix-id": message_id,
        "svix-timestamp": sent_at,
        "svix-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
    return headers, body


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
