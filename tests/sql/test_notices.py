"""Notices of ended access: what may end or shrink it is told at commit, briefly, and nothing else is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from attacks.defences import rewrite_sql
from databases import SUPERUSER, Database
from sql.clerk_objects import START, deleted, event, membership, organization, permission, role, session, user
from sql.mirror import Mirror

LATER = START + 10_000


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    """With user_1 in org_1, and a role of the instance."""
    with database.connect(SUPERUSER) as connection:
        made = Mirror(connection)
        made.deliver(event("user.created", user()))
        made.deliver(event("organizationMembership.created", membership(role="org:member")))
        made.deliver(event("role.created", role()))
        yield made


@pytest.fixture
def listener(mirror: Mirror, database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The app's login, listening."""
    with database.connect() as connection:
        connection.execute("listen tenantry_endings")
        yield connection


def heard(listener: psycopg.Connection[Any]) -> list[str]:
    """What was said since it was last asked: notices arrive with the answer to any statement."""
    listener.execute("select 1")
    return sorted(notice.payload for notice in listener.notifies(timeout=0))


def named(*clerk_ids: str) -> list[str]:
    """How notices name them."""
    return sorted(hashlib.sha256(id_.encode()).hexdigest() for id_ in clerk_ids)


def left(number: int = 1, org: str = "org_1") -> Any:
    shown = membership(f"orgmem_{org}_{number}", of=organization(org), user_id=f"user_{number}")
    return event("organizationMembership.deleted", shown, at=LATER)


ENDINGS = {
    "a removal": (
        event("organizationMembership.deleted", membership(role="org:member"), at=LATER),
        "user_1",
    ),
    "a demotion": (
        event("organizationMembership.updated", membership(role="org:guest", at=LATER), at=LATER),
        "user_1",
    ),
    "a ban": (event("user.updated", user(at=LATER, banned=True), at=LATER), "user_1"),
    "a session's end": (event("session.removed", session("sess_1", at=LATER), at=LATER), "sess_1"),
    "a role that permits less": (event("role.updated", role(at=LATER, permissions=[]), at=LATER), "*"),
    "a role's end": (event("role.deleted", deleted("role", "role_1"), at=LATER), "*"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ends_access_is_told_once(mirror: Mirror, listener: psycopg.Connection[Any], ending: str) -> None:
    told, subject = ENDINGS[ending]
    if ending == "a session's end":  # of the past, it is forgotten already
        mirror.run("insert into tenantry.ended_sessions values ('sess_1', now(), now() + interval '1 day')")
    else:
        assert mirror.deliver(told, "msg_once")["outcome"] == "applied"
    assert heard(listener) == (named(subject) if subject != "*" else [subject])
    mirror.deliver(told, "msg_once")
    mirror.deliver(told)
    assert heard(listener) == []


def test_the_end_of_a_user_or_organization_is_told_of_both_its_kinds(
    mirror: Mirror, listener: psycopg.Connection[Any]
) -> None:
    mirror.deliver(event("organization.deleted", deleted("organization", "org_1"), at=LATER))
    assert heard(listener) == named("org_1", "user_1")  # the organization, and its member who left
    mirror.deliver(event("user.deleted", deleted("user", "user_1"), at=LATER))
    assert heard(listener) == named("user_1")


def test_joins_and_ordinary_changes_are_not_told(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    for told in (
        event("organizationMembership.created", membership("orgmem_2", user_id="user_2")),
        event("organization.updated", organization(name="New name", at=LATER), at=LATER),
        event("user.updated", user(at=LATER, first_name="New name"), at=LATER),
        event("organizationMembership.updated", membership(role="org:member", at=LATER, public_metadata={"a": 1})),
        event("permission.created", permission()),
        event("email.created", {"id": "ema_1"}),
    ):
        mirror.deliver(told)
    assert heard(listener) == []


def test_the_apps_own_map_and_the_instance_concern_everybody(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    mirror.run("select tenantry.set_role_permissions_v1(%s)", Jsonb({"org:admin": ["*"]}))
    assert heard(listener) == ["*"]
    mirror.run("select tenantry.set_role_permissions_v1(%s)", Jsonb({"org:admin": ["*"]}))
    assert heard(listener) == []
    mirror.run("select tenantry.rebind_instance_v1('ins_other')")
    assert heard(listener) == ["*"]


def fill(mirror: Mirror, orgs: int, people: int) -> list[str]:
    """So many organizations with so many members each: the memberships' ids."""
    shown = [
        membership(f"orgmem_{org}_{person}", of=organization(f"org_{org}"), user_id=f"user_{org}_{person}")
        for org in range(orgs)
        for person in range(people)
    ]
    mirror.merge_page("memberships", shown, START)
    return [one["id"] for one in shown]


@pytest.mark.parametrize(
    ("orgs", "people", "subjects"),
    [
        (1, 16, [f"user_0_{person}" for person in range(16)]),
        (1, 17, ["org_0"]),
        (1, 400, ["org_0"]),
        (16, 20, [f"org_{org}" for org in range(16)]),
        (17, 20, ["*"]),
    ],
)
def test_many_endings_at_once_are_few_notices(
    mirror: Mirror, listener: psycopg.Connection[Any], orgs: int, people: int, subjects: list[str]
) -> None:
    ids = fill(mirror, orgs, people)
    assert heard(listener) == []
    mirror.merge_page("memberships", [], LATER, absent=ids)
    assert mirror.one("select count(*) from tenantry.changes where kind = 'member.left'") == len(ids)
    assert heard(listener) == (subjects if subjects == ["*"] else named(*subjects))


def test_the_end_of_a_large_organization_is_told_of_the_organization(
    mirror: Mirror, listener: psycopg.Connection[Any]
) -> None:
    fill(mirror, 1, 100)
    mirror.deliver(event("organization.deleted", deleted("organization", "org_0"), at=LATER))
    assert heard(listener) == named("org_0")


def test_many_ended_sessions_are_one_notice(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    ended = "insert into tenantry.ended_sessions select 'sess_' || n, now(), now() + interval '1 day'"
    mirror.run(f"{ended} from generate_series(1, 17) as n")
    assert heard(listener) == ["*"]
    mirror.run(f"{ended} from generate_series(1, 0) as n")
    assert heard(listener) == []


@pytest.mark.attack(11)
def test_who_listens_inside_a_tenant_learns_no_id_of_another(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    mirror.deliver(event("organizationMembership.deleted", membership(), at=LATER))
    told = " ".join(heard(listener))
    assert told
    assert "user_1" not in told
    assert "org_1" not in told


@pytest.mark.breach(11)
def test_without_the_hash_a_notice_names_who_left(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    rewrite_sql(mirror.connection, "tell_endings", "encode(sha256(convert_to(subject, 'UTF8')), 'hex')", "subject")
    mirror.deliver(event("organizationMembership.deleted", membership(), at=LATER))
    assert heard(listener) == ["user_1"]


def test_what_is_rolled_back_is_not_told(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    with mirror.connection.transaction(force_rollback=True):
        mirror.deliver(event("user.updated", user(at=LATER, banned=True), at=LATER))
    assert heard(listener) == []


def test_the_longest_ids_fit_into_a_notice(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    longest = "u" + "é" * 254
    mirror.deliver(event("user.updated", user(longest, at=START), at=START))
    mirror.deliver(event("user.updated", user(longest, at=LATER, banned=True), at=LATER))
    assert heard(listener) == named(longest)


def test_without_its_trigger_nobody_is_told(mirror: Mirror, listener: psycopg.Connection[Any]) -> None:
    mirror.run("drop trigger notify_endings on tenantry.changes")
    mirror.deliver(event("user.deleted", deleted("user", "user_1"), at=LATER))
    assert heard(listener) == []


def test_a_probe_reaches_who_listens(listener: psycopg.Connection[Any], database: Database) -> None:
    with database.connect() as other:
        other.execute("select tenantry.probe_endings_v1('n0nce-_')")
        assert heard(listener) == ["probe n0nce-_"]
        for refused in ("", "a b", "x" * 65):
            with pytest.raises(psycopg.Error) as caught:
                other.execute("select tenantry.probe_endings_v1(%s)", [refused])
            assert caught.value.sqlstate == "TY010"
