"""The page on Next.js, followed from a fresh app to isolated rows, in both shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest

from browser.nextjs import start
from databases import ANY, APP, OWNER, SUPERUSER, Database, Server
from docs.nextjs_app import API, CONFIG, DATABASE, PAGE, follow, make_fresh, read_section, write_files
from emulator.world import serve
from examples.deployment import deploy
from scaffold.node import run
from snippets import ROOT, blocks
from tenantry import schema
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator

FILE = "app/orgs/[org]/logo.png/route.ts"
ROUTE = """import { toResponse } from "../../../../clerk-multitenant/errors";
import { withTenant } from "../../../../clerk-multitenant/tenant";

export const GET = () => withTenant(async (_, { orgId }) => new Response(orgId)).catch(toResponse);
"""
# With `cacheComponents`: what asks for the session stands inside <Suspense>.
CACHING = {
    "app/layout.tsx": """import { ClerkProvider } from "@clerk/nextjs";
import { Suspense, type ReactNode } from "react";

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <Suspense>
          <ClerkProvider>{children}</ClerkProvider>
        </Suspense>
      </body>
    </html>
  );
}
""",
    "app/page.tsx": """import { Suspense } from "react";

import { count } from "../cached";
import { currentTenant, withTenant } from "../clerk-multitenant/tenant";

async function askInside() {
  "use cache";
  return withTenant(async (_, tenant) => tenant.orgId);
}

async function Seen() {
  const counted = await count();
  await currentTenant();
  const alone = await askInside().catch(() => "refused");
  const joined = await withTenant(() => askInside()).catch(() => "refused");
  return <p>{`counted ${counted}, alone ${alone}, joined ${joined}.`}</p>;
}

export default function Page() {
  return (
    <Suspense>
      <Seen />
    </Suspense>
  );
}
""",
    "app/forget/route.ts": """import { expireForTenant } from "../../clerk-multitenant/cache";
import { currentTenant } from "../../clerk-multitenant/tenant";

export async function POST(): Promise<Response> {
  expireForTenant(await currentTenant(), "notes");
  return new Response();
}
""",
}
COMMANDS = 10
COMPILE_SECONDS = 240  # of a page that `next dev` is asked for first, on a busy machine


@pytest.fixture
def empty(servers: Callable[[int], Server]) -> Iterator[Database]:
    server = servers(ANY)
    made = server.create()
    yield made
    server.drop(made)


def bearer(emulator: Emulator, url: str, user: str, organization: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {emulator.mint_token(user, organization, seconds=3600, authorized_party=url)}"}


def open_client(url: str, seconds: float = COMPILE_SECONDS) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=seconds, trust_env=False)


def build(folder: Path, variables: dict[str, str]) -> None:
    """Type-checks too, tests and all, with the configuration that Next.js writes."""
    run(folder, "next", "build", timeout=COMPILE_SECONDS, env=variables)


@pytest.mark.parametrize("shape", [DATABASE, API])
def test_the_path_is_short(shape: str) -> None:
    assert len(read_section(shape).commands) < COMMANDS


@pytest.mark.requires("node", "npm")
def test_a_fresh_app_gets_isolated_rows(empty: Database, open_tmp_path: Path) -> None:
    section = read_section(DATABASE)
    folder = make_fresh(open_tmp_path / "app")

    def run_sql(text: str) -> None:
        with empty.connect(SUPERUSER) as connection:
            connection.execute(text.encode())

    follow(folder, section, run_sql, owner_url=empty.dsn(SUPERUSER), app=APP)
    write_files(folder, {"cached.ts": blocks(PAGE, "ts")[-2], FILE: ROUTE})  # what it says of caches
    with closing(Emulator()) as emulator, serve(create_app(emulator)) as clerk_url:
        organizations = {found.name: found.id for found in emulator.store.state.organizations.values()}
        acme, globex = organizations["Acme"], organizations["Globex"]
        variables = emulator.instance.nextjs_environment(clerk_url) | {
            "DATABASE_URL": empty.dsn(APP),
        }
        build(folder, variables)
        with start(folder, "dev", variables) as url, open_client(url) as client:
            ada = bearer(emulator, url, "ada@example.test", "Acme")
            alan = bearer(emulator, url, "alan@example.test", "Globex")
            home = client.get("/", headers=ada)
            assert (home.status_code, home.headers["location"]) == (307, f"/orgs/{acme}")
            assert httpx.URL(client.get("/").headers["location"]).path == "/sign-in"
            assert client.get("/sign-in").status_code == 200
            made = client.post(f"/orgs/{acme}/notes", json={"text": "Plans of Acme"}, headers=ada)
            assert made.status_code == 201, made.text
            assert "Plans of Acme" in client.get(f"/orgs/{acme}", headers=ada).text
            of_globex = client.get(f"/orgs/{globex}", headers=alan)
            assert (of_globex.status_code, "Plans of Acme" in of_globex.text) == (200, False)
            mismatched = client.get(f"/orgs/{acme}", headers=alan)
            assert (mismatched.status_code, "Plans of Acme" in mismatched.text) == (404, False)
            refused = client.post(f"/orgs/{acme}/notes", json={"text": "Forged"}, headers=alan)
            assert (refused.status_code, refused.json()["code"]) == (409, "organization_mismatch")
            assert client.get(f"/orgs/{acme}/logo.png", headers=ada).text == acme
            assert client.get(f"/orgs/{acme}/logo.png", headers=alan).status_code == 409
    with empty.connect(APP) as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute("select text from notes")
    assert raised.value.sqlstate == "TY001"


@pytest.mark.requires("node", "npm")
def test_what_use_cache_keeps_is_one_tenants(empty: Database, open_tmp_path: Path) -> None:
    section = read_section(DATABASE)
    folder = make_fresh(open_tmp_path / "app")

    def run_sql(text: str) -> None:
        with empty.connect(SUPERUSER) as connection:
            connection.execute(text.encode())

    def add_note(organization: str) -> None:
        with empty.connect(APP) as connection, connection.transaction():
            connection.execute(
                "select tenantry.set_tenant_by_id_v1((tenantry.find_tenant(%s)).id, 'a note')", [organization]
            )
            connection.execute("insert into notes (text) values ('more')")

    follow(folder, section, run_sql, owner_url=empty.dsn(SUPERUSER), app=APP)
    for path in section.files:
        (folder / path).unlink()  # they read the session outside of <Suspense>
    write_files(folder, {"cached.ts": blocks(PAGE, "ts")[-1], **CACHING})
    config = folder / "next.config.ts"
    config.write_text(config.read_text(encoding="utf-8").replace(CONFIG, f"{CONFIG}\n  cacheComponents: true,"))
    with closing(Emulator()) as emulator, serve(create_app(emulator)) as clerk_url:
        variables = emulator.instance.nextjs_environment(clerk_url) | {"DATABASE_URL": empty.dsn(APP)}
        build(folder, variables)
        with start(folder, "start", variables | {"NODE_ENV": "production"}) as url, open_client(url, 30) as client:

            def see(user: str, organization: str) -> list[str]:
                page = client.get("/", headers=bearer(emulator, url, user, organization))
                return sorted(set(re.findall(r"counted (\d+), alone refused, joined refused\.", page.text)))

            ada, alan = ("ada@example.test", "Acme"), ("alan@example.test", "Globex")
            assert (see(*ada), see(*alan)) == (["0"], ["0"])
            for organization in emulator.store.state.organizations:
                add_note(organization)
            assert (see(*ada), see(*alan)) == (["0"], ["0"]), "what is cached stays"
            client.post("/forget", headers=bearer(emulator, url, *ada)).raise_for_status()
            assert (see(*ada), see(*alan)) == (["1"], ["0"]), "and goes for one tenant alone"


@pytest.mark.requires("node", "npm")
def test_a_fresh_app_in_front_of_fastapi_shows_its_rows(empty: Database, open_tmp_path: Path) -> None:
    with empty.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[APP, OWNER])
    with deploy(empty) as deployment:
        ada, zoe = (deployment.clerk.user(name)["id"] for name in ("ada", "zoe"))
        acme = deployment.clerk.organization("Acme", created_by=ada)["id"]
        globex = deployment.clerk.organization("Globex", created_by=zoe)["id"]
        deployment.settle()
        with deployment.sign_in(ada, acme) as client:
            client.post("/api/documents", json={"title": "Plans of Acme"}).raise_for_status()

        folder = make_fresh(open_tmp_path / "app")
        follow(folder, read_section(API), lambda text: None, api=deployment.url)
        emulator = deployment.clerk.emulator
        variables = emulator.instance.nextjs_environment(deployment.clerk.url) | {"TENANTRY_API_URL": deployment.url}
        build(folder, variables)
        with start(folder, "dev", variables) as url, open_client(url) as client:
            # FastAPI takes a Bearer token of any page; this one was made for its own.
            own = client.get(f"/orgs/{acme}", headers=bearer(emulator, deployment.url, ada, acme))
            assert (own.status_code, "Plans of Acme" in own.text) == (200, True)
            others = client.get(f"/orgs/{globex}", headers=bearer(emulator, deployment.url, zoe, globex))
            assert (others.status_code, "Plans of Acme" in others.text) == (200, False)
            wrong = client.get(f"/orgs/{acme}", headers=bearer(emulator, deployment.url, zoe, globex))
            assert (wrong.status_code, "Plans of Acme" in wrong.text) == (404, False)


def test_every_name_of_the_suite_that_the_page_speaks_of_exists() -> None:
    suite = Path(schema.__file__).parent / "scaffold" / "nextjs" / "clerk-multitenant"
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for file in re.findall(r"`([\w-]+(?:\.\w+)*\.tsx?)`", text):
        assert (suite / file).exists() or file in ("proxy.ts", "middleware.ts", "error.tsx"), file
