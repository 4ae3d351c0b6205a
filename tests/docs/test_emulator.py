"""The page on the emulator: its commands, its seed file and its Python do what it says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.test_command import command, value
from emulator.world import Receiver, serve, wait_until
from snippets import blocks
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import read_seed

PAGE = "docs/emulator.md"
EMULATOR = "http://127.0.0.1:4010"
APP = "http://127.0.0.1:8000"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """In the place of the app's webhook endpoint."""
    receiver = Receiver()
    with serve(receiver.app()) as url:
        receiver.url = f"{url}/webhooks"
        yield receiver


def run_python(number: int, **replaced: str) -> dict[str, Any]:
    """A Python block of the page, run; the names it leaves."""
    code = blocks(PAGE, "python")[number]
    for name, text in replaced.items():
        assert name in code
        code = code.replace(name, text)
    names: dict[str, Any] = {}
    exec(compile(code, PAGE, "exec"), names)
    return names


def claims(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.requires("curl")
def test_the_commands_of_the_page_start_it_and_send_a_token_to_the_app(receiver: Receiver, tmp_path: Path) -> None:
    start, ask = blocks(PAGE, "bash")
    _, _, arguments = start.strip().replace(f"{APP}/webhooks/clerk", receiver.url).partition("tenantry emulator ")

    async def documents(request: Request) -> Response:
        return JSONResponse(request.headers["authorization"])

    app = Starlette(routes=[Route("/documents", documents)])
    with command(*arguments.split(), "--port", "0") as (_, lines), serve(app) as url:
        wait_until(lambda: any("export CLERK_WEBHOOK_SIGNING_SECRET=" in line for line in lines))
        clerk = value(lines, "CLERK_API_URL")
        for name in ("CLERK_PUBLISHABLE_KEY", "CLERK_SECRET_KEY", "CLERK_WEBHOOK_SIGNING_SECRET"):
            assert value(lines, name)
        script = ask.replace(EMULATOR, clerk).replace(APP, url)
        answer = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=30, check=True)
        sent = answer.stdout.strip('"').removeprefix("Bearer ")
        organizations = httpx.get(
            f"{clerk}/v1/organizations", headers={"authorization": f"Bearer {value(lines, 'CLERK_SECRET_KEY')}"}
        ).json()["data"]
        wait_until(lambda: bool(receiver.events))
    assert claims(sent)["o"]["id"] in [each["id"] for each in organizations if each["name"] == "Acme"]
    assert claims(sent)["exp"] - claims(sent)["iat"] == 60


def test_clerks_own_client_reads_it_as_the_page_says() -> None:
    emulator = Emulator(settings={"slugs": True})
    with serve(create_app(emulator)) as url:
        clerk = run_python(0, **{"sk_test_...": emulator.instance.secret_key, EMULATOR: url})["clerk"]
        people = {user.email_addresses[0].email_address for user in clerk.users.list()}
        slugs = {organization.slug for organization in clerk.organizations.list().data}
    emulator.close()
    assert "ada@example.test" in people
    assert slugs == {"acme", "globex"}


def test_the_seed_file_of_the_page_is_planted(tmp_path: Path) -> None:
    file = tmp_path / "seed.toml"
    file.write_text(blocks(PAGE, "toml")[0])
    emulator = Emulator(seed_data=read_seed(file))
    with serve(create_app(emulator)) as url:
        headers = {"authorization": f"Bearer {emulator.instance.secret_key}"}
        with httpx.Client(base_url=f"{url}/v1", headers=headers) as api:
            [organization] = api.get("/organizations").json()["data"]
            found = api.get("/organization_roles").json()["data"]
    emulator.close()
    assert (organization["name"], organization["slug"]) == ("Initech", "initech")
    assert organization["max_allowed_memberships"] == 20
    [analyst] = [role for role in found if role["key"] == "org:analyst"]
    assert {each["key"] for each in analyst["permissions"]} == {"org:reports:read", "org:sys_memberships:read"}
    assert claims(emulator.mint_token("kay@example.test", "initech"))["o"]["slg"] == "initech"


async def test_the_emulator_of_the_page_for_tests_works_without_a_command(receiver: Receiver) -> None:
    page = run_python(1, **{f"{APP}/webhooks/clerk": receiver.url})
    emulator: Emulator = page["emulator"]
    assert "o" in claims(page["token"])
    assert page["environment"]["CLERK_API_URL"] == EMULATOR
    async with page["app"].router.lifespan_context(page["app"]):
        await emulator.webhooks.drained()
    assert "organization.created" in {event["type"] for event in receiver.events}
    emulator.close()
