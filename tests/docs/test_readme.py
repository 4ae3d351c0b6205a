"""README's way from `pip install` to isolated rows, followed to the letter."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from psycopg import sql

from databases import SUPERUSER, Database, Server
from signer import ISSUER, Signer, claims_v2
from snippets import ROOT, blocks
from tenantry import schema

PUBLISHABLE_KEY = "pk_test_" + base64.b64encode(b"happy-otter-12.clerk.accounts.dev$").decode().rstrip("=")


@pytest.fixture
def migrated(lone_server: Server) -> Database:
    """A database on which README's migration ran: the schema by the command, the table by the same login.

    The two logins are README's: `owner`, who owns the database and may create roles, and `app`, who may nothing.
    """
    database = lone_server.create()
    with database.connect(SUPERUSER) as connection:
        connection.execute("create role owner login nosuperuser createrole")
        connection.execute("create role app login nosuperuser")
        connection.execute(sql.SQL("alter database {} owner to owner").format(sql.Identifier(database.name)))
    commands = [line for block in blocks("README.md", "console") for line in block.splitlines()]
    [command] = [line for line in commands if line.startswith("tenantry db migrate ")]
    assert "postgresql://owner@localhost/app " in command
    words = command.replace("postgresql://owner@localhost/app", database.dsn("owner")).split()
    subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], check=True)
    with database.connect("owner") as connection:
        for block in blocks("README.md", "sql"):
            connection.execute(block.encode())
    return database


@pytest.fixture
def readme_app(migrated: Database, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    environment = {
        "DATABASE_URL": migrated.dsn("app"),
        "CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
        "CLERK_JWT_KEY": signer.pem,
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + base64.b64encode(os.urandom(24)).decode(),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    module = ModuleType("readme_app")
    monkeypatch.setitem(sys.modules, "readme_app", module)
    [code] = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    return module


@pytest.fixture
def signer() -> Signer:
    return Signer()


async def test_the_readme_takes_an_app_from_install_to_isolated_rows(
    readme_app: ModuleType, migrated: Database, signer: Signer
) -> None:
    assert ISSUER in readme_app.tenancy.settings.issuers
    answers = {}
    async with readme_app.app.router.lifespan_context(readme_app.app):
        transport = httpx.ASGITransport(readme_app.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            assert (await client.get("/documents")).status_code == 401
            for org in ("org_A", "org_B"):
                token = signer.sign(claims_v2(o={"id": org, "rol": "member"}, sub=f"user_{org}"))
                headers = {"Authorization": f"Bearer {token}"}
                assert (await client.get("/documents", headers=headers)).json() == []
                write_title(migrated, org)
                answers[org] = (await client.get("/documents", headers=headers)).json()
    await readme_app.engine.dispose()
    assert answers == {"org_A": ["of org_A"], "org_B": ["of org_B"]}


def test_after_the_readme_ci_finds_no_table_forgotten(migrated: Database) -> None:
    with migrated.connect("owner") as connection:
        assert schema.check(connection) == []


def test_the_readme_does_it_in_under_30_lines() -> None:
    page = (ROOT / "README.md").read_text()
    used = [block for language in ("console", "sql", "python") for block in blocks("README.md", language)]
    steps = [block for block in used if page.index(block) > page.index("## Use it")]
    assert sum(bool(line.strip()) for block in steps for line in block.splitlines()) < 30


def write_title(database: Database, org: str) -> None:
    with database.connect("app", autocommit=False) as connection:
        enter = "select tenantry.set_tenant_by_id_v1((tenantry.find_tenant({})).id, 'test')"
        connection.execute(sql.SQL(enter).format(org))
        connection.execute("insert into documents (title) values (%s)", [f"of {org}"])
