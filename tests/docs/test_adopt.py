"""The page on moving an app, followed to the letter: by the app before organizations, and by the one after."""

from __future__ import annotations

import asyncio
import csv
import difflib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from psycopg import sql
from sqlalchemy import create_engine

from adopt import worlds
from databases import OWNER, SUPERUSER, Database, Server
from instance import SECRET, delivery
from reconciling import World as Clerk
from reconciling import clerk_world
from signer import ISSUER, Signer, claims_v2
from snippets import ROOT, blocks
from tenantry.adopt import config, graph, ownership, svg
from tenantry.adopt.catalog import Column, Index, Reference, Schema, Table
from tenantry.adopt.plan import Rows
from tenantry.emulator.store import Event

PAGE = "docs/adopt.md"
APP = ROOT / "tests" / "adopt" / "app"
PEOPLE = {"ada": "Harbor", "ben": "Harbor", "cleo": "Pine"}
SECONDS = 120  # at most, that a command may take


@dataclass
class Walk:
    """A user of the page: a folder to work in, an app's database, and organizations in Clerk."""

    folder: Path
    database: Database
    clerk: Clerk
    people: dict[str, str]  # name -> Clerk's id

    async def follow(self, block: str, *, code: int = 0) -> str:
        """Runs the commands of a block; answers what they printed."""
        printed = ""
        for line in block.splitlines():
            if line.startswith("export "):
                continue  # `environment` has the same
            program, *words = line.split()
            assert program == "tenantry"
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tenantry", *words),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
            )
            output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
            assert process.returncode == code, f"{line}\n{output.decode()}"
            printed += output.decode()
        return printed

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "DATABASE_URL": self.database.dsn("app"),
            "TENANTRY_MIGRATION_URL": self.database.dsn("owner"),
            "CLERK_SECRET_KEY": self.clerk.settings.secret_key or "",
            "CLERK_API_URL": self.clerk.settings.api_url,
            "TENANTRY_CLERK_BUDGET": "100",
        }

    def choose(self, rows: str) -> None:
        """Puts the page's [rows] into adopt.toml."""
        file = self.folder / "adopt.toml"
        written, count = re.subn(
            r"^\[rows\]\n(?:\w.*\n)*\n\[rows.organizations\]\n(?:\w.*\n)*", rows, file.read_text(), flags=re.MULTILINE
        )
        assert count == 1
        file.write_text(written)

    @property
    def organizations(self) -> dict[str, str]:
        """Clerk's ids by company, once they are there."""
        file = self.folder / "companies.csv"
        return dict(csv.reader(file.read_text().splitlines())) if file.exists() else {}

    @asynccontextmanager
    async def serve(self, name: str, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
        """The app of that name, as this database's."""
        for variable, value in (self.environment() | {"CLERK_JWT_KEY": signer.pem, "CLERK_ISSUER": ISSUER}).items():
            monkeypatch.setenv(variable, value)
        module = load(name, monkeypatch)
        async with (
            module.app.router.lifespan_context(module.app),
            httpx.AsyncClient(transport=httpx.ASGITransport(module.app), base_url="http://app.test") as client,
        ):
            yield App(client, signer, self)
        await module.engine.dispose()


@dataclass
class App:
    client: httpx.AsyncClient
    signer: Signer
    walk: Walk

    async def ask(self, person: str, method: str, path: str, **params: str) -> httpx.Response:
        """As somebody, in the organization of their company."""
        return await self.ask_in(self.walk.organizations.get(PEOPLE[person]), person, method, path, **params)

    async def ask_in(self, org_id: str | None, person: str, method: str, path: str, **params: str) -> httpx.Response:
        organization = {"id": org_id, "rol": "member"} if org_id else None
        claims = claims_v2(sub=self.walk.people[person], o=organization, azp=None)
        headers = {"Authorization": f"Bearer {self.signer.sign(claims)}"}
        return await self.client.request(method, path, params=params, headers=headers)

    async def hear(self, events: list[Event]) -> None:
        """What Clerk tells by webhooks."""
        for event in events:
            headers, body = delivery(self.walk.clerk.letter(event))
            response = await self.client.post("/webhooks/clerk", headers=headers, content=body)
            assert response.status_code == 200, response.text

    async def get(self, person: str, path: str) -> Any:
        response = await self.ask(person, "GET", path)
        return response.json() if response.status_code == 200 else response.status_code

    async def add_project(self, person: str, name: str) -> int:
        response = await self.ask(person, "POST", "/projects", name=name)
        assert response.status_code == 200, response.text
        number = int(response.json())
        assert (await self.ask(person, "POST", f"/projects/{number}/tasks", title=f"of {name}")).status_code == 200
        return number


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_{name}", APP / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where FastAPI and SQLAlchemy look annotations up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(lone_server: Server, tmp_path: Path) -> Iterator[Walk]:
    """An empty database of the page's two logins, and its people."""
    database = lone_server.create()
    with database.connect(SUPERUSER) as connection:
        connection.execute("create role owner login nosuperuser createrole")
        connection.execute("create role app login nosuperuser")
        connection.execute(sql.SQL("alter database {} owner to owner").format(sql.Identifier(database.name)))
    with clerk_world(database) as clerk:
        yield Walk(tmp_path, database, clerk, {person: clerk.user(person) for person in PEOPLE})


@pytest.fixture
def walk(place: Walk, monkeypatch: pytest.MonkeyPatch) -> Walk:
    """The page's app with its users."""
    make_tables(place, "before", monkeypatch)
    with place.database.connect("owner") as connection:
        connection.execute("insert into priorities values ('low'), ('normal'), ('high')")
        for person, company in PEOPLE.items():
            values = [place.people[person], f"{person}@example.test", company]
            connection.execute("insert into users (clerk_id, email, company) values (%s, %s, %s)", values)
    return place


def make_tables(walk: Walk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", walk.database.dsn("app"))
    engine = create_engine(walk.database.url("owner"))
    load(name, monkeypatch).Base.metadata.create_all(engine)
    engine.dispose()
    with walk.database.connect("owner") as connection:
        connection.execute("grant select, insert, update, delete on all tables in schema public to app")


async def test_the_page_moves_its_app_while_it_serves(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    [prepare, plan, organizations, again, apply, undo, reapply, watch, isolate, contract] = blocks(PAGE, "console")
    rows, *_ = blocks(PAGE, "toml")
    proposed, _ = blocks(PAGE, "text")
    signer = Signer(walk.clerk.emulator.instance.id)
    async with walk.serve("before", signer, monkeypatch) as old:
        first = await old.add_project("ada", "Atlas")
        await old.add_project("cleo", "Comet")
        await walk.follow(prepare)
        assert proposed in await walk.follow(plan, code=1)  # which organizations the companies are is not known yet
        walk.choose(rows)
        await walk.follow(organizations)
        [picture] = blocks(PAGE, "mermaid")
        assert picture in await walk.follow(again)
        async with busy(old, "ben", "busy"):
            await walk.follow(apply)
            await walk.follow(undo)
            await walk.follow(reapply)
        assert await old.get("ada", "/projects") == ["Atlas"]
        assert await old.get("ben", f"/projects/{first}/tasks") == 404  # to this app a colleague is a stranger
        async with walk.serve("after", signer, monkeypatch) as new:
            assert await old.add_project("ada", "Basalt")
            assert await new.add_project("ben", "Cinder")
            assert await new.add_project("cleo", "Dune")
            async with busy(old, "ada", "busy again"):
                assert "projects" in await walk.follow(watch, code=1)
            async with busy(new, "ben", "busier"):
                await walk.follow(watch)
            await walk.follow(isolate)
            await check_apart(new, first)
            await walk.follow(contract)
            await check_apart(new, first)
            await new.add_project("cleo", "Atlas")
            assert await new.get("cleo", "/projects") == ["Atlas", "Comet", "Dune"]


async def check_apart(app: App, atlas: int) -> None:
    """Colleagues share what they have, others see nothing of it."""
    for person in ("ada", "ben"):
        names = await app.get(person, "/projects")
        assert [name for name in names if not name.startswith("bus")] == ["Atlas", "Basalt", "Cinder"]
        assert await app.get(person, f"/projects/{atlas}/tasks") == ["of Atlas"]
    assert await app.get("cleo", "/projects") == ["Comet", "Dune"]
    assert await app.get("cleo", f"/projects/{atlas}/tasks") == 404
    assert (await app.ask("cleo", "POST", f"/projects/{atlas}/tasks", title="mine")).status_code == 404


@asynccontextmanager
async def busy(app: App, person: str, name: str) -> AsyncIterator[None]:
    """Somebody works meanwhile, and every request succeeds."""
    stop = asyncio.Event()

    async def work() -> int:
        count = 0
        while not stop.is_set():
            await app.add_project(person, f"{name} {count}")
            assert f"{name} {count}" in await app.get(person, "/projects")
            count += 1
            await asyncio.sleep(0.005)
        return count

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        stop.set()
        assert await asyncio.wait_for(task, 30) > 5


@pytest.mark.parametrize(("number", "name"), [(0, ""), (1, "by_hand_")])
def test_the_page_shows_how_the_app_changes(number: int, name: str) -> None:
    before, after = ((APP / f"{name}{when}.py").read_text().splitlines(keepends=True) for when in ("before", "after"))
    shown = blocks(PAGE, "diff")[number]
    assert shown == "".join(difflib.unified_diff(before, after, "before.py", "after.py", n=1))


async def test_the_page_moves_an_app_with_organizations_by_hand(place: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    [prepare, _, _, _, apply, _, _, _, isolate, contract] = blocks(PAGE, "console")
    signer = Signer(place.clerk.emulator.instance.id)
    make_tables(place, "by_hand_before", monkeypatch)
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
    companies = {"ada": place.clerk.organization("Harbor"), "cleo": place.clerk.organization("Pine")}
    for person, org_id in companies.items():
        place.clerk.join(org_id, place.people[person])

    async def bill(app: App, person: str, total: int) -> None:
        response = await app.ask_in(companies[person], person, "POST", "/invoices", total=str(total))
        assert response.status_code == 200, response.text

    async def totals(app: App) -> list[Any]:
        asked = [await app.ask_in(org_id, person, "GET", "/invoices") for person, org_id in companies.items()]
        return [response.json() for response in asked]

    async with place.serve("by_hand_before", signer, monkeypatch) as old:
        await old.hear(place.clerk.take_events())
        await bill(old, "ada", 1)
        await bill(old, "cleo", 2)
        await place.follow(prepare)
        await place.follow("tenantry adopt plan")
        file = place.folder / "adopt.toml"
        file.write_text(file.read_text().replace('then = "leave"', 'then = "follow"'))
        await place.follow(apply)
        async with place.serve("by_hand_after", signer, monkeypatch) as new:
            await bill(old, "ada", 3)
            await bill(new, "ada", 4)
            assert await totals(old) == await totals(new) == [[1, 3, 4], [2]]
            await place.follow(isolate)
            companies["ben"] = place.clerk.organization("Cedar", place.people["ben"])
            await new.hear(place.clerk.take_events())
            await bill(new, "ben", 5)
            await place.follow(contract)
            assert await totals(new) == [[1, 3, 4], [2], [5]]


async def test_the_page_tells_what_is_found_of_organizations_by_hand(database: Database, tmp_path: Path) -> None:
    worlds.handmade(database)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tenantry", "adopt", "plan"),
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"DATABASE_URL": database.dsn(OWNER)},
    )
    output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    _, told = blocks(PAGE, "text")
    for lines in re.findall(r"^\S.*\n  .*$", told, re.MULTILINE):
        assert lines in output.decode()
    _, source, _ = blocks(PAGE, "toml")
    written = (tmp_path / "adopt.toml").read_text(encoding="utf-8")
    assert source in written.replace('then = "leave"', 'then = "follow"')


def test_the_page_shows_how_a_reference_is_named() -> None:
    *_, named = blocks(PAGE, "toml")
    [decision] = config.parse(named).decisions
    assert (decision.tenant, decision.refers_to) == ("reference", "public.articles (id)")


def test_the_page_shows_the_picture_that_is_drawn() -> None:
    """To draw it anew, write what is compared here into the file."""

    def table(name: str, rows: int, key: str = "id", **refers: str) -> Table:
        columns = (Column(key, "integer", True), *(Column(column, "integer", True) for column in refers))
        keys = (Index(f"{name}_pkey", (key,), unique=True, primary=True),)
        references = tuple(Reference(f"{c}_fkey", (c,), f"public.{to}", ("id",)) for c, to in refers.items())
        return Table(f"public.{name}", "owner", columns, keys, references, rows=rows)

    tables = [
        table("users", 240),
        table("priorities", 3, key="name"),
        table("projects", 1_900, owner_id="users"),
        table("tasks", 31_400, project_id="projects", priority="priorities"),
    ]
    schema = Schema({each.name: each for each in tables})
    plan, _ = ownership.propose(schema, Rows(to="column", column="company"))
    [shown] = blocks(PAGE, "mermaid")
    assert graph.mermaid(plan, schema) == shown
    assert svg.draw(plan, schema) == (ROOT / "docs" / "images" / "adopt.svg").read_text(encoding="utf-8")


def test_the_page_names_every_option() -> None:
    import typer.main

    from tenantry.cli import app

    page = (ROOT / PAGE).read_text()
    group: Any = typer.main.get_group(app).commands["adopt"]
    for name, command in group.commands.items():
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        missing = {option for option in options - {"--help", "--database-url"} if option not in page}
        assert not missing, f"{name}: {missing}"
