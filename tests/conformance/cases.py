"""Reads the case file, and lives a case: what the mirror is told, who acts, what comes out."""

from __future__ import annotations

import re
import time
import tomllib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from conformance.callers import Caller, Outcome, Step, Work, outcome_of
from databases import OWNER, Database
from sql.tenants import (
    INSTANCE,
    PAST,
    Connection,
    Tenant,
    inside,
    isolate,
    membership,
    organization,
    person,
    read,
    record,
    run,
)
from tenantry.context import Scope, scope_of, tenant_context, use_scope
from tenantry.identity import Identity

Json = dict[str, Any]
_lives = count(1)


@dataclass(frozen=True)
class Case:
    name: str
    transactions: list[Json] = field(hash=False)


def read_cases() -> list[Case]:
    told = tomllib.loads(Path(__file__).with_name("cases.toml").read_text(encoding="utf-8"))
    return [Case(one["name"], one["transaction"]) for one in told["case"]]


def make_tables(database: Database) -> None:
    """As a migration would make them, as their owner."""
    with database.connect(OWNER) as owner:
        for table in ("documents", "notes"):
            run(owner, f"create table {table} (id bigint generated always as identity primary key, title text)")
        isolate(owner, "documents")
        isolate(owner, "notes", permissions={"delete": "org:notes:delete"})
        run(owner, "create table countries (code text primary key)", "insert into countries values ('NO')")
        run(owner, "select tenantry.share_table_v1('countries', 'read')")


def make_tenant(app: Connection, sentinel: str) -> Tenant:
    """An organization with one member, known to the mirror for an hour."""
    org_id, user_id, at = f"org_{sentinel}", f"user_{sentinel}", time.time() - PAST
    record(app, "user.created", person(user_id), at)
    record(app, "organizationMembership.created", membership(f"orgmem_{sentinel}", org_id, user_id), at)
    return Tenant(str(read(app, "select (tenantry.find_tenant(%s)).id", org_id)), org_id, user_id, sentinel)


class Life:
    """One caller's life of a case, with tenants of its own, since the last one's are spent."""

    def __init__(self, app: Connection) -> None:
        self._app = app
        number = next(_lives)
        self._tenants = {name: make_tenant(app, f"{name}{number}") for name in ("alpha", "bravo")}
        self._tenants["ghost"] = Tenant("", f"org_ghost{number}", f"user_ghost{number}", f"ghost{number}")
        for name in ("alpha", "bravo"):
            with inside(app, self._tenants[name]):
                run(app, f"insert into documents (title) values ('{name} one'), ('{name} two')")

    async def live(self, case: Case, caller: Caller) -> list[Outcome]:
        """The outcome of each transaction, in words that are the same for every life."""
        outcomes = []
        scope: AbstractContextManager[Any] = nullcontext()
        for transaction in case.transactions:
            for event in transaction.get("told", ()):
                self._tell(dict(event))
            if not transaction.get("same_scope"):
                scope = self._scope(transaction["as"])
            with scope as running:
                outcomes.append(self._plain(await outcome_of(caller, self._work(transaction))))
            if isinstance(running, Scope):
                scope = use_scope(running)
        return outcomes

    def _work(self, transaction: Json) -> Work:
        steps = [Step(one) if isinstance(one, str) else Step(**one) for one in transaction["run"]]
        return Work(
            [replace(step, sql=self._filled(step.sql)) for step in steps],
            scoped=transaction.get("as") != "raw",
            read_only=transaction.get("read_only", False),
            commit=transaction.get("end") != "rollback",
        )

    def _scope(self, who: str | Json) -> AbstractContextManager[Scope | None]:
        if who in ("nobody", "raw"):
            return nullcontext()
        facts: Json = {"token": who} if isinstance(who, str) else who
        if job := facts.get("job"):
            id_ = self._tenants[job].id if job in self._tenants else job
            user_id = self._tenants[facts["user"]].user_id if "user" in facts else None
            return tenant_context(id_, reason="conformance", user_id=user_id)
        if alone := facts.get("person"):
            identity = self._identity(alone, facts, org_id=None, role=None)
            return use_scope(scope_of(identity, personal_accounts=facts.get("allowed", True)))
        return use_scope(scope_of(self._identity(facts["token"], facts)))

    def _identity(self, name: str, who: Json, **changes: Any) -> Identity:
        now = int(time.time())
        tenant = self._tenants[name]
        facts: Json = {
            "user_id": self._tenants[who.get("user", name)].user_id,
            "org_id": tenant.org_id,
            "role": who.get("role", "org:member"),
            "permissions": frozenset(who.get("permissions", ())),
            "session_id": f"sess_{tenant.sentinel}",
            "issued_at": now + who.get("issued", 0),
            "expires_at": now + who.get("expires", 60),
            "instance_id": who.get("instance", INSTANCE),
        }
        return Identity(**facts | changes)

    def _tell(self, event: Json) -> None:
        type_, at = event.pop("type"), time.time() - event.pop("ago")
        tenant = self._tenants[event.pop("of")]
        match type_.partition(".")[0]:
            case "organization":
                data = organization(tenant.org_id, **event)
            case "organizationMembership":
                data = membership(f"orgmem_{tenant.sentinel}", tenant.org_id, tenant.user_id, **event)
            case "user":
                data = person(tenant.user_id, **event)
            case _:
                data = {"object": "session", "id": f"sess_{tenant.sentinel}", "user_id": tenant.user_id, **event}
        assert record(self._app, type_, data, at) == "applied"

    def _filled(self, text: str) -> str:
        return text.format(**self._tenants)

    def _plain(self, outcome: Outcome) -> Outcome:
        """The organizations and ids of this life under the names they have in the case file."""
        context: Any = outcome.context
        if context is not None:
            context = {name: _listed(value) for name, value in asdict(context).items()}
            context.pop("id")
        return replace(outcome, rows=self._renamed(outcome.rows), context=self._renamed(context))

    def _renamed(self, told: Any) -> Any:
        match told:
            case list():
                return [self._renamed(one) for one in told]
            case dict():
                return {name: self._renamed(one) for name, one in told.items()}
            case str():
                for name, tenant in self._tenants.items():
                    told = told.replace(tenant.id or "-", f"{{{name}.id}}")
                    told = re.sub(rf"\b(org|user)_{tenant.sentinel}\b", rf"{{{name}.\1_id}}", told)
                return told
            case _:
                return told


def _listed(value: Any) -> Any:
    """None as the empty text, since TOML has no null; a set as a list."""
    return sorted(value) if isinstance(value, frozenset) else "" if value is None else value
