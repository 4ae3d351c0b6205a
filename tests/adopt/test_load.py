"""The app goes on while its tables are moved: no request fails, none is lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from adopt import worlds
from adopt.worlds import USERS, personal_tenant
from databases import APP, OWNER, Database
from sql.tenants import read, rows
from tenantry.errors import AdoptionRefused

THREADS = 3
SECONDS = 60  # at most, that anything here may take


@dataclass
class Load:
    """Requests of the publishing app, a transaction each, from several connections. Where `tenants` are given, the app
    is the one that sets a tenant in each transaction, and each user stays at home."""

    database: Database
    tenants: dict[int, str] | None = None
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        with self.database.connect(APP) as app:
            app.prepare_threshold = 2
            number = 0
            while not self.stop.is_set():
                number += 1
                began = time.monotonic()
                try:
                    with app.transaction():
                        self.request(app, chance, f"{seed}-{number}")
                except psycopg.Error as error:
                    self.failures.append(f"{error.sqlstate} {error}")
                self.latencies.append(time.monotonic() - began)

    def request(self, app: psycopg.Connection[Any], chance: random.Random, name: str) -> None:
        user = chance.randint(1, USERS)
        if self.tenants:
            app.execute("select tenantry.set_tenant_by_id_v1(%s, 'load')", [self.tenants[user]])
        article = read(app, "select max(id) from articles where author_id = %s and slug !~ 'gone'", user)
        kind = chance.randint(0, 5)
        if kind == 0:
            slug = f"load-{'aware' if self.tenants else 'plain'}-{name}"
            app.execute("insert into articles (author_id, slug, title) values (%s, %s, 'Load')", [user, slug])
            self.written.append(slug)
        elif kind == 1:
            commenter = user if self.tenants else chance.randint(1, USERS)
            insert = "insert into comments (article_id, author_id, body) values (%s, %s, 'Load')"
            app.execute(insert, [article, commenter])
        elif kind == 2:
            app.execute("update articles set title = title || '.' where id = %s", [article])
            app.execute("update users set bio = 'busy' where id = %s", [user])
        elif kind == 3:
            app.execute("delete from comments where id = (select max(id) from comments where author_id = %s)", [user])
        elif kind == 4 and not self.tenants:  # an article changes hands, and takes its comments along
            app.execute("update articles set author_id = %s where id = %s", [chance.randint(1, USERS), article])
        else:
            app.execute(
                "select c.id, c.body from comments c join articles a on a.id = c.article_id where a.id = %s", [article]
            ).fetchall()


@contextmanager
def running(load: Load) -> Iterator[None]:
    threads = [threading.Thread(target=load.work, args=(seed,), daemon=True) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(timeout=SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_no_request_of_the_unmodified_app_fails_up_to_isolation_and_none_of_the_new_one_after(
    database: Database,
) -> None:
    world = worlds.publishing(database, articles=5_000)  # with all that hangs on them 25,000 rows
    plain = Load(database)
    with running(plain):
        world.apply("constrain")
    assert plain.failures == []
    assert world.findings(still=False) == []
    tenants = {n: personal_tenant(database, f"user_{n}") for n in range(1, USERS + 1)}
    aware = Load(database, tenants)
    with running(aware):
        world.apply("contract")
    assert aware.failures == []
    assert world.findings(still=False) == []
    with database.connect(OWNER) as owner, owner.transaction():
        owner.execute("select tenantry.bypass_tenant_v1('a test counts')")
        kept = rows(owner, "select slug from articles where slug like 'load-%'")
    assert kept == sorted(plain.written + aware.written)
    for name, load in (("unmodified", plain), ("aware", aware)):
        print(f"{name}: {len(load.latencies)} requests, the slowest in {max(load.latencies) * 1000:.0f} ms")
    print("longest under locks, in ms:", *longest_held(database), sep="\n  ")


def longest_held(database: Database) -> list[str]:
    query = (
        "select format('%s %s', round(held_ms), step ->> 'name') from tenantry_adopt.steps"
        " where step ->> 'lock' in ('ACCESS EXCLUSIVE', 'SHARE ROW EXCLUSIVE', 'SHARE')"
        " order by held_ms desc nulls last limit 3"
    )
    with database.connect(OWNER) as owner:
        return [str(line) for (line,) in owner.execute(query.encode()).fetchall()]


def test_a_transaction_that_stays_open_holds_up_the_move_and_nobody_else(database: Database) -> None:
    world = worlds.publishing(database)
    slow = database.connect(APP, autocommit=False)
    try:
        slow.execute("update articles set title = 'open' where id = 1")  # so no lock on articles is to be had
        mover = threading.Thread(target=world.apply, args=("expand",), daemon=True)
        mover.start()
        with database.connect(APP) as app:
            app.execute("set statement_timeout = '1s'")  # many times what the move may keep it waiting
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                app.execute("update articles set title = 'free' where id = 2")
                app.execute("select * from articles where id = 1")
                time.sleep(0.01)
        assert mover.is_alive(), "it went past somebody's lock"
    finally:
        slow.rollback()
        slow.close()
    mover.join(timeout=SECONDS)
    assert not mover.is_alive()
    world.apply("constrain")
    assert world.findings(still=False) == []


def test_a_step_that_gets_no_lock_gives_up_with_a_sentence_and_goes_on_later(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(APP, autocommit=False) as slow:
        slow.execute("update articles set title = 'open' where id = 1")
        with pytest.raises(AdoptionRefused, match="did not get its locks"):
            world.apply("constrain", pace=replace(worlds.PACE, patience=0.3))
        slow.rollback()
    world.apply("constrain")
    assert world.findings(still=False) == []
