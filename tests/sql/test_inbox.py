"""The inbox: every verified delivery is kept with its outcome, once, and bad ones never harm their neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from conftest import lack
from databases import SUPERUSER, Database
from sql.clerk_objects import (
    INSTANCE,
    START,
    Json,
    deleted,
    domain,
    event,
    invitation,
    membership,
    organization,
    permission,
    role,
    session,
    user,
)
from sql.mirror import Mirror

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "facts" / "clerk-webhook-samples"
SPECIFICATION = SAMPLES.parents[1] / "clerk-openapi" / "webhooks-2025-04-15.yml"
ENDS_OF_SESSIONS = ("session.ended", "session.removed", "session.revoked")
PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLE_OF = {
    "user": "users",
    "organization": "tenants",
    "organizationMembership": "tenant_memberships",
    "organizationInvitation": "invitations",
    "organizationDomain": "domains",
    "role": "roles",
    "permission": "permissions",
}


@pytest.fixture
def app(database: Database) -> Iterator[Mirror]:
    """As the app's own login: it may record, and read the inbox."""
    with database.connect() as connection:
        yield Mirror(connection)


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    """As superuser, to look at everything."""
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def samples() -> list[Json]:
    if not SAMPLES.is_dir():
        pytest.skip("the sample webhooks are not beside this checkout")
    return [json.loads(file.read_text()) for file in sorted(SAMPLES.glob("*.json"))]


def find_text(mirror: Mirror, text: str) -> list[str]:
    """The tables of the schema with `text` anywhere in any column."""
    tables = mirror.column("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'tenantry'")
    return [
        table
        for table in tables
        if mirror.one(f"select exists (select from {table} as t where strpos(t::text, %s) > 0)", text)
    ]


def without(source: Json, *names: str) -> Json:
    return {name: value for name, value in source.items() if name not in names}


@pytest.mark.parametrize("backwards", [False, True])
def test_every_sample_of_clerks_documents_is_applied(app: Mirror, mirror: Mirror, backwards: bool) -> None:
    told = samples()
    for sample in reversed(told) if backwards else told:
        answer = app.deliver(sample)
        assert answer["outcome"] in ("applied", "stale"), answer
        prefix = sample["type"].partition(".")[0]
        row = mirror.one(
            f"select to_jsonb(t) from tenantry.{TABLE_OF[prefix]} t where {key_of(prefix)} = %s", sample["data"]["id"]
        )
        if sample["type"].endswith("deleted"):
            assert row["deleted_at"] is not None
    assert mirror.column("select type from tenantry.webhook_events where outcome = 'failed'") == []


@pytest.mark.parametrize("number", range(21))
def test_each_sample_alone_in_an_empty_mirror_is_applied(app: Mirror, number: int) -> None:
    sample = samples()[number]
    assert app.deliver(sample)["outcome"] == "applied"
    assert app.deliver(sample)["outcome"] == "stale", "the same content under another message id tells nothing new"


def key_of(prefix: str) -> str:
    return "clerk_org_id" if prefix == "organization" else "id"


def test_every_example_of_clerks_specification_is_applied_or_ignored(app: Mirror) -> None:
    if not SPECIFICATION.is_file():
        pytest.skip("Clerk's specification is not beside this checkout")
    try:
        yaml = import_module("yaml")
    except ModuleNotFoundError:
        lack("PyYAML, which reads Clerk's specification, is not installed")
    operations = yaml.safe_load(SPECIFICATION.read_text())["x-webhooks"].values()
    bodies = [operation["post"]["requestBody"]["content"]["application/json"] for operation in operations]
    examples = [body["example"] for body in bodies if "example" in body]
    assert len(examples) > 20
    for example in examples:
        answer = app.deliver(json.dumps(example | {"instance_id": INSTANCE}, default=str))
        used = example["type"].partition(".")[0] in TABLE_OF or example["type"] in ENDS_OF_SESSIONS
        assert answer["outcome"] in (("applied", "stale") if used else ("ignored",)), answer


@pytest.mark.attack(79)
def test_a_second_delivery_of_a_message_is_a_duplicate(app: Mirror) -> None:
    delivery = app.delivery(event("user.created", user()))
    assert [a["outcome"] for a in app.deliver_all([delivery, delivery])] == ["applied", "duplicate"]
    assert app.deliver_all([delivery])[0]["outcome"] == "duplicate"
    assert app.one("select count(*) from tenantry.webhook_events") == 1


@pytest.mark.attack(80)
@pytest.mark.parametrize("together", [True, False])
def test_the_same_message_id_with_other_bytes_is_refused_and_counted(app: Mirror, together: bool) -> None:
    first = app.delivery(event("user.created", user(first_name="Ana")), "msg_x")
    forged = app.delivery(event("user.created", user(first_name="Eve", updated_at=START + 9)), "msg_x")
    batches = [[first, forged, forged]] if together else [[first], [forged], [forged]]
    answers = [answer for batch in batches for answer in app.deliver_all(batch)]
    assert [a["outcome"] for a in answers] == ["applied", "refused", "refused"]
    assert answers[1]["code"] == "TY010"
    assert app.rows("select outcome, conflicts from tenantry.webhook_events") == [("applied", 2)]


@pytest.mark.attack(86)
def test_another_instances_event_is_refused_until_the_database_is_bound_to_it(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("user.created", user()))
    foreign = app.delivery(event("user.created", user("user_2", last_name="Foreign"), instance_id="ins_other"))
    answers = app.deliver_all([foreign, foreign])
    assert [(a["outcome"], a["code"]) for a in answers] == [("refused", "TY018")] * 2
    assert "ins_other" in answers[0]["error"]
    assert find_text(mirror, "Foreign") == []
    assert app.deliver_all([foreign, foreign])[1]["outcome"] == "refused"
    assert app.one("select tenantry.rebind_instance_v1('ins_other')")["instance_id"] == "ins_other"
    assert [a["outcome"] for a in app.deliver_all([foreign, foreign])] == ["applied", "duplicate"]
    assert app.rows(
        "select outcome, error_code, error from tenantry.webhook_events where message_id = %s", foreign["message_id"]
    ) == [("applied", None, None)]
    assert app.deliver(event("user.created", user("user_3")))["outcome"] == "refused"


def test_an_event_without_an_instance_is_accepted(app: Mirror) -> None:
    assert app.deliver(without(event("user.created", user()), "instance_id"))["outcome"] == "applied"
    assert app.deliver(event("organization.created", organization()))["outcome"] == "applied"
    assert (
        app.deliver(without(event("organization.updated", organization(at=START + 1)), "instance_id"))["outcome"]
        == "applied"
    )


@pytest.mark.parametrize(
    "event_type",
    [
        "email.created",
        "sms.created",
        "session.created",
        "session.pending",
        "waitlistEntry.created",
        "subscription.active",
        "subscriptionItem.freeTrialEnding",
        "paymentAttempt.updated",
        "something.new",
        "user",
        "user.createdX",
    ],
)
def test_types_the_mirror_does_not_use_keep_no_data(app: Mirror, mirror: Mirror, event_type: str) -> None:
    told = event(event_type, {"id": "ema_1", "body_plain": "Your code is 424242", "data": {"otp_code": "424242"}})
    assert app.deliver(told | {"event_attributes": {"code": "424242"}})["outcome"] == "ignored"
    assert find_text(mirror, "424242") == []
    assert app.rows("select type, outcome, occurred_at is not null from tenantry.webhook_events") == [
        (event_type, "ignored", True)
    ]


@pytest.mark.attack(99)
def test_private_metadata_is_dropped_unless_asked_for(app: Mirror, mirror: Mirror) -> None:
    hidden: Json = {"private_metadata": {"plan": "hidden-plan"}}
    told = event("organizationMembership.created", membership(of=organization(**hidden), **hidden))
    person = event("user.created", user(**hidden, unsafe_metadata={"x": "hidden-plan"}))
    app.deliver(told)
    app.deliver(person)
    assert find_text(mirror, "hidden-plan") == []
    app.deliver(told, keep_private_metadata=True)
    assert find_text(mirror, "hidden-plan") == ["tenantry.webhook_events"]


DEEP = '{"type": "user.created", "data": {"id": "user_1", "x": ' + "[" * 50_000 + "]" * 50_000 + "}}"
DEAD_LETTERS = {
    "an escaped NUL": '{"type": "user.created", "data": {"id": "user_1", "first_name": "a\\u0000b"}}',
    "a lone surrogate": '{"type": "user.created", "data": {"id": "user_1", "first_name": "\\ud800"}}',
    "a number too big to read": '{"type": "user.created", "data": {"id": "user_1", "x": 1e999999}}',
    "a time out of range": json.dumps(event("user.created", user(updated_at=10**30))),
    "an envelope time out of range": json.dumps(event("user.created", user(), at=10**30)),
    "a number that fits in no float": json.dumps(event("user.created", user())).replace(str(START), "1e400"),
    "deep nesting": DEEP,
    "an array": "[1, 2]",
    "a string": '"user.created"',
    "null": "null",
    "a number": "17",
    "no JSON": "user.created",
    "nothing": "",
    "no type": json.dumps(without(event("x", user()), "type")),
    "a type that is no text": json.dumps(event("x", user()) | {"type": {"a": 1}}),
    "no data": json.dumps(without(event("user.created", user()), "data")),
    "data that is no object": json.dumps(event("user.created", [user()])),
    "no id": json.dumps(event("user.created", without(user(), "id"))),
    "an id that is no text": json.dumps(event("user.created", user() | {"id": 7})),
    "an id too long to index": json.dumps(event("user.deleted", deleted("user", "user_" + "x" * 9000))),
    "a user id too long to index": json.dumps(event("organizationMembership.created", membership(user_id="u" * 300))),
    "a role key too long to index": json.dumps(event("role.created", role(key="org:" + "k" * 9000))),
    "a membership of no user": json.dumps(
        event("organizationMembership.created", without(membership(), "public_user_data"))
    ),
    "a membership of no organization": json.dumps(
        event("organizationMembership.updated", without(membership(), "organization"))
    ),
    "a deletion of no id": json.dumps(event("organization.deleted", {"object": "organization", "deleted": True})),
}


@pytest.mark.attack(97)
@pytest.mark.parametrize("body", DEAD_LETTERS.values(), ids=DEAD_LETTERS.keys())
def test_what_cannot_be_read_is_a_dead_letter_kept_whole_beside_healthy_neighbours(app: Mirror, body: str) -> None:
    before, after = event("user.created", user("user_8")), event("organization.created", organization("org_8"))
    dead = app.delivery(body, "msg_dead", keep_private_metadata=True)
    answers = app.deliver_all([app.delivery(before), dead, app.delivery(after)])
    assert [a["outcome"] for a in answers] == ["applied", "failed", "applied"]
    assert answers[1]["code"]
    assert answers[1]["error"]
    kept = app.rows("select outcome, error_code, body, data from tenantry.webhook_events where message_id = 'msg_dead'")
    assert kept == [("failed", answers[1]["code"], body, None)]
    assert app.deliver_all([app.delivery(body, "msg_dead")])[0]["outcome"] == "duplicate"


@pytest.mark.attack(99)
def test_a_dead_letter_keeps_no_private_metadata_and_everything_else(app: Mirror, mirror: Mirror) -> None:
    hidden: Json = {"private_metadata": {"plan": "hidden-plan"}}
    dead = event("organizationMembership.created", membership(of=organization(**hidden), **hidden, updated_at=10**30))
    assert app.deliver(dead)["outcome"] == "failed"
    assert find_text(mirror, "hidden-plan") == []
    kept = json.loads(app.one("select body from tenantry.webhook_events"))
    for owner in (dead["data"], dead["data"]["organization"]):
        del owner["private_metadata"]
    assert kept == dead


@pytest.mark.parametrize(
    "odd",
    ["[1]", "17", '{"data": [{"private_metadata": 1}]}', '{"data": {"id": 7, "organization": [1]}}', '{"data": 1}'],
)
def test_a_dead_letter_of_any_shape_is_kept(app: Mirror, odd: str) -> None:
    assert app.deliver(odd)["outcome"] == "failed"
    assert app.one("select body from tenantry.webhook_events") == odd


PERSONAL = ("Ana", "Quist", "ana@example.test")


def events_of_a_user() -> list[Json]:
    public = {"user_id": "user_1", "first_name": "Ana", "last_name": "Quist", "identifier": "ana@example.test"}
    accepted = invitation(status="accepted", user_id="user_1", email_address="x@example.test", at=START + 2)
    return [
        event("user.created", user()),
        event("organizationMembership.created", membership(public_user_data=public)),
        event("organizationInvitation.accepted", accepted, at=START + 2),
        event("user.updated", user(last_name="Quist", at=10**30)),  # a dead letter
    ]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("deletion_first", [True, False])
def test_what_deliveries_held_of_a_user_goes_with_the_user(
    app: Mirror, mirror: Mirror, together: bool, deletion_first: bool
) -> None:
    app.deliver(event("user.created", user("user_2", first_name="Bo", last_name="Ek", email_addresses=[])), "msg_other")
    deletion = event("user.deleted", deleted("user", "user_1"), at=START + 50)
    told = [deletion, *events_of_a_user()] if deletion_first else [*events_of_a_user(), deletion]
    deliveries = [app.delivery(e) for e in told]
    for batch in [deliveries] if together else [[d] for d in deliveries]:
        app.deliver_all(batch)
    for word in PERSONAL:
        assert find_text(mirror, word) == []
    rows = app.rows(
        "select user_id, count(*), count(data), count(body) from tenantry.webhook_events group by 1 order by 1"
    )
    assert rows == [("user_1", 5, 0, 0), ("user_2", 1, 1, 0)]


def test_deliveries_of_a_user_who_lives_or_was_only_not_listed_are_kept(app: Mirror) -> None:
    for told in events_of_a_user():
        app.deliver(told)
    app.merge_page("users", [], START + 50, absent=["user_1"])
    assert app.one("select count(*) from tenantry.webhook_events where data is null and body is null") == 0


def test_deliveries_are_forgotten_but_dead_letters_and_what_may_come_again_are_not(app: Mirror, mirror: Mirror) -> None:
    dead, refused = "no json", event("user.created", user("user_2"), instance_id="ins_other")
    old = [event("user.created", user()), event("user.created", user()), event("email.created", {}), dead, refused]
    for told in old:
        app.deliver(told)
    mirror.run("update tenantry.webhook_events set received_at = now() - interval '8 days'")
    for told in (event("user.created", user()), event("email.created", {})):  # the last of each type stays
        app.deliver(told)
    assert app.one("select tenantry.forget_events_v1(now() - interval '9 days')") == {"forgotten": 0}
    assert app.one("select tenantry.forget_events_v1(now() - interval '7 days')") == {"forgotten": 3}
    left = app.column("select outcome from tenantry.webhook_events order by received_at > now() - interval '1 day', 1")
    assert left == ["failed", "refused", "ignored", "stale"]
    assert mirror.one("select count(*) from tenantry.users") == 1, "the mirror forgets nothing"


@pytest.mark.parametrize("before", ["now()", "now() - interval '6 days 23 hours'", "'infinity'", "null"])
def test_deliveries_that_may_come_again_are_not_forgotten(app: Mirror, before: str) -> None:
    with pytest.raises(psycopg.Error) as raised:
        app.run(f"select tenantry.forget_events_v1({before})")
    assert raised.value.sqlstate == "TY010"


def test_a_dead_letters_error_quotes_nothing_of_the_body(app: Mirror) -> None:
    answer = app.deliver('{"type": "user.created", "data": {"password": hunter2}}')
    assert answer["outcome"] == "failed"
    assert "hunter2" not in json.dumps(answer)
    assert app.one("select error from tenantry.webhook_events").count("hunter2") == 0


@pytest.mark.parametrize("in_seconds", [True, False])
def test_times_are_read_in_seconds_and_in_milliseconds(app: Mirror, mirror: Mirror, in_seconds: bool) -> None:
    at = START // 1000 if in_seconds else START
    app.deliver(event("organization.created", organization(at=at, created_at=at), at=at))
    moment = "to_timestamp(%s / 1000.0)"
    query = f"select revision, created_at = {moment}, observed_at = {moment} from tenantry.tenants"
    assert mirror.rows(query, START, START) == [(START, True, True)]


def test_a_missing_envelope_time_is_that_of_the_first_attempt(app: Mirror) -> None:
    app.deliver(without(event("user.created", user()), "timestamp"), sent_at=START // 1000)
    assert app.one("select occurred_at = to_timestamp(%s) from tenantry.webhook_events", START // 1000)


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("user.created", {"id": "user_1"}),
        ("user.updated", dict.fromkeys(user()) | {"id": "user_1"}),
        ("user.updated", user(email_addresses=[None, 3, {}, {"id": None}], primary_email_address_id=None)),
        ("organization.created", {"id": "org_1"}),
        ("organization.updated", dict.fromkeys(organization()) | {"id": "org_1"}),
        ("organizationMembership.created", without(membership(permissions=None), "public_metadata", "role")),
        ("organizationMembership.created", membership(of={"id": "org_1"}, role=None)),
        ("organizationMembership.created", without(membership(), "organization") | {"organization_id": "org_1"}),
        ("organizationMembership.deleted", {"id": "orgmem_1"}),
        ("organizationInvitation.created", {"id": "orginv_1"}),
        ("organizationInvitation.revoked", invitation(organization_id=None, inviter_id=None, url=None)),
        ("organizationDomain.updated", domain(verification=None)),
        ("organizationDomain.created", without(domain(), "verification", "organization_id")),
        ("role.created", role(permissions=None, key=None)),
        ("role.updated", role(permissions=[None, "org:a:b", {"key": 3}, {"key": "org:x:y"}])),
        ("permission.created", {"id": "perm_1"}),
        ("session.ended", {"id": "sess_1"}),
        ("user.created", user() | {"a_field_of_next_year": {"deep": [1, 2]}}),
    ],
)
def test_nulls_and_missing_optional_fields_are_no_obstacle(app: Mirror, event_type: str, data: Json) -> None:
    answer = app.deliver(event(event_type, data))
    assert answer["outcome"] == "applied", answer


@pytest.mark.parametrize(
    ("shown", "kept"), [("admin", "org:admin"), ("basic_member", "org:basic_member"), ("org:x", "org:x")]
)
def test_roles_always_carry_org_whatever_a_legacy_instance_sends(
    app: Mirror, mirror: Mirror, shown: str, kept: str
) -> None:
    app.deliver(event("organizationMembership.created", membership(role=shown)))
    app.deliver(event("organizationInvitation.created", invitation(role=shown)))
    app.deliver(event("role.created", role(key=shown)))
    columns = ("role from tenantry.tenant_memberships", "role from tenantry.invitations", "key from tenantry.roles")
    assert [mirror.one(f"select {column}") for column in columns] == [kept] * 3


@pytest.mark.parametrize(
    "place",
    [
        {"organization_id": "org_1"},
        {"public_organization_data": {"id": "org_1", "name": "Acme"}},
        {"data": {"public_organization_data": {"id": "org_1", "name": "Acme"}}},
    ],
)
def test_both_shapes_of_an_invitation_find_their_organization(app: Mirror, mirror: Mirror, place: Json) -> None:
    app.deliver(
        event("organizationInvitation.accepted", without(invitation(user_id="user_9"), "organization_id") | place)
    )
    found = (
        "select t.clerk_org_id, i.status, i.user_id"
        " from tenantry.invitations i join tenantry.tenants t on t.id = i.tenant_id"
    )
    assert mirror.rows(found) == [("org_1", "accepted", "user_9")]
    assert app.one("select org_id from tenantry.webhook_events") == "org_1"


def test_the_link_of_an_invitation_is_not_kept_in_the_mirror(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationInvitation.created", invitation()))
    assert "tenantry.invitations" not in find_text(mirror, "secret-ticket")
    assert find_text(mirror, "secret-ticket") == []


def test_a_membership_ends_when_the_envelope_says_not_when_the_object_does(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("organizationMembership.deleted", membership(), at=START + 5_000))
    assert mirror.one("select deleted_at = to_timestamp(%s / 1000.0) from tenantry.tenant_memberships", START + 5_000)


@pytest.mark.parametrize(
    ("prefix", "made", "gone", "table"),
    [
        ("organizationDomain", domain(), deleted("organization_domain", "orgdmn_1"), "domains"),
        ("role", role(), deleted("role", "role_1") | {"slug": None}, "roles"),
        ("permission", permission(), deleted("permission", "perm_1"), "permissions"),
        ("user", user(), deleted("user", "user_1") | {"external_id": None}, "users"),
        ("organization", organization(), deleted("organization", "org_1") | {"slug": "acme"}, "tenants"),
    ],
)
@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_deletion_by_id_alone_ends_the_object_before_or_after_its_creation(
    app: Mirror, mirror: Mirror, prefix: str, made: Json, gone: Json, table: str, deleted_first: bool
) -> None:
    told = [event(f"{prefix}.created", made), event(f"{prefix}.deleted", gone, at=START + 9)]
    for e in told[::-1] if deleted_first else told:
        assert app.deliver(e)["outcome"] == "applied"
    assert mirror.one(f"select ended_at is not null from tenantry.{table}")


@pytest.mark.parametrize("verb", ["ended", "removed", "revoked"])
def test_an_ended_session_is_remembered_and_nothing_else_of_it(app: Mirror, mirror: Mirror, verb: str) -> None:
    at = mirror.one("select (extract(epoch from now()) * 1000)::bigint")
    assert app.deliver(event(f"session.{verb}", session(at=at), at=at))["outcome"] == "applied"
    kept = mirror.rows(
        "select session_id, ended_at = to_timestamp(%s / 1000.0), keep_until > now() from tenantry.ended_sessions", at
    )
    assert kept == [("sess_1", True, True)]
    for personal in ("203.0.113.24", "Lisbon", "client_1"):
        assert find_text(mirror, personal) == []


def test_sessions_are_forgotten_once_no_token_of_theirs_can_be_valid(app: Mirror, mirror: Mirror) -> None:
    now = mirror.one("select (extract(epoch from now()) * 1000)::bigint")
    mirror.run(
        "insert into tenantry.ended_sessions values ('sess_old', now() - interval '2 days', now() - interval '1 day')"
    )
    app.deliver(event("session.ended", session("sess_new"), at=now))
    assert mirror.column("select session_id from tenantry.ended_sessions") == ["sess_new"]


def test_a_sessions_end_that_comes_days_late_is_kept_as_long(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("session.ended", session("sess_late"), at=START))
    kept = "select keep_until > now() + interval '48 hours' from tenantry.ended_sessions where session_id = 'sess_late'"
    assert mirror.one(kept)


@PROPERTY
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_as_a_body_has_an_outcome(app: Mirror, body: Any) -> None:
    with app.connection.transaction(force_rollback=True):
        answer = app.deliver(json.dumps(body))
    assert answer["outcome"] == "failed"


TYPES = [f"{prefix}.{verb}" for prefix in TABLE_OF for verb in ("created", "updated", "deleted", "accepted")] + [
    "session.ended"
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
ODD = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)
OBJECTS = [user(), organization(), membership(), invitation(), domain(), role(), permission(), session()]


@st.composite
def damaged_events(draw: st.DrawFn) -> Json:
    """An event of a type the mirror uses, some fields of its data, and of the objects in it, replaced by anything."""
    data = dict(draw(st.sampled_from(OBJECTS)))
    for name in draw(st.lists(st.sampled_from(sorted(data)), max_size=5)):
        data[name] = draw(ODD)
    for inner in ("organization", "public_user_data"):
        if isinstance(data.get(inner), dict) and data[inner]:
            data[inner] = data[inner] | {draw(st.sampled_from(sorted(data[inner]))): draw(ODD)}
    told = event(draw(st.sampled_from(TYPES)), data)
    if draw(st.booleans()):
        told[draw(st.sampled_from(sorted(told)))] = draw(ODD)
    return told


@PROPERTY
@given(told=damaged_events())
def test_a_damaged_event_has_an_outcome(app: Mirror, told: Json) -> None:
    with app.connection.transaction(force_rollback=True):
        assert app.deliver(told)["outcome"] in ("applied", "stale", "ignored", "failed", "refused")
        assert app.deliver(event("organization.created", organization("org_after")))["outcome"] in (
            "applied",
            "refused",
        )


def no_nul(value: Any) -> bool:
    """PostgreSQL's jsonb cannot hold it: an argument with it never reaches the function."""
    return "\\u0000" not in json.dumps(value)


@PROPERTY
@given(
    batch=ODD.filter(no_nul)
    | st.lists(st.fixed_dictionaries({}, optional={"message_id": ODD, "body": ODD, "sent_at": ODD}), max_size=4).filter(
        no_nul
    )
)
def test_a_batch_of_any_shape_is_recorded_or_refused_as_an_argument(app: Mirror, batch: Any) -> None:
    try:
        json.dumps(batch, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return  # no JSON, or no UTF-8: PostgreSQL refuses the argument itself
    try:
        with app.connection.transaction(force_rollback=True):
            answers = app.deliver_all(batch)
    except psycopg.Error as error:
        assert error.sqlstate == "TY010"
        assert "\n" not in str(error.diag.message_detail)
    else:
        assert len(answers) == len(batch)


@pytest.mark.parametrize(
    "batch", [None, {}, "x", 3, [None], ["x"], [{}], [{"message_id": "m"}], [{"message_id": "", "body": "{}"}]]
)
def test_what_is_no_batch_is_refused_with_a_reason(app: Mirror, batch: Any) -> None:
    with pytest.raises(psycopg.Error) as raised:
        app.deliver_all(batch)
    assert raised.value.sqlstate == "TY010"
    assert raised.value.diag.message_detail


def test_a_message_id_too_long_for_the_inbox_is_refused_as_an_argument(app: Mirror) -> None:
    with pytest.raises(psycopg.Error) as raised:
        app.deliver(event("user.created", user()), "m" * 9000)
    assert raised.value.sqlstate == "TY010"


def test_one_event_can_be_recorded_by_hand(app: Mirror) -> None:
    answer = app.one("select tenantry.record_event_v1('msg_1', %s)", Jsonb(event("user.created", user())))
    assert answer == {"message_id": "msg_1", "outcome": "applied", "type": "user.created"}


def test_the_answers_come_in_the_order_of_the_batch(app: Mirror) -> None:
    told = [
        event("user.created", user("user_1")),
        event("email.created", {}),
        "no json",
        event("user.updated", user("user_1"), at=START + 1),
    ]
    answers = app.deliver_all([app.delivery(e, f"msg_{9 - n}") for n, e in enumerate(told)])
    assert [a["message_id"] for a in answers] == ["msg_9", "msg_8", "msg_7", "msg_6"]
    assert [a["outcome"] for a in answers] == ["applied", "ignored", "failed", "applied"]


@pytest.mark.attack(93)
@pytest.mark.parametrize(
    ("kind", "page", "options"),
    [
        ("users", "x", {"observed_at": START}),
        ("users", {"data": 3}, {"observed_at": START}),
        ("users", [], {}),
        ("users", [], {"observed_at": "yesterday"}),
        ("tenants", [], {"observed_at": START}),
        ("users", [{}], {"observed_at": START}),
        ("users", [7], {"observed_at": START}),
        ("memberships", [{"id": "orgmem_1"}], {"observed_at": START}),
        ("users", [], {"observed_at": START, "absent": ["u" * 300]}),
    ],
)
def test_a_page_that_cannot_be_read_is_refused_whole(app: Mirror, kind: str, page: Any, options: Json) -> None:
    with pytest.raises(psycopg.Error) as raised:
        app.one("select tenantry.merge_page_v1(%s, %s, %s)", kind, Jsonb(page), Jsonb(options))
    assert raised.value.sqlstate == "TY010"


@pytest.mark.attack(86)
def test_a_page_of_another_instance_is_refused(app: Mirror) -> None:
    app.deliver(event("user.created", user()))
    with pytest.raises(psycopg.Error) as raised:
        app.merge_page("users", [user("user_2")], START, instance_id="ins_other")
    assert raised.value.sqlstate == "TY018"


@pytest.mark.parametrize(
    "roles",
    [
        [],
        "x",
        {"org:admin": "documents:read"},
        {"org:admin": [1]},
        {"org:admin": [None]},
        {"": ["a"]},
        {"org:admin": ["documents:read", "documents:read,*"]},
        {"org:admin": [""]},
        {"org:admin": ["documents:"]},
        {"org:admin": ["Documents:read"]},
        {"org:admin": ["doc*:read"]},
        {"org:admin": ["documents:read\n"]},
        {"org:admin": ["a" * 201]},
    ],
)
def test_a_role_map_that_cannot_be_read_is_refused_and_changes_nothing(app: Mirror, mirror: Mirror, roles: Any) -> None:
    before = mirror.rows("select * from tenantry.role_permissions order by 1, 2")
    with pytest.raises(psycopg.Error) as raised:
        app.one("select tenantry.set_role_permissions_v1(%s)", Jsonb(roles))
    assert raised.value.sqlstate == "TY010"
    assert mirror.rows("select * from tenantry.role_permissions order by 1, 2") == before


def test_a_role_map_replaces_the_one_before_and_names_the_roles_it_forgot(app: Mirror, mirror: Mirror) -> None:
    app.deliver(event("role.created", role(key="org:editor")))
    app.one("select tenantry.set_role_permissions_v1(%s)", Jsonb({"org:admin": ["a", "b"]}))
    answer = app.one("select tenantry.set_role_permissions_v1(%s)", Jsonb({"admin": ["b", "c", "c"]}))
    assert answer == {"added": 1, "removed": 1, "unknown_roles": ["org:editor"]}
    assert mirror.rows("select role, permission from tenantry.role_permissions order by 2") == [
        ("org:admin", "b"),
        ("org:admin", "c"),
    ]
