"""Databases of apps that have not heard of tenants, with rows in them, and how to move them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from databases import APP, OWNER, Database
from sql.tenants import INSTANCE, organization, person, read, rows, run
from tenantry.adopt import catalog, move, ownership
from tenantry.adopt.catalog import Schema
from tenantry.adopt.plan import Decision, Plan, Rows, Source
from tenantry.adopt.record import Entry
from tenantry.adopt.runner import Pace
from tenantry.adopt.step import Phase
from tenantry.errors import AdoptionRefused

HERE = Path(__file__).parent
PACE = Pace(patience=20)


@dataclass
class Watched:
    """A watcher that keeps what happened, by name."""

    done: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        pass

    def progress(self, entry: Entry, done: int, total: int) -> None:
        pass

    def end(self, entry: Entry, *, undo: bool) -> None:
        (self.undone if undo else self.done).append(entry.step.name)


@dataclass(frozen=True)
class World:
    database: Database
    plan: Plan

    def apply(self, last: Phase = "constrain", watcher: Watched | None = None, pace: Pace = PACE) -> Watched:
        watcher = watcher or Watched()
        with self.database.connect(OWNER) as connection:
            move.apply(connection, self.plan, last, pace, watcher)
        return watcher

    def undo(self, first: Phase = "expand", watcher: Watched | None = None) -> Watched:
        watcher = watcher or Watched()
        with self.database.connect(OWNER) as connection:
            move.undo(connection, first, PACE, watcher)
        return watcher

    def findings(self, *, still: bool = True) -> list[tuple[str, str, str]]:
        with self.database.connect(OWNER) as connection:
            report = move.check(connection, self.plan, still=still)
        return [(found.kind, found.table, found.message) for found in report.findings]

    def with_plan(self, *decisions: Decision, **changes: Any) -> World:
        return World(self.database, decide(replace(self.plan, **changes), *decisions))


@contextmanager
def refused(*sentences: str) -> Iterator[None]:
    """What is done meanwhile must be refused, with these sentences."""
    with pytest.raises(AdoptionRefused) as caught:
        yield
    for sentence in sentences:
        assert sentence in str(caught.value)


def sql(database: Database, *statements: str) -> None:
    """What the tables' owner does."""
    with database.connect(OWNER) as owner:
        run(owner, *statements)


def decide(plan: Plan, *decisions: Decision) -> Plan:
    """The plan with these decisions in the place of its own."""
    changed = {each.table: each for each in decisions}
    kept = tuple(changed.pop(d.table, d) for d in plan.decisions)
    return replace(plan, decisions=(*kept, *changed.values()))


def load(database: Database, name: str) -> None:
    """The app's tables, made by their owner, and open to the app's login as such apps have it."""
    with database.connect(OWNER) as owner:
        owner.execute((HERE / f"{name}.sql").read_text(encoding="utf-8").encode())
        query = "select nspname::text from pg_namespace where nspowner = current_user::regrole or nspname = 'public'"
        spaces = rows(owner, query)
        for space in spaces:
            owner.execute(f"grant usage on schema {space} to {APP}".encode())
            owner.execute(f"grant select, insert, update, delete on all tables in schema {space} to {APP}".encode())
            owner.execute(f"grant usage on all sequences in schema {space} to {APP}".encode())


def mirror_users(database: Database, ids: Iterable[str]) -> None:
    _merge(database, "users", [person(each) for each in ids])


def mirror_organizations(database: Database, ids: Iterable[str]) -> None:
    _merge(database, "organizations", [organization(each) for each in ids])


def _merge(database: Database, kind: str, objects: list[dict[str, Any]]) -> None:
    options = {"observed_at": int((time.time() - 60) * 1000), "instance_id": INSTANCE}
    with database.connect(APP) as app:
        statement = "select tenantry.merge_page_v1(%s, %s::jsonb, %s::jsonb)"
        app.execute(statement, [kind, json.dumps(objects), json.dumps(options)])


def schema_of(database: Database) -> Schema:
    with database.connect(OWNER) as owner:
        return catalog.read(owner)


def personal_tenant(database: Database, user_id: str) -> str:
    with database.connect(OWNER) as owner:
        return str(read(owner, "select tenantry.adopt_tenant_v1(%s)", user_id))


# --- the publishing app -----------------------------------------------------------------------------------------------

USERS = 6


def publishing(database: Database, articles: int = 60) -> World:
    """Its users' rows go to their personal tenants; what is ambiguous is decided."""
    load(database, "publishing")
    mirror_users(database, [f"user_{n}" for n in range(1, USERS + 1)])
    with database.connect(OWNER) as owner:
        owner.execute(
            "insert into users (clerk_id, email, username) select 'user_' || n, n || '@example.com', 'name' || n"
            " from generate_series(1, %s) as n",
            [USERS],
        )
        owner.execute(
            "insert into articles (author_id, slug, title, body) select 1 + n %% %s, 'slug-' || n, 'Title ' || n,"
            " repeat('x', n %% 50) from generate_series(1, %s) as n",
            [USERS, articles],
        )
        owner.execute("insert into tags (name) select 'tag' || n from generate_series(1, 5) as n")
        owner.execute("insert into article_tags select id, 1 + id %% 5 from articles".replace("%%", "%").encode())
        owner.execute(
            b"insert into comments (article_id, author_id, body) select a.id, nullif(1 + (a.id + k) % 7, 7), 'text'"
            b" from articles as a, generate_series(1, 3) as k"
        )
        owner.execute(
            b"update comments as c set parent_id = p.id from comments as p"
            b" where p.article_id = c.article_id and p.id = c.id - 1 and c.id % 2 = 0"
        )
        owner.execute(b"insert into follows select a.id, b.id from users as a, users as b where a.id < b.id")
        owner.execute(
            b'insert into drafts ("ownerId", "order") select u.id, n from users as u, generate_series(1, 4) as n'
        )
        owner.execute("analyze")
    return World(database, publishing_plan(schema_of(database)))


def publishing_plan(schema: Schema) -> Plan:
    plan, _ = ownership.propose(schema, Rows())
    return decide(
        plan,
        Decision("public.articles", "owner", ("author_id",), keep=("articles_slug_key",)),
        Decision("public.comments", "reference", ("article_id",)),
        Decision("public.follows", "owner", ("follower_id",)),
    )


# --- the project tracker ----------------------------------------------------------------------------------------------

TEAMS = {"1": "org_one", "2": "org_two", "3": "org_three"}


def tracker(database: Database, issues: int = 20) -> World:
    """Its users' rows go to the organization of their team."""
    load(database, "tracker")
    mirror_organizations(database, TEAMS.values())
    with database.connect(OWNER) as owner:
        owner.execute(b"insert into teams select n, 'Team ' || n from generate_series(1, 3) as n")
        owner.execute(
            b"insert into users (team_id, email) select 1 + n % 3, n || '@example.com' from generate_series(1, 9) as n"
        )
        owner.execute(
            b"insert into projects (owner_id, key, name) select id, 'P' || row_number() over (), 'Name' from users"
        )
        owner.execute(
            "insert into issues (project_id, number, title, blocked_by, assignee)"
            " select p.id, n, 'Issue ' || n, nullif(n - 1, 0), p.owner_id"
            " from projects as p, generate_series(1, %s) as n",
            [issues],
        )
        owner.execute(b"insert into labels select p.id, l from projects as p, unnest(array['bug', 'idea']) as l")
        owner.execute(b"insert into issue_labels select project_id, number, 'bug' from issues where number % 2 = 0")
        owner.execute(
            b'insert into "TimeEntries" ("user", "project", "number", minutes)'
            b" select p.owner_id, i.project_id, i.number, 7.5"
            b" from issues as i join projects as p on p.id = i.project_id"
        )
        owner.execute(
            b"insert into events (project_id, at) select i.project_id, timestamptz '2025-06-01' + n * interval '1 year'"
            b" from issues as i, generate_series(0, 1) as n"
        )
        owner.execute(b"insert into billing.invoices select 'R' || row_number() over (), id, 9.99 from users")
        owner.execute("analyze")
    return World(database, tracker_plan(schema_of(database)))


def tracker_plan(schema: Schema) -> Plan:
    rows = Rows(to="column", column="team_id", organizations=TEAMS)
    plan, _ = ownership.propose(schema, rows, users=Source("public.users", "id"))
    return decide(
        plan,
        Decision("public.issues", "reference", ("project_id",)),
        Decision("public.issue_labels", "reference", ("project_id", "number")),
        Decision('public."TimeEntries"', "reference", ("project",)),
        Decision("public.teams", "shared", mode="read"),
    )


# --- organizations by hand --------------------------------------------------------------------------------------------


def handmade(database: Database) -> World:
    load(database, "handmade")
    mirror_organizations(database, ["org_one", "org_two"])
    with database.connect(OWNER) as owner:
        owner.execute(b"insert into organizations (clerk_org_id, name) values ('org_one', 'One'), ('org_two', 'Two')")
        owner.execute(
            b"insert into documents (org_id, title) select o.clerk_org_id, 'Title ' || n"
            b" from organizations as o, generate_series(1, 20) as n"
        )
        owner.execute(b"insert into paragraphs (document_id, text) select id, 'text' from documents")
        owner.execute(b"insert into invoices (organization_id, total) select id, 10 from organizations")
        owner.execute(b"insert into invoice_lines select id, n from invoices, generate_series(1, 3) as n")
        owner.execute("analyze")
    plan, _ = ownership.propose(schema_of(database), Rows())
    return World(database, plan).with_plan(Decision("public.plans", "shared", mode="read"))
