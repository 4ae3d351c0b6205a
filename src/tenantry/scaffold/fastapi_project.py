"""The facts of a FastAPI project on disk: where its app is made, where its sessions are, and its migrations."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tenantry.errors import ConfigurationError
from tenantry.scaffold import python_source
from tenantry.scaffold.plan import read_text

_SKIPPED = {"node_modules", "site-packages", "tests", "test", "migrations", "alembic", "build", "dist", "docs"}
_PREFERRED = ("main.py", "app.py", "api.py", "server.py")


@dataclass(frozen=True)
class Migrations:
    """Alembic's folder of revisions; `head` is the latest revision, None before the first one."""

    versions: Path
    env: Path
    head: str | None
    heads: tuple[str, ...]


@dataclass(frozen=True)
class FastApiProject:
    """A FastAPI app, made at the top level of a module."""

    root: Path
    module: Path  # the file in which the app is made
    app: str
    sessions: tuple[Path, ...]  # files that make SQLAlchemy sessions
    migrations: Migrations | None
    has_pytest_settings: bool

    @property
    def package(self) -> str:
        """The dotted name of the folder that the app's module is in; empty for the project's own."""
        return _dotted(self.root, self.module.parent)

    @property
    def dotted(self) -> str:
        """What `uvicorn` takes before the colon."""
        return ".".join(part for part in (self.package, self.module.stem) if part)


def read_fastapi_project(root: Path, app: str | None = None) -> FastApiProject:
    """The facts of the project in a folder; `app` is `module:name`, where there are several. Raises
    ConfigurationError.
    """
    sources = list(_sources(root))
    module, name = _find_app(root, sources, app)
    return FastApiProject(
        root=root,
        module=module,
        app=name,
        sessions=tuple(path for path in sources if python_source.mentions_sessions(read_text(path) or "")),
        migrations=_find_migrations(root),
        has_pytest_settings=_has_pytest_settings(root),
    )


def _sources(root: Path) -> Iterator[Path]:
    """The project's own modules, those near the root first."""
    found = [path for path in root.rglob("*.py") if not _is_skipped(path.relative_to(root).parts[:-1])]
    yield from sorted(found, key=lambda path: (len(path.parts), path.name not in _PREFERRED, path))


def _is_skipped(folders: tuple[str, ...]) -> bool:
    return any(name in _SKIPPED or name.startswith((".", "venv", "env")) for name in folders)


def _find_app(root: Path, sources: list[Path], wanted: str | None) -> tuple[Path, str]:
    found = [(path, name) for path in sources if (name := python_source.find_app(read_text(path) or "")) is not None]
    named = {_spell(root, path, name): (path, name) for path, name in found}
    if wanted is not None:
        if wanted in named:
            return named[wanted]
        raise ConfigurationError(f"There is no app {wanted!r} here.", hint=f"Found: {', '.join(named) or 'none'}.")
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(
            "There are several FastAPI apps here.", hint=f"Name one: --app {' or --app '.join(named)}"
        )
    raise ConfigurationError(
        f"{root} is not a FastAPI project: no module has `app = FastAPI(...)` at its top level.",
        hint="Go to your project's folder, or name it with --dir. An app made by a function is wired by hand: "
        "docs/fastapi.md shows the three lines.",
    )


def _spell(root: Path, path: Path, name: str) -> str:
    return ".".join(part for part in (_dotted(root, path.parent), path.stem) if part) + f":{name}"


def _dotted(root: Path, folder: Path) -> str:
    parts = folder.relative_to(root).parts
    return ".".join(parts[1:] if parts[:1] == ("src",) else parts)


def _find_migrations(root: Path) -> Migrations | None:
    location = _script_location(root)
    if location is None:
        return None
    folder = root / location
    known = [found for path in sorted((folder / "versions").glob("*.py")) if (found := _read_revision(path))]
    followed = {name for _, names in known for name in names}
    heads = tuple(name for name, _ in known if name not in followed)
    return Migrations(folder / "versions", folder / "env.py", heads[0] if len(heads) == 1 else None, heads)


def _script_location(root: Path) -> str | None:
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(read_text(root / "alembic.ini") or "")
    stated = ini.get("alembic", "script_location", fallback=None)
    if stated is None:
        stated = _pyproject(root).get("alembic", {}).get("script_location")
    return re.sub(r"^%\(here\)s/?", "", stated) if stated else None


def _read_revision(path: Path) -> tuple[str, tuple[str, ...]] | None:
    """A revision and those that it follows."""
    values: dict[str, object] = {}
    try:
        tree = ast.parse(read_text(path) or "")
    except SyntaxError:
        return None
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
            try:
                values[target.id] = ast.literal_eval(getattr(statement, "value", None) or ast.Constant(None))
            except ValueError:
                return None
    revision, down = values.get("revision"), values.get("down_revision")
    if not isinstance(revision, str):
        return None
    return revision, tuple(down) if isinstance(down, tuple | list) else (down,) if isinstance(down, str) else ()


def _has_pytest_settings(root: Path) -> bool:
    if "pytest" in _pyproject(root) or (root / "pytest.ini").exists() or (root / ".pytest.ini").exists():
        return True
    others = (read_text(root / "tox.ini") or "") + (read_text(root / "setup.cfg") or "")
    return "[pytest]" in others or "[tool:pytest]" in others


def _pyproject(root: Path) -> dict[str, dict[str, str]]:
    """The `tool` table of pyproject.toml."""
    try:
        tools = tomllib.loads(read_text(root / "pyproject.toml") or "").get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{root / 'pyproject.toml'} cannot be read: {error}.") from None
    return tools if isinstance(tools, dict) else {}
