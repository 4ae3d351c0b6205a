"""Keys and indexes of one table: successors that begin with the tenant, and how they take their predecessors' place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tenantry.adopt import ddl
from tenantry.adopt.catalog import Index, Reference, Schema
from tenantry.adopt.names import listing, literal, quote, shorten, split
from tenantry.adopt.plan import Decision, Plan, TenantColumn, tenant_column
from tenantry.adopt.step import INDEX, LEAF, SPACE, Phase, Step


class Keys:
    """Those of a table, as a plan has it."""

    def __init__(self, plan: Plan, schema: Schema, decision: Decision) -> None:
        self.plan = plan
        self.schema = schema
        self.decision = decision
        self.table = schema.tables[decision.table]
        self.column = tenant_column(plan, schema, decision)
        self._name = split(self.table.name)

    # indexes

    def new_indexes(self) -> list[Index]:
        """The successors of indexes, and what composite foreign keys need; one at least begins with the tenant."""
        made = [self._successor(index) for index in self.table.indexes if self.succeeds(index)]
        for columns in self._asked_for():
            wanted = {self.column.name, *columns}
            if not any(i.unique and not i.predicate and set(i.columns) == wanted for i in (*made, *self.table.indexes)):
                made.append(self._index((self.column.name, *columns), "key", unique=True))
        there = [*made, *(i for i in self.table.indexes if i.valid)]
        if not any(i.columns[:1] == (self.column.name,) and not i.predicate for i in there):
            made.append(self._index((self.column.name,), "idx"))
        return made

    def _index(self, columns: tuple[str, ...], suffix: str, *, unique: bool = False) -> Index:
        return Index(quote(shorten(self._name[1], *columns, suffix)), columns, unique=unique)

    def _successor(self, index: Index) -> Index:
        name = quote(shorten(index.name, "of", "tenant"))
        return replace(index, name=name, columns=(self.column.name, *index.columns), primary=False, constraint="")

    def succeeds(self, index: Index) -> bool:
        """Whether an index gets a successor that begins with the tenant, and goes."""
        return not index.needed_by and self.could_succeed(index)

    def could_succeed(self, index: Index) -> bool:
        """Whether it would if nothing but foreign keys that are known needed it."""
        if not index.plain or not index.valid or self.column.name in index.columns or self._keeps(index):
            return False
        if index.unique:
            return not (index.generated or (index.primary and self.table.partitioned) or self._is_referred_to(index))
        return not any(
            index.columns[: len(r.columns)] == r.columns and not self.is_composed(r) for r in self.table.references
        )

    def stays_across(self, index: Index) -> bool:
        """Whether a key stays unique across tenants."""
        return (
            index.unique and not index.generated and self.column.name not in index.columns and not self.succeeds(index)
        )

    def _is_referred_to(self, index: Index) -> bool:
        """Whether a foreign key that stays as it is needs the key."""
        for table, reference in self.schema.referring[self.table.name]:
            decision = self.plan.of(table.name)
            if set(reference.target_columns) == set(index.columns) and (
                decision is None or not decision.is_owned or not self._of(decision).is_composed(reference)
            ):
                return True
        return False

    def _of(self, decision: Decision) -> Keys:
        return Keys(self.plan, self.schema, decision)

    def _keeps(self, index: Index) -> bool:
        return bool({index.name, index.constraint} & set(self.decision.keep))

    def _asked_for(self) -> list[tuple[str, ...]]:
        """The columns that composite foreign keys of other tables, and its own, refer to here."""
        asked: list[tuple[str, ...]] = []
        for table, reference in self.schema.referring[self.table.name]:
            decision = self.plan.of(table.name)
            if decision and decision.is_owned and self._of(decision).is_composed(reference):
                asked.append(reference.target_columns)
        return asked

    def make_index(self, index: Index) -> Iterator[Step]:
        schema = self._name[0]
        if not self.table.partitioned:
            yield self._build(self.table.name, index, f"{schema}.{index.name}")
            return
        whole = f"{schema}.{index.name}"
        sql = (ddl.index(f"only {self.table.name}", index, "if not exists "),)
        undo = (f"drop index if exists {whole}",)
        yield Step(
            "constrain", f"begin index {whole}", self.table.name, "together", sql, undo, "SHARE", self.table.leaves
        )
        named = []
        for leaf in self.table.leaves:
            of_leaf = self._of_leaf(index, leaf)
            named.append(f"{split(leaf)[0]}.{of_leaf}")
            yield self._build(leaf, replace(index, name=of_leaf), named[-1])
        for leaf, each in zip(self.table.leaves, named, strict=True):  # briefly: the whole is valid with its last part
            yield self._attach(whole, leaf, each)
        yield Step(
            "constrain",
            f"complete index {whole}",
            self.table.name,
            "partitions",
            sql,
            lock="ACCESS EXCLUSIVE",
            leaves=self.table.leaves,
            index=whole,
            parts=(
                self._build(LEAF, replace(index, name=INDEX), f"{SPACE}.{INDEX}"),
                self._attach(whole, LEAF, f"{SPACE}.{INDEX}"),
            ),
            unless="select from pg_inherits as h join pg_index as x on x.indexrelid = h.inhrelid "
            f"where h.inhparent = {literal(whole)}::regclass and x.indrelid = {literal(LEAF)}::regclass",
        )

    def _attach(self, whole: str, leaf: str, named: str) -> Step:
        sql = (f"alter index {whole} attach partition {named}",)
        return Step("constrain", f"attach index {named}", leaf, "together", sql, (), "ACCESS EXCLUSIVE", (leaf,))

    def _of_leaf(self, index: Index, leaf: str) -> str:
        """The name of a partition's part of an index with the tenant."""
        return quote(shorten(split(leaf)[1], *index.columns, "key" if index.unique else "idx"))

    def _build(self, table: str, index: Index, named: str) -> Step:
        undo = f"drop index concurrently if exists {named}"
        if self.table.partitioned:  # attached, it goes with the whole
            alone = f"exists (select from pg_class where oid = to_regclass({literal(named)}) and not relispartition)"
            undo = f"do $$ begin if {alone} then drop index {named}; end if; end $$"
        return Step(
            "constrain",
            f"build index {named}",
            table,
            "alone",
            (ddl.index(table, index, "concurrently if not exists "),),
            (undo,),
            "SHARE UPDATE EXCLUSIVE",
            rows=self.table.rows,
            index=named,
            undo_alone=not self.table.partitioned,
        )

    # foreign keys

    def composites(self) -> Iterator[tuple[Reference, bool]]:
        """The foreign keys that get a successor with the tenant, and whether each row has had its tenant along it since
        it is there: not where it may come before what it refers to."""
        for reference in self.table.references:
            if self.is_composed(reference):
                own = self.decision.tenant == "reference" and self.decision.column == reference.columns
                own = own and not reference.loose
                yield reference, own

    def is_composed(self, reference: Reference) -> bool:
        target = self.plan.of(reference.target)
        if target is None or not target.is_owned or reference.name in self.decision.keep:
            return False
        there = tenant_column(self.plan, self.schema, target)
        carries = (self.column.name, there.name) in zip(reference.columns, reference.target_columns, strict=True)
        return there.key == self.column.key and not carries and not self.is_odd(reference)

    def is_odd(self, reference: Reference) -> bool:
        """Whether a foreign key means something that it could not mean with the tenant in it."""
        return reference.odd or reference.on_update.startswith("set")

    def crosses(self, reference: Reference) -> bool:
        """Whether a foreign key between tables of tenants stays as it is: kept, odd, or between one that tells its
        tenant by Clerk's id and one that tells it by ours."""
        target = self.plan.of(reference.target)
        if target is None or not target.is_owned:
            return False
        there = tenant_column(self.plan, self.schema, target)
        return reference.name in self.decision.keep or self.is_odd(reference) or there.key != self.column.key

    def compose(self, reference: Reference, settle: Step | None) -> Iterator[Step]:
        """The successor of a foreign key. Along the way that rows got their tenant no app can fail at it, and `settle`
        gives those whose owner changed at the wrong moment theirs; any other waits for an app that sets a tenant.
        """
        target = self.plan.of(reference.target)
        there = tenant_column(self.plan, self.schema, target) if target else self.column
        phase: Phase = "constrain" if settle else "isolate"
        name = self._composite_name(reference)
        ours = f"({listing((self.column.name, *reference.columns))})"
        theirs = f"({listing((there.name, *reference.target_columns))})"
        if settle is None:
            yield self._crossing(reference, there)
        guards = self.schema.tables[reference.target].leaves
        yield from self.add_reference(
            phase, name, ours, reference.target, theirs, ddl.actions(reference), guards, settle
        )

    def _composite_name(self, reference: Reference) -> str:
        return shorten(reference.name, "of", "tenant")

    def _crossing(self, reference: Reference, there: TenantColumn) -> Step:
        query = (
            f"select count(*) from {self.table.name} as t join {reference.target} as p on {reference.joins('t', 'p')}\n"
            f"where t.{self.column.name} <> p.{there.name}"
        )
        problem = (
            f"{{count}} rows of {self.table.name} refer to another tenant's row of {reference.target}. Mend them, or "
            f"let the key cross tenants: undo, and write keep = {json.dumps([reference.name])} in adopt.toml."
        )
        name = f"see that {reference.name} of {self.table.name} stays within tenants"
        return Step("isolate", name, self.table.name, "check", (query,), problem=problem, rows=self.table.rows)

    def add_reference(
        self,
        phase: Phase,
        name: str,
        ours: str,
        target: str,
        theirs: str,
        actions: str,
        guards: tuple[str, ...],
        settle: Step | None = None,
    ) -> Iterator[Step]:
        """A foreign key that is validated after it was added; of a partitioned table, by partition, and then joined."""
        clause = f"foreign key {ours} references {target} {theirs}{actions}"
        name = quote(name)
        for leaf in self.table.leaves:
            add, validate = self._add_to_leaf(phase, leaf, name, clause, guards)
            yield add
            if settle and leaf == self.table.leaves[0]:
                yield settle
            yield validate
        if self.table.partitioned:
            if settle and not self.table.leaves:
                yield settle
            yield Step(
                phase,
                f"add {name} to newer partitions of {self.table.name}",
                self.table.name,
                "partitions",
                (),
                lock="SHARE ROW EXCLUSIVE",
                leaves=self.table.leaves,
                parts=self._add_to_leaf(phase, LEAF, name, clause, guards),
            )
            table = self.table.name
            # At once all that it takes: who wanted more while the app waits for what it has would make the app fail.
            hold = f"lock table {target} in access exclusive mode"
            if target == "tenantry.tenants":
                hold = f"perform tenantry.hold_tenants({literal(table)}::regclass)"
            yield Step(
                phase,
                f"join {name} of {table}",
                table,
                "together",
                (ddl.unless_there(table, name, f"{hold}; alter table {table} add constraint {name} {clause}"),),
                (f"alter table {table} drop constraint if exists {name}",),
                "ACCESS EXCLUSIVE",
                (*self.table.leaves, *guards),
            )

    def _add_to_leaf(
        self, phase: Phase, leaf: str, name: str, clause: str, guards: tuple[str, ...]
    ) -> tuple[Step, Step]:
        add = Step(
            phase,
            f"add {name} to {leaf}",
            leaf,
            "together",
            (ddl.unless_there(leaf, name, f"alter table {leaf} add constraint {name} {clause} not valid"),),
            # Once a partition's has joined its parent's, it goes with that.
            (ddl.if_there(leaf, name, f"alter table {leaf} drop constraint {name}"),),
            "SHARE ROW EXCLUSIVE",
            tuple(dict.fromkeys((leaf, *guards))),
        )
        validate = Step(
            phase,
            f"validate {name} of {leaf}",
            leaf,
            "together",
            (f"alter table {leaf} validate constraint {name}",),
            lock="SHARE UPDATE EXCLUSIVE",
            rows=self.table.rows,
        )
        return add, validate

    # contract

    def replace_references(self) -> Iterator[Step]:
        table = self.table.name
        for reference, _ in self.composites():
            old, new = reference.name, quote(self._composite_name(reference))
            sql = f"alter table {table} drop constraint {old}; alter table {table} rename constraint {new} to {old}"
            sql += _comment(f"constraint {old} on {table}", reference.comment)
            guards = self.schema.tables[reference.target].leaves
            name = f"let {old} of {table} carry the tenant"
            yield self.contract(name, [ddl.if_there(table, new, sql)], guards, drops=(table, old))

    def replace_indexes(self) -> Iterator[Step]:
        for index in self.table.indexes:
            if self.succeeds(index):
                yield self._replace(index)

    def contract(
        self, name: str, sql: Iterable[str], guards: tuple[str, ...] = (), *, drops: tuple[str, ...] = ()
    ) -> Step:
        locked = tuple(dict.fromkeys((*self.table.leaves, *guards)))
        return Step(
            "contract", name, self.table.name, "together", tuple(sql), (), "ACCESS EXCLUSIVE", locked, drops=drops
        )

    def _replace(self, index: Index) -> Step:
        """The old index goes, and its name to the new one; a key becomes a key again, where PostgreSQL can do that."""
        table, schema = self.table.name, self._name[0]
        new = f"{schema}.{self._successor(index).name}"
        name = index.constraint or index.name
        if index.constraint and self.table.partitioned:
            sql = f"alter table {table} drop constraint {name}; alter index {new} rename to {name}"
        elif index.constraint:
            kind = "primary key" if index.primary else "unique"
            key = f"{kind} using index {self._successor(index).name}"
            sql = f"alter table {table} drop constraint {name}; alter table {table} add constraint {name} {key}"
            sql += _comment(f"constraint {name} on {table}", index.comment)
        else:
            sql = f"drop index {schema}.{name}; alter index {new} rename to {name}"
        sql += "".join(self._remark(index))
        done = ddl.block(f"if to_regclass({literal(new)}) is not null then {sql}; end if;")
        return self.contract(f"replace {name} of {table}", [done], drops=(table, index.name))

    def _remark(self, index: Index) -> Iterator[str]:
        """What is said of an index, and that CLUSTER goes by it, said of its successor; of its partitions' too."""
        schema, name, successor = self._name[0], index.constraint or index.name, self._successor(index)
        for stored in index.storage:
            own = stored.table == self.table.name
            space, named = (schema, name) if own else (split(stored.table)[0], self._of_leaf(successor, stored.table))
            lost = index.comment if own and self.table.partitioned else ""  # of a key that becomes an index
            yield _comment(f"index {space}.{named}", stored.comment or lost)
            if stored.clustered:
                yield f"; alter table {stored.table} cluster on {named}"


def _comment(on: str, comment: str) -> str:
    return f"; comment on {on} is {literal(comment)}" if comment else ""
