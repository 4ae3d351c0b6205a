"""What the benchmarks stand on: ratios paired by round, tables, and a mirror like the one that merging makes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.harness import cpu, mirror
from benchmarks.harness.clerk import joined
from benchmarks.harness.rounds import (
    Contender,
    Turn,
    by_median,
    choose,
    p95,
    paired,
    percentile,
    shuffled,
    to_floor,
    typical,
)
from benchmarks.harness.tables import Goal, Table
from databases import Database, Server

TENANTS, MEMBERS = 3, 11  # the eleventh membership is an admin's


def turn(*times: float) -> Turn:
    return Turn(times, 1.0, 10.0, 5.0)


def test_ratios_are_taken_within_a_round() -> None:
    own, floor = [turn(20), turn(300), turn(44)], [turn(10), turn(100), turn(20)]
    assert paired(own, floor, by_median) == 2.2  # 2, 3 and 2.2; the medians over rounds would say 44 / 20 too
    assert paired([turn(9), turn(50)], [turn(3), turn(50)], by_median) == 2  # and here 29.5 / 26.5


def test_a_ratio_to_a_floor_that_did_not_run_is_no_number() -> None:
    assert to_floor([turn(1)], None, by_median) is None
    assert to_floor([turn(6)], [turn(3)], by_median) == 2


def test_each_round_has_another_order_and_every_run_the_same() -> None:
    orders = list(shuffled(20, "abcdef"))
    assert orders == list(shuffled(20, "abcdef"))
    assert len(set(map(tuple, orders))) > 15
    assert all(sorted(order) == list("abcdef") for order in orders)


def test_the_95th_percentile_is_a_rounds_and_its_median_counts() -> None:
    assert percentile(range(101), 0.95) == 95
    assert p95([turn(*range(101)), turn(*range(0, 1010, 10)), turn(7)]) == 95
    assert typical([turn(1), turn(2), turn(9)], by_median) == 2


def test_contenders_are_chosen_by_role_or_by_part_of_the_name() -> None:
    floor, peer, ours = (Contender(f"Name of {role}", role, "x:y") for role in ("floor", "peer", "ours"))
    everybody = [floor, peer, ours]
    assert choose(everybody, []) == everybody
    assert choose(everybody, ["floor", "ours"]) == [floor, ours]
    assert choose(everybody, ["name of peer"]) == [peer]


@pytest.mark.parametrize(("value", "at_least", "met"), [(1.1, False, True), (1.2, False, False), (1.2, True, True)])
def test_a_goal_says_whether_it_is_met(value: float, at_least: bool, met: bool) -> None:
    goal = Goal("CPU to floor", value, 1.1, at_least)
    assert goal.met is met
    assert str(goal).endswith("met" if met else "MISSED")


def test_a_row_that_misses_one_goal_is_missed_in_every_form() -> None:
    table = Table("Title", ["who", "us", "goal"])
    table.add(["floor", 1234.5], "floor")
    table.add(["ours", 0.0123], "ours", [Goal("a", 1, 2), Goal("b", 3, 2)])
    assert table.as_text().splitlines()[3].split() == ["floor", "1,234"]  # banker's rounding
    assert "| ours | 0.012 | MISSED |" in table.as_markdown()
    told = json.loads(json.dumps(table.as_json()))
    assert told["rows"][1] == {"who": "ours", "us": 0.0123, "goal": "MISSED"}
    assert [goal["met"] for goal in told["goals"]] == [True, False]


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux counts so")
def test_cpu_time_is_what_a_process_worked() -> None:
    before = cpu.read([os.getpid()])
    sum(range(2_000_000))
    assert cpu.spent(before, cpu.read([os.getpid()])) > 1_000_000
    assert cpu.spent({}, {7: 5}) == 5


def test_the_seeded_mirror_is_what_merging_the_events_makes(database: Database, server: Server, template: str) -> None:
    merged = server.create(template)
    _record_all(merged)
    with database.connect(database.superuser) as connection:
        connection.execute(mirror.script(TENANTS, MEMBERS).encode())
    assert _rows(database) == _rows(merged)
    outcomes = _record_all(database)
    assert set(outcomes) == {"stale"}
    server.drop(merged)


def _record_all(database: Database) -> list[str]:
    """The outcomes of every membership's event."""
    outcomes = []
    with database.connect(database.superuser) as connection:
        for tenant in range(TENANTS):
            for number in range(MEMBERS):
                told = joined(mirror.membership(tenant, number, MEMBERS), tenant, mirror.member(tenant, number))
                call = "select tenantry.record_event_v1(%s, %s::text::jsonb) ->> 'outcome'"
                message_id = f"msg_{tenant}_{number}"
                (outcome,) = connection.execute(call, [message_id, json.dumps(told)]).fetchone() or ("nothing",)
                outcomes.append(outcome)
    return outcomes


def _rows(database: Database) -> list[object]:
    """Every row of the mirror as JSON; of an organization, its events saw each at another time."""
    with database.connect(database.superuser) as connection:
        return connection.execute(
            """
            select to_jsonb(t) - 'observed_at' - 'last_seen' from tenantry.tenants t
            union all select to_jsonb(u) from tenantry.users u
            union all select to_jsonb(m) from tenantry.tenant_memberships m
            union all select to_jsonb(i) - 'bound_at' from tenantry.clerk_instance i order by 1
            """
        ).fetchall()
