"""The facts of a Next.js project on disk: versions, layout, ORM, package manager, and what stands in the way."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tenantry.errors import ConfigurationError

Orm = Literal["pg", "drizzle", "prisma"]
Manager = Literal["npm", "pnpm", "yarn", "bun"]

OLDEST = {"next": 14, "@clerk/nextjs": 5}
NEWEST = {"next": 16, "@clerk/nextjs": 7}
_LOCKS: dict[str, Manager] = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
    "package-lock.json": "npm",
    "npm-shrinkwrap.json": "npm",
}
_ADD: dict[Manager, str] = {"npm": "npm install", "pnpm": "pnpm add", "yarn": "yarn add", "bun": "bun add"}
_SCRIPTS = (".ts", ".tsx", ".js", ".jsx", ".mjs")
_EDGE = re.compile(r"""^\s*export\s+const\s+runtime\s*=\s*["'](?:edge|experimental-edge)["']""", re.MULTILINE)


_LOOSE = re.compile(r"""^[^/\n]*"strict"\s*:\s*false""", re.MULTILINE)


@dataclass(frozen=True)
class NextProject:
    """A Next.js app with the App Router, TypeScript and Clerk, of versions that are supported."""

    root: Path
    source: Path  # root, or its `src`: where `app` is
    next: int  # major versions
    clerk: int
    manager: Manager
    orm: Orm
    packages: frozenset[str] = field(repr=False)  # what package.json names
    edge_files: tuple[Path, ...] = ()
    prisma_client: str = "@prisma/client"  # what a file in a folder of `source` imports PrismaClient from
    other_database: str | None = None  # what a schema of Prisma's is for, if not PostgreSQL
    is_strict: bool = True  # unless tsconfig.json itself says otherwise, as one that Next.js made from nothing does

    @property
    def proxy_name(self) -> str:
        """What this version of Next.js calls the file that runs before every request."""
        return "proxy.ts" if self.next >= 16 else "middleware.ts"

    def install_command(self, packages: list[str], *, dev: bool = False) -> str:
        """The line that adds packages with this project's package manager."""
        return install_command(self.manager, packages, dev=dev)


def install_command(manager: Manager, packages: list[str], *, dev: bool = False) -> str:
    """The line that adds packages with a package manager."""
    return " ".join([_ADD[manager], *(["-D"] if dev else []), *packages])


def read_next_project(root: Path) -> NextProject:
    """The facts of the project in a folder. Raises ConfigurationError with the next step where it cannot be served."""
    package = _read_package(root)
    packages = _named_packages(package)
    manager = _find_manager(root, package)
    if "next" not in packages:
        raise _no_next(root, package)
    next_major = _supported(root, packages, manager, "next", "Next.js")
    source = _find_source(root)
    if not (root / "tsconfig.json").is_file():
        raise _no_typescript(root, packages, manager)
    if "@clerk/nextjs" not in packages:
        raise ConfigurationError(
            "This app does not use Clerk yet: @clerk/nextjs is not in its package.json.",
            hint=f"Run: {install_command(manager, ['@clerk/nextjs'])}  and put <ClerkProvider> into app/layout.tsx.",
        )
    clerk = _supported(root, packages, manager, "@clerk/nextjs", "@clerk/nextjs")
    _refuse_misfit(next_major, clerk, manager)
    return NextProject(
        root=root,
        source=source,
        next=next_major,
        clerk=clerk,
        manager=manager,
        orm=_find_orm(packages),
        packages=frozenset(packages),
        edge_files=tuple(_find_edge(source)),
        prisma_client=_find_prisma_client(root, source),
        other_database=_find_other_database(root),
        is_strict=not _LOOSE.search((root / "tsconfig.json").read_text(encoding="utf-8", errors="replace")),
    )


def find_existing(folder: Path, *stems: str) -> Path | None:
    """The script of one of these names, whatever its ending: `middleware.ts`, `proxy.js`."""
    candidates = (folder / f"{stem}{ending}" for stem in stems for ending in _SCRIPTS)
    return next((path for path in candidates if path.is_file()), None)


def _read_package(root: Path) -> dict[str, Any]:
    try:
        package = json.loads((root / "package.json").read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{root} is not a Next.js project: it has no package.json.",
            hint="Go to your app's folder, or name it with --dir. A new app: npx create-next-app@latest --ts --app",
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{root / 'package.json'} cannot be read: {error}.") from None
    if not isinstance(package, dict):
        raise ConfigurationError(f"{root / 'package.json'} is not an object.")
    return package


def _no_typescript(root: Path, packages: dict[str, str], manager: Manager) -> ConfigurationError:
    missing = [name for name in ("typescript", "@types/react", "@types/node") if name not in packages]
    install = f"Run: {install_command(manager, missing, dev=True)}  then make" if missing else "Make"
    return ConfigurationError(
        f"{root} is a JavaScript project: it has no tsconfig.json, and what would be written is TypeScript.",
        hint=f'{install} a tsconfig.json with {{"compilerOptions": {{"strict": true}}}}; '
        "one `next dev` adds the rest. Your JavaScript files may stay.",
    )


def _named_packages(package: dict[str, Any]) -> dict[str, str]:
    """Name -> range, of all kinds of dependencies."""
    found: dict[str, str] = {}
    for kind in ("peerDependencies", "devDependencies", "dependencies"):
        of_kind = package.get(kind)
        found.update({name: str(wanted) for name, wanted in of_kind.items()} if isinstance(of_kind, dict) else {})
    return found


def _no_next(root: Path, package: dict[str, Any]) -> ConfigurationError:
    apps = sorted(str(path.relative_to(root)) for path in _workspace_apps(root, package))
    if apps:
        return ConfigurationError(
            f"{root} is the root of a monorepo, not a Next.js app.",
            hint=f"Name the app: --dir {' or --dir '.join(apps)}",
        )
    return ConfigurationError(
        f"{root} is not a Next.js project: `next` is not in its package.json.",
        hint="Go to your app's folder, or name it with --dir.",
    )


def _workspace_apps(root: Path, package: dict[str, Any]) -> Iterator[Path]:
    """The folders of a monorepo's packages that use Next.js."""
    for pattern in _workspaces(root, package):
        for manifest in root.glob(f"{pattern.strip('/')}/package.json"):
            if "node_modules" not in manifest.parts and "next" in _named_packages(_read_package(manifest.parent)):
                yield manifest.parent


def _workspaces(root: Path, package: dict[str, Any]) -> list[str]:
    listed = package.get("workspaces")
    if isinstance(listed, dict):  # yarn 1
        listed = listed.get("packages")
    if not isinstance(listed, list):
        pnpm = root / "pnpm-workspace.yaml"
        lines = pnpm.read_text(encoding="utf-8").splitlines() if pnpm.is_file() else []
        listed = [line.strip().removeprefix("-").strip(" '\"") for line in lines if line.strip().startswith("- ")]
    return [str(pattern) for pattern in listed if not str(pattern).startswith(("!", "/"))]


def _find_manager(root: Path, package: dict[str, Any]) -> Manager:
    """The package manager that package.json states, else the one of the nearest lock file, up to the repository."""
    for folder in _upwards(root):
        stated = package.get("packageManager") if folder == root else _stated_manager(folder)
        name = str(stated).partition("@")[0]
        if name in _ADD:
            return name
        for lock, manager in _LOCKS.items():
            if (folder / lock).is_file():
                return manager
    return "npm"


def _stated_manager(folder: Path) -> object:
    return _read_package(folder).get("packageManager") if (folder / "package.json").is_file() else None


def _upwards(root: Path) -> list[Path]:
    """The folder and those above it, up to the repository's; it alone where there is none (a home has stray locks)."""
    folders = [root, *root.parents]
    ends = (number for number, folder in enumerate(folders, start=1) if (folder / ".git").exists())
    return folders[: next(ends, 1)]


def _supported(root: Path, packages: dict[str, str], manager: Manager, name: str, title: str) -> int:
    version = _find_version(root, packages, name)
    major = re.match(r"\D*(\d+)", version or "")
    if major is None:
        raise ConfigurationError(
            f"The version of {title} cannot be told: package.json says {packages[name]!r}, and it is not installed.",
            hint=f"Run: {manager} install",
        )
    if int(major[1]) < OLDEST[name]:
        raise ConfigurationError(
            f"This app uses {title} {version}; {OLDEST[name]} is the oldest that is supported.",
            hint="Run: npx @next/codemod@latest upgrade" if name == "next" else "Run: npx @clerk/upgrade",
        )
    return int(major[1])


def _find_version(root: Path, packages: dict[str, str], name: str) -> str | None:
    """The version installed, else locked (npm), else the lowest of package.json's range."""
    for folder in _upwards(root):
        manifest = folder / "node_modules" / name / "package.json"
        if manifest.is_file():
            return str(_read_package(manifest.parent).get("version"))
        lock = folder / "package-lock.json"
        if lock.is_file() and (locked := _read_lock(lock, root, name)):
            return locked
    wanted = packages[name]
    return wanted if re.match(r"[\^~>=v\s]*\d+", wanted) else None


def _read_lock(lock: Path, root: Path, name: str) -> str | None:
    try:
        entries = json.loads(lock.read_text(encoding="utf-8"))["packages"]
        inner = f"{root.relative_to(lock.parent).as_posix()}/node_modules/{name}"
        entry = entries.get(inner) or entries[f"node_modules/{name}"]
        return str(entry["version"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _find_source(root: Path) -> Path:
    for source in (root, root / "src"):
        if (source / "app").is_dir():
            return source
    if any((source / "pages").is_dir() for source in (root, root / "src")):
        raise ConfigurationError(
            "This app uses the Pages Router alone; what would be written stands on the App Router.",
            hint="The two live side by side: make app/layout.tsx, with <ClerkProvider> in it, and run this again.",
        )
    raise ConfigurationError(
        f"{root} has neither app/ nor src/app/: it is not an app with Next.js's App Router.",
        hint="Make app/layout.tsx, or name the app's folder with --dir.",
    )


def _refuse_misfit(next_major: int, clerk: int, manager: Manager) -> None:
    if next_major >= 15 and clerk < 6:
        raise ConfigurationError(
            f"@clerk/nextjs {clerk} does not work with Next.js {next_major}: its auth() reads headers synchronously.",
            hint=f"Run: npx @clerk/upgrade  or  {install_command(manager, ['@clerk/nextjs@latest'])}",
        )
    if next_major < 15 and clerk > 6:
        raise ConfigurationError(
            f"@clerk/nextjs {clerk} needs Next.js 15 or newer; this app has {next_major}.",
            hint=f"Run: npx @next/codemod@latest upgrade  or  {install_command(manager, ['@clerk/nextjs@6'])}",
        )


def _find_orm(packages: dict[str, str]) -> Orm:
    if "drizzle-orm" in packages:
        return "drizzle"
    return "prisma" if "@prisma/client" in packages else "pg"


def _find_edge(source: Path) -> Iterator[Path]:
    for path in sorted((source / "app").rglob("*")):
        if path.suffix in _SCRIPTS and path.stem in ("layout", "page", "route") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            if _EDGE.search(text):
                yield path


def _find_prisma_client(root: Path, source: Path) -> str:
    """Where the project's own schema has its client generated; `prisma-client-js` has it in node_modules."""
    for schema, settings in _prisma_blocks(root, "generator"):
        output = settings.get("output")
        if output is not None and settings.get("provider") in ("prisma-client", "prisma-client-js"):
            folder = Path(os.path.relpath(schema.parent / output, source / "any")).as_posix()
            return f"{folder}/client" if settings["provider"] == "prisma-client" else folder
    return "@prisma/client"


def _find_other_database(root: Path) -> str | None:
    providers = (settings.get("provider") for _, settings in _prisma_blocks(root, "datasource"))
    return next((name for name in providers if name not in (None, "postgresql", "postgres")), None)


def _prisma_blocks(root: Path, kind: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The blocks of a kind in the project's schemas: each file, and the texts that it sets."""
    for path in sorted([*root.glob("*.prisma"), *root.glob("prisma/**/*.prisma")]):
        text = path.read_text(encoding="utf-8", errors="replace")
        for block in re.findall(rf"^{kind}\s+\w+\s*\{{(.*?)^\}}", text, re.MULTILINE | re.DOTALL):
            yield path, dict(re.findall(r'^\s*(\w+)\s*=\s*"([^"]*)"', block, re.MULTILINE))
