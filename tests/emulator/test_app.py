"""The emulator as a whole: the same instance after a restart, and nothing lost with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from emulator.world import Runner
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import DEFAULT, EMPTY


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
