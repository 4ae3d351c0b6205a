"""Delivers histories in every order, all at once: each order is a world of its own in one database.

Theory of operation.
- A world is a set of rows whose Clerk ids end in its number. Worlds share no row, so one call of `record_events_v1`
  takes a step in hundreds of them.
- The worlds of a level have each heard so many deliveries, beginning with none. For the next level each is copied once
  for every delivery that a history still holds for it, and hears that one.
- Two orders of the same deliveries that lead to the same rows, each column of them, go on as one: what comes later
  depends on nothing else. So no order is left out, and few are walked twice. Where rows differ, both go on.
- At every step what the feed got must lead from what was live before to what is live now; at the end of a history the
  mirror must be what the emulator says, field by field.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import factorial
from typing import Any

from proof.histories import MARK, History, Told
from reconciling import MIRRORED, Truth
from sql.mirror import Mirror

KINDS = ("organizations", "users", "memberships")
_AT_ONCE = 1000

Live = dict[tuple[str, ...], Any]  # what is live, as far as the feed tells of it


@dataclass(frozen=True)
class World:
    number: int
    live: Live = field(compare=False)


@dataclass(frozen=True)
class Step:
    """From a world into a new one, by one more delivery."""

    world: World
    heard: Told
    body: str
    number: int


@dataclass(frozen=True)
class Explored:
    """`orders`: of all histories; `steps`: deliveries made for them; `worlds`: the most that one level went on with."""

    histories: int
    orders: int
    steps: int
    worlds: int


def explore(mirror: Mirror, lived: Sequence[History], begun: Told = ()) -> Explored:
    """Delivers what each history tells after `begun` in every order. AssertionError where an order ends wrongly.

    The connection is a superuser's.
    """
    truths = {_later(history, begun): history for history in lived}
    heard = {part for told in truths for size in range(len(told) + 1) for part in combinations(told, size)}
    by_size: defaultdict[int, set[Told]] = defaultdict(set)
    for part in heard:
        by_size[len(part)].add(part)
    worlds: dict[Told, list[World]] = {(): [_begin(mirror, begun)]}
    number, steps, most = 0, 0, 1
    for size in range(1, max(by_size) + 1):
        planned: list[Step] = []
        for part in by_size[size]:
            for place, body in enumerate(part):
                for world in worlds[part[:place] + part[place + 1 :]]:
                    number += 1
                    planned.append(Step(world, part, body, number))
        worlds = _take(mirror, planned, truths)
        steps += len(planned)
        most = max(most, sum(map(len, worlds.values())))
    return Explored(len(truths), sum(factorial(len(told)) for told in truths), steps, most)


def _later(history: History, begun: Told) -> Told:
    assert history.told[: len(begun)] == begun
    return history.told[len(begun) :]


def _begin(mirror: Mirror, begun: Told) -> World:
    for number, body in enumerate(begun):
        mirror.deliver(body.replace(MARK, f"{MARK}0"), f"msg_begun_{number}")
    return World(0, _tell(mirror, {0: {}})[0])


def _take(mirror: Mirror, planned: Sequence[Step], truths: Mapping[Told, History]) -> dict[Told, list[World]]:
    """The worlds that the steps lead to, one of each kind; the others are gone afterwards, and those they came from."""
    old = {step.world.number for step in planned}
    mirror.run("select setval(pg_get_serial_sequence('tenantry.changes', 'seq'), 1, false)")
    mirror.run("truncate tenantry.changes, tenantry.webhook_events")
    for start in range(0, len(planned), _AT_ONCE):
        some = planned[start : start + _AT_ONCE]
        with mirror.connection.transaction():
            _copy(mirror, some)
            batch = [
                Mirror.delivery(step.body.replace(MARK, f"{MARK}{step.number}"), f"msg_{step.number}") for step in some
            ]
            outcomes = Counter(answer["outcome"] for answer in mirror.deliver_all(batch))
            assert outcomes.keys() <= {"applied", "stale"}, outcomes
    live = _tell(mirror, {step.number: step.world.live for step in planned})
    rows, mirrored, shown = _rows(mirror), _mirrored(mirror), _live(mirror)
    worlds: defaultdict[Told, dict[Any, World]] = defaultdict(dict)
    for step in planned:
        assert live[step.number] == shown[step.number], (step.heard, "the feed tells another tale")
        history = truths.get(step.heard)
        for kind in KINDS if history else ():
            assert mirrored[step.number][kind] == history.truth[kind], (history.acts, step, kind)  # type: ignore[union-attr]
        worlds[step.heard].setdefault(rows[step.number], World(step.number, live[step.number]))
    kept = {world.number for alike in worlds.values() for world in alike.values()}
    _forget(mirror, old | {step.number for step in planned} - kept)
    return {heard: list(alike.values()) for heard, alike in worlds.items()}


# --- worlds as rows ---------------------------------------------------------------------------------------------------

_NEW = "split_part({}, '~', 1) || '~' || made"
_COPIED = {
    "users": ({"id": _NEW.format("k.id")}, "k.id = any (array['user_0~' || source, 'user_1~' || source])"),
    "tenants": (
        {
            "id": f"tenantry.tenant_id_of({_NEW.format('k.clerk_org_id')})",
            "clerk_org_id": _NEW.format("k.clerk_org_id"),
        },
        "k.clerk_org_id = any (array['org_0~' || source, 'org_1~' || source])",
    ),
    "tenant_memberships": (
        {
            "id": _NEW.format("k.id"),
            "user_id": _NEW.format("k.user_id"),
            "tenant_id": "tenantry.tenant_id_of((select "
            + _NEW.format("t.clerk_org_id")
            + " from tenantry.tenants as t where t.id = k.tenant_id))",
        },
        "k.user_id = any (array['user_0~' || source, 'user_1~' || source])",
    ),
}  # fmt: skip
_KEYS = {"users": "id", "tenants": "clerk_org_id", "tenant_memberships": "id"}


def _copy(mirror: Mirror, steps: Sequence[Step]) -> None:
    """Each step's world under the step's number, with no trigger to merge or note it."""
    mirror.run("set local session_replication_role = replica")
    for table, (renamed, of_world) in _COPIED.items():
        columns = mirror.column(
            "select column_name::text from information_schema.columns"
            " where table_schema = 'tenantry' and table_name = %s and is_generated = 'NEVER'",
            table,
        )
        values = ", ".join(renamed.get(column, f"k.{column}") for column in columns)
        mirror.run(
            f"insert into tenantry.{table} ({', '.join(columns)}) select {values}"
            " from unnest(%s::bigint[], %s::bigint[]) as copied(source, made)"
            f" join tenantry.{table} as k on {of_world}",
            [step.world.number for step in steps],
            [step.number for step in steps],
        )
    mirror.run("set local session_replication_role = origin")


def _forget(mirror: Mirror, numbers: Iterable[int]) -> None:
    with mirror.connection.transaction():
        mirror.run("set local session_replication_role = replica")
        for table, key in _KEYS.items():
            mirror.run(
                f"delete from tenantry.{table} where split_part({key}, '~', 2)::bigint = any (%s)", list(numbers)
            )


def _rows(mirror: Mirror) -> dict[int, Any]:
    """Of each world everything its rows say, its number apart."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for table, key in _KEYS.items():
        query = (
            f"select split_part(k.{key}, '~', 2)::bigint as world, to_jsonb(k) - '{{id,tenant_id}}'::text[]"
            f" || jsonb_build_object('key', {key}) as shown from tenantry.{table} as k"
        )
        for world, row in mirror.rows(f"select world, replace(shown::text, '~' || world, '~') from ({query}) as k"):
            found[world].append(row)
    return defaultdict(frozenset, {world: frozenset(rows) for world, rows in found.items()})


def _mirrored(mirror: Mirror) -> dict[int, Truth]:
    """What each world's mirror holds for true."""
    found: defaultdict[int, Truth] = defaultdict(lambda: {kind: {} for kind in KINDS})
    for kind in KINDS:
        for name, fields in mirror.rows(MIRRORED[kind]):
            key, _, number = name.partition(MARK)
            plain = [each.partition(MARK)[0] + MARK if _is_id(each) else each for each in fields]
            found[int(number)][kind][key + MARK] = plain
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("org_", "user_")) and MARK in value


# --- the feed ---------------------------------------------------------------------------------------------------------


def _tell(mirror: Mirror, before: Mapping[int, Live]) -> dict[int, Live]:
    """What is live after the changes since, in each world, by the feed alone."""
    live = {number: dict(known) for number, known in before.items()}
    rows = mirror.rows(
        "select c.kind, t.clerk_org_id, c.user_id, c.before ->> 'role', c.after ->> 'role', c.after ->> 'name'"
        " from tenantry.changes as c left join tenantry.tenants as t on t.id = c.tenant_id order by c.seq"
    )
    for kind, org_id, user_id, was, is_now, name in rows:
        subject, _, verb = kind.partition(".")
        number, key = _key(subject, org_id, user_id)
        known = live[number]
        assert (key in known) == (verb not in ("created", "joined")), (kind, key, known)
        if subject == "member":
            assert known.get(key) == was, (kind, key, known)
        if verb in ("deleted", "left"):
            del known[key]
        else:
            known[key] = {"member": is_now, "tenant": name}.get(subject)
    return live


def _live(mirror: Mirror) -> dict[int, Live]:
    """The same by the mirror's rows and its view of members."""
    rows = mirror.rows(
        "select 'tenant', clerk_org_id, null, name from tenantry.tenants where ended_at is null"
        " union all select 'user', null, id, null from tenantry.users where ended_at is null"
        " union all select 'member', t.clerk_org_id, m.user_id, m.role from tenantry.members as m"
        " join tenantry.tenants as t on t.id = m.tenant_id"
    )
    live: defaultdict[int, Live] = defaultdict(dict)
    for subject, org_id, user_id, content in rows:
        number, key = _key(subject, org_id, user_id)
        live[number][key] = content
    return live


def _key(subject: str, *about: str | None) -> tuple[int, tuple[str, ...]]:
    """The world, and who it is in every world."""
    parts = [each.partition(MARK) for each in about if each]
    return int(parts[0][2]), (subject, *(part[0] for part in parts))
