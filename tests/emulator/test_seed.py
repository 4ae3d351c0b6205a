"""Seeds: read strictly, planted once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.world import World, WorldMaker
from tenantry.emulator.seed import DEFAULT, Seed, SeedOrganization, SeedUser, plant, read_seed

EXAMPLE = """
[settings]
slugs = true
max_allowed_memberships = 20

[[permissions]]
key = "org:reports:read"
name = "Read reports"

[[roles]]
key = "org:analyst"
name = "Analyst"
permissions = ["org:reports:read", "org:sys_memberships:read"]

[[users]]
email = "kay@example.test"
first_name = "Kay"
public_metadata = { team = "data" }

[[users]]
email = "lou@example.test"

[[organizations]]
name = "Initech"
slug = "initech"
created_by = "kay@example.test"
members = { "lou@example.test" = "org:analyst" }
"""


def members(world: World) -> set[tuple[str, str, str]]:
    state = world.store.state
    return {
        (
            state.organizations[each.organization_id].name,
            state.users[each.user_id].identifier.partition("@")[0],
            state.roles[each.role_id].key,
        )
        for each in state.memberships.values()
    }


def test_the_default_has_three_people_in_two_organizations(world: World) -> None:
    plant(world.store, DEFAULT)
    assert members(world) == {
        ("Acme", "ada", "org:admin"),
        ("Acme", "grace", "org:editor"),
        ("Acme", "alan", "org:member"),
        ("Globex", "alan", "org:admin"),
        ("Globex", "ada", "org:member"),
    }


def test_a_file_says_it_all(world: World, tmp_path: Path) -> None:
    path = tmp_path / "seed.toml"
    path.write_text(EXAMPLE)
    plant(world.store, read_seed(path))
    assert members(world) == {("Initech", "kay", "org:admin"), ("Initech", "lou", "org:analyst")}
    assert world.store.organizations.get("initech").max_allowed_memberships == 20
    assert world.store.users.find("kay@example.test").public_metadata == {"team": "data"}


def test_planting_again_changes_and_announces_nothing(world: World) -> None:
    plant(world.store, DEFAULT)
    world.take()
    plant(world.store, DEFAULT)
    assert world.events == []


def test_what_was_deleted_since_does_not_return(world: World) -> None:
    plant(world.store, DEFAULT)
    world.store.users.delete(world.store.users.find("alan@example.test").id)
    plant(world.store, DEFAULT)
    assert "alan@example.test" not in world.store.state.user_by_email


def test_a_changed_seed_adds_what_is_new(world: World) -> None:
    plant(world.store, DEFAULT)
    more = Seed(
        users=(SeedUser("kay@example.test"),),
        organizations=(SeedOrganization("Acme", members={"kay@example.test": "org:member"}),),
    )
    plant(world.store, more)
    assert ("Acme", "kay", "org:member") in members(world)
    assert len(world.store.state.organizations) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[users]", "not TOML"),
        ("people = []", "the file has people, but knows only"),
        ("[[users]]\nname = 'x'", r"users\[0\] has name, but knows only"),
        ("[[users]]\nfirst_name = 'x'", r"users\[0\] has no email"),
        ("[[users]]\nemail = 1", r"users\[0\]\.email must be str"),
        ("users = 1", "users must be tables"),
        ("users = [1]", r"users\[0\] must be a table"),
        ("[[roles]]\nkey='org:a'\nname='A'\npermissions=[1]", "must hold strings only"),
        ("[[roles]]\nkey='org:a'\nname='A'\npermissions='x'", "must hold strings only"),
        ("[[organizations]]\nname='A'\nmembers={a=1}", "must hold strings only"),
        ("[[organizations]]\nname='A'\nmembers=1", "must hold strings only"),
        ("[[organizations]]\nname='A'\npublic_metadata={a=2020-01-01}", "something that JSON cannot"),
        ("[settings]\nslugs='yes'", r"settings\.slugs must be bool"),
        ("[settings]\nspeed=1", "settings has speed"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "seed.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_seed(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[users]]\nemail='nonsense'", "valid email address"),
        ("[[organizations]]\nname='A'\ncreated_by='nobody@example.test'", "No user was found"),
        ("[[organizations]]\nname='A'\nmembers={'nobody@example.test'='org:member'}", "No user was found"),
        ("[[users]]\nemail='a@example.test'\n[[organizations]]\nname='A'\n"
         "members={'a@example.test'='org:x'}", "no organ"),
        ("[[roles]]\nkey='editor'\nname='E'", "org:<role>"),
        ("[[roles]]\nkey='org:e'\nname='E'\npermissions=['org:a:b']", "No permission was found"),
        ("[settings]\ncreator_role='org:x'\n[[users]]\nemail='a@example.test'\n[[organizations]]\nname='A'\n"
         "created_by='a@example.test'", "no organ"),
    ],
)  # fmt: skip
def test_a_seed_that_breaks_a_rule_is_refused_in_a_sentence(
    make_world: WorldMaker, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "seed.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        plant(make_world().store, read_seed(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.binary())
def test_any_file_is_a_seed_or_a_value_error(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "seed.toml"
    path.write_bytes(text.encode(errors="replace") if isinstance(text, str) else text)
    try:
        read_seed(path)
    except ValueError as error:
        assert str(path) in str(error)
