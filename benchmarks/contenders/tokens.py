"""Who verifies a session token: each function makes a coroutine function that takes one and raises, or does not."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.harness.clerk import ISSUER, ORIGIN, Instance

Verify = Callable[[str], Awaitable[object]]


def raw_rsa(instance: Instance) -> Verify:
    """The floor: one RSA-2048 verification in OpenSSL. No JSON is read and no claim checked."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_pem_public_key(instance.public_key.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError("the instance's key is RSA")
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()

    async def verify(token: str) -> None:
        signed, _, signature = token.rpartition(".")
        key.verify(base64.urlsafe_b64decode(signature + "=="), signed.encode(), scheme, digest)

    return verify


def tenantry(instance: Instance) -> Verify:
    """As the middleware calls it: every check of Clerk's, the permissions decoded, the token remembered."""
    from tenantry.clerk import find_keys
    from tenantry.settings import Settings
    from tenantry.tokens import Verifier

    settings = Settings.from_env(instance.environment)
    verifier = Verifier.from_settings(settings, find_keys(settings))
    return verifier.verify


def clerk_backend_api(instance: Instance) -> Verify:
    from clerk_backend_api.security import authenticate_request
    from clerk_backend_api.security.types import AuthenticateRequestOptions

    options = AuthenticateRequestOptions(jwt_key=instance.public_key, authorized_parties=[ORIGIN])

    async def verify(token: str) -> object:
        state = authenticate_request(_Request(token), options)
        if not state.is_signed_in:
            raise PermissionError(state.reason)
        return state.payload

    return verify


def fastapi_clerk_auth(instance: Instance) -> Verify:
    """With its keys fetched before; it checks neither issuer nor authorized party unless told how."""
    from fastapi_clerk_auth import ClerkConfig, ClerkHTTPBearer

    bearer = ClerkHTTPBearer(config=ClerkConfig(jwks_url=_serve_keys(instance)))

    async def verify(token: str) -> object:
        return await bearer(_Request(token))

    return verify


def pyjwt(instance: Instance) -> Verify:
    import jwt
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_public_key(instance.public_key.encode())

    async def verify(token: str) -> object:
        return jwt.decode(token, key, algorithms=["RS256"], issuer=ISSUER)

    return verify


def joserfc(instance: Instance) -> Verify:
    """It refuses Clerk's `cat` header unless told not to be strict."""
    from joserfc import jwt
    from joserfc.jwk import RSAKey
    from joserfc.jws import JWSRegistry

    key = RSAKey.import_key(instance.public_key)
    lenient = JWSRegistry(algorithms=["RS256"], strict_check_header=False)
    claims = jwt.JWTClaimsRegistry(exp={"essential": True}, nbf={"essential": True}, iss={"value": ISSUER})

    async def verify(token: str) -> object:
        read = jwt.decode(token, key, algorithms=["RS256"], registry=lenient)
        claims.validate(read.claims)
        return read.claims

    return verify


class _Request:
    """All that the verifiers read of a request."""

    def __init__(self, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}


def _serve_keys(instance: Instance) -> str:
    """The URL of the instance's key set, on a thread of this process."""
    body = json.dumps(instance.jwks).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/jwks.json"
