"""Exhaustively in the small: every order of every history of a few events ends in what Clerk has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attacks.defences import rewrite_sql
from databases import SUPERUSER, Database
from proof.exploring import Explored, explore
from proof.histories import Act, History, histories
from sql.mirror import Mirror

EVENTS = 5
FURTHER_EVENTS = 3  # after those that made two people and two organizations; the long profile takes one more
PEOPLED: tuple[Act, ...] = (
    ("create user", 0, 0),
    ("create user", 1, 0),
    ("create organization", 0, 0),
    ("create organization", 0, 1),
)


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def lived(events: int, begun: tuple[Act, ...] = ()) -> list[History]:
    """With organizations and users that take their memberships along in silence, and with those that tell each."""
    return [history for cascade in (False, True) for history in histories(events, cascade=cascade, begun=begun)]


def told(mirror: Mirror, explored: Explored) -> None:
    """The numbers, for who runs with `-rP`."""
    print(f"PostgreSQL {mirror.connection.info.server_version // 10000}: {explored}")


def test_every_order_of_every_history_of_up_to_five_events_ends_in_what_clerk_has(mirror: Mirror) -> None:
    explored = explore(mirror, lived(EVENTS))
    told(mirror, explored)
    assert (explored.histories, explored.orders) == (1012, 103_031), "or fewer are tried than once were"


def test_every_order_of_what_may_follow_where_people_and_organizations_exist_ends_in_what_clerk_has(
    mirror: Mirror, thorough: bool
) -> None:
    begun, *_ = later = lived(len(PEOPLED) + FURTHER_EVENTS + thorough, PEOPLED)
    explored = explore(mirror, later, begun.told)
    told(mirror, explored)
    assert thorough or (explored.histories, explored.orders) == (861, 4_751), "or fewer are tried than once were"


Rewritten = tuple[str, str, str]  # a function, a line of it, what stands there instead
BROKEN: dict[str, tuple[Rewritten, ...]] = {
    "the newest snapshot wins": (
        (
            "keep_newest_snapshot",
            "if (old.revision, old.observed_at, old.content_hash) > (new.revision, new.observed_at, new.content_hash)",
            "if false",
        ),
        (
            "is_news",
            "(new_revision, new_observed_at, new_hash) > (known_revision, known_observed_at, known_hash)",
            "true",
        ),
    ),
    "a deletion is final": (("keep_newest_snapshot", "greatest(old.deleted_at, new.deleted_at)", "new.deleted_at"),),
    "the newest membership counts": (
        ("note_members", "now := tenantry.newer_membership(now, other);", "null;"),
    ),
    "an organization's members leave with it": (
        ("note_parents_updated", "if not exists (select from new_rows", "if true or not exists (select from new_rows"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("defence", BROKEN)
def test_without_a_defence_some_order_ends_wrongly(mirror: Mirror, defence: str) -> None:
    for name, line, instead in BROKEN[defence]:
        rewrite_sql(mirror.connection, name, line, instead)
    with pytest.raises(AssertionError):
        explore(mirror, lived(EVENTS if defence == "the newest membership counts" else 4))
