"""Merging: any order, any duplication and any loss followed by a reconcile end in what Clerk has."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from databases import SUPERUSER, Database
from sql.clerk_objects import (
    START,
    Clerk,
    Json,
    deleted,
    domain,
    event,
    invitation,
    membership,
    organization,
    permission,
    role,
    user,
)
from sql.mirror import Mirror

ORGS = [f"org_{n}" for n in range(3)]
USERS = [f"user_{n}" for n in range(3)]
ROLES = ["org:admin", "org:member", "org:editor"]
NAMES = ["Acme", "Birch", "Cobalt"]

PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

ACTS: dict[str, Callable[[Clerk, str, str, int], None]] = {
    "create organization": lambda clerk, org, person, n: clerk.create_organization(org, person, NAMES[n]),
    "rename organization": lambda clerk, org, _, n: clerk.update_organization(org, name=NAMES[n]),
    "delete organization": lambda clerk, org, _, n: clerk.delete_organization(org) if n == 0 else None,
    "create user": lambda clerk, _, person, n: clerk.create_user(person, NAMES[n]),
    "rename user": lambda clerk, _, person, n: clerk.update_user(person, first_name=NAMES[n]),
    "ban user": lambda clerk, _, person, n: clerk.update_user(person, banned=n > 0),
    "delete user": lambda clerk, _, person, n: clerk.delete_user(person) if n == 0 else None,
    "join": lambda clerk, org, person, n: clerk.join(org, person, ROLES[n]),
    "leave": lambda clerk, org, person, _: clerk.leave(org, person),
    "change role": lambda clerk, org, person, n: clerk.change_role(org, person, ROLES[n]),
}


@st.composite
def histories(draw: st.DrawFn) -> Clerk:
    """A Clerk that has lived: two organizations and users to begin with, then acts, some within one millisecond."""
    clerk = Clerk(cascade=draw(st.booleans()))
    for person in USERS[:2]:
        clerk.create_user(person)
    for org, person in zip(ORGS, USERS[:2], strict=False):
        clerk.create_organization(org, person)
    act = st.tuples(
        st.sampled_from(list(ACTS)),
        st.sampled_from(ORGS),
        st.sampled_from(USERS),
        st.integers(0, 2),
        st.sampled_from([0, 0, 1, 700]),
        st.sampled_from([0, 18, 3000]),
    )
    for name, org, person, n, gap, lag in draw(st.lists(act, min_size=4, max_size=20)):
        clerk.wait(gap)
        clerk.lag = lag
        ACTS[name](clerk, org, person, n)
    return clerk


def deliver_in_disorder(mirror: Mirror, events: list[Json], seed: int) -> None:
    """Each event at least once, in any order, some twice, in batches of any size."""
    chance = random.Random(seed)
    deliveries = [mirror.delivery(e, f"msg_{number}") for number, e in enumerate(events)]
    deliveries += chance.sample(deliveries, len(deliveries) // 3)
    chance.shuffle(deliveries)
    while deliveries:
        size = chance.choice([1, 1, 2, 5, 20])
        mirror.deliver_all(deliveries[:size])
        deliveries = deliveries[size:]


def reconcile(mirror: Mirror, clerk: Clerk) -> None:
    """Lists everything, and merges what is no longer there as confirmed absences."""
    live = {
        "users": ("users", "id"),
        "organizations": ("tenants", "clerk_org_id"),
        "memberships": ("tenant_memberships", "id"),
    }
    at = clerk.now + 10_000
    for kind, (table, key) in live.items():
        listing = clerk.listing(kind)
        known = set(mirror.column(f"select {key} from tenantry.{table} where ended_at is null"))
        mirror.merge_page(kind, listing, at, absent=sorted(known - {shown["id"] for shown in listing}))


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def versions(mirror: Mirror, *tables: str) -> list[tuple[Any, ...]]:
    """The physical rows: another row version means that somebody wrote."""
    return [
        row
        for t in tables or ("tenants", "users")
        for row in mirror.rows(f"select xmin::text, ctid::text from tenantry.{t}")
    ]


def tried(mirror: Mirror) -> Any:
    """A transaction that leaves nothing behind."""
    return mirror.connection.transaction(force_rollback=True)


@pytest.mark.attack(88)
@PROPERTY
@given(clerk=histories(), seed=st.integers(0, 2**32))
def test_any_order_of_deliveries_ends_in_what_clerk_has(mirror: Mirror, clerk: Clerk, seed: int) -> None:
    with tried(mirror):
        deliver_in_disorder(mirror, clerk.events, seed)
        state, truth = mirror.state(), clerk.truth()
        doubted = set(mirror.column("select clerk_org_id from tenantry.tenants where needs_refetch"))
        doubted |= set(mirror.column("select id from tenantry.users where needs_refetch"))
        pairs = set(
            mirror.rows(
                "select t.clerk_org_id, m.user_id from tenantry.tenant_memberships m"
                " join tenantry.tenants t on t.id = m.tenant_id where m.needs_refetch"
            )
        )
        assert state.members.keys() == truth.members.keys()
        assert state.organizations.keys() == truth.organizations.keys()
        assert state.users.keys() == truth.users.keys()
        for shown, true, unsure in (
            (state.organizations, truth.organizations, doubted),
            (state.users, truth.users, doubted),
            (state.members, truth.members, pairs),
        ):
            assert {key: value for key, value in shown.items() if key not in unsure} == {
                key: value for key, value in true.items() if key not in unsure
            }
        mirror.check_feed()


@pytest.mark.attack(88)
@PROPERTY
@given(clerk=histories(), one=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_two_orders_end_in_the_same_rows(mirror: Mirror, clerk: Clerk, one: int, other: int) -> None:
    ended = []
    for seed in (one, other):
        with tried(mirror):
            deliver_in_disorder(mirror, clerk.events, seed)
            ended.append(mirror.contents())
    assert ended[0] == ended[1]


@pytest.mark.attack(88, 92)
@PROPERTY
@given(clerk=histories(), seed=st.integers(0, 2**32), lost=st.integers(0, 100))
def test_what_was_lost_is_mended_by_a_reconcile_and_late_deliveries_change_nothing_then(
    mirror: Mirror, clerk: Clerk, seed: int, lost: int
) -> None:
    with tried(mirror):
        chance = random.Random(seed)
        late = [e for e in clerk.events if chance.randrange(100) < lost]
        deliver_in_disorder(mirror, [e for e in clerk.events if e not in late], seed)
        reconcile(mirror, clerk)
        assert mirror.state() == clerk.truth()
        for table in ("tenants", "users", "tenant_memberships"):
            doubted = mirror.column(f"select id from tenantry.{table} where needs_refetch and ended_at is null")
            assert not doubted, f"{table} asks for another refetch after everything was listed"
        mirror.check_feed()
        for e in late:
            mirror.deliver(e)
        state, truth = mirror.state(), clerk.truth()
        assert (state.members.keys(), state.organizations.keys()) == (truth.members.keys(), truth.organizations.keys())
        mirror.check_feed()


@pytest.mark.breach(88)
def test_without_the_trigger_a_late_event_undoes_a_newer_one(mirror: Mirror) -> None:
    late = event("organization.updated", organization(at=START + 1, name="Old"), at=START + 1)
    mirror.deliver(event("organization.updated", organization(at=START + 9, name="New"), at=START + 9))
    with tried(mirror):
        mirror.deliver(late)
        assert mirror.state().organizations == {"org_1": "New"}
    mirror.run("alter table tenantry.tenants disable trigger a_keep_newest_snapshot")
    mirror.run("update tenantry.tenants set name = 'Old', revision = 1")
    assert mirror.state().organizations == {"org_1": "Old"}
    mirror.run("alter table tenantry.tenants enable trigger a_keep_newest_snapshot")
    mirror.deliver(event("organization.updated", organization(at=START + 9, name="New"), at=START + 9))
    mirror.run("update tenantry.tenants set name = 'Old', revision = 1")
    assert mirror.state().organizations == {"org_1": "New"}


@pytest.mark.attack(88)
@pytest.mark.parametrize(
    ("prefix", "newer", "older", "column"),
    [
        ("user", user(at=START + 9, first_name="New"), user(first_name="Old"), "first_name from tenantry.users"),
        (
            "organization",
            organization(at=START + 9, name="New"),
            organization(name="Old"),
            "name from tenantry.tenants",
        ),
        (
            "organizationMembership",
            membership(at=START + 9, role="org:New"),
            membership(role="org:Old"),
            "substr(role, 5) from tenantry.tenant_memberships",
        ),
        ("organizationDomain", domain(at=START + 9, name="New"), domain(name="Old"), "name from tenantry.domains"),
        ("role", role(at=START + 9, name="New"), role(name="Old"), "name from tenantry.roles"),
        ("permission", permission(at=START + 9, name="New"), permission(name="Old"), "name from tenantry.permissions"),
    ],
)
def test_a_late_event_does_not_undo_a_newer_one(
    mirror: Mirror, prefix: str, newer: Json, older: Json, column: str
) -> None:
    assert mirror.deliver(event(f"{prefix}.updated", newer, at=START + 10))["outcome"] == "applied"
    assert mirror.deliver(event(f"{prefix}.created", older, at=START + 5))["outcome"] == "stale"
    assert mirror.one(f"select {column}") == "New"


def test_a_late_invitation_does_not_undo_its_acceptance(mirror: Mirror) -> None:
    mirror.deliver(event("organizationInvitation.accepted", invitation(at=START + 9, user_id="user_7"), at=START + 9))
    mirror.deliver(event("organizationInvitation.created", invitation()))
    assert mirror.rows("select status, user_id from tenantry.invitations") == [("accepted", "user_7")]


@pytest.mark.attack(90)
def test_a_deletion_is_final_for_its_id(mirror: Mirror) -> None:
    mirror.deliver(event("organization.deleted", deleted("organization", "org_1"), at=START))
    mirror.deliver(event("organization.updated", organization(at=START + 99), at=START + 99))
    mirror.merge_page("organizations", [organization(at=START + 500)], START + 500)
    assert mirror.state().organizations == {}
    assert mirror.kinds() == []


def test_an_absence_ends_a_row_and_a_later_sighting_revives_it(mirror: Mirror) -> None:
    mirror.deliver(event("organizationMembership.created", membership()))
    mirror.merge_page("memberships", [], START + 100, absent=["orgmem_1"])
    assert mirror.state().members == {}
    mirror.merge_page("memberships", [membership()], START + 50)
    assert mirror.state().members == {}, "an older sighting revives nothing"
    mirror.merge_page("memberships", [membership()], START + 200)
    assert mirror.state().members == {("org_1", "user_1"): "org:member"}


def test_an_absence_of_what_was_never_seen_is_kept_against_older_sightings(mirror: Mirror) -> None:
    for kind, absent in (("memberships", "orgmem_1"), ("users", "user_1"), ("organizations", "org_1")):
        mirror.merge_page(kind, [], START + 100, absent=[absent])
    mirror.deliver(event("organizationMembership.created", membership(), at=START + 50))
    assert mirror.state().members == {}
    mirror.deliver(event("organizationMembership.created", membership(), at=START + 150))
    assert ("org_1", "user_1") not in mirror.state().members, "the user was not seen again"
    mirror.deliver(event("user.created", user(), at=START + 151))
    assert mirror.state().members == {("org_1", "user_1"): "org:member"}


@pytest.mark.parametrize("absence_first", [True, False])
def test_an_organization_that_its_member_showed_later_is_not_absent(mirror: Mirror, absence_first: bool) -> None:
    mirror.deliver(event("organization.created", organization()))
    acts: list[Callable[[], Any]] = [
        lambda: mirror.merge_page("organizations", [], START + 100, absent=["org_1"]),
        lambda: mirror.deliver(event("organizationMembership.created", membership(), at=START + 150)),
    ]
    for act in acts if absence_first else acts[::-1]:
        act()
    assert mirror.state().organizations == {"org_1": "Acme"}
    assert mirror.state().members == {("org_1", "user_1"): "org:member"}


def test_unchanged_parents_are_not_rewritten_by_their_children(mirror: Mirror) -> None:
    shown = organization()
    mirror.deliver(event("organization.created", shown))
    mirror.deliver(event("user.created", user()))
    before = versions(mirror)
    for n in range(5):
        child = membership(f"orgmem_{n}", of=shown | {"members_count": n}, created_at=START + n)
        assert (
            mirror.deliver(event("organizationMembership.created", child, at=START + 100 + n))["outcome"] == "applied"
        )
    mirror.deliver(event("organizationInvitation.created", invitation(), at=START + 200))
    assert versions(mirror) == before
    changed = membership("orgmem_9", of=shown | {"name": "Birch", "updated_at": START + 5})
    mirror.deliver(event("organizationMembership.created", changed, at=START + 300))
    assert versions(mirror) != before, "a parent that changed is written"


def test_a_page_that_shows_nothing_new_writes_nothing(mirror: Mirror) -> None:
    mirror.deliver(event("organizationMembership.created", membership()))
    mirror.deliver(event("user.created", user()))
    tables = ("tenants", "users", "tenant_memberships")
    before = versions(mirror, *tables)
    for kind, page in (("memberships", [membership()]), ("users", [user()]), ("organizations", [organization()])):
        assert mirror.merge_page(kind, {"data": page, "total_count": 1}, START + 900) == {"seen": 1, "changed": []}
    assert versions(mirror, *tables) == before


def test_deleting_a_user_erases_personal_data_for_good(mirror: Mirror) -> None:
    secret = user(username="ana-q", external_id="crm-77", public_metadata={"likes": "tea"})
    mirror.deliver(event("user.created", secret))
    mirror.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 10))
    mirror.deliver(event("user.updated", secret | {"updated_at": START + 9}, at=START + 9))
    mirror.merge_page("users", [secret | {"updated_at": START + 20}], START + 20)
    row = mirror.one("select to_jsonb(u) from tenantry.users u")
    personal = ("first_name", "last_name", "username", "primary_email", "image_url", "external_id", "public_metadata")
    assert {row[name] for name in personal} == {None}
    mirror.run("drop trigger b_erase_deleted_user on tenantry.users")
    mirror.merge_page("users", [secret | {"updated_at": START + 30}], START + 30)
    assert mirror.one("select first_name from tenantry.users") == "Ana", "the trigger is what erases"


@pytest.mark.attack(89)
@pytest.mark.parametrize("second_at", [START + 5, START + 6])
def test_two_contents_of_one_revision_are_settled_alike_in_any_order_and_marked(mirror: Mirror, second_at: int) -> None:
    one = event("organization.updated", organization(name="One"), at=START + 5)
    two = event("organization.updated", organization(name="Two"), at=second_at)
    again = event("organization.updated", organization(name="Two"), at=START + 4)
    ended = []
    for order in ([one, two, again], [again, two, one], [two, again, one]):
        for together in (True, False):
            with tried(mirror):
                deliveries = [mirror.delivery(e) for e in order]
                for batch in [deliveries] if together else [[d] for d in deliveries]:
                    mirror.deliver_all(batch)
                ended.append(mirror.rows("select name, needs_refetch from tenantry.tenants"))
    assert ended == [ended[0]] * 6
    assert ended[0][0][1] is True


def test_a_doubt_ends_when_clerk_is_asked_again(mirror: Mirror) -> None:
    mirror.deliver(event("organization.updated", organization(name="One"), at=START + 5))
    mirror.deliver(event("organization.updated", organization(name="Two"), at=START + 5))
    for name in ("One", "Two"):
        with tried(mirror):
            mirror.merge_page("organizations", [organization(name=name)], START + 4)
            assert mirror.one("select needs_refetch from tenantry.tenants"), "an older answer settles nothing"
            mirror.merge_page("organizations", [organization(name=name)], START + 1000)
            assert mirror.rows("select name, needs_refetch from tenantry.tenants") == [(name, False)]


def test_an_invitation_keeps_its_organization_when_a_later_event_names_none(mirror: Mirror) -> None:
    placed = event("organizationInvitation.created", invitation(), at=START + 1)
    bare = {name: value for name, value in invitation(at=START + 9).items() if name != "organization_id"}
    unplaced = event("organizationInvitation.revoked", bare, at=START + 9)
    for order in ([placed, unplaced], [unplaced, placed]):
        with tried(mirror):
            for e in order:
                mirror.deliver(e)
            assert mirror.rows("select status, tenant_id is not null from tenantry.invitations") == [("revoked", True)]


def test_a_content_hash_does_not_depend_on_the_time_zone_of_the_connection(mirror: Mirror) -> None:
    shown = invitation(expires_at=START + 1_000_000)
    mirror.deliver(event("organizationInvitation.created", shown))
    mirror.run("set timezone = 'Asia/Tokyo'")
    page = mirror.merge_page("invitations", [shown], START + 100)
    assert page == {"seen": 1, "changed": []}


def test_a_membership_deletion_that_names_no_place_leaves_the_known_place(mirror: Mirror) -> None:
    gone = event("organizationMembership.deleted", {"id": "orgmem_1", "updated_at": START + 50}, at=START + 60)
    created = event("organizationMembership.created", membership())
    for order in ([created, gone], [gone, created]):
        with tried(mirror):
            for e in order:
                mirror.deliver(e)
            placed = "user_id, tenant_id is not null, ended_at is null"
            rows = mirror.rows(f"select {placed} from tenantry.tenant_memberships")
            assert rows == [("user_1", True, False)]
            assert mirror.kinds().count("member.joined") == mirror.kinds().count("member.left")


@pytest.mark.attack(90)
def test_a_re_joined_member_outlives_the_late_deletion_of_the_old_membership(mirror: Mirror) -> None:
    mirror.deliver(event("organizationMembership.created", membership()))
    mirror.deliver(
        event("organizationMembership.created", membership("orgmem_2", created_at=START + 50, at=START + 50))
    )
    mirror.deliver(event("organizationMembership.deleted", membership(), at=START + 20))
    assert mirror.state().members == {("org_1", "user_1"): "org:member"}
    assert mirror.column("select id from tenantry.members") == ["orgmem_2"]


@pytest.mark.attack(90)
def test_an_old_membership_that_shows_late_does_not_bring_back_who_left_again(mirror: Mirror) -> None:
    second = membership("orgmem_2", created_at=START + 50, at=START + 50)
    mirror.deliver(event("organizationMembership.deleted", second, at=START + 90))
    mirror.deliver(event("organizationMembership.created", membership()))
    assert mirror.state().members == {}


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**15), st.floats(0, 1e13), st.sampled_from(["", "x", "org:admin", "é"]),
    st.lists(st.one_of(st.sampled_from(["b", "a", "a", ""]), st.integers(), st.none()), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(), max_size=2),
)  # fmt: skip
ADDRESS = st.fixed_dictionaries({"id": st.sampled_from(["idn_1", "idn_2", None, 7]), "email_address": ODD})
PARENT = st.one_of(ODD, st.sampled_from([organization("org_1"), organization("org_2", name=None), {"id": "org_3"}]))
PAGES = {
    "users": st.fixed_dictionaries(
        {"id": st.sampled_from(["user_1", "user_2", "user_3"])},
        optional={
            "email_addresses": st.one_of(ODD, st.lists(ADDRESS, max_size=3)),
            "primary_email_address_id": st.sampled_from(["idn_1", "idn_2", None]),
            **dict.fromkeys(["first_name", "username", "banned", "public_metadata", "created_at", "updated_at"], ODD),
        },
    ),
    "memberships": st.fixed_dictionaries(
        {
            "id": st.sampled_from(["orgmem_1", "orgmem_2", "orgmem_3"]),
            "organization": PARENT,
            "public_user_data": st.sampled_from([{"user_id": "user_1"}, {"user_id": "user_2"}, {}, None, 7]),
            "organization_id": st.sampled_from(["org_1", "org_4"]),
            "user_id": st.sampled_from(["user_5", "user_6"]),
        },
        optional=dict.fromkeys(["role", "permissions", "public_metadata", "created_at", "updated_at"], ODD),
    ),
}


@PROPERTY
@given(data=st.data(), kind=st.sampled_from(list(PAGES)))
def test_a_page_is_read_as_its_objects_are_one_by_one(mirror: Mirror, data: st.DataObject, kind: str) -> None:
    page = data.draw(st.lists(PAGES[kind], min_size=1, max_size=5))
    whole = mirror.one(f"select to_jsonb((tenantry.read_{kind}(%s, now())).{kind})", Jsonb(page))
    each = mirror.one(
        f"select to_jsonb((tenantry.read_objects(%s, array(select jsonb_array_elements(%s)), now())).{kind})",
        kind,
        Jsonb(page),
    )
    key = json.dumps
    now = {"observed_at", "last_seen"}
    shown, expected = (
        sorted(([{k: v for k, v in row.items() if k not in now} for row in rows]), key=key) for rows in (whole, each)
    )
    assert shown == expected


@pytest.mark.parametrize("kind", list(PAGES))
def test_a_page_that_cannot_be_read_says_why(mirror: Mirror, kind: str) -> None:
    for page in ([{"id": None}], [{"name": "x"}], [{"id": "x" * 256, "organization_id": "o", "user_id": "u"}]):
        with pytest.raises(psycopg.Error, match="cannot read") as caught:
            mirror.run(f"select tenantry.read_{kind}(%s, now())", Jsonb(page))
        assert caught.value.sqlstate == "TY010"
