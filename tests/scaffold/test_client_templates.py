"""What a Next.js app shows in a tab, asks for and caches: the suite's own tests, and ours of the browser's half."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from scaffold.node import SETS, Failed, furnish, run
from tenantry import roles
from tenantry.scaffold.nextjs_suite import SUITE, Choice, render_suite

SUITES = Path(__file__).parent / "suites"
TESTS = "clerk-multitenant/tests"
API = "http://127.0.0.1:8000"
JSX = 'export default { oxc: { jsx: { runtime: "automatic" } } };\n'  # Next.js has its own way with JSX

pytestmark = pytest.mark.requires("node", "npm")


def make_project(folder: Path, choice: Choice, packages: str = "next16") -> Path:
    furnish(folder, packages)
    for path, text in render_suite(choice, roles.DEFAULT).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (folder / "vitest.config.mjs").write_text(JSX, encoding="utf-8")
    return folder


def run_suites(project: Path, *names: str) -> str:
    return run(project, "vitest", "run", *(f"{TESTS}/{name}" for name in names), timeout=120)


@pytest.mark.parametrize("packages", SETS)
def test_a_tab_shows_and_sends_nothing_of_another_tenant(packages: str, tmp_path: Path) -> None:
    """In every version of React and Clerk that is supported."""
    project = make_project(tmp_path, Choice(), packages)
    shutil.copy(SUITES / "tab.test.tsx", project / TESTS)
    run_suites(project, "tab.test.tsx")


def test_caches_and_requests_to_an_api_are_a_tenants_own(tmp_path: Path) -> None:
    project = make_project(tmp_path, Choice(api=API))
    assert "skipped" not in run_suites(project, "cache.test.ts", "tenant-fetch.test.ts")


def test_the_shape_with_an_api_holds_no_code_of_the_database() -> None:
    alone, before_api = (render_suite(choice, roles.DEFAULT) for choice in (Choice(), Choice(api=API)))
    assert "clerk-multitenant/tenant-fetch.server.ts" in before_api.keys() - alone.keys()
    spoken_of = ("clerk-multitenant/settings.ts", "clerk-multitenant/errors.ts")
    assert not [path for path, text in before_api.items() if "DATABASE_URL" in text and path not in spoken_of]
    in_both = ("TenantBoundary.tsx", "OrgSwitcher.tsx", "tenant-fetch.ts", "tenant-key.ts", "cache.ts", "errors.ts")
    assert {f"clerk-multitenant/{name}" for name in in_both} <= alone.keys() & before_api.keys()


@pytest.mark.parametrize("choice", [Choice(), Choice(api=API)])
def test_what_a_browser_loads_is_of_the_browser(choice: Choice) -> None:
    """Next.js would refuse some of the server's files in a bundle, and send the others to everybody in silence."""
    texts = render_suite(choice, roles.DEFAULT)
    loaded = {path for path, text in texts.items() if text.startswith('"use client"')}
    assert loaded
    while reached := {file for path in loaded for file in imported(path, texts)} - loaded:
        loaded |= reached
    servers = r'from "(?:node:|next/headers|next/server|@clerk/nextjs/server|pg")|process\.env\.(?!NEXT_PUBLIC_)'
    assert not [path for path in loaded if re.search(servers, texts[path]) or "organization-sync" in path]


def imported(path: str, texts: Mapping[str, str]) -> Iterator[str]:
    """The files of the suite that one needs when it runs, which types are not."""
    for name in re.findall(r'^import (?!type ).*?from "\./([\w.-]+)";', texts[path], re.MULTILINE | re.DOTALL):
        yield next(f"{SUITE}/{name}{ending}" for ending in (".ts", ".tsx") if f"{SUITE}/{name}{ending}" in texts)


@pytest.mark.parametrize(
    ("route", "mode", "passes"),
    [
        ("/orgs/org_acme", {}, False),
        ("/orgs/[org]/documents", {}, False),
        ("/orgs/[org]/documents", {"renderingMode": "PARTIALLY_STATIC"}, True),
        ("/pricing", {}, True),
    ],
)
def test_a_statically_rendered_page_of_a_tenant_fails_a_test_of_the_user(
    route: str, mode: dict[str, str], passes: bool, tmp_path: Path
) -> None:
    project = make_project(tmp_path, Choice())
    place = "dynamicRoutes" if "[" in route else "routes"
    (project / ".next").mkdir()
    manifest = {"routes": {}, "dynamicRoutes": {}, place: {route: mode}}
    (project / ".next/prerender-manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if passes:
        run_suites(project, "static-pages.test.ts")
    else:
        with pytest.raises(Failed, match="renders tenants' pages for each request"):
            run_suites(project, "static-pages.test.ts")
