"""Erasing a person: nothing of theirs is left in mirror, inbox and feed, and nobody else loses anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from databases import SUPERUSER, Database
from sql.clerk_objects import START, Json, deleted, domain, event, invitation, membership, organization, user
from sql.mirror import Mirror
from sql.test_inbox import find_text
from sql.test_replay import broken, wait_for_a_waiter

WORDS = ("Ana", "Quist", "ana@example.test", "ana@home.test", "likes cats")


@pytest.fixture
def app(database: Database) -> Iterator[Mirror]:
    with database.connect() as connection:
        yield Mirror(connection)


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def erase(app: Mirror, *emails: str, user_id: str = "user_1") -> Json:
    """All parts of it, three deliveries at a time."""
    told: Json = begin(app, *emails, user_id=user_id)
    answer = {"user": told["user"], "rows": Counter(told["rows"])}
    while not told["done"]:
        options = json.dumps({"emails": told["emails"], "after": told["after"], "limit": 3})
        told = app.one("select tenantry.erase_user_v1(%s, %s::jsonb)", user_id, options)
        answer["rows"].update(told["rows"])
    return answer


def begin(app: Mirror, *emails: str, user_id: str = "user_1") -> Json:
    """The first part alone."""
    told: Json = app.one("select tenantry.erase_user_v1(%s, %s::jsonb)", user_id, json.dumps({"emails": emails}))
    return told


def tell_everything(app: Mirror, *, gone: bool = True) -> None:
    public = {"user_id": "user_1", "first_name": "Ana", "last_name": "Quist", "identifier": "ana@example.test"}
    told = [
        event("user.created", user()),
        event("user.created", user("user_2", first_name="Joana", last_name="Ek", email_addresses=[])),
        event(
            "organizationMembership.created",
            membership(public_user_data=public, public_metadata={"note": "likes cats"}),
        ),
        event("organizationInvitation.created", invitation(email_address="Ana@home.test")),
        event("organizationInvitation.created", invitation("orginv_2", email_address="joana@home.test")),
        event("organizationDomain.created", domain(affiliation_email_address="ana@home.test")),
        event(
            "organizationInvitation.accepted",
            invitation("orginv_3", status="accepted", user_id="user_1", email_address="ana@example.test", at=START + 2),
            at=START + 2,
        ),
        event("user.updated", user(last_name="Quist", at=10**30)),  # a dead letter
    ]
    for number, one in enumerate(told):
        app.deliver(one, f"msg_{number}")
    app.deliver('no JSON, but it names "user_1" and Quist', "msg_raw")
    if gone:
        app.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 50), "msg_gone")


def test_nothing_of_a_deleted_person_is_left_and_their_id_is(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app)
    told = erase(app, "ana@HOME.test")
    assert told["user"] == "erased"
    assert told["rows"]["invitations"] == 2
    assert told["rows"]["changes"] > 0
    held = "first_name, last_name, username, primary_email, image_url, external_id, public_metadata, deleted_at is null"
    assert mirror.rows(f"select {held} from tenantry.users where id = 'user_1'") == [(None,) * 7 + (False,)]
    assert mirror.rows("select message_id from tenantry.webhook_events where body is not null") == []
    for word in WORDS:
        quoted = f'"{word.lower()}"'
        found = "select message_id from tenantry.webhook_events where strpos(lower(data::text), %s) > 0"
        kept = mirror.column(found, quoted)
        assert kept == [], word
        assert "tenantry.changes" not in find_text(mirror, word)
    addresses = dict(mirror.rows("select id, email_address from tenantry.invitations"))
    assert addresses == {"orginv_1": None, "orginv_2": "joana@home.test", "orginv_3": None}
    assert mirror.one("select bool_and(public_metadata is null) from tenantry.tenant_memberships")


def test_nobody_else_loses_anything(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app)
    erase(app, "ana@home.test")
    assert mirror.rows("select first_name, last_name from tenantry.users where id = 'user_2'") == [("Joana", "Ek")]
    kept = mirror.column("select message_id from tenantry.webhook_events where data is not null order by 1")
    assert kept == ["msg_1", "msg_4"], "another person, and another person's invitation"


def test_erasing_again_finds_nothing(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app)
    erase(app, "ana@home.test")
    before, changes = mirror.contents(), mirror.kinds()
    assert set(erase(app, "ana@home.test")["rows"].values()) == {0}
    assert (mirror.contents(), mirror.kinds()) == (before, changes)


def test_erasing_is_no_change_in_the_feed(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app)
    kinds = mirror.kinds()
    erase(app)
    assert mirror.kinds() == kinds
    mirror.check_feed()


def test_a_late_event_brings_nothing_back(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app)
    erase(app, "ana@home.test")
    app.deliver(event("user.updated", user(at=START + 40), at=START + 40))
    app.deliver(event("organizationMembership.created", membership("orgmem_9")))
    held = mirror.rows("select first_name, primary_email from tenantry.users where id = 'user_1'")
    assert held == [(None, None)]
    assert mirror.one("select count(*) from tenantry.webhook_events where user_id = 'user_1' and data is not null") == 0


def test_of_a_live_person_nothing_is_removed(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app, gone=False)
    before = mirror.rows("select message_id, data, body from tenantry.webhook_events order by 1")
    assert erase(app) == {"user": "live", "rows": {}}
    assert mirror.rows("select message_id, data, body from tenantry.webhook_events order by 1") == before
    assert mirror.one("select first_name from tenantry.users where id = 'user_1'") == "Ana"


def test_who_was_only_not_listed_any_more_is_erased_for_good(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app, gone=False)
    app.merge_page("users", [], START + 50, absent=["user_1"])
    kinds = mirror.kinds()
    assert erase(app, "ana@home.test")["user"] == "erased"
    assert mirror.rows("select first_name, deleted_at = ended_at from tenantry.users where id = 'user_1'") == [
        (None, True)
    ]
    app.deliver(event("user.updated", user(at=START + 99), at=START + 99))
    assert mirror.one("select ended_at is not null and first_name is null from tenantry.users where id = 'user_1'")
    assert mirror.kinds() == kinds


def test_of_somebody_the_mirror_does_not_know_the_inbox_is_emptied_all_the_same(app: Mirror, mirror: Mirror) -> None:
    app.deliver('{"type": "user.created", "data": {"id": "user_1", "first_name": "Ana', "msg_1")
    app.deliver('{"type": "user.created", "data": {"id": "user_12", "first_name": "Ida', "msg_2")
    app.deliver(event("organization.created", organization()))
    told = erase(app)
    assert (told["user"], told["rows"]["webhook_events"]) == ("unknown", 1)
    assert mirror.column("select message_id from tenantry.webhook_events where body is not null") == ["msg_2"]
    assert mirror.one("select count(*) from tenantry.users") == 0


def test_neither_late_events_nor_pages_fill_again_what_was_erased(app: Mirror, mirror: Mirror) -> None:
    tell_everything(app)
    erase(app, "ana@home.test")
    app.deliver(
        event("organizationMembership.updated", membership(at=START + 5, public_metadata={"note": "likes cats"}))
    )
    app.deliver(event("organizationMembership.created", membership("orgmem_9", public_metadata={"note": "likes cats"})))
    for number, at in enumerate((START + 6, 10**30)):  # the second is a dead letter
        told = invitation(email_address="ana@home.test", status="revoked", public_metadata={"to": "Ana"}, at=at)
        app.deliver(event("organizationInvitation.revoked", told, at=START + 6), f"msg_late_{number}")
    listed = invitation(email_address="ana@home.test", status="expired", at=START + 7)
    app.merge_page("invitations", [listed], START + 100)
    assert mirror.rows(
        "select status, email_address, public_metadata from tenantry.invitations where id = 'orginv_1'"
    ) == [("expired", None, None)]
    assert find_text(mirror, "likes cats") == []
    late = "select outcome, data, body from tenantry.webhook_events where message_id like %s order by message_id"
    assert mirror.rows(late, "msg_late%") == [("applied", None, None), ("ignored", None, None)]


@pytest.mark.parametrize(
    ("told", "is_theirs"),
    [
        ("ana@home.test", True),
        ("Ana <ANA@home.test>, at work", True),
        ("mail\nana@home.test.", True),
        ("joana@home.test", False),
        ("ana@home.test.example", False),
        ("j.ana@home.test", False),
        ("ana@homeXtest", False),
        ("data", False),
    ],
)
def test_an_address_is_found_in_any_text_as_a_word_of_its_own(
    app: Mirror, mirror: Mirror, told: str, is_theirs: bool
) -> None:
    app.deliver(event("organization.created", organization(public_metadata={"contact": [told]})), "msg_read")
    app.deliver(event("organization.updated", organization(public_metadata={"contact": told}, at=10**30)), "msg_dead")
    app.deliver('no JSON: {"contact": ' + json.dumps(told), "msg_raw")
    app.deliver(event("user.deleted", deleted("user", "user_1")), "msg_gone")
    assert erase(app, "ana@home.test")["rows"]["webhook_events"] == (3 if is_theirs else 0)
    left = mirror.one("select count(*) from tenantry.webhook_events where num_nonnulls(data, body) > 0")
    assert left == (0 if is_theirs else 3)


@pytest.mark.parametrize(
    ("user_id", "email"),
    [
        ("", None),
        ("user_%_1", None),
        ("org_1", None),
        ("user_1", "data"),
        ("user_1", "a"),
        ("user_1", "a@"),
        ("user_1", "a @b"),
    ],
)
def test_what_is_no_id_and_no_address_erases_nothing(app: Mirror, user_id: str, email: str | None) -> None:
    with pytest.raises(psycopg.Error) as refused:
        begin(app, *([email] if email else []), user_id=user_id)
    assert refused.value.sqlstate == "TY010"


def test_a_delivery_that_is_under_way_is_waited_for(database: Database, app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("user.created", user()))
    app.merge_page("users", [], START + 50, absent=["user_1"])
    with database.connect() as other, ThreadPoolExecutor() as pool:
        with other.transaction():
            Mirror(other).deliver(event("user.updated", user(at=10**30)), "msg_dead")
            erasing = pool.submit(erase, app)
            wait_for_a_waiter(mirror)
        assert erasing.result(timeout=20)["user"] == "erased"
    assert mirror.rows("select outcome, body from tenantry.webhook_events where message_id = 'msg_dead'") == [
        ("ignored", None)
    ]


def test_a_replay_that_is_under_way_is_waited_for(database: Database, app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("user.created", user()))
    app.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 50))
    with broken(mirror):
        app.deliver(event("organizationInvitation.created", invitation(email_address="ana@home.test")), "msg_1")
    with database.connect() as other, ThreadPoolExecutor() as pool:
        with other.transaction():
            assert Mirror(other).one("select tenantry.replay_events_v1('{msg_1}')")[0]["outcome"] == "applied"
            erasing = pool.submit(erase, app, "ana@home.test")
            wait_for_a_waiter(mirror)
        assert erasing.result(timeout=20)["rows"]["invitations"] == 1
    assert mirror.column("select email_address from tenantry.invitations") == [None]
    assert mirror.column("select data from tenantry.webhook_events where message_id = 'msg_1'") == [None]


def test_deliveries_do_not_wait_while_the_inbox_is_read(database: Database, app: Mirror) -> None:
    app.deliver(event("user.deleted", deleted("user", "user_1")))
    told = begin(app, "ana@home.test")
    with database.connect() as other, app.connection.transaction():
        app.one("select tenantry.erase_user_v1('user_1', %s::jsonb)", json.dumps(told))
        other.execute("set statement_timeout = '5s'")
        assert Mirror(other).deliver(event("user.created", user("user_2")))["outcome"] == "applied"


def test_an_erased_persons_dead_letter_is_none_any_more(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("user.updated", user(at=10**30)), "msg_dead")
    app.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 50))
    found = "select outcome, error_code, error from tenantry.webhook_events where message_id = %s"
    assert mirror.rows(found, "msg_dead") == [("ignored", None, None)]
    app.deliver(event("user.updated", user(at=10**30)), "msg_late")
    assert mirror.rows(found, "msg_late") == [("ignored", None, None)]
    assert app.one("select tenantry.status_v1()")["dead_letters"]["count"] == 0
