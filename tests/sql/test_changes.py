"""The change feed: a row for each real transition, once, and readers that neither skip one nor wait for strangers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from databases import SUPERUSER, Database
from sql.clerk_objects import INSTANCE, START, deleted, event, invitation, membership, organization, user
from sql.mirror import Mirror


@pytest.fixture
def app(database: Database) -> Iterator[Mirror]:
    with database.connect() as connection:
        yield Mirror(connection)


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def read(app: Mirror, **options: Any) -> Any:
    app.one("select tenantry.sequence_changes_v1()")
    return app.one("select tenantry.read_changes_v1(%s)", Jsonb(options))


def write_change(mirror: Mirror, name: str) -> None:
    """A change of no object, by hand: what the feed does with it does not depend on where it comes from."""
    mirror.run("insert into tenantry.changes (kind, object_id, cause) values ('test', %s, 'sql')", name)


def test_each_transition_is_told_once_with_what_it_was_before_and_after(app: Mirror) -> None:
    app.deliver(event("user.created", user()))
    app.deliver(event("organization.created", organization()))
    app.deliver(event("organizationMembership.created", membership(role="org:member")), "msg_join")
    app.deliver(
        event("organizationMembership.updated", membership(role="org:admin", at=START + 5), at=START + 5), "msg_up"
    )
    app.deliver(
        event("organizationMembership.deleted", membership(role="org:admin", at=START + 5), at=START + 9), "msg_out"
    )
    told = read(app)["changes"]
    assert [change["kind"] for change in told] == [
        "user.created",
        "tenant.created",
        "member.joined",
        "member.role_changed",
        "member.left",
    ]
    joined, changed, left = told[2:]
    assert (joined["before"], joined["after"]["role"], joined["message_id"]) == (None, "org:member", "msg_join")
    assert (changed["before"]["role"], changed["after"]["role"], changed["message_id"]) == (
        "org:member",
        "org:admin",
        "msg_up",
    )
    assert (left["before"]["role"], left["after"], left["message_id"]) == ("org:admin", None, "msg_out")
    assert {change["cause"] for change in told} == {"webhook"}
    assert {change["user_id"] for change in told[2:]} == {"user_1"}


def test_duplicates_stale_events_and_unchanged_pages_tell_nothing(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationMembership.updated", membership(at=START + 5), at=START + 5))
    app.deliver(event("user.created", user()))
    before = mirror.kinds()
    app.deliver(event("organizationMembership.updated", membership(at=START + 5), at=START + 5))
    app.deliver(event("organizationMembership.created", membership(), at=START + 1))
    app.deliver(event("organization.created", organization(members_count=77), at=START + 70))
    app.merge_page("memberships", [membership(at=START + 5)], START + 80)
    app.merge_page("users", [user()], START + 80)
    assert mirror.kinds() == before


def test_nothing_personal_of_a_user_is_in_the_feed(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("user.created", user()))
    app.deliver(event("user.updated", user(first_name="Anna", banned=True, at=START + 1), at=START + 1))
    app.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 2))
    assert mirror.kinds() == ["user.created", "user.updated", "user.deleted"]
    text = mirror.one("select string_agg(c::text, '') from tenantry.changes c")
    assert not [word for word in ("Ana", "Anna", "Quist", "ana@example.test", "img.example.test") if word in text]


def test_the_address_of_an_invited_person_is_not_in_the_feed(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationInvitation.created", invitation()))
    app.deliver(event("organizationInvitation.revoked", invitation(at=START + 1), at=START + 1))
    app.deliver(event("organizationInvitation.created", invitation("orginv_2")))
    assert [kind for kind in mirror.kinds() if kind.startswith("invitation")] == [
        "invitation.created",
        "invitation.revoked",
        "invitation.created",
    ]
    assert "guest@example.test" not in mirror.one("select string_agg(c::text, '') from tenantry.changes c")


def test_an_invitation_is_created_then_accepted_or_revoked(app: Mirror, mirror: Mirror) -> None:
    for verb, name in (("accepted", "orginv_1"), ("revoked", "orginv_2")):
        app.deliver(event("organizationInvitation.created", invitation(name)))
        app.deliver(event(f"organizationInvitation.{verb}", invitation(name, at=START + 5, status=verb), at=START + 5))
    kinds = [kind for kind in mirror.kinds() if kind.startswith("invitation")]
    assert kinds == ["invitation.created", "invitation.accepted", "invitation.created", "invitation.revoked"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_who_left_with_the_organization_left_exactly_once(
    app: Mirror, mirror: Mirror, order: tuple[int, ...], together: bool
) -> None:
    for n in (1, 2):
        app.deliver(event("organizationMembership.created", membership(f"orgmem_{n}", user_id=f"user_{n}")))
    ends = [
        event("organization.deleted", deleted("organization", "org_1"), at=START + 50),
        event("organizationMembership.deleted", membership("orgmem_1", user_id="user_1"), at=START + 49),
        event("organizationMembership.deleted", membership("orgmem_2", user_id="user_2"), at=START + 51),
    ]
    deliveries = [app.delivery(ends[n]) for n in order]
    for batch in [deliveries] if together else [[d] for d in deliveries]:
        app.deliver_all(batch)
    left = mirror.column("select user_id from tenantry.changes where kind = 'member.left' order by 1")
    assert left == ["user_1", "user_2"]
    assert mirror.kinds().count("tenant.deleted") == 1


def test_members_leave_with_a_deleted_organization_even_if_no_event_says_so(app: Mirror, mirror: Mirror) -> None:
    for n in (1, 2):
        app.deliver(event("organizationMembership.created", membership(f"orgmem_{n}", user_id=f"user_{n}")))
    app.deliver(event("organizationMembership.deleted", membership("orgmem_2", user_id="user_2"), at=START + 5))
    app.deliver(event("organization.deleted", deleted("organization", "org_1"), at=START + 50), "msg_end")
    ended = mirror.rows("select user_id, message_id from tenantry.changes where kind = 'member.left' order by seq")
    assert [user_id for user_id, _ in ended] == ["user_2", "user_1"]
    assert ended[1][1] == "msg_end"


def test_a_deleted_user_leaves_every_organization(app: Mirror, mirror: Mirror) -> None:
    for n in (1, 2):
        app.deliver(event("organizationMembership.created", membership(f"orgmem_{n}", of=organization(f"org_{n}"))))
    app.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 50))
    app.deliver(
        event("organizationMembership.deleted", membership("orgmem_2", of=organization("org_2")), at=START + 51)
    )
    assert mirror.kinds().count("member.left") == 2


def test_a_weak_absence_and_a_revival_are_told_as_left_and_joined(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationMembership.created", membership()))
    app.merge_page("organizations", [], START + 50, absent=["org_1"])
    app.deliver(event("organization.updated", organization(at=START + 60), at=START + 60))
    moves = [kind for kind in mirror.kinds() if kind.startswith("member") or kind.startswith("tenant")]
    assert moves == [
        "tenant.created",
        "member.joined",
        "member.left",
        "tenant.deleted",
        "member.joined",
        "tenant.created",
    ]
    assert (
        mirror.rows("select cause from tenantry.changes where kind in ('tenant.deleted', 'member.left')")
        == [("reconcile",)] * 2
    )


def test_who_re_joined_between_two_listings_has_left_and_joined(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationMembership.created", membership()))
    again = membership("orgmem_2", at=START + 50, created_at=START + 50)
    app.merge_page("memberships", [again], START + 100, absent=["orgmem_1"])
    moves = mirror.rows("select kind, object_id from tenantry.changes where kind like 'member.%' order by seq")
    assert moves == [("member.joined", "orgmem_1"), ("member.left", "orgmem_1"), ("member.joined", "orgmem_2")]


def test_a_token_causes_a_tenant_and_a_user_and_nothing_more(app: Mirror, mirror: Mirror) -> None:
    now = mirror.one("select extract(epoch from now())::bigint")
    identity = {"user_id": "user_1", "org_id": "org_1", "role": "org:admin", "issued_at": now, "expires_at": now + 60}
    first = app.provision(identity | {"instance_id": INSTANCE})
    assert sorted(first["created"]) == ["org_1", "user_1"]
    assert app.provision(identity) == {"created": [], "tenant_id": first["tenant_id"]}
    assert mirror.rows("select kind, cause from tenantry.changes order by seq") == [
        ("tenant.created", "token"),
        ("user.created", "token"),
    ]
    assert mirror.one("select count(*) from tenantry.tenant_memberships") == 0
    app.deliver(event("organization.created", organization(name="Named later")))
    assert mirror.rows("select id::text, name from tenantry.tenants") == [(first["tenant_id"], "Named later")]


def test_a_token_creates_no_second_tenant_for_what_a_webhook_made(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationMembership.created", membership()))
    now = mirror.one("select extract(epoch from now())::bigint")
    answer = app.provision({"user_id": "user_1", "org_id": "org_1", "issued_at": now, "expires_at": now + 60})
    assert answer["created"] == []
    assert mirror.one("select count(*) from tenantry.tenants") == 1


def test_changes_are_read_in_pages_from_a_position(app: Mirror, mirror: Mirror) -> None:
    for n in range(5):
        write_change(mirror, f"change_{n}")
    first = read(app, limit=2)
    second = read(app, after=first["pos"], limit=2)
    third = read(app, after=second["pos"])
    names = [change["object_id"] for page in (first, second, third) for change in page["changes"]]
    assert names == [f"change_{n}" for n in range(5)]
    assert read(app, after=third["pos"]) == {"changes": [], "pos": third["pos"]}


@pytest.mark.parametrize(
    "options", [{"after": "x"}, {"after": -1}, {"limit": -5}, {"limit": 1.5}, {"after": 10**30}, {"limit": []}]
)
def test_a_position_that_is_no_number_is_refused(app: Mirror, options: Any) -> None:
    with pytest.raises(psycopg.Error) as raised:
        app.one("select tenantry.read_changes_v1(%s)", Jsonb(options))
    assert raised.value.sqlstate == "TY010"


def test_a_change_committed_late_is_read_late_and_not_skipped(app: Mirror, mirror: Mirror, database: Database) -> None:
    with database.connect(SUPERUSER, autocommit=False) as slow:
        write_change(Mirror(slow), "slow")
        write_change(mirror, "quick")
        page = read(app)
        assert [change["object_id"] for change in page["changes"]] == ["quick"]
        slow.commit()
    assert [change["object_id"] for change in read(app, after=page["pos"])["changes"]] == ["slow"]


def test_readers_skip_no_change_while_many_writers_commit_late(app: Mirror, database: Database) -> None:
    writers, each = 6, 40
    running = threading.Barrier(writers + 1)

    def write(number: int) -> None:
        chance = random.Random(number)
        with database.connect(SUPERUSER, autocommit=False) as connection:
            running.wait()
            for n in range(each):
                write_change(Mirror(connection), f"{number}:{n}")
                time.sleep(chance.random() / 100)
                connection.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    running.wait()
    seen: list[str] = []
    position = 0
    more = True
    while more:
        writing = any(thread.is_alive() for thread in threads)
        page = read(app, after=position, limit=7)
        position = page["pos"]
        seen += [change["object_id"] for change in page["changes"]]
        more = writing or bool(page["changes"])
    assert len(seen) == len(set(seen)) == writers * each
    for number in range(writers):
        own = [name for name in seen if name.startswith(f"{number}:")]
        assert own == [f"{number}:{n}" for n in range(each)], "each writer's changes keep their order"


def test_reading_by_the_order_of_writing_would_skip(app: Mirror, mirror: Mirror, database: Database) -> None:
    """Why there is a `pos`: the defence removed, the late change is lost."""
    with database.connect(SUPERUSER, autocommit=False) as slow:
        write_change(Mirror(slow), "slow")
        write_change(mirror, "quick")
        last = mirror.one("select max(seq) from tenantry.changes")
        slow.commit()
    assert mirror.column("select object_id from tenantry.changes where seq > %s", last) == []


def test_a_forgotten_transaction_that_wrote_changes_stalls_nobody(
    app: Mirror, mirror: Mirror, database: Database
) -> None:
    with database.connect(SUPERUSER, autocommit=False) as forgotten:
        write_change(Mirror(forgotten), "forgotten")
        for n in range(3):
            write_change(mirror, f"change_{n}")
            assert [change["object_id"] for change in read(app, after=n)["changes"]] == [f"change_{n}"]


def test_who_forgets_the_sequencers_transaction_is_disconnected(
    app: Mirror, mirror: Mirror, database: Database
) -> None:
    write_change(mirror, "one")
    with database.connect(autocommit=False) as forgetful:
        assert forgetful.execute("select tenantry.sequence_changes_v1()").fetchone() == ({"sequenced": 1},)
        assert read(app) == {"changes": [], "pos": 0}, "nobody else sequences meanwhile"
        deadline = time.monotonic() + 60
        while not read(app)["changes"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            forgetful.execute("select 1")


def test_a_sequencer_that_is_done_leaves_the_connections_timeout_alone(app: Mirror) -> None:
    app.one("select tenantry.sequence_changes_v1()")
    assert app.one("show idle_in_transaction_session_timeout") == "0"
