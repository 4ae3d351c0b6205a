"""The example as it is deployed: a migrated database, the emulator, the app, and webhooks between the two."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import httpx
from alembic import command
from alembic.config import Config

from databases import APP, OWNER, SUPERUSER, Database
from emulator.world import Running, wait_until
from tenantry import mirror, roles
from tenantry.database import connect, run
from tenantry.dev.serving import address_of, claim_port, serve_on_thread
from tenantry.emulator.app import create_app
from tenantry.emulator.deliveries import sign
from tenantry.emulator.disorder import Disorder
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import Seed, SeedPermission, SeedRole
from tenantry.emulator.settings import Options

FOLDER = Path(__file__).parents[2] / "examples" / "documents" / "api"
UPDATE = "org:documents:update"
# No people: the tests make them through the Backend API.
ROLES = Seed(
    permissions=(SeedPermission(UPDATE, "Edit documents"),),
    roles=(
        SeedRole("org:editor", "Editor", permissions=(UPDATE,)),
        SeedRole("org:admin", "Admin", permissions=(UPDATE,)),
    ),
)
SPEED = 1000.0  # Svix's retries take hours


def migrate(database: Database, target: str = "head") -> None:
    """`alembic upgrade` or, with a target like `-base`, `alembic downgrade`, as the tables' owner."""
    config = Config(FOLDER / "alembic.ini")
    url = database.dsn(OWNER)
    with patch.dict(os.environ, TENANTRY_MIGRATION_URL=url):
        if target.startswith("-"):
            command.downgrade(config, target[1:])
        else:
            command.upgrade(config, target)


def apply_roles(database: Database) -> None:
    """`tenantry roles apply`, as every deployment of the example does after its migrations."""
    with connect(database.dsn(OWNER)) as connection:
        run(connection, mirror.set_role_permissions(roles.load(FOLDER / "tenantry.toml").grants))


def load_module(name: str) -> Any:
    """A module of the example, which is no part of the installed package."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(f"documents.{name}")


def create_example(environ: dict[str, str]) -> Any:
    """The app, as its own `main.py` makes it."""
    return load_module("app").create_app(environ)


@dataclass
class Deployment:
    """`clerk` is the emulator, `url` the app's. `stack` closes the clients, before the app stops."""

    database: Database
    clerk: Running
    url: str
    stack: ExitStack

    def sign_in(self, user: str, organization: str) -> httpx.Client:
        """An API client that keeps the token it gets now. `user` and `organization` by id, e-mail or name."""
        token = self.clerk.emulator.mint_token(user, organization, seconds=3600)
        return self.client(Authorization=f"Bearer {token}")

    def open_browser(self, user: str, organization: str, *, age: int = 0) -> httpx.Client:
        """The same with the token in the session cookie, and an Origin as a browser sends it with a form.

        The token was made `age` seconds ago, to live for an hour.
        """
        emulator, now = self.clerk.emulator, self.clerk.emulator.store.clock()
        with patch.object(emulator.store, "clock", lambda: now - age * 1000):
            token = emulator.mint_token(user, organization, seconds=3600, authorized_party=self.url)
        client = self.client(Origin=self.url)
        client.cookies.set("__session", token)
        return client

    def client(self, **headers: str) -> httpx.Client:
        client = httpx.Client(base_url=self.url, headers=headers, trust_env=False)
        self.stack.callback(client.close)
        return client

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """One of the emulator's own controls."""
        answer = httpx.request(method, f"{self.clerk.url}/emulator{path}", json=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def deliver(self, event_type: str, data: dict[str, Any]) -> None:
        """A signed webhook that the emulator would not send by itself."""
        instance, now = self.clerk.emulator.instance, time.time()
        event = {
            "object": "event",
            "type": event_type,
            "timestamp": int(now * 1000),
            "instance_id": instance.id,
            "data": data,
        }
        body, id = json.dumps(event).encode(), f"msg_{uuid4().hex}"
        headers = {"svix-id": id, "svix-timestamp": str(int(now))}
        headers["svix-signature"] = sign(instance.webhook_secret, id, int(now), body)
        httpx.post(f"{self.url}/webhooks/clerk", content=body, headers=headers, trust_env=False).raise_for_status()

    def settle(self) -> None:
        """Waits until every webhook that is not lost has arrived."""
        self.clerk.drain()

    def resend_lost(self) -> int:
        """How many were lost, and are delivered now."""
        lost = [each["id"] for each in self.control("GET", "/deliveries")["data"] if each["status"] == "lost"]
        for id in lost:
            self.control("POST", f"/deliveries/{id}/resend", {})
        self.settle()
        return len(lost)

    def mirrored_members(self) -> set[tuple[str, str, str]]:
        """Organization, user, role of every live member, as the database has them."""
        with self.database.connect(SUPERUSER) as connection:
            rows = connection.execute(
                "select t.clerk_org_id, m.user_id, m.role"
                " from tenantry.members m join tenantry.tenants t on t.id = m.tenant_id"
            )
            return {(str(org), str(user), str(role)) for org, user, role in rows}

    def true_members(self) -> set[tuple[str, str, str]]:
        """The same as Clerk's Backend API has them."""
        listed = self.clerk.get("/organization_memberships", limit=500)["data"]
        return {(each["organization"]["id"], each["public_user_data"]["user_id"], each["role"]) for each in listed}

    def wait_for_words(self, client: httpx.Client, document_id: str) -> int:
        """What the background job wrote."""

        def words() -> Any:
            return client.get(f"/api/documents/{document_id}").json()["words"]

        wait_until(lambda: words() is not None)
        return int(words())


@contextmanager
def deploy(
    database: Database,
    *,
    disorder: Disorder | None = None,
    settings: Mapping[str, Any] | None = None,
    token_seconds: int = 60,
    **environ: str,
) -> Iterator[Deployment]:
    """Migrates, then runs emulator and app as `tenantry dev` does. `settings` are the emulated instance's."""
    migrate(database)
    apply_roles(database)
    with ExitStack() as stack:
        app_socket, clerk_socket = (stack.enter_context(claim_port(0, 0, "--port")) for _ in range(2))
        url, clerk_url = address_of(app_socket), address_of(clerk_socket)
        emulator = Emulator(
            seed_data=ROLES,
            settings=settings,
            options=Options(rate_limits=False, token_seconds=token_seconds),
            disorder=disorder,
            speed=SPEED,
            webhook_urls=[f"{url}/webhooks/clerk"],
        )
        stack.enter_context(closing(emulator))
        stack.enter_context(serve_on_thread(create_app(emulator), clerk_socket))
        given = emulator.environment(clerk_url) | {
            "DATABASE_URL": database.dsn(APP),
            "CLERK_AUTHORIZED_PARTIES": url,
            "TENANTRY_EMULATOR_URL": clerk_url,
            **environ,
        }
        stack.enter_context(serve_on_thread(create_example(given), app_socket))
        headers = {"authorization": f"Bearer {emulator.instance.secret_key}"}
        api = stack.enter_context(httpx.Client(base_url=f"{clerk_url}/v1", headers=headers, trust_env=False))
        yield Deployment(database, Running(emulator, clerk_url, api), url, stack)
