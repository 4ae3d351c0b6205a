"""Who is let in, and as what: a verified token compared with the mirror, by hand in every cell and by a model of Clerk.

"Older", "same" and "newer" are the token's issuance against the second in which the mirror's knowledge was true.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import Server
from sql.tenants import (
    INSTANCE,
    Connection,
    World,
    identity,
    membership,
    open_world,
    organization,
    person,
    record,
    refused,
    set_tenant,
    undone,
)

TRUE_AT = int(time.time()) - 40  # the second of the mirror's newest knowledge
AGES = {"older": -10, "same": 0, "newer": 1}


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        yield made


def absent(app: Connection, kind: str, id_: str) -> None:
    """A complete listing lacked the object, and a request for it confirmed that."""
    options = {"observed_at": TRUE_AT * 1000 + 400, "absent": [id_], "instance_id": INSTANCE}
    app.execute("select tenantry.merge_page_v1(%s, '[]', %s::jsonb)", [kind, json.dumps(options)])


def tell(app: Connection, type_: str, data: dict[str, Any]) -> None:
    assert record(app, type_, data, TRUE_AT + 0.4) == "applied"


def member(id_: str = "orgmem_alpha", **content: object) -> dict[str, Any]:
    return membership(id_, "org_alpha", "user_alpha", **content)  # type: ignore[arg-type]


def nothing(app: Connection) -> None:
    """The organization and the user are known; of a membership, nothing."""
    tell(app, "organization.created", organization("org_new"))


def a_live_membership(app: Connection) -> None:
    tell(app, "organizationMembership.updated", member(updated_at=2))


def a_tombstone(app: Connection) -> None:
    tell(app, "organizationMembership.deleted", member())


def a_live_membership_after_a_tombstone(app: Connection) -> None:
    record(app, "organizationMembership.deleted", member(), TRUE_AT - 20)
    tell(app, "organizationMembership.created", member("orgmem_again", created_at=2))


def a_tombstone_after_an_older_one(app: Connection) -> None:
    record(app, "organizationMembership.deleted", member(), TRUE_AT - 20)
    tell(app, "organizationMembership.deleted", member("orgmem_again", created_at=2))


def an_absent_membership(app: Connection) -> None:
    absent(app, "memberships", "orgmem_alpha")


def an_absent_organization(app: Connection) -> None:
    absent(app, "organizations", "org_alpha")


def an_absent_user(app: Connection) -> None:
    absent(app, "users", "user_alpha")


def a_deleted_organization(app: Connection) -> None:
    tell(app, "organization.deleted", {"id": "org_alpha", "deleted": True})


def a_deleted_user(app: Connection) -> None:
    tell(app, "user.deleted", {"id": "user_alpha", "deleted": True})


def an_ended_session(app: Connection) -> None:
    tell(app, "session.ended", {"id": "sess_alpha", "user_id": "user_alpha"})


def a_ban(app: Connection) -> None:
    tell(app, "user.updated", person("user_alpha", banned=True, updated_at=2))


# Each answer is the role that acts, the token's or the mirror's, or the code of the refusal.
TOKENS, MIRRORS = "org:admin", "org:member"
TABLE: list[tuple[Callable[[Connection], None], str, str, str, str]] = [
    # the mirror has                       older    same     newer    expired
    (nothing, TOKENS, TOKENS, TOKENS, "TY019"),
    (a_live_membership, MIRRORS, MIRRORS, TOKENS, MIRRORS),
    (a_live_membership_after_a_tombstone, MIRRORS, MIRRORS, TOKENS, MIRRORS),
    (a_tombstone, "TY012", "TY012", TOKENS, "TY012"),
    (a_tombstone_after_an_older_one, "TY012", "TY012", TOKENS, "TY012"),
    (an_absent_membership, "TY012", TOKENS, TOKENS, "TY012"),
    (an_absent_organization, "TY013", MIRRORS, TOKENS, "TY013"),
    (an_absent_user, "TY014", MIRRORS, TOKENS, "TY014"),
    (a_deleted_organization, "TY013", "TY013", "TY013", "TY013"),
    (a_deleted_user, "TY014", "TY014", "TY014", "TY014"),
    (an_ended_session, "TY016", "TY016", "TY016", "TY016"),
    (a_ban, "TY015", "TY015", TOKENS, "TY015"),
]
# Under an absent organization or user the membership itself is live, and true as of the token's own second.
UNDERNEATH = {an_absent_organization, an_absent_user}

CELLS = [
    pytest.param(known, age, expired, answer, id=f"{known.__name__}-{age}{'-expired' if expired else ''}")
    for known, older, same, newer, ended in TABLE
    for age, expired, answer in [
        ("older", False, older),
        ("same", False, same),
        ("newer", False, newer),
        *((age, True, ended) for age in AGES),
    ]
]


@pytest.mark.attack(72, 73, 94)
@pytest.mark.parametrize(("known", "age", "expired", "answer"), CELLS)
def test_a_token_is_compared_with_what_the_mirror_knows(
    world: World, known: Callable[[Connection], None], age: str, expired: bool, answer: str
) -> None:
    issued_at = TRUE_AT + AGES[age]
    expires_at = TRUE_AT + 20 if expired else int(time.time()) + 60
    org_id = "org_new" if known is nothing else "org_alpha"
    facts = identity(world.a, org_id=org_id, role="admin", issued_at=issued_at, expires_at=expires_at)
    with world.connect() as app, undone(app):
        if known in UNDERNEATH:
            record(app, "organizationMembership.updated", member(updated_at=2), TRUE_AT + 0.2)
        known(app)
        if answer.startswith("TY"):
            with refused(answer), app.transaction():
                set_tenant(app, facts)
        else:
            assert set_tenant(app, facts)["role"] == answer


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_within_the_second_of_a_deletion_the_deletion_wins(world: World, fraction: float) -> None:
    with world.connect() as app, undone(app):
        a_tombstone(app)  # 0.4 s into that second
        with refused("TY012"), app.transaction():
            set_tenant(app, identity(world.a, issued_at=TRUE_AT + fraction))


def test_an_unknown_user_with_an_expired_token_is_not_asked_to_provision(world: World) -> None:
    with world.connect() as app, refused("TY019"), app.transaction():
        set_tenant(app, identity(world.a, user_id="user_unknown", expires_at=TRUE_AT))


def test_a_token_expires_at_its_second_and_not_after(world: World) -> None:
    with world.connect() as app, undone(app):
        nothing(app)
        now = app.execute("select extract(epoch from now())::float8").fetchone()
        assert now is not None
        with refused("TY019"), app.transaction():
            set_tenant(app, identity(world.a, org_id="org_new", expires_at=now[0]))
        assert set_tenant(app, identity(world.a, org_id="org_new", expires_at=now[0] + 0.5))["role"] == "org:member"


# A model of Clerk: one user joins an organization, changes roles, leaves, joins again. Each event says when it was
# emitted, which is a while after it was true; each token says, in whole seconds, when it was minted.


@dataclass
class Clerk:
    """The truth at each moment, the events it emitted, and the tokens it minted."""

    lag: float
    role: str | None = None
    joined: int = 0
    clock: float = 0.0
    joined_at: float = 0.0
    changed_at: float = 0.0
    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    tokens: list[tuple[int, str]] = field(default_factory=list)

    def do(self, act: str, pause: float) -> None:
        self.clock = round(self.clock + pause, 3)
        if act == "mint" and self.role:
            self.tokens.append((int(TRUE_AT + self.clock), self.role))
        elif act == "leave" and self.role:
            self.emit("deleted")
            self.role = None
        elif act in ("org:admin", "org:member"):
            if self.role is None:
                self.joined += 1
                self.joined_at = self.clock
            verb = "updated" if self.role else "created"
            if act != self.role:
                self.role, self.changed_at = act, self.clock
                self.emit(verb)

    def emit(self, verb: str) -> None:
        data = membership(f"orgmem_{self.joined}", "org_model", "user_alpha", str(self.role))
        data |= {"created_at": self.ms(self.joined_at), "updated_at": self.ms(self.changed_at)}
        self.events.append((TRUE_AT + self.clock + self.lag, f"organizationMembership.{verb}", data))

    def ms(self, clock: float) -> int:
        return int((TRUE_AT + clock) * 1000)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["org:admin", "org:member", "leave", "mint", "mint"]),
        st.sampled_from([0.001, 0.1, 0.4, 1.0, 2.5]),
    ),
    min_size=1,
    max_size=10,
)


def decide(app: Connection, world: World, token: tuple[int, str], expired: bool) -> str | None:
    """The role that a token acts as, or None where it is refused."""
    issued_at, role = token
    expires_at = TRUE_AT + 35 if expired else int(time.time()) + 60
    facts = identity(world.a, org_id="org_model", role=role, issued_at=issued_at, expires_at=expires_at)
    try:
        with app.transaction(force_rollback=True):
            return str(set_tenant(app, facts)["role"])
    except psycopg.Error as error:
        assert error.sqlstate in ("TY011", "TY012", "TY019"), error
        return None


@pytest.mark.attack(72)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS, lag=st.sampled_from([0.018, 3.0]), lost=st.sets(st.integers(0, 9)), data=st.data())
def test_nobody_is_let_in_once_their_removal_has_landed_nor_acts_in_a_wrong_role(
    world: World, acts: list[tuple[str, float]], lag: float, lost: set[int], data: st.DataObject
) -> None:
    clerk = Clerk(lag)
    for act, pause in acts:
        clerk.do(act, pause)
    order = data.draw(st.permutations(range(len(clerk.events))))
    last = len(clerk.events) - 1
    landed: set[int] = set()
    with world.connect() as app, undone(app):
        record(app, "organization.created", organization("org_model"), TRUE_AT - 60)
        for number in order:
            if number in lost and number != last:
                continue
            at, type_, body = clerk.events[number]
            record(app, type_, body, at)
            landed.add(number)
            for token in clerk.tokens:
                for expired in (False, True):
                    answer = decide(app, world, token, expired)
                    if clerk.role is None and last in landed:
                        assert answer is None, f"{token} was let in after the last removal landed"
                    if len(landed) == len(clerk.events) and answer is not None:
                        assert answer == clerk.role, f"{token} acts as {answer}"


@pytest.mark.attack(73)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS, lag=st.sampled_from([0.018, 3.0]))
def test_a_member_is_locked_out_only_while_the_join_is_unknown(
    world: World, acts: list[tuple[str, float]], lag: float
) -> None:
    clerk = Clerk(lag)
    for act, pause in acts:
        clerk.do(act, pause)
    with world.connect() as app, undone(app):
        record(app, "organization.created", organization("org_model"), TRUE_AT - 60)
        for at, type_, body in clerk.events:
            record(app, type_, body, at)
        if clerk.role is not None:
            for token in clerk.tokens:
                assert decide(app, world, token, expired=True) == clerk.role
