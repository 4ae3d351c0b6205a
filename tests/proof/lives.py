"""Lives of an app beside Clerk: people act, deliveries and runs go wrong in every way, and the mirror must be right."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import asyncpg
import httpx
import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from databases import APP, Server
from reconciling import Query, World, clerk_world
from sql.mirror import Mirror
from telling import until
from tenantry import asyncpg as adapter
from tenantry.changes import Change, Consumer, Feed, make_consumer
from tenantry.emulator.settings import Assumptions
from tenantry.emulator.store import Event
from tenantry.errors import TenantryError
from tenantry.pool import Pool
from test_reconcile import ACTS, ORGANIZATIONS, PEOPLE, SOMETIMES, History, whole

LONG = "long"
TROUBLES = ("none", "error", "killed")
_ENDED = {
    "users": "select id from tenantry.users where ended_at is not null",
    "organizations": "select clerk_org_id from tenantry.tenants where ended_at is not null",
    "memberships": "select id from tenantry.tenant_memberships where ended_at is not null",
    "invitations": "select id from tenantry.invitations where ended_at is not null",
    "domains": "select id from tenantry.domains where ended_at is not null",
}

Letter = tuple[str, Event]  # a message id, and what it tells


class Life(RuleBasedStateMachine):
    """The emulator is the truth. Databases are made on the server, copies of the template."""

    def __init__(self, server: Server, template: str) -> None:
        super().__init__()
        self._server, self._template = server, template
        self._stack = ExitStack()
        self._post: list[Letter] = []  # under way
        self._delivered: list[Letter] = []
        self._numbers = 0
        self._lost = False
        self._chance = random.Random(0)
        self._tries: Counter[int] = Counter()

    @initialize(cascade=st.booleans(), seed=st.integers(0, 999))
    def begin(self, cascade: bool, seed: int) -> None:
        self._chance.seed(seed)
        database = self._server.create(self._template)
        self._stack.callback(self._server.drop, database)
        assumptions = Assumptions(cascade_events=cascade)
        self.world: World = self._stack.enter_context(clerk_world(database, assumptions=assumptions))
        self.world.mirror.run("create table told (pos bigint, n bigint generated always as identity)")
        self.world.mirror.run(f"grant insert on told to {APP}, tenantry_tenant")
        self.history = History(self.world)
        for number in range(PEOPLE):
            self.history.act("create user", number, 0, 0)
        for number in range(ORGANIZATIONS):
            self.history.act("create organization", number, number, 0)

    # --- at Clerk

    @rule(
        what=st.sampled_from(ACTS),
        person=st.integers(0, PEOPLE - 1),
        place=st.integers(0, ORGANIZATIONS - 1),
        number=st.integers(0, 3),
        pause=st.sampled_from([0, 0.001, 1, 60]),
    )
    def act(self, what: str, person: int, place: int, number: int, pause: float) -> None:
        self.world.clock.pass_seconds(pause)
        self.history.act(what, person, place, number)

    @rule(person=st.integers(0, PEOPLE - 1), place=st.integers(0, ORGANIZATIONS - 1), leave=st.booleans())
    def act_through_the_backend_api(self, person: int, place: int, leave: bool) -> None:
        org_id, user_id = self.history.organizations.get(place), self.history.users.get(person)
        settings = self.world.settings
        headers = {"Authorization": f"Bearer {settings.secret_key}"}
        with httpx.Client(base_url=f"{settings.api_url}/v1", headers=headers, timeout=20) as client:
            if leave:
                client.delete(f"/organizations/{org_id}/memberships/{user_id}")
            else:
                client.patch(f"/users/{user_id}", json={"last_name": f"Name {self._chance.random()}"})

    # --- deliveries

    def _collect(self) -> None:
        for event in self.world.take_events():
            self._numbers += 1
            self._post.append((f"msg_{self._numbers}", event))

    def _draw(self, share: float) -> list[Letter]:
        """Some of the post, in any order, no longer under way."""
        self._collect()
        self._chance.shuffle(self._post)
        middle = round(len(self._post) * share)
        drawn, self._post = self._post[:middle], self._post[middle:]
        return drawn

    def _batch(self, letters: list[Letter]) -> list[Any]:
        return [Mirror.delivery(self.world.letter(event), name) for name, event in letters]

    def _deliver(self, letters: list[Letter]) -> None:
        self._delivered += letters
        batch, size = self._batch(letters), self._chance.choice([1, 3, 20])
        for start in range(0, len(batch), size):
            outcomes = {told["outcome"] for told in self.world.mirror.deliver_all(batch[start : start + size])}
            assert outcomes <= {"applied", "stale", "duplicate", "ignored"}, outcomes

    @rule(share=st.sampled_from([0.2, 0.6, 1]))
    def deliver(self, share: float) -> None:
        self._deliver(self._draw(share))

    @rule()
    def deliver_again(self) -> None:
        self._deliver(self._chance.sample(self._delivered, len(self._delivered) // 3))

    @rule(share=st.sampled_from([0.3, 1]))
    def lose(self, share: float) -> None:
        self._lost = bool(self._draw(share)) or self._lost

    @rule(committed=st.booleans())
    def kill_who_delivers(self, committed: bool) -> None:
        """In the middle of the transaction, or before the answer is out: Clerk sends again in both cases."""
        letters = self._draw(0.5)
        if not letters:
            return
        known = "select message_id from tenantry.webhook_events where message_id = any (%s)"
        names = [name for name, _ in letters]
        before = self.world.mirror.column(known, names)
        with self.world.database.connect(autocommit=False) as connection:
            Mirror(connection).deliver_all(self._batch(letters))
            if committed:
                connection.commit()
            self.world.mirror.run("select pg_terminate_backend(%s, 10000)", connection.info.backend_pid)
            with suppress(psycopg.OperationalError):
                connection.execute("select 1")
        after = self.world.mirror.column(known, names)
        assert sorted(after) == sorted(names if committed else before)
        self._post += letters

    # --- tokens

    @rule(person=st.integers(0, PEOPLE - 1), place=st.integers(0, ORGANIZATIONS - 1))
    def show_a_token(self, person: int, place: int) -> None:
        org_id, user_id = self.history.organizations.get(place), self.history.users.get(person)
        if org_id and user_id and self.world.emulator.store.state.membership(org_id, user_id):
            now = self.world.clock() // 1000
            self.world.mirror.provision(
                {"user_id": user_id, "org_id": org_id, "role": "org:member", "issued_at": now, "expires_at": now + 60}
            )

    # --- runs

    @rule(quick=st.booleans())
    def run(self, quick: bool) -> None:
        asyncio.run(self.world.reconcile(allow_mass_end=True, quick=quick))

    @rule(
        at=st.integers(1, 25),
        what=st.sampled_from(["deliver", "act", "reset", "kill", "lose"]),
        names=st.lists(st.sampled_from(ACTS), min_size=1, max_size=4),
    )
    def run_while_something_happens(self, at: int, what: str, names: list[str]) -> None:
        """At one of its requests; a run that is stopped by it is gone on with by the next."""
        asked = 0

        def before(path: str, query: Query) -> None:
            nonlocal asked
            asked += 1
            if asked < at or (asked > at and what != "reset"):
                return
            if what == "deliver":
                self._deliver(self._draw(0.5))
            elif what == "lose":
                self._lost = bool(self._draw(0.5)) or self._lost
            elif what == "kill":
                self.world.mirror.run(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'tenantry' and datname = current_database()"
                )
            elif what == "act":
                for name in names:
                    self.history.act(name, self._chance.randrange(PEOPLE), self._chance.randrange(ORGANIZATIONS), 0)
            else:
                raise ConnectionResetError

        self._run_with(before=before)

    @rule(fault=st.sampled_from(sorted(SOMETIMES)))
    def run_while_clerk_answers_nonsense(self, fault: str) -> None:
        def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
            spoilt = "offset" in query and self._chance.random() < 0.3
            return SOMETIMES[fault](path, query, status, body) if spoilt else (status, body)

        self._run_with(answer=answer)

    def _run_with(self, **faults: Any) -> None:
        for name, fault in faults.items():
            setattr(self.world.faults, name, fault)
        try:
            with suppress(TenantryError):
                asyncio.run(self.world.reconcile(allow_mass_end=True))
        finally:
            self.world.faults.before, self.world.faults.answer = (lambda path, query: None), whole

    # --- handlers

    @rule(trouble=st.sampled_from(TROUBLES))
    def tell(self, trouble: str) -> None:
        asyncio.run(self._tell(trouble))

    async def _tell(self, trouble: str) -> None:
        """Two workers tell a handler of all there is; it goes wrong at a third of the changes, the first two times."""

        async def note(change: Change, connection: Any) -> None:
            await connection.execute("insert into public.told (pos) values ($1)", change.pos)
            self._tries[change.pos] += 1
            if trouble != "none" and change.pos % 3 == 0 and self._tries[change.pos] < 3:
                if trouble == "error":
                    raise ValueError("not yet")
                await connection.execute("select pg_terminate_backend(pg_backend_pid())")

        consumer: Consumer = make_consumer(note, ["*"], start="beginning")
        dsn = self.world.database.dsn()
        pool = Pool(dsn)
        await pool.open()
        feeds = [Feed(pool.run) for _ in range(2)]
        async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as given:
            try:
                for feed in feeds:
                    await feed.start([(consumer, adapter.scoped(given).transaction)])
                await until(lambda: self._is_told(pool))
            finally:
                await asyncio.gather(*(feed.close() for feed in feeds))
                await pool.close()

    def _is_told(self, pool: Pool) -> bool:
        """Whether everything is, once what was committed has its place."""
        self.world.mirror.one("select tenantry.sequence_changes_v1()")
        (row,) = self.world.mirror.one("select tenantry.list_consumers_v1()")
        assert row["state"] != "parked", row
        unplaced = self.world.mirror.one("select count(*) from tenantry.changes where pos is null")
        return not row["behind"] and not unplaced

    # --- what holds at every moment, and at the end

    @invariant()
    def nobody_has_ended_whom_clerk_has(self) -> None:
        if hasattr(self, "world"):
            truth = self.world.truth()
            for kind, query in _ENDED.items():
                assert not set(self.world.mirror.column(query)) & truth[kind].keys(), kind

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and hasattr(self, "world"):
                self._end()
        finally:
            self._stack.close()

    def _end(self) -> None:
        """All is delivered; or one run, from its beginning, has mended what was lost, and what was late comes still."""
        late = self._draw(1)
        if not self._lost:
            self._deliver(late)
            self._check(by_events=True)
        while asyncio.run(self.world.reconcile(allow_mass_end=True)).resumed:  # that one began before
            pass
        self._check()
        self._deliver(late)
        self._deliver(self._delivered[::-1])
        self._check()
        asyncio.run(self._tell("none"))
        told = self.world.mirror.column("select pos from told order by n")
        assert told == self.world.mirror.column("select pos from tenantry.changes order by pos"), "each once, in order"

    def _check(self, *, by_events: bool = False) -> None:
        """`by_events`: no run may have shown the roles and permissions that every instance has."""
        truth, mirrored = self.world.truth(), self.world.mirrored()
        for kind in truth.keys() - ({"roles", "permissions"} if by_events else set()):
            assert mirrored[kind] == truth[kind], kind
        self.world.mirror.check_feed()
