"""`tenantry init nextjs` shows, asks and writes; what is there before stays, and a second run changes nothing."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaffold.node import furnish
from scaffold.projects import LATEST, make_project

SUITE = "clerk-multitenant"
ALL = LATEST | {"pg": "8", "@types/pg": "8", "vitest": "4"}
API = "http://localhost:8000"
STRICT = (Path(__file__).parents[2] / "src/tenantry/scaffold/nextjs/tsconfig.json").read_text()


def init(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenantry", "init", "nextjs", "--dir", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)


def written(root: Path) -> dict[str, str]:
    """Every file of a project, but for git's and npm's."""
    paths = (path for path in root.rglob("*") if path.is_file() and not {".git", "node_modules"} & set(path.parts))
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, timeout=60)


def test_it_writes_the_suite_and_the_files_in_fixed_places(tmp_path: Path) -> None:
    answer = init(make_project(tmp_path, ALL), "--yes")
    assert (answer.returncode, answer.stderr) == (0, "")
    files = written(tmp_path)
    expected = {f"{SUITE}/tenant.ts", f"{SUITE}/OrgSwitcher.tsx", f"{SUITE}/db-sync.sql", f"{SUITE}/tenantry.json"}
    assert expected | {"proxy.ts", "app/api/webhooks/clerk/route.ts", ".env.example"} <= files.keys()
    assert "does not isolate" in files["proxy.ts"]
    assert "Not type-checked: there is no tsc" in answer.stdout


def test_a_second_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    init(make_project(tmp_path, ALL), "--yes", "--orm", "drizzle", "--by", "slug")
    before = written(tmp_path)
    answer = init(tmp_path)  # with nothing to write there is nothing to ask; and the choice is remembered
    assert answer.returncode == 0
    assert "Nothing to write." in answer.stdout
    assert written(tmp_path) == before
    assert '"/orgs/:slug"' in before[f"{SUITE}/organization-sync.ts"]
    assert "drizzle" in before[f"{SUITE}/database.ts"]


def test_check_agrees_after_a_run_and_shows_what_differs_after_an_edit(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL)
    missing = init(root, "--check")
    assert (missing.returncode, written(root).keys() & {"proxy.ts"}) == (1, set())
    init(root, "--yes")
    assert init(root, "--check").returncode == 0
    (root / SUITE / "cache.ts").write_text("export const mine = 1;\n")
    answer = init(root, "--check")
    assert answer.returncode == 1
    assert f"{SUITE}/cache.ts" in answer.stdout
    assert "-export const mine = 1;" in answer.stdout
    assert f"{SUITE}/tenant.ts" not in answer.stdout  # only what differs


def test_a_dry_run_shows_all_and_writes_nothing(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL)
    before = written(root)
    answer = init(root, "--dry-run")
    assert answer.returncode == 0
    assert "+++ b/clerk-multitenant/tenant.ts" in answer.stdout
    assert "Nothing was written." in answer.stdout
    assert written(root) == before


def test_without_a_terminal_it_does_not_write_unasked(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL)
    answer = init(root)
    assert answer.returncode == 2
    assert "There is no terminal to ask on" in answer.stderr
    assert "Say --yes" in answer.stderr
    assert f"{SUITE}/tenant.ts" not in written(root)


@pytest.mark.parametrize(("reply", "writes"), [("n", False), ("y", True)])
def test_on_a_terminal_it_asks(tmp_path: Path, reply: str, writes: bool) -> None:
    root = make_project(tmp_path, ALL)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "tenantry", "init", "nextjs", "--dir", str(root)]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    try:
        seen = read_until(controller, b"files? [Y/n]")
        os.write(controller, f"{reply}\n".encode())
        seen += read_until(controller, b"written")
        read_until(controller, None)
        assert process.wait(60) == 0, seen
    finally:
        process.kill()
        os.close(controller)
    assert b"\x1b[32m" in seen  # on a terminal in colour
    assert (root / "proxy.ts").exists() == writes


def read_until(terminal: int, mark: bytes | None, seconds: float = 60) -> bytes:
    """What a program shows, up to a mark or to its end."""
    seen, end = b"", time.monotonic() + seconds
    while mark is None or mark not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        if not ready:
            raise TimeoutError(f"Waited for {mark!r}, saw {seen[-500:]!r}")
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the program has ended
            more = b""
        if not more:
            return seen
        seen += more
    return seen


@pytest.mark.parametrize("name", ["middleware.ts", "middleware.js", "proxy.ts"])
def test_a_middleware_of_the_users_own_is_kept_and_the_lines_are_shown(tmp_path: Path, name: str) -> None:
    own = 'export { default } from "./mine";\n'
    root = make_project(tmp_path, ALL, source="src", files={f"src/{name}": own})
    answer = init(root, "--yes")
    assert f"Merge into src/{name}:" in answer.stdout
    assert "organizationSyncOptions" in answer.stdout
    files = written(root)
    assert files[f"src/{name}"] == own
    assert len([path for path in files if path.startswith(("src/middleware.", "src/proxy."))]) == 1
    assert f"src/{SUITE}/tenant.ts" in files
    assert init(root, "--check").returncode == 1
    (root / "src" / name).write_text("clerkMiddleware(async () => undefined, { organizationSyncOptions });\n")
    assert init(root, "--check").returncode == 1  # it does not say which organization a path is of
    (root / "src" / name).write_text("stateOrganization(request.headers, organization); organizationSyncOptions;\n")
    assert init(root, "--check").returncode == 0


def test_a_webhook_route_of_the_users_own_is_kept(tmp_path: Path) -> None:
    route = "app/api/webhooks/clerk/route.ts"
    root = make_project(tmp_path, ALL, files={route: "export const POST = mine;\n"})
    answer = init(root, "--yes")
    assert f"Merge into {route}:" in answer.stdout
    assert "export const POST = receiveWebhook;" in answer.stdout
    assert written(root)[route] == "export const POST = mine;\n"


def test_older_releases_have_a_middleware(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL | {"next": "15.5.28", "@clerk/nextjs": "6.39.8"})
    init(root, "--yes")
    files = written(root)
    assert "clerkMiddleware" in files["middleware.ts"]
    assert "proxy.ts" not in files


def test_values_are_printed_and_never_written(tmp_path: Path) -> None:
    secret = "CLERK_SECRET_KEY=sk_test_of_ada\n"
    files = {".env.local": secret, ".env.example": "DATABASE_URL=mine\n# CLERK_SECRET_KEY=\n"}
    root = make_project(tmp_path, ALL, files=files)
    answer = init(root, "--yes")
    assert "sk_test_of_ada" not in answer.stdout
    assert "CLERK_WEBHOOK_SIGNING_SECRET=whsec_" in answer.stdout
    assert "CLERK_SECRET_KEY=" not in answer.stdout.partition("Set in .env.local:")[2]
    files = written(root)
    assert files[".env.local"] == secret
    assert files[".env.example"].startswith("DATABASE_URL=mine\n# CLERK_SECRET_KEY=\n\n")
    assert files[".env.example"].count("DATABASE_URL") == files[".env.example"].count("CLERK_SECRET_KEY") == 1


@pytest.mark.parametrize(
    ("lock", "orm", "lines"),
    [
        ("package-lock.json", "pg", ["npm install pg", "npm install -D @types/pg vitest"]),
        ("pnpm-lock.yaml", "drizzle", ["pnpm add drizzle-orm pg", "pnpm add -D @types/pg vitest"]),
        ("bun.lock", "prisma", ["bun add @prisma/adapter-pg @prisma/client", "bun add -D vitest"]),
    ],
)
def test_what_is_missing_is_told_as_the_line_to_run(tmp_path: Path, lock: str, orm: str, lines: list[str]) -> None:
    root = make_project(tmp_path, files={lock: "{}"})
    answer = init(root, "--yes", "--orm", orm)
    told = answer.stdout.partition("Install what it imports:\n")[2].splitlines()[: len(lines)]
    assert [line.strip() for line in told] == lines
    assert json.loads((root / "package.json").read_text())["dependencies"] == LATEST


@pytest.mark.requires("git")
def test_a_dirty_tree_is_said_aloud(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL)
    assert "not under git" in init(root, "--dry-run").stdout
    git(root, "init", "-q")
    assert "The git tree is dirty (" in init(root, "--dry-run").stdout
    git(root, "add", "-A")
    git(root, "commit", "-qm", "start")
    answer = init(root, "--dry-run")
    assert "dirty" not in answer.stdout
    assert "not under git" not in answer.stdout
    (root / ".gitignore").write_text(".env*\n")
    assert "Git ignores .env.example" in init(root, "--yes").stdout


def test_in_front_of_an_api_there_is_no_database_code(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL)
    answer = init(root, "--yes", "--api", f"{API}/")
    assert answer.returncode == 0
    files = written(root)
    assert f"{SUITE}/tenant-fetch.server.ts" in files
    assert not {f"{SUITE}/tenant.ts", f"{SUITE}/db-sync.sql", "app/api/webhooks/clerk/route.ts"} & files.keys()
    assert not [path for path, text in files.items() if 'from "pg"' in text]
    assert f"TENANTRY_API_URL={API}\n" in files[".env.example"]
    assert init(root, "--check").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--api", "localhost:8000"], "--api takes an address"),
        (["--api", "http://ada:secret@localhost"], "--api takes an address"),
        (["--api", API, "--orm", "pg"], "contradict each other"),
        (["--roles", "missing.toml"], "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], says: str) -> None:
    root = make_project(tmp_path, ALL)
    answer = init(root, "--yes", *arguments)
    assert answer.returncode == 2
    assert says in answer.stderr
    assert f"{SUITE}/tenantry.json" not in written(root)


def test_an_app_at_the_edge_is_refused_and_a_page_there_is_named(tmp_path: Path) -> None:
    edge = 'export const runtime = "edge";\n'
    root = make_project(tmp_path, ALL, files={"app/fast/page.tsx": edge})
    assert "app/fast/page.tsx" in init(root, "--yes").stdout.partition("edge")[2]
    (root / "app/layout.tsx").write_text(edge)
    answer = init(root, "--yes")
    assert answer.returncode == 2
    assert "has no connection to PostgreSQL" in answer.stderr


def test_a_prisma_schema_for_another_database_is_refused(tmp_path: Path) -> None:
    schema = 'datasource db {\n  provider = "mysql"\n}\n'
    root = make_project(tmp_path, ALL | {"@prisma/client": "7"}, files={"prisma/schema.prisma": schema})
    answer = init(root, "--yes")
    assert answer.returncode == 2
    assert "Prisma schema is for mysql" in answer.stderr


def test_versions_newer_than_it_was_tried_with_are_named(tmp_path: Path) -> None:
    answer = init(make_project(tmp_path, ALL | {"next": "17.0.0"}), "--yes")
    assert answer.returncode == 0
    assert "next 17" in answer.stdout.partition("Newer than what this release was tried with:")[2]


def test_a_loose_tsconfig_is_named_and_what_is_not_installed_is_not_checked(tmp_path: Path) -> None:
    root = make_project(tmp_path, files={"tsconfig.json": '{ "compilerOptions": { "strict": false } }'})
    told = init(root, "--yes").stdout
    assert 'In tsconfig.json:\n  "strict": true\n' in told
    assert "Not type-checked: install first" in told


def test_a_driver_over_http_is_named(tmp_path: Path) -> None:
    root = make_project(tmp_path, ALL | {"@neondatabase/serverless": "1"})
    assert "@neondatabase/serverless" in init(root, "--yes").stdout


@pytest.mark.parametrize("place", ["tenantry.toml", "../tenantry.toml", "../api/tenantry.toml"])
def test_names_are_those_of_the_roles_file(tmp_path: Path, place: str) -> None:
    root = make_project(tmp_path / "web", ALL)
    roles = root / place
    roles.parent.resolve().mkdir(exist_ok=True)
    roles.resolve().write_text('[roles."org:editor"]\npermissions = ["documents:create"]\n')
    init(root, "--yes", *(["--roles", str(roles.resolve())] if "api" in place else []))
    names = written(root)[f"{SUITE}/permissions.ts"]
    assert 'roles = ["org:editor"] as const' in names
    assert 'permissions = ["documents:create"] as const' in names
    assert init(root, "--check").returncode == 0  # remembers where the file is
    roles.resolve().write_text('[roles."org:editor"]\npermissions = ["documents:*"]\n')
    assert '+export const permissions = ["documents:*"] as const;' in init(root, "--check").stdout


@pytest.mark.requires("node", "npm")
def test_what_is_written_is_type_checked_by_the_projects_own_compiler(tmp_path: Path) -> None:
    root = make_project(
        tmp_path / "app", files={"tsconfig.json": STRICT, "broken.ts": "export const one: string = 1;\n"}
    )
    (root / "package.json").unlink()
    furnish(root, "next16")
    answer = init(root, "--yes", "--orm", "pg")
    assert "1 type errors are in other files of yours." in answer.stdout
    assert "0 type errors in what init wrote." in answer.stdout
    assert answer.returncode == 0
    (root / SUITE / "errors.ts").write_text("export {};\n")
    broken = init(root)
    assert broken.returncode == 1
    assert f"{SUITE}/tenant.ts(" in broken.stdout
