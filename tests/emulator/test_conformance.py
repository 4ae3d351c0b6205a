"""What the emulator says, held against Clerk's own specification and against sample events; both may be absent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.world import Receiver, Running, serve
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import EMPTY
from tenantry.emulator.settings import Assumptions, Options

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SAMPLES = SHARED / "facts" / "clerk-webhook-samples"
SPECS = {name: SHARED / "clerk-openapi" / f"{name}.yml" for name in ("bapi-2026-05-12", "webhooks-2025-04-15")}
SAMPLE_TYPES = sorted(path.stem for path in SAMPLES.glob("*.json")) or ["absent"]
# Where a sample has something to say and our people and organizations have nothing.
MAY_BE_NULL = (
    *("name", "locale", "external_id", "url", "description"),
    *("affiliation_email_address", "attempts", "expire_at", "_at"),
)
OBJECTS = {
    "user": "User",
    "organization": "Organization",
    "organization_membership": "OrganizationMembership",
    "organization_invitation": "OrganizationInvitation",
    "organization_domain": "OrganizationDomain",
    "role": "Role",
    "permission": "Permission",
    "session": "Session",
}


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, dict[str, Any]]]:
    """One event of every type, by type."""
    receiver = Receiver()
    options = Options(rate_limits=False, assumptions=Assumptions(slug_when_disabled="generated"))
    with serve(receiver.app()) as place:
        emulator = Emulator(seed_data=EMPTY, webhook_urls=[f"{place}/webhooks"], options=options)
        headers = {"authorization": f"Bearer {emulator.instance.secret_key}"}
        with serve(create_app(emulator)) as url, httpx.Client(base_url=f"{url}/v1", headers=headers) as api:
            running = Running(emulator, url, api)
            _provoke_everything(running)
            running.drain()
        yield {event["type"]: event for event in receiver.events}


def _provoke_everything(running: Running) -> None:
    ada, ben = running.user("ada", first_name="Ada")["id"], running.user("ben")["id"]
    running.post("/sessions", {"user_id": ben})
    acme = running.organization("Acme", created_by=ada)["id"]
    running.patch(f"/organizations/{acme}/metadata", {"public_metadata": {"plan": "pro"}})
    permission = running.post("/organization_permissions", {"name": "Read", "key": "org:docs:read"})["id"]
    running.patch(f"/organization_permissions/{permission}", {"name": "See"})
    role = running.post("/organization_roles", {"name": "E", "key": "org:e", "permissions": [permission]})["id"]
    running.patch(f"/organization_roles/{role}", {"name": "Editor"})
    running.post(f"/organizations/{acme}/memberships", {"user_id": ben, "role": "org:e"})
    running.patch(f"/organizations/{acme}/memberships/{ben}", {"role": "org:member"})
    running.delete(f"/organizations/{acme}/memberships/{ben}")
    running.delete(f"/organization_roles/{role}")
    running.delete(f"/organization_permissions/{permission}")
    _provoke_invitations(running, acme, ada)
    domain = running.post(f"/organizations/{acme}/domains", {"name": "acme.test"})["id"]
    running.patch(f"/organizations/{acme}/domains/{domain}", {"enrollment_mode": "automatic_suggestion"})
    running.delete(f"/organizations/{acme}/domains/{domain}")
    _provoke_sessions(running, ada)
    running.patch(f"/users/{ada}", {"last_name": "Lovelace"})
    running.delete(f"/users/{ada}")
    running.delete(f"/organizations/{acme}")


def _provoke_invitations(running: Running, acme: str, inviter: str) -> None:
    path = f"/organizations/{acme}/invitations"
    for name in ("cleo", "dora"):
        new = {"email_address": f"{name}@example.test", "role": "org:member", "inviter_user_id": inviter}
        invitation = running.post(path, new)["id"]
        if name == "cleo":
            running.post(f"{path}/{invitation}/revoke", {})
        else:
            running.api.post(f"{running.url}/emulator/invitations/{invitation}/accept").raise_for_status()


def _provoke_sessions(running: Running, user: str) -> None:
    sessions = [running.post("/sessions", {"user_id": user})["id"] for _ in range(3)]
    running.post(f"/sessions/{sessions[0]}/revoke")
    running.api.post(f"{running.url}/emulator/sessions/{sessions[1]}/end").raise_for_status()


def test_every_type_of_event_can_be_provoked(told: dict[str, Any]) -> None:
    changes = ("created", "updated", "deleted")
    groups = ("user", "organization", "organizationMembership", "organizationDomain", "role", "permission")
    expected = {f"{group}.{change}" for group in groups for change in changes}
    expected |= {f"organizationInvitation.{change}" for change in ("created", "accepted", "revoked")}
    expected |= {f"session.{change}" for change in ("created", "pending", "revoked", "ended", "removed")}
    assert set(told) == expected


@pytest.mark.parametrize("type", SAMPLE_TYPES)
def test_an_event_has_all_that_a_sample_has(told: dict[str, Any], type: str) -> None:
    path = SAMPLES / f"{type}.json"
    if not path.exists():
        pytest.skip("the sample events are not beside this checkout")
    assert list(_missing(json.loads(path.read_text()), told[type], type)) == []


def _missing(sample: Any, ours: Any, where: str) -> Any:
    """The places where the sample has something that ours lacks, or something of another kind."""
    if sample is None or (ours is None and where.endswith(MAY_BE_NULL)):
        return
    if isinstance(sample, dict) and isinstance(ours, dict):
        if where.endswith("_metadata"):
            return
        for name, value in sample.items():
            if name not in ours:
                yield f"{where}.{name}"
            else:
                yield from _missing(value, ours[name], f"{where}.{name}")
    elif isinstance(sample, list) and isinstance(ours, list):
        if sample and ours:
            yield from _missing(sample[0], ours[0], f"{where}[]")
    elif type(sample) is not type(ours):
        yield f"{where}: {type(ours).__name__}, not {type(sample).__name__}"


@pytest.mark.parametrize("spec", sorted(SPECS))
@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_an_object_has_every_field_that_the_specification_requires(told: dict[str, Any], spec: str, kind: str) -> None:
    if not SPECS[spec].exists():
        pytest.skip("Clerk's specifications are not beside this checkout")
    required = _required_fields(SPECS[spec].read_text(), OBJECTS[kind])
    assert len(required) > 5
    events = [
        event["data"] for event in told.values() if event["data"]["object"] == kind and "deleted" not in event["data"]
    ]
    assert events
    for data in events:
        assert required - set(data) == set()


def _required_fields(spec: str, schema: str) -> set[str]:
    """The `required` list of a component's schema, read by its indentation: the specifications are uniform YAML."""
    lines = iter(spec.partition("\ncomponents:")[2].partition("\n  schemas:")[2].splitlines())
    for line in lines:
        if line == f"    {schema}:":
            break
    found: set[str] = set()
    listing = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent <= 4:
            break
        if indent == 6:
            listing = line.strip() == "required:"
        elif listing and line.startswith("        - "):
            found.add(line.removeprefix("        - ").strip())
    return found
