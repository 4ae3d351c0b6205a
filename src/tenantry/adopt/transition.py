"""One table's way behind isolation: its column and triggers, the rows of before, what is required of them, the end."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tenantry.adopt import ddl, grants, owners
from tenantry.adopt.catalog import SCHEMA, Reference, Schema
from tenantry.adopt.keys import Keys
from tenantry.adopt.names import listing, literal, plain, quote, shorten, split
from tenantry.adopt.plan import Decision, Plan, Source, parent_of, reference_of, tenant_column
from tenantry.adopt.step import LEAF, PAGES, Known, Phase, Step


class Transition:
    """What becomes of one table."""

    def __init__(self, plan: Plan, schema: Schema, known: Known, decision: Decision) -> None:
        self.plan = plan
        self.schema = schema
        self.known = known
        self.decision = decision
        self.table = schema.tables[decision.table]
        self.column = tenant_column(plan, schema, decision)
        self.source = plan.source(schema, decision)
        self.keys = Keys(plan, schema, decision)
        self.leaves = self.table.leaves
        self._name = split(self.table.name)
        self._derive = f"{SCHEMA}.{quote(shorten('derive', *self._name))}"
        self._follow = f"{SCHEMA}.{quote(shorten('follow', *self._name))}"

    # expand

    def expand(self) -> Iterator[Step]:
        if not self.column.is_new:
            return
        table, column = self.table.name, self.column.name
        default = ""
        if self.decision.tenant == "organization":  # a default of the kind that rewrites nothing fills all rows at once
            default = f" default {self._constant()}"
        sql = [f"alter table {table} add column if not exists {column} {self.column.type}{default}"]
        undo = [f"alter table {table} drop column if exists {column}"]
        if self.decision.tenant != "organization":
            sql += self._make_trigger()
            undo = [*self._drop_trigger(), *undo]
        yield Step(
            "expand",
            f"give {table} its {column}",
            table,
            "together",
            tuple(sql),
            tuple(undo),
            "ACCESS EXCLUSIVE",
            self.leaves,
        )

    def follow(self) -> Iterator[Step]:
        """Once the columns are there of all that follow."""
        if followers := list(self._followers()):
            yield self._follow_step(followers)

    def _constant(self) -> str:
        org_id = self.plan.rows.organization
        if self.column.key == "clerk_org_id":
            return literal(org_id)
        return literal(self.known.tenants.get(org_id, "")) + "::uuid"

    def _current(self) -> str:
        """The tenant of the transaction, for an app that sets one already; else null."""
        return f"{self.column.current}::{self.column.type}"

    def _derived(self, row: str) -> str:
        """The tenant that a row's owner has."""
        if self.decision.tenant == "reference":
            reference, parent = self._parent()
            on = reference.joins(row, "p")
            # The lock is the one that a foreign key takes: meanwhile the row goes to no other tenant.
            return f"(select p.{parent.column.name} from {reference.target} as p where {on} for key share)"
        source, kind = self._owner()
        owner = self.decision.column[0]
        if source.table == self.table.name:
            return owners.place(self.plan, source, kind, row)
        found = f"(select m.tenant_id from {owners.mapping(kind)} as m where m.key = {row}.{owner})"
        return found if source.table else f"coalesce({found}, tenantry.adopt_tenant_v1({row}.{owner}))"

    def _parent(self) -> tuple[Reference, Transition]:
        reference = reference_of(self.schema, self.decision)
        parent = self.plan.of(parent_of(self.schema, self.decision) or "")
        if reference is None or parent is None:
            raise ValueError(f"{self.table.name} has no parent by {self.decision.column}")
        return reference, Transition(self.plan, self.schema, self.known, parent)

    def _owner(self) -> tuple[Source, str]:
        if self.source is None:
            raise ValueError(f"{self.table.name} has no owner")
        return self.source, "organizations" if self.source is self.plan.organizations else "users"

    def _make_trigger(self) -> list[str]:
        column, table = self.column.name, self.table.name
        candidates = [self._current(), self._derived("new"), owners.rest(self.column.key)]
        body = (
            f"begin\n  new.{column} := coalesce(\n    {(',' + chr(10) + '    ').join(candidates)});\n  return new;\nend"
        )
        changed = " or ".join(f"old.{c} is distinct from new.{c}" for c in self.decision.column)
        run = f"execute function {self._derive}()"
        return [
            ddl.function(self._derive, body),
            f"create or replace trigger zz_tenantry_adopt_insert before insert on {table}\n"
            f"  for each row when (new.{column} is null) {run}",
            f"create or replace trigger zz_tenantry_adopt_update before update on {table}\n"
            f"  for each row when (new.{column} is null or {changed}) {run}",
        ]

    def _drop_trigger(self) -> list[str]:
        return [
            f"drop trigger if exists zz_tenantry_adopt_insert on {self.table.name}",
            f"drop trigger if exists zz_tenantry_adopt_update on {self.table.name}",
            f"drop function if exists {self._derive}()",
        ]

    def _followers(self) -> Iterator[tuple[Transition, Reference]]:
        """The tables that get their tenant from this one."""
        for decision in self.plan.owned:
            reference = reference_of(self.schema, decision) if decision.tenant == "reference" else None
            if reference and reference.target == self.table.name:
                yield Transition(self.plan, self.schema, self.known, decision), reference

    def _follow_step(self, followers: list[tuple[Transition, Reference]]) -> Step:
        """Its trigger runs before those of foreign keys, which go by name, so that they find the rows moved."""
        column, table = self.column.name, self.table.name
        updates = []
        for follower, reference in followers:
            on = reference.joins("t", "new", equal="operator(pg_catalog.=)")  # in schemas that others may write to
            updates.append(
                f"  update {follower.table.name} as t set {follower.column.name} = new.{column}\n"
                f"  where {on} and t.{follower.column.name} is distinct from new.{column};"
            )
        body = "begin\n" + "\n".join(updates) + "\n  return null;\nend"
        filled = f"old.{column} is not null and " if self.column.is_new else ""  # by the backfill, which fills them too
        sql = (
            ddl.function(self._follow, body, spaces=self._spaces(followers)),
            f'create or replace trigger "A_tenantry_adopt_follow" after update on {table}\n'
            f"  for each row when ({filled}old.{column} is distinct from new.{column})\n"
            f"  execute function {self._follow}()",
            # Also in batches that keep the app's own triggers quiet.
            f'alter table {table} enable always trigger "A_tenantry_adopt_follow"',
        )
        return Step(
            "expand",
            f"have rows follow those of {table}",
            table,
            "together",
            sql,
            tuple(self._drop_follow()),
            "SHARE ROW EXCLUSIVE",
            self.leaves,
        )

    def _spaces(self, followers: list[tuple[Transition, Reference]]) -> list[str]:
        """Where triggers of the rows that follow look for what they name, which others could not put there: in the
        schemas of their tables, and in the public one."""
        spaces = [split(each.table.name)[0] for each, _ in followers] + [self._name[0]]
        public = self.schema.namespaces.get("public", ())
        if public and not any((each.grantee, each.privilege) == ("public", "create") for each in public):
            spaces.append("public")
        return list(dict.fromkeys(spaces))

    def _drop_follow(self) -> list[str]:
        return [
            f'drop trigger if exists "A_tenantry_adopt_follow" on {self.table.name}',
            f"drop function if exists {self._follow}()",
        ]

    # backfill

    def backfill(self) -> Iterator[Step]:
        if not self.column.is_new or self.decision.tenant == "organization":
            return
        yield self._fill()
        # Else the planner still takes it for a column of nulls, and looks from each parent for the batch's few rows.
        sql = f"analyze {self.table.name} ({self.column.name})"
        name = f"analyze {self.column.name} of {self.table.name}"
        yield Step("backfill", name, self.table.name, "alone", (sql,))

    def _matching(self) -> tuple[str, str, str]:
        """SET, FROM and ON of an update that gives rows the tenant of their owner."""
        column = self.column.name
        if self.decision.tenant == "reference":
            reference, parent = self._parent()
            found = f"p.{parent.column.name}"
            on = f" and {reference.joins('t', 'p')} and {found} is not null"
            return f"{column} = {found}", f"\nfrom {reference.target} as p", on
        _, kind = self._owner()
        found = f"coalesce(m.tenant_id, {owners.rest()})"
        on = f" and m.key = t.{self.decision.column[0]} and {found} is not null"
        return f"{column} = {found}", f"\nfrom {owners.mapping(kind)} as m", on

    def _fill(self) -> Step:
        """Gives rows of before the tenant of their owner, also those whose owner has gone to another; then the rest."""
        column, rest = self.column.name, owners.rest(self.column.key)
        sets, source, on = self._matching()
        to_do = f"t.{column} is null"
        if self.decision.tenant == "owner":
            to_do = f"({to_do} or t.{column} = any (m.former))"
        elif self._follows_loosely():
            to_do = f"({to_do} or {self._is_late()})"
        of_nobody = f"t.{column} is null and {rest} is not null"
        return self._batches(
            "backfill",
            f"fill {column} of {self.table.name}",
            f"update {LEAF} as t set {sets}{source}\nwhere {PAGES} and {to_do}{on}",
            f"update {LEAF} as t set {column} = {rest}\nwhere {PAGES} and {of_nobody}",
        )

    def _is_late(self, row: str = "t", above: str = "p") -> str:
        """In SQL: whether a row was given to the rest before what it refers to came."""
        column, theirs = f"{row}.{self.column.name}", f"{above}.{self._parent()[1].column.name}"
        return f"{column} = {owners.rest(self.column.key)} and {theirs} <> {column}"

    def _settle(self) -> Step:
        sets, source, on = self._matching()
        differing = f"t.{self.column.name} is distinct from {sets.partition(' = ')[2]}"
        sql = f"update {LEAF} as t set {sets}{source}\nwhere {PAGES} and {differing}{on}"
        return self._batches("constrain", f"settle {self.table.name}", sql)

    def _batches(self, phase: Phase, name: str, *sql: str) -> Step:
        return Step(
            phase,
            name,
            self.table.name,
            "batches",
            sql,
            lock="ROW EXCLUSIVE",
            rows=self.table.rows,
            leaves=self.leaves,
            quiet=self._is_quiet(),
        )

    def _is_quiet(self) -> bool:
        """Whether triggers of the app's are not to run, also those of rows that follow."""
        of_its_own = bool(self.table.triggers) and not self.decision.triggers
        return of_its_own or any(follower._is_quiet() for follower, _ in self._followers())

    # what came since

    def left_behind(self) -> str:
        """A query: whether a row has no tenant, though its owner has one, or somebody gets the rest; or whether it has
        that one's, and what it refers to came later."""
        _, source, on = self._matching()
        none = f"from {self.table.name} as t where t.{self.column.name} is null"
        of_owner = f"exists (select {none} and exists (select{source} where true{on}))"
        late = ""
        if self._follows_loosely():
            reference, _ = self._parent()
            joined = f"{self.table.name} as t join {reference.target} as p on {reference.joins('t', 'p')}"
            late = f" or exists (select from {joined} where {self._is_late()})"
        return f"select {of_owner} or {owners.rest(self.column.key)} is not null and exists (select {none}){late}"

    def waiting(self) -> str | None:
        """A query: how many rows without a tenant, and how many of another than their owner's, wait to be settled, and
        how many of whom nobody knows yet where their owner went. None where there is nobody to wait for."""
        joins, late, each, above = [], [], self, 0
        while each.decision.tenant == "reference":
            reference, parent = each._parent()
            on = reference.joins(f"t{above}", f"t{above + 1}")
            joins.append(f"join {reference.target} as t{above + 1} on {on}")
            late += [each._is_late(f"t{above}", f"t{above + 1}")] if each._follows_loosely() else []
            each, above = parent, above + 1
        if each.decision.tenant != "owner":
            return None
        _, kind = each._owner()
        joins.append(f"join {owners.mapping(kind)} as m on m.key = t{above}.{each.decision.column[0]}")
        found = f"coalesce(m.tenant_id, {owners.rest()}) is not null"
        none = f"t0.{self.column.name} is null"
        gone = " or ".join([f"t{above}.{each.column.name} = any (m.former)", *late])
        gone = f"({gone})" if late else gone
        counted = (
            f"{none} and {found}",
            f"not {none} and {gone} and {found}",
            f"not {none} and {gone} and not {found}",
        )
        counts = ", ".join(f"count(*) filter (where {condition})" for condition in counted)
        return f"select {counts}\nfrom {self.table.name} as t0 {' '.join(joins)}\nwhere {none} or {gone}"

    # constrain

    def constrain(self) -> Iterator[Step]:
        if self.column.key == "id":
            name = shorten(self._name[1], self.column.name, "fkey")
            yield from self.keys.add_reference(
                "constrain", name, f"({self.column.name})", "tenantry.tenants", "(id)", "", ()
            )
        for index in self.keys.new_indexes():
            yield from self.keys.make_index(index)
        for reference, own in self.keys.composites():
            if own:
                yield from self.keys.compose(reference, self._settle())
        if self.column.is_new and self._follows_loosely():
            yield self._settle()

    # isolate

    def require(self) -> Iterator[Step]:
        """What an app that sets no tenant could fail at."""
        table, column = self.table.name, self.column.name
        for reference, own in self.keys.composites():
            if not own:
                yield from self.keys.compose(reference, None)
        found = self.table.column(column)
        if found and found.not_null:
            return
        if self.column.is_new and self.decision.tenant != "organization":
            yield self._fill_what_is_left()
        yield Step(
            "isolate",
            f"see that every row of {table} has a tenant",
            table,
            "check",
            (f"select count(*) from {table} where {column} is null",),
            problem=f"{{count}} rows of {table} have no tenant: {self._reason_for_none()}. Give them an owner, "
            'or name in adopt.toml who gets them: rest = "org_..." in [rows].',
            rows=self.table.rows,
        )
        yield from self._set_not_null()

    def _fill_what_is_left(self) -> Step:
        table = self.table.name
        sets, source, on = self._matching()
        sql = (f"update {table} as t set {sets}{source}\nwhere t.{self.column.name} is null{on}",)
        name = f"fill what is left of {table}"
        return Step("isolate", name, table, "together", sql, lock="ROW EXCLUSIVE", quiet=self._is_quiet())

    def _set_not_null(self) -> Iterator[Step]:
        """By way of a check, which is validated while the app goes on."""
        table, column, name = self.table.name, self.column.name, self._not_null_name()
        add = f"alter table {table} add constraint {name} check ({column} is not null) not valid"
        drop = self._drop_not_null_check()
        yield Step(
            "isolate",
            f"require {column} of {table}",
            table,
            "together",
            (ddl.unless_there(table, name, add),),
            (drop,),
            "ACCESS EXCLUSIVE",
            self.leaves,
        )
        yield Step(
            "isolate",
            f"validate {name}",
            table,
            "together",
            (ddl.if_there(table, name, f"alter table {table} validate constraint {name}"),),
            lock="SHARE UPDATE EXCLUSIVE",
            rows=self.table.rows,
        )
        yield Step(
            "isolate",
            f"set {column} of {table} not null",
            table,
            "together",
            (f"alter table {table} alter column {column} set not null",),  # what is proven is not scanned for
            (f"alter table {table} alter column {column} drop not null",),
            "ACCESS EXCLUSIVE",
            self.leaves,
        )

    def _follows_loosely(self) -> bool:
        reference = reference_of(self.schema, self.decision) if self.decision.tenant == "reference" else None
        return reference is not None and reference.loose

    def _reason_for_none(self) -> str:
        if not self.decision.refers_to:
            return "nobody was found to own them"
        return f"their {listing(self.decision.column)} is null, or in no row of {self.decision.refers_to}"

    def _not_null_name(self) -> str:
        return quote(shorten(self._name[1], self.column.name, "is", "there"))

    def _drop_not_null_check(self) -> str:
        return f"alter table {self.table.name} drop constraint if exists {self._not_null_name()}"

    def isolate(self) -> Step:
        table = self.table.name
        told = {} if self.column.key == "id" else {"column": plain(self.column.name), "key": self.column.key}
        told["check"] = "later"
        sql = (f"select tenantry.isolate_table_v1({literal(table)}, {literal(json.dumps(told))})",)
        undo = [
            ddl.drop_isolation(table),
            *self._restore_default(),
            *grants.restore(self.table),
            *grants.opened(self.table, "write"),
        ]
        for view in self.schema.views:
            if table in view.reads and not view.invoker and view.owner == self.table.owner:
                undo.append(f"alter view {view.name} reset (security_invoker)")
        return Step("isolate", f"isolate {table}", table, "together", sql, tuple(undo), "ACCESS EXCLUSIVE", self.leaves)

    def _restore_default(self) -> list[str]:
        if self.decision.tenant != "organization":
            return []
        return [self._default_of_both()]

    def _default_of_both(self) -> str:
        """The organization whose all rows are, unless the app sets a tenant already."""
        default = f"coalesce({self._current()}, {self._constant()})"
        return f"alter table {self.table.name} alter column {self.column.name} set default {default}"

    def open_default(self) -> tuple[list[str], list[str]]:
        if self.decision.tenant != "organization":
            return [], []
        back = f"alter table {self.table.name} alter column {self.column.name} set default {self._constant()}"
        return [self._default_of_both()], [back]

    # contract

    def clear(self) -> Iterator[Step]:
        """The triggers go, and the check that NOT NULL has taken over."""
        drops = self._drop_trigger() if self.column.is_new and self.decision.tenant != "organization" else []
        if any(self._followers()):
            drops += self._drop_follow()
        yield self.keys.contract(f"clear {self.table.name} of the move", [*drops, self._drop_not_null_check()])
