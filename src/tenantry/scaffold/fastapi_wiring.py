"""What `tenantry init fastapi` does to a project: a module of its own, lines where they fit, a migration, a test."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from tenantry.errors import ConfigurationError
from tenantry.scaffold import environment, python_source, templates
from tenantry.scaffold.fastapi_project import FastApiProject, Migrations
from tenantry.scaffold.plan import Merge, Wanted, read_text

_TABLE = re.compile(r"(?:[A-Za-z_][\w$]*\.)?[A-Za-z_][\w$]*")


def read_tables(text: str) -> tuple[str, ...]:
    """Names parted by commas. Raises ConfigurationError."""
    tables = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in tables:
        if not _TABLE.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name of a table.", hint="Write --tables documents,comments.")
    return tables


def earlier_tables(project: FastApiProject) -> tuple[str, ...]:
    """Those of an earlier run, as the test that it wrote names them; none where there is no such test."""
    listed = re.search(r"^TABLES = \[(.*)\]$", read_text(project.root / _TEST) or "", re.MULTILINE)
    return read_tables(listed[1].replace('"', "")) if listed else ()


def plan_files(project: FastApiProject, tables: tuple[str, ...]) -> list[Wanted]:
    """Every file that is made or gets lines. Raises ConfigurationError where Alembic has several heads."""
    return [
        _wiring(project),
        *_edits(project),
        *_migration(project, tables),
        *_tests(project, tables),
        _example(project),
    ]


def known_tables(project: FastApiProject) -> list[str]:
    """The names of tables that SQLAlchemy models state."""
    texts = (read_text(path) or "" for path in project.root.rglob("*.py") if ".venv" not in path.parts)
    return sorted({name for text in texts for name in re.findall(r"""__tablename__\s*=\s*["'](\w+)["']""", text)})


def _wiring(project: FastApiProject) -> Wanted:
    path = _relative(project, project.module.parent / "tenancy.py")
    return Wanted(path, _template("tenancy.py"), "Tenantry, from the settings in the environment.")


def _edits(project: FastApiProject) -> Iterator[Wanted]:
    """The app's module, and those that make sessions; one module may do both."""
    line = f"from {'.'.join(part for part in (project.package, 'tenancy') if part)} import tenancy"
    for path in dict.fromkeys((project.module, *project.sessions)):
        before = read_text(path) or ""
        after: str | None = before
        lines = []
        if path == project.module and not re.search(r"\bTenantry\b|\btenancy\.install\(", before):
            after = python_source.wire_app(before, line)
            lines.append(_APP_LINES.format(line=line, app=project.app))
        if path in project.sessions and not re.search(r"\bscoped\(", before):
            scoped = python_source.scope_sessions(after or before, line if not lines else "")
            after = scoped if after is not None else None
            lines.append(_SESSION_LINES.format(line=line))
        if not lines:
            continue
        if after is not None:
            yield Wanted(
                _relative(project, path), _once(after, line), "Puts the app and its sessions in the tenant.", adds=True
            )
        else:
            merge = Merge("\n".join(lines), "tenancy.install" if path == project.module else "tenancy.scoped")
            yield Wanted(_relative(project, path), "".join(lines), "", merge)


def _once(text: str, line: str) -> str:
    """Without an import's repetition, and the empty line that stands for it."""
    head, found, tail = text.partition(f"{line}\n")
    return head + found + tail.replace(f"{line}\n", "", 1)


def _migration(project: FastApiProject, tables: tuple[str, ...]) -> Iterator[Wanted]:
    migrations = project.migrations
    if migrations is None or not tables:
        return
    revision = f"isolate_{hashlib.sha256(','.join(tables).encode()).hexdigest()[:8]}"
    path = migrations.versions / f"{revision}.py"
    if not path.exists():
        text = _fill(_template("migration.py"), tables).replace('"REVISION"', f'"{revision}"')
        head = f'"{_head(migrations)}"' if migrations.heads else "None"
        yield Wanted(_relative(project, path), text.replace('"HEAD"', head), f"Isolates {', '.join(tables)}.")
    env = _relative(project, migrations.env)
    if migrations.env.exists():
        yield Wanted(env, _ENV_LINES, "", Merge(_ENV_LINES, "TENANTRY_MIGRATION_URL"))


def _head(migrations: Migrations) -> str:
    if migrations.head is None:
        raise ConfigurationError(
            f"Alembic has several heads: {', '.join(migrations.heads)}.", hint="Run: alembic merge heads"
        )
    return migrations.head


def _tests(project: FastApiProject, tables: tuple[str, ...]) -> Iterator[Wanted]:
    conftest = _template("conftest.py").replace("from main import app", f"from {project.dotted} import {project.app}")
    if project.app != "app":
        conftest = conftest.replace("TestClient(app)", f"TestClient({project.app})")
    if project.migrations is None:
        conftest = conftest.replace('"alembic upgrade head"', '"true"  # the command that makes your tables')
    merge = Merge(conftest, "tenantry_migrate")
    yield Wanted("tests/conftest.py", conftest, "How the tables are made, and how the app is run.", merge)
    template = _template("test_tenancy.py")
    unedited = read_text(project.root / _TEST) == _fill(template, earlier_tables(project))
    yield Wanted(_TEST, _fill(template, tables), "A test that you keep.", adds=unedited)
    if project.has_pytest_settings:
        if "tenantry.testing" not in "".join(read_text(project.root / name) or "" for name in _PYTEST_FILES):
            found = next(name for name in _PYTEST_FILES if (project.root / name).exists())
            lines = "-p tenantry.testing      (in the value of `addopts`)\n"
            yield Wanted(found, lines, "", Merge(lines, "tenantry.testing"))
    else:
        settings = "[pytest]\naddopts = -p tenantry.testing\npythonpath = .\ntestpaths = tests\n"
        if (project.root / "src").is_dir():
            settings = settings.replace("pythonpath = .", "pythonpath = src")
        yield Wanted(
            "pytest.ini", settings, "Loads the fixtures of tenantry.testing.", Merge(settings, "tenantry.testing")
        )


def _example(project: FastApiProject) -> Wanted:
    text = environment.add_lines(project.root / ".env.example", environment.fastapi_lines())
    return Wanted(".env.example", text, "What the app reads from its environment.", adds=True)


def _fill(text: str, tables: tuple[str, ...]) -> str:
    listed = ", ".join(f'"{name}"' for name in tables)
    return text.replace('TABLES = ["TABLE"]', f"TABLES = [{listed}]")


def _template(name: str) -> str:
    return templates.render(templates.read(f"fastapi/{name}"), {})


def _relative(project: FastApiProject, path: Path) -> str:
    return path.relative_to(project.root).as_posix()


_TEST = "tests/test_tenancy.py"
_PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
_APP_LINES = """\
{line}

async with tenancy.lifespan(app):      # in your lifespan, around its yield
    yield

tenancy.install({app})                 # below the line that makes the app
"""
_SESSION_LINES = """\
{line}

sessions = tenancy.scoped(sessions)    # what your sessionmaker makes is in the tenant from here on
"""
_ENV_LINES = """\
import os

# Migrations run as the tables' owner; the app's own login owns nothing. Give the URL your driver's form.
url = os.environ.get("TENANTRY_MIGRATION_URL") or os.environ["DATABASE_URL"]
"""
