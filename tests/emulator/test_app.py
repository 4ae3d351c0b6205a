"""The emulator as a whole: the same instance after a restart, and nothing lost with it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from starlette.types import Message

from emulator.world import Runner
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.seed import DEFAULT, DEFAULT_PASSWORD, EMPTY
from tenantry.emulator.store.invitations import NewInvitation


def everything(emulator: Emulator) -> str:
    state = emulator.store.state
    tables = (state.users, state.organizations, state.memberships, state.roles, state.permissions, state.sessions)
    return json.dumps([[asdict(record) for record in table.values()] for table in tables])


def test_a_restart_finds_everything_as_it_was(tmp_path: Path) -> None:
    first = Emulator(folder=tmp_path)
    first.mint_token("ada@example.test", "acme")
    acme = first.store.organizations.find("acme")
    first.store.organizations.update(acme.id, {"name": "Acme 2"})
    first.store.users.delete(first.store.users.find("grace@example.test").id)
    before, environment = everything(first), first.environment("http://x")
    first.close()
    second = Emulator(folder=tmp_path)
    assert everything(second) == before
    assert second.environment("http://x") == environment
    assert second.store.state.membership(acme.id, second.store.users.find("ada@example.test").id)
    second.close()


def test_a_restart_gives_no_identifier_twice(tmp_path: Path) -> None:
    ids = set()
    for number in range(3):
        emulator = Emulator(folder=tmp_path, seed_data=EMPTY)
        organization = emulator.store.organizations.create(f"Org {number}")
        emulator.store.organizations.delete(organization.id)
        ids.add(organization.id)
        emulator.close()
    assert len(ids) == 3


def test_one_seed_makes_the_same_identifiers_everywhere() -> None:
    first, second, other = (Emulator(seed=seed) for seed in (1, 1, 2))
    assert list(first.store.state.users) == list(second.store.state.users) != list(other.store.state.users)


def test_the_seed_gives_away_no_secret() -> None:
    assert not set(secrets_of(Emulator())) & set(secrets_of(Emulator()))


def secrets_of(emulator: Emulator) -> list[str | None]:
    """Whatever lets its bearer in as somebody: a cookie, a browser's name, a nonce, two kinds of ticket."""
    store = emulator.store
    ada, acme = store.users.find("ada@example.test"), store.organizations.find("acme")
    client, invited = (
        store.clients.create(),
        NewInvitation(email_address="new@x.test", role=store.roles.find("org:admin")),
    )
    token = store.sessions.create_sign_in_token(ada.id, None, 60).token
    ticket = store.invitations.create(acme, invited).ticket
    return [client.secret, client.dev_browser, store.handshakes.put([]), token, ticket]


def test_settings_given_replace_those_kept_and_others_stay(tmp_path: Path) -> None:
    first = Emulator(folder=tmp_path, settings={"slugs": True})
    first.close()
    second = Emulator(folder=tmp_path, settings={"membership_required": False})
    assert (second.store.state.settings.slugs, second.store.state.settings.membership_required) == (True, False)
    second.close()


def test_state_of_another_release_is_refused_in_a_sentence(tmp_path: Path) -> None:
    Emulator(folder=tmp_path).close()
    with (tmp_path / "state.jsonl").open("a") as file:
        file.write('["user","user_x",{"shape":"unknown"}]\n')
    with pytest.raises(ValueError, match="holds a user that this release does not know"):
        Emulator(folder=tmp_path)


def test_a_password_kept_otherwise_is_refused_in_a_sentence(tmp_path: Path) -> None:
    emulator = Emulator(folder=tmp_path)
    ada = emulator.store.users.find("ada@example.test")
    emulator.store.state.put(replace(ada, password="0" * 64))
    emulator.close()
    again = Emulator(folder=tmp_path)
    sign_in = again.store.sign_ins.create(again.store.clients.create())
    with pytest.raises(ClerkError, match="Password is incorrect"):
        again.store.sign_ins.try_password(again.store.sign_ins.identify(sign_in, "ada@example.test"), DEFAULT_PASSWORD)
    again.close()


def test_settings_of_another_release_are_refused_in_a_sentence(tmp_path: Path) -> None:
    Emulator(folder=tmp_path).close()
    with (tmp_path / "state.jsonl").open("a") as file:
        file.write('["meta","settings",{"unheard_of":true}]\n')
    with pytest.raises(ValueError, match="holds settings that this release does not know"):
        Emulator(folder=tmp_path)


def test_a_start_that_failed_does_not_hold_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no URL") as caught:
        Emulator(folder=tmp_path, webhook_urls=["nonsense"])
    Emulator(folder=tmp_path).close()
    assert caught.value


def test_ten_thousand_organizations_are_paged_to_the_end(run: Runner) -> None:
    running = run(seed_data=EMPTY)
    for number in range(10_000):
        running.emulator.store.organizations.create(f"Org {number}")
    page = running.get("/organizations", limit=500, offset=9_900)
    assert (len(page["data"]), page["total_count"]) == (100, 10_000)


def test_each_api_has_a_place_of_its_own(run: Runner) -> None:
    running = run(seed_data=DEFAULT)
    api = running.api
    assert api.get(f"{running.url}/v1/organizations").json()["total_count"] == 2
    assert api.get(f"{running.url}/__clerk/v1/client").json() == {"response": None, "client": None}
    assert api.get(f"{running.url}/emulator/").json()["instance_id"] == running.emulator.instance.id
    assert "Ada Lovelace" in api.get(f"{running.url}/").text


@pytest.mark.parametrize("path", ["/v1/organizations", "/__clerk/v1/client/sign_ins", "/emulator/users", "/"])
async def test_who_breaks_off_in_the_middle_of_a_body_leaves_no_traceback(path: str) -> None:
    emulator = Emulator()
    key = f"Bearer {emulator.instance.secret_key}".encode()
    arriving: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return arriving.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"authorization", key)],
        "client": ("127.0.0.1", 50000),
    }
    await create_app(emulator)(scope, receive, send)
    assert sent[0]["status"] == 400
