"""Clerk's official SDKs as judges of the emulator. Each check of sdk/checks.mjs, which asks Node's, is a test here."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from clerk_backend_api.security import authenticate_request
from clerk_backend_api.security.types import (
    AuthenticateRequestOptions,
    AuthStatus,
    RequestState,
    TokenVerificationErrorReason,
)

from conftest import lack
from emulator.world import Receiver, serve, wait_until
from tenantry.emulator.app import create_app
from tenantry.emulator.bundles import cache_folder
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import DEFAULT, Seed, SeedPermission, SeedRole, SeedUser
from tenantry.emulator.settings import Options
from tenantry.identity import Identity
from tenantry.tokens import FixedKey, Verifier

FOLDER = Path(__file__).parent / "sdk"
CHECKS = re.findall(r'^check\("(.+?)"', (FOLDER / "checks.mjs").read_text(), re.MULTILINE)
APP = "http://127.0.0.1:8000"
BEARER = "Authorization: Bearer "
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH")
INSTALL = "npm ci --no-audit --no-fund --ignore-scripts --fetch-retries=1 --fetch-timeout=60000"
# Two more features, one of which shares an action with `documents`: the bits of a token have to be told apart.
MORE = (
    SeedPermission("org:reports:export", "Export reports"),
    SeedPermission("org:reports:read", "Read reports"),
    SeedPermission("org:audit_log:read", "Read the audit log"),
)
AUDITOR = SeedRole("org:auditor", "Auditor", permissions=("org:audit_log:read", "org:reports:export"))
EDITH = SeedUser("edith@example.test", "Edith", "Clarke")
ACME, GLOBEX = DEFAULT.organizations
SEED = Seed(
    settings={"slugs": True, "membership_required": False},
    permissions=(*DEFAULT.permissions, *MORE),
    roles=(*DEFAULT.roles, AUDITOR),
    users=(*DEFAULT.users, EDITH),
    organizations=(replace(ACME, members={**ACME.members, EDITH.email: AUDITOR.key}), GLOBEX),
)


@pytest.fixture(scope="module")
def packages() -> Path:
    """The SDK's `node_modules`, installed once a lock file into the user's cache; its hashes are the lock file's."""
    key = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()[:12]
    target = cache_folder() / "tests" / f"node-sdk-{key}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed: another worker waits, and finds it there
        if not target.is_dir():
            _install(target)
    return target / "node_modules"


def _install(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        fresh = Path(name) / "fresh"
        fresh.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / file, fresh)
        ran = subprocess.run(INSTALL.split(), cwd=fresh, capture_output=True, text=True, timeout=180)
        if ran.returncode and UNREACHABLE.search(ran.stderr):
            lack("npm's registry cannot be reached")
        assert ran.returncode == 0, ran.stderr
        fresh.rename(target)


@pytest.fixture(scope="module")
def verdicts(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    """What each check says: None, or how it failed. One process of Node for all."""
    folder = tmp_path_factory.mktemp("sdk")
    shutil.copy(FOLDER / "checks.mjs", folder)
    (folder / "node_modules").symlink_to(packages)
    receiver = Receiver()
    options = Options(rate_limits=False)
    with serve(receiver.app()) as place:
        emulator = Emulator(seed_data=SEED, options=options, webhook_urls=[f"{place}/webhooks"])
        with closing(emulator), serve(create_app(emulator)) as url:
            wait_until(lambda: "user.created" in [event["type"] for event in receiver.events])
            world = json.dumps(_describe(emulator, url) | {"webhook": _find_delivery(receiver, "user.created")})
            command = ["node", "checks.mjs"]
            ran = subprocess.run(command, cwd=folder, input=world, capture_output=True, text=True, timeout=120)
            assert ran.returncode == 0, ran.stderr
            yield json.loads(ran.stdout)


def _describe(emulator: Emulator, url: str) -> dict[str, Any]:
    instance, state = emulator.instance, emulator.store.state
    return {
        "url": url,
        "app": APP,
        "instanceId": instance.id,
        "publishableKey": instance.publishable_key,
        "secretKey": instance.secret_key,
        "webhookSecret": instance.webhook_secret,
        "pem": instance.public_key_pem,
        "users": {str(user.first_name).lower(): user.id for user in state.users.values()},
        "organizations": {organization.name.lower(): organization.id for organization in state.organizations.values()},
        "tokens": _mint_tokens(emulator),
        "roles": [_describe_role(emulator, user.email) for user in SEED.users],
    }


def _mint_tokens(emulator: Emulator) -> dict[str, str]:
    def mint(organization: str = "acme", **more: Any) -> str:
        return emulator.mint_token("ada@example.test", organization, authorized_party=APP, **more)

    state = emulator.store.state
    minted = {
        "organization": mint(),
        "legacy": mint(version=1),
        "personal": mint(""),
        "expired": mint(seconds=-60),
        "stranger": _mint_elsewhere(),
    }
    state.put_settings(replace(state.settings, membership_required=True))
    minted["pending"] = mint("")
    state.put_settings(replace(state.settings, membership_required=False))
    return minted


def _mint_elsewhere() -> str:
    """A token that is right in all but its instance."""
    with closing(Emulator(seed=2, seed_data=DEFAULT)) as another:
        return another.mint_token("ada@example.test", "Acme", authorized_party=APP)


def _describe_role(emulator: Emulator, email: str) -> dict[str, Any]:
    """A member's token, and what `Identity.has` says about every permission there is."""
    token = emulator.mint_token(email, "acme", authorized_party=APP)
    identity = _verify(emulator, token)
    keys = sorted(permission.key for permission in emulator.store.state.permissions.values())
    held = [key for key in keys if identity.has(permission=key)]
    return {"role": identity.role, "token": token, "held": held, "lacked": sorted({*keys} - {*held})}


def _verify(emulator: Emulator, token: str) -> Identity:
    verifier = Verifier(FixedKey(emulator.instance.public_key_pem), issuers=[emulator.instance.issuer])
    return verifier.verify_with(emulator.instance.private_key.public_key(), token, now=time.time())


def _find_delivery(receiver: Receiver, event_type: str) -> dict[str, Any]:
    number = [event["type"] for event in receiver.events].index(event_type)
    headers, body = receiver.requests[number]
    return {"headers": headers, "body": body.decode()}


@pytest.mark.requires("node", "npm")
def test_every_check_is_a_test(verdicts: dict[str, str | None]) -> None:
    assert list(verdicts) == CHECKS


@pytest.mark.requires("node", "npm")
@pytest.mark.parametrize("check", CHECKS)
def test_the_node_sdk_finds_that(check: str, verdicts: dict[str, str | None]) -> None:
    if failure := verdicts[check]:
        pytest.fail(failure, pytrace=False)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with closing(Emulator(seed_data=SEED)) as emulator:
        yield emulator


@pytest.mark.parametrize("carrier", [BEARER, "cookie: __session=", "cookie: a=b; __session_x="])
def test_the_python_sdk_reads_the_role_and_the_permissions(emulator: Emulator, carrier: str) -> None:
    token = emulator.mint_token("edith@example.test", "acme", authorized_party=APP)
    state = _authenticate(emulator, carrier, token)
    assert state.status is AuthStatus.SIGNED_IN, state.reason
    assert state.payload is not None
    assert state.payload["org_id"] == emulator.store.organizations.find("acme").id
    assert state.payload["org_role"] == "auditor", "this SDK alone says it without org:"
    assert {*state.payload["org_permissions"]} == {*AUDITOR.permissions} == _verify(emulator, token).permissions


def test_the_python_sdk_reads_no_organization_in_the_personal_account(emulator: Emulator) -> None:
    state = _authenticate(emulator, BEARER, emulator.mint_token("ada@example.test", "", authorized_party=APP))
    assert state.payload is not None
    assert "org_id" not in state.payload


def test_the_python_sdk_refuses_what_is_expired_or_foreign_or_made_for_no_page(emulator: Emulator) -> None:
    refused = {
        TokenVerificationErrorReason.TOKEN_EXPIRED: emulator.mint_token(
            "ada@example.test", "acme", seconds=-60, authorized_party=APP
        ),
        TokenVerificationErrorReason.TOKEN_INVALID_SIGNATURE: _mint_elsewhere(),
        TokenVerificationErrorReason.TOKEN_INVALID_AUTHORIZED_PARTIES: emulator.mint_token("ada@example.test", "acme"),
    }
    for reason, token in refused.items():
        state = _authenticate(emulator, BEARER, token)
        assert (state.status, state.reason) == (AuthStatus.SIGNED_OUT, reason)


def _authenticate(emulator: Emulator, carrier: str, token: str) -> RequestState:
    name, _, before = carrier.partition(": ")
    request = httpx.Request("GET", APP, headers={name: before + token})
    options = AuthenticateRequestOptions(jwt_key=emulator.instance.public_key_pem, authorized_parties=[APP])
    return authenticate_request(request, options)
