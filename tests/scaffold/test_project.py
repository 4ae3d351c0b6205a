"""The facts of a Next.js project are read from what stands there; what cannot be served is told with the next step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaffold.projects import LATEST, install, make_project
from tenantry.errors import ConfigurationError
from tenantry.scaffold.project import NextProject, read_next_project


def refusal(root: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        read_next_project(root)
    return refused.value


def test_a_plain_project_is_read(tmp_path: Path) -> None:
    project = read_next_project(make_project(tmp_path))
    assert project == NextProject(
        root=tmp_path, source=tmp_path, next=16, clerk=7, manager="npm", orm="pg", packages=frozenset(LATEST)
    )
    assert project.proxy_name == "proxy.ts"


def test_a_src_folder_is_the_source(tmp_path: Path) -> None:
    assert read_next_project(make_project(tmp_path, source="src")).source == tmp_path / "src"


@pytest.mark.parametrize(
    ("file", "manager", "line"),
    [
        ("package-lock.json", "npm", "npm install -D vitest"),
        ("pnpm-lock.yaml", "pnpm", "pnpm add -D vitest"),
        ("yarn.lock", "yarn", "yarn add -D vitest"),
        ("bun.lock", "bun", "bun add -D vitest"),
        ("bun.lockb", "bun", "bun add -D vitest"),
    ],
)
def test_the_lock_file_tells_the_package_manager(tmp_path: Path, file: str, manager: str, line: str) -> None:
    project = read_next_project(make_project(tmp_path, files={file: "{}"}))
    assert (project.manager, project.install_command(["vitest"], dev=True)) == (manager, line)


def test_package_json_outdoes_a_stray_lock_file(tmp_path: Path) -> None:
    root = make_project(tmp_path, files={"package-lock.json": "{}"}, packageManager="pnpm@10.1.0")
    assert read_next_project(root).manager == "pnpm"


def test_an_app_of_a_monorepo_has_the_manager_and_the_packages_of_its_root(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "pnpm-lock.yaml").touch()
    install(tmp_path, "next", "15.5.28")
    install(tmp_path, "@clerk/nextjs", "6.39.8")
    app = make_project(tmp_path / "apps" / "web", {"next": "catalog:", "@clerk/nextjs": "catalog:"})
    project = read_next_project(app)
    assert (project.manager, project.next, project.clerk, project.proxy_name) == ("pnpm", 15, 6, "middleware.ts")


@pytest.mark.parametrize("listed", [{"workspaces": ["apps/*"]}, {"workspaces": {"packages": ["apps/*"]}}, {}])
def test_the_root_of_a_monorepo_names_its_apps(tmp_path: Path, listed: dict[str, object]) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"name": "root", **listed}))
    (tmp_path / "pnpm-workspace.yaml").write_text("packages:\n  - 'apps/*'\n")
    make_project(tmp_path / "apps" / "web")
    make_project(tmp_path / "apps" / "docs", {"vitepress": "1"})
    refused = refusal(tmp_path)
    assert "root of a monorepo" in refused.message
    assert refused.hint == "Name the app: --dir apps/web"


def test_what_is_installed_outdoes_what_package_json_allows(tmp_path: Path) -> None:
    root = make_project(tmp_path, {"next": ">=14", "@clerk/nextjs": "^6.0.0"})
    install(root, "next", "16.4.5")
    assert read_next_project(root).next == 16


def test_a_lock_file_tells_the_version_before_anything_is_installed(tmp_path: Path) -> None:
    lock = {
        "packages": {"node_modules/next": {"version": "15.1.0"}, "node_modules/@clerk/nextjs": {"version": "6.9.0"}}
    }
    files = {"package-lock.json": json.dumps(lock)}
    project = read_next_project(make_project(tmp_path, {"next": "latest", "@clerk/nextjs": "latest"}, files=files))
    assert (project.next, project.clerk) == (15, 6)


@pytest.mark.parametrize(
    ("packages", "orm"),
    [({}, "pg"), ({"pg": "8"}, "pg"), ({"drizzle-orm": "0.45"}, "drizzle"), ({"@prisma/client": "7"}, "prisma")],
)
def test_the_orm_is_the_one_that_package_json_names(tmp_path: Path, packages: dict[str, str], orm: str) -> None:
    assert read_next_project(make_project(tmp_path, LATEST | packages)).orm == orm


@pytest.mark.parametrize(
    ("generator", "imported"),
    [
        ('provider = "prisma-client"\n  output = "../src/generated/prisma"', "../generated/prisma/client"),
        ('provider = "prisma-client"\n  output = "../db"', "../../db/client"),
        ('provider = "prisma-client-js"\n  output = "../src/db"', "../db"),
        ('provider = "prisma-client-js"', "@prisma/client"),
    ],
)
def test_prismas_client_is_where_the_schema_puts_it(tmp_path: Path, generator: str, imported: str) -> None:
    files = {"prisma/schema.prisma": f"generator client {{\n  {generator}\n}}\n"}
    project = read_next_project(make_project(tmp_path, LATEST | {"@prisma/client": "7"}, source="src", files=files))
    assert project.prisma_client == imported


def test_routes_at_the_edge_are_found(tmp_path: Path) -> None:
    page = 'export const runtime = "edge";\n'
    files = {"app/fast/page.tsx": page, "app/fast/other.ts": page, "app/slow/page.tsx": '// runtime = "edge"\n'}
    assert read_next_project(make_project(tmp_path, files=files)).edge_files == (tmp_path / "app/fast/page.tsx",)


# --- what cannot be served --------------------------------------------------------------------------------------------


def test_no_project_at_all_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path)
    assert "no package.json" in refused.message
    assert "--dir" in (refused.hint or "")


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_broken_package_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "package.json").write_text(text)
    assert "package.json" in refusal(tmp_path).message


def test_another_framework_is_refused(tmp_path: Path) -> None:
    assert "`next` is not in its package.json" in refusal(make_project(tmp_path, {"vite": "7"})).message


@pytest.mark.parametrize(
    ("packages", "message", "hint"),
    [
        ({"next": "13.5.1", "@clerk/nextjs": "5"}, "Next.js 13.5.1; 14 is the oldest", "codemod"),
        ({"next": "14.2.35", "@clerk/nextjs": "^4.29.0"}, "@clerk/nextjs ^4.29.0; 5 is the oldest", "@clerk/upgrade"),
        ({"next": "15.1.0", "@clerk/nextjs": "5.7.6"}, "5 does not work with Next.js 15", "@clerk/upgrade"),
        ({"next": "14.2.35", "@clerk/nextjs": "7.0.0"}, "7 needs Next.js 15", "npm install @clerk/nextjs@6"),
        ({"next": "16.4.5"}, "does not use Clerk yet", "npm install @clerk/nextjs"),
        ({"next": "latest", "@clerk/nextjs": "7"}, "cannot be told: package.json says 'latest'", "npm install"),
    ],
)
def test_versions_that_are_not_supported_are_refused(
    tmp_path: Path, packages: dict[str, str], message: str, hint: str
) -> None:
    refused = refusal(make_project(tmp_path, packages))
    assert message in refused.message
    assert hint in (refused.hint or "")


def test_the_pages_router_alone_is_refused(tmp_path: Path) -> None:
    root = make_project(tmp_path, files={"pages/index.tsx": ""})
    (root / "app/layout.tsx").unlink()
    (root / "app").rmdir()
    assert "Pages Router alone" in refusal(root).message
    (root / "pages/index.tsx").unlink()
    (root / "pages").rmdir()
    assert "neither app/ nor src/app/" in refusal(root).message


def test_javascript_alone_is_refused(tmp_path: Path) -> None:
    assert "JavaScript project" in refusal(make_project(tmp_path, typescript=False)).message


def test_only_what_is_missing_for_typescript_is_asked_for(tmp_path: Path) -> None:
    there = LATEST | {"typescript": "5", "@types/react": "19"}
    hint = refusal(make_project(tmp_path, there, typescript=False)).hint
    assert hint is not None
    assert hint.startswith("Run: npm install -D @types/node  then make a tsconfig.json")
    told = refusal(make_project(tmp_path / "all", there | {"@types/node": "24"}, typescript=False)).hint
    assert told is not None
    assert "install" not in told
