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

from databases import Database
from signer import ISSUER, Signer, claims_v2
from snippets import ROOT, blocks

PUBLISHABLE_KEY = "pk_test_" + base64.b64encode(b"happy-otter-12.clerk.accounts.dev$").decode().rstrip("=")


@pytest.fixture
def migrated(empty_database: Database) -> Database:
    """A database on which README's migration ran: the schema by the command, the table by its owner."""
    command = next(
        line for block in blocks("README.md", "console") for line in block.splitlines() if "db migrate" in line
    )
    words = command.replace("postgresql://owner@localhost/app", empty_database.dsn("postgres")).split()
    words[words.index("app", 4)] = "app_login"
    subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:], "--app-role", "app_owner"], check=True)
    with empty_database.connect("app_owner") as connection:
        for block in blocks("README.md", "sql"):
            connection.execute(block.encode())
    return empty_database


@pytest.fixture
def readme_app(migrated: Database, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    environment = {
        "DATABASE_URL": migrated.dsn("app_login"),
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


def test_the_readme_does_it_in_under_30_lines() -> None:
    page = (ROOT / "README.md").read_text()
    used = [block for language in ("console", "sql", "python") for block in blocks("README.md", language)]
    steps = [block for block in used if page.index(block) > page.index("## Use it")]
    assert sum(bool(line.strip()) for block in steps for line in block.splitlines()) < 30


def write_title(database: Database, org: str) -> None:
    with database.connect("app_login", autocommit=False) as connection:
        enter = "select tenantry.set_tenant_by_id_v1((tenantry.find_tenant({})).id, 'test')"
        connection.execute(sql.SQL(enter).format(org))
        connection.execute("insert into documents (title) values (%s)", [f"of {org}"])
