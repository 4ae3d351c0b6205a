"""The facts of `status_v1`, read without reading the tables; and of many that ask about a silence one gets the turn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from databases import APP, SUPERUSER, Database
from snippets import ROOT
from sql.clerk_objects import event, organization, user
from sql.mirror import Mirror

FILLED = 60_000
PAGE_BYTES = 8192


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def status(mirror: Mirror) -> dict[str, Any]:
    facts: dict[str, Any] = mirror.one("select tenantry.status_v1()")
    return facts


def watch(mirror: Mirror, after: float = 3600, every: float = 60) -> dict[str, Any]:
    options = json.dumps({"after": after, "every": every})
    answer: dict[str, Any] = mirror.one("select tenantry.watch_silence_v1(%s::jsonb)", options)
    return answer


def alarm(mirror: Mirror, since: str) -> bool:
    silence = json.dumps({"since": since, "changed_at": 1_790_000_000_000})
    return bool(mirror.one("select tenantry.raise_silence_v1(%s::jsonb)", silence)["raised"])


def grow_quiet(mirror: Mirror) -> None:
    """Nothing has come for two hours."""
    mirror.run(
        "update tenantry.webhook_events"
        " set received_at = received_at - interval '2 h', occurred_at = received_at - interval '2 h'"
    )
    mirror.run("update tenantry.migrations set applied_at = applied_at - interval '2 h'")


def test_an_empty_mirror_has_nothing_to_tell(mirror: Mirror) -> None:
    facts = status(mirror)
    assert (facts["heard_at"], facts["run"], facts["instance_id"], facts["consumers"]) == (None, None, None, [])
    assert facts["dead_letters"] == {"count": 0, "newest_at": None, "by_type": {}}
    assert facts["seen"] == []
    assert facts["silent_since"] is not None  # the installation


def test_the_types_to_be_ticked_are_those_of_the_page(mirror: Mirror) -> None:
    page = (ROOT / "docs" / "connect-clerk.md").read_text(encoding="utf-8")
    told = set()
    for groups, events in re.findall(r"^   \| ([a-zA-Z, ]+) \| (.*`.*) \|$", page, re.MULTILINE):
        for name in re.findall(r"`([a-zA-Z.]+)`", events):
            told |= {f"{group.strip()}.{name.rpartition('.')[2]}" for group in groups.split(",")}
    assert set(status(mirror)["unseen"]) == told


def test_a_type_is_seen_whatever_became_of_its_event(mirror: Mirror) -> None:
    mirror.deliver(event("user.created", user()))
    mirror.deliver(event("organization.updated", {"no": "id"}))
    facts = status(mirror)
    assert set(facts["seen"]) == {"user.created", "organization.updated"}
    assert facts["dead_letters"]["by_type"] == {"organization.updated": 1}
    assert not set(facts["seen"]) & set(facts["unseen"])


def test_another_instances_deliveries_are_no_sign_of_life(mirror: Mirror) -> None:
    mirror.deliver(event("user.created", user()))
    heard = status(mirror)["heard_at"]
    mirror.deliver(event("user.created", user("user_2")) | {"instance_id": "ins_staging"})
    facts = status(mirror)
    assert facts["heard_at"] == heard
    assert facts["refused"]["count"] == 1


def test_the_apps_login_reads_it_and_a_tenant_does_not(mirror: Mirror, database: Database) -> None:
    with database.connect(APP) as connection:
        assert Mirror(connection).one("select tenantry.status_v1()")["ties"] == 0
    allowed = mirror.one("select has_function_privilege('tenantry_tenant', 'tenantry.status_v1()', 'execute')")
    assert allowed is False


def test_it_reads_no_table_whole(mirror: Mirror) -> None:
    """However full inbox, feed and mirror are; a type that nobody sent and a consumer far behind included."""
    mirror.run(
        "insert into tenantry.webhook_events (message_id, type, outcome, digest, received_at)"
        " select 'msg_' || n, case when n %% 2 = 0 then 'user.updated' else 'session.ended' end,"
        " case when n %% 1000 = 0 then 'failed' else 'applied' end, '', now() - n * interval '1 s'"
        " from generate_series(1, %s) as n", FILLED
    )  # fmt: skip
    mirror.run(
        "insert into tenantry.users (id, first_name, revision) select 'user_' || n, repeat('x', 20), 1"
        " from generate_series(1, %s) as n", FILLED
    )  # fmt: skip
    while mirror.one("select tenantry.sequence_changes_v1()")["sequenced"]:
        pass
    mirror.run("insert into tenantry.consumers (name, pos) values ('far-behind', 0)")
    mirror.run("analyze")
    mirror.run("select tenantry.status_v1()")  # so that catalogs are read already
    facts = status(mirror)
    assert facts["dead_letters"]["count"] == FILLED // 1000
    assert facts["consumers"][0]["behind"] == 1000  # and no further
    [[[explained]]] = mirror.rows("explain (analyze, buffers, format json) select tenantry.status_v1()")
    read = explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
    tables = ("webhook_events", "users", "changes")
    for table in tables:
        assert read < mirror.one("select pg_relation_size(%s::regclass)", f"tenantry.{table}") / PAGE_BYTES, table


def test_only_a_silence_is_asked_about_and_by_one(mirror: Mirror, database: Database) -> None:
    mirror.deliver(event("user.created", user()))
    assert watch(mirror) == {}
    grow_quiet(mirror)

    def ask(_: int) -> dict[str, Any]:
        with database.connect(APP) as connection:
            return watch(Mirror(connection))

    with ThreadPoolExecutor(8) as threads:
        turns = [turn for turn in threads.map(ask, range(8), timeout=60) if turn]
    assert [turn["since"] for turn in turns] == [status(mirror)["silent_since"]]
    assert watch(mirror, every=0) == turns[0]  # and again after a while


def test_an_alarm_is_raised_once_a_silence(mirror: Mirror) -> None:
    for name in ("user_1", "user_2"):
        mirror.deliver(event("user.created", user(name)))
        grow_quiet(mirror)
        since = watch(mirror, every=0)["since"]
        assert status(mirror)["silence"] is None
        assert alarm(mirror, since)
        assert not alarm(mirror, since)
        assert watch(mirror, every=0) == {}
        assert status(mirror)["silence"]["since"] == since
    mirror.deliver(event("organization.created", organization()))
    assert status(mirror)["silence"] is None


def test_a_delivery_that_comes_meanwhile_ends_the_silence(mirror: Mirror) -> None:
    mirror.deliver(event("user.created", user()))
    grow_quiet(mirror)
    since = watch(mirror)["since"]
    mirror.deliver(event("user.created", user("user_2")))
    assert not alarm(mirror, since)


def test_a_clock_that_is_behind_clerks_makes_no_silence_longer(mirror: Mirror) -> None:
    mirror.deliver(event("user.created", user()))
    mirror.run("update tenantry.webhook_events set received_at = now(), occurred_at = now() + interval '5 min'")
    assert mirror.one("select tenantry.silent_since() > now() + interval '4 min'")
    mirror.run("update tenantry.webhook_events set occurred_at = now() + interval '10 years'")
    assert mirror.one("select tenantry.silent_since() < now() + interval '2 h'")


@pytest.mark.parametrize("options", ["{}", "[]", '{"after": "x", "every": 1}', '{"after": 1, "every": null}'])
def test_what_is_no_time_is_refused(mirror: Mirror, options: str) -> None:
    with pytest.raises(Exception, match="argument it cannot read") as refused:
        mirror.run("select tenantry.watch_silence_v1(%s::jsonb)", options)
    assert getattr(refused.value, "sqlstate", None) == "TY010"
