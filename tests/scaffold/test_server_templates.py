"""What runs on the server of a Next.js app: the suite's own tests, for each ORM, on a real PostgreSQL; the vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from databases import SUPERUSER, Server
from instance import fresh_database
from scaffold.node import SETS, furnish, run
from tenantry import roles
from tenantry.scaffold.nextjs_suite import ORMS, Choice, render_suite
from tenantry.scaffold.project import Orm

SUITES = Path(__file__).parent / "suites"
VECTORS = Path(__file__).parents[1] / "vectors"
OURS = ("tenant", "webhook-handler")
SCHEMA = """
generator client {
  provider = "prisma-client"
  output   = "generated/prisma"
}
datasource db {
  provider = "postgresql"
}
"""

pytestmark = pytest.mark.requires("node", "npm")


def make_project(folder: Path, orm: Orm, packages: str = "next16") -> Path:
    """The suite as `init nextjs` writes it and our own tests of it, beside the packages it imports."""
    furnish(folder, packages)
    for path, text in render_suite(Choice(orm=orm), roles.DEFAULT).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for suite in SUITES.glob("*.test.ts"):
        shutil.copy(suite, folder / "clerk-multitenant/tests")
    if orm == "prisma":
        (folder / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
        run(folder, "prisma", "generate", "--schema", "schema.prisma", timeout=60)
    return folder


def run_suites(project: Path, *names: str, **environment: str) -> str:
    files = [f"clerk-multitenant/tests/{name}.test.ts" for name in names]
    return run(project, "vitest", "run", *files, timeout=120, env=environment)


@pytest.mark.attack(1, 2, 3)
@pytest.mark.parametrize("orm", ORMS)
def test_the_tests_that_users_keep_pass_on_a_real_database(
    orm: Orm, tmp_path: Path, servers: Callable[[int], Server]
) -> None:
    project = make_project(tmp_path, orm)
    with fresh_database(servers) as database:
        printed = run_suites(project, *OURS, TENANTRY_TEST_DATABASE_URL=database.dsn())
    assert "skipped" not in printed


def test_without_a_database_they_say_what_they_skipped(tmp_path: Path) -> None:
    assert "skipped" in run_suites(make_project(tmp_path, "pg"), *OURS)


@pytest.mark.attack(1, 2, 3)
@pytest.mark.parametrize("orm", ["pg", "drizzle"])  # Prisma keeps its connections to itself
def test_no_misbehaviour_leaves_a_tenant_on_a_connection(
    orm: Orm, tmp_path: Path, servers: Callable[[int], Server]
) -> None:
    project = make_project(tmp_path, orm)
    with fresh_database(servers) as database:
        logins = {"TENANTRY_TEST_DATABASE_URL": database.dsn(), "TENANTRY_TEST_SUPERUSER_URL": database.dsn(SUPERUSER)}
        run_suites(project, "connections", **logins)


@pytest.mark.attack(75, 83)
@pytest.mark.parametrize("packages", SETS)
def test_the_shared_vectors_and_the_official_packages_agree(packages: str, tmp_path: Path) -> None:
    project = make_project(tmp_path, "pg", packages)
    run_suites(project, "vectors", "signatures", TENANTRY_VECTORS=str(VECTORS))
