"""`tenantry init fastapi` wires projects as people have them, until their own pytest passes on a real database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from conftest import lack
from databases import Server, start_server
from tenantry.errors import ConfigurationError
from tenantry.testing.databases import SERVER_VARIABLE

MODELS = """
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
import os


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


engine = create_engine(os.environ["DATABASE_URL"].replace("://", "+psycopg://"))
SessionLocal = sessionmaker(engine)
"""
ENDPOINTS = """

@app.get("/orders")
def orders() -> list[str]:
    with SessionLocal() as session:
        return list(session.scalars(select(Order.text)))


@app.post("/orders")
def create(text: Annotated[str, Body(embed=True)]) -> None:
    with SessionLocal.begin() as session:
        session.add(Order(text=text))
"""
HEAD = """
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, FastAPI
from sqlalchemy import select
"""
MAIN = HEAD + "\nfrom shop.db import Order, SessionLocal\n\napp = FastAPI(title='Shop')\n" + ENDPOINTS
OWN_LIFESPAN = """

@asynccontextmanager
async def lifespan(app):
    yield


app = FastAPI(lifespan=lifespan)
"""
ENV = """
import os
from alembic import context
from sqlalchemy import create_engine
url = os.environ.get("TENANTRY_MIGRATION_URL") or os.environ["DATABASE_URL"]
with create_engine(url.replace("://", "+psycopg://")).begin() as connection:
    context.configure(connection=connection)
    context.run_migrations()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.String))


def downgrade():
    op.drop_table("orders")
"""
ALEMBIC = "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = %(here)s\npath_separator = os\n"
THEIR_TEST = """
def test_each_organization_has_its_own_orders(client, make_tenant):
    ada, grace = make_tenant("Acme").member("ada"), make_tenant("Globex").member("grace")
    assert client.post("/orders", json={"text": "ten anvils"}, headers=ada.headers()).status_code == 200
    assert client.get("/orders", headers=ada.headers()).json() == ["ten anvils"]
    assert client.get("/orders", headers=grace.headers()).json() == []
    assert client.get("/orders").status_code == 401
"""


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def a_package(root: Path, **more: str) -> Path:
    """An app in a package, with Alembic."""
    files = {"shop/__init__.py": "", "shop/db.py": MODELS, "shop/main.py": MAIN, "alembic.ini": ALEMBIC}
    revisions = {"migrations/env.py": ENV, "migrations/versions/0001_orders.py": FIRST}
    return lay_out(root, {**files, **revisions, **more})


def init(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenantry", "init", "fastapi", "--dir", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def written(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A server that the projects' own suites may use; the administrator's URL."""
    with TemporaryDirectory(prefix="tenantry-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # root's server runs as another user
        started: Server | None = None
        try:
            started = start_server(18, folder)
        except ConfigurationError as error:
            lack(error.message)
        yield started.postgres.dsn("postgres")
        started.postgres.stop()


def run_pytest(root: Path, server_url: str) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = kept | {SERVER_VARIABLE: server_url}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_with_alembic_is_wired_until_its_own_pytest_passes(tmp_path: Path, server_url: str) -> None:
    root = a_package(tmp_path)
    answer = init(root, "--tables", "orders", "--yes")
    assert (answer.returncode, answer.stderr) == (0, "")
    lay_out(root, {"tests/test_orders.py": THEIR_TEST})
    assert "5 passed" in run_pytest(root, server_url)


def test_a_project_of_loose_modules_with_a_lifespan_of_its_own_is_shown_the_lines(
    tmp_path: Path, server_url: str
) -> None:
    main = HEAD + "\nfrom db import Order, SessionLocal\n" + OWN_LIFESPAN + ENDPOINTS
    revisions = {"migrations/env.py": ENV, "migrations/versions/0001_orders.py": FIRST, "alembic.ini": ALEMBIC}
    root = lay_out(tmp_path, {"main.py": main, "db.py": MODELS, **revisions})
    answer = init(root, "--tables", "orders", "--yes")
    assert "Merge into main.py:" in answer.stdout
    assert (root / "main.py").read_text() == main
    assert init(root, "--tables", "orders", "--check").returncode == 1

    for line in ("from tenancy import tenancy", "    async with tenancy.lifespan(app):", "    tenancy.install(app)"):
        assert line in answer.stdout
    main = main.replace("from db import", "from tenancy import tenancy\nfrom db import")
    main = main.replace("    yield\n", "    async with tenancy.lifespan(app):\n        yield\n")
    main = main.replace(
        "app = FastAPI(lifespan=lifespan)\n", "app = FastAPI(lifespan=lifespan)\ntenancy.install(app)\n"
    )
    lay_out(root, {"main.py": main, "tests/test_orders.py": THEIR_TEST})
    assert init(root, "--tables", "orders", "--check").returncode == 0
    assert "5 passed" in run_pytest(root, server_url)


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    root = a_package(tmp_path)
    init(root, "--tables", "orders", "--yes")
    before = written(root)
    answer = init(root, "--tables", "orders")
    assert "Nothing to write." in answer.stdout
    assert written(root) == before
    assert init(root, "--tables", "orders", "--check").returncode == 0


def test_a_second_run_remembers_the_tables(tmp_path: Path) -> None:
    root = a_package(tmp_path)
    init(root, "--yes")
    init(root, "--tables", "orders", "--yes")
    assert 'TABLES = ["orders"]' in (root / "tests/test_tenancy.py").read_text()
    before = written(root)
    answer = init(root, "--check")
    assert answer.returncode == 0, answer.stdout
    assert "Nothing to write." in init(root).stdout
    assert written(root) == before


def test_an_edited_test_is_kept_whatever_tables_are_chosen(tmp_path: Path) -> None:
    root = a_package(tmp_path)
    init(root, "--tables", "orders", "--yes")
    edited = (root / "tests/test_tenancy.py").read_text() + "\n# mine\n"
    (root / "tests/test_tenancy.py").write_text(edited)
    init(root, "--tables", "lines", "--yes")
    assert (root / "tests/test_tenancy.py").read_text() == edited


def test_what_is_there_is_kept_and_what_to_merge_is_shown(tmp_path: Path) -> None:
    files = {"tests/conftest.py": "MINE = 1\n", "pyproject.toml": "[tool.pytest.ini_options]\n", ".env": "X=1\n"}
    root = a_package(tmp_path, **files, **{"migrations/env.py": "run()\n"})
    answer = init(root, "--yes", "--tables", "orders")
    for path in ("tests/conftest.py", "pyproject.toml", "migrations/env.py"):
        assert f"Merge into {path}:" in answer.stdout
    after = written(root)
    assert {path: after[path] for path in files} == files
    assert "pytest.ini" not in after


def test_the_migration_follows_the_latest_revision(tmp_path: Path) -> None:
    second = 'revision: str = "0002"\ndown_revision: str | None = "0001"\n'
    root = a_package(tmp_path, **{"migrations/versions/0002_more.py": second})
    init(root, "--tables", "orders,shop.lines", "--yes")
    [made] = (root / "migrations/versions").glob("isolate_*.py")
    text = made.read_text()
    assert f'revision = "{made.stem}"\ndown_revision = "0002"\n' in text
    assert 'TABLES = ["orders", "shop.lines"]' in text


def test_several_heads_are_refused(tmp_path: Path) -> None:
    root = a_package(tmp_path, **{"migrations/versions/other.py": 'revision = "other"\ndown_revision = None\n'})
    answer = init(root, "--tables", "orders", "--yes")
    assert answer.returncode == 2
    assert "several heads: 0001, other" in answer.stderr


def test_without_alembic_the_statements_are_printed(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n"})
    answer = init(root, "--tables", "orders", "--yes")
    assert "select tenantry.isolate_table_v1('orders');" in answer.stdout


def test_tables_to_choose_from_are_named(tmp_path: Path) -> None:
    assert "--tables orders" in init(a_package(tmp_path), "--yes").stdout


@pytest.mark.parametrize(
    ("files", "arguments", "says"),
    [
        ({}, [], "is not a FastAPI project"),
        ({"main.py": "def create():\n    app = FastAPI()\n"}, [], "is not a FastAPI project"),
        ({"main.py": "this is no python"}, [], "is not a FastAPI project"),
        ({"a.py": "app = FastAPI()\n", "b.py": "app = FastAPI()\n"}, [], "several FastAPI apps"),
        ({"a.py": "app = FastAPI()\n"}, ["--app", "b:app"], "There is no app 'b:app' here."),
        ({"a.py": "app = FastAPI()\n"}, ["--tables", "orders; drop"], "no name of a table"),
        ({"a.py": "app = FastAPI()\n", "pyproject.toml": "["}, [], "pyproject.toml cannot be read"),
    ],
)
def test_what_cannot_be_wired_is_a_sentence(
    tmp_path: Path, files: dict[str, str], arguments: list[str], says: str
) -> None:
    answer = init(lay_out(tmp_path, files), "--yes", *arguments)
    assert answer.returncode == 2
    assert says in answer.stderr
    assert written(tmp_path) == files


def test_one_of_several_apps_is_chosen(tmp_path: Path) -> None:
    app = "from fastapi import FastAPI\n\napp = FastAPI()\n"
    root = lay_out(tmp_path, {"a.py": app, "b.py": app})
    init(root, "--app", "b:app", "--yes")
    assert (root / "a.py").read_text() == app
    assert "tenancy.install(app)" in (root / "b.py").read_text()
