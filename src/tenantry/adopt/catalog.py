"""Reads PostgreSQL's catalog into a `Schema`: what an app's tables are, hold, refer to, and who may use them.

All names are as SQL writes them (`public.articles`, `"Order"`), tables and views with their schema. What belongs to
PostgreSQL, to extensions or to Tenantry is left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers
from tenantry.adopt.names import literal, plain, split

if TYPE_CHECKING:
    import psycopg

SCHEMA = "tenantry_adopt"
"""Where the move keeps what it needs while it lasts, and its record: owned by the owner of the tables."""

_SAMPLE = 50
_TELLING = re.compile(r"user|org|clerk|owner|author|creat|account|tenant|member|company|customer|team|workspace|^id$")
_CLERK_ID = re.compile(r"(?P<kind>org|user)_[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Grant:
    """A privilege somebody holds on something; `grantee` is `public`, or a role's name."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, slots=True)
class Column:
    """`holds` is what a sample of a text column showed: `organization` or `user` for Clerk's ids of those, else ''."""

    name: str
    type: str
    not_null: bool = False
    holds: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """How the index of a table, or of one of its partitions, is kept: `options` and `tablespace` as CREATE INDEX takes
    them, its comment, and whether CLUSTER goes by it."""

    table: str = ""
    options: str = ""
    tablespace: str = ""
    comment: str = ""
    clustered: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """`plain`: a btree on columns alone, each with its type's own order, so that it can be told in columns.

    `constraint` is the name of the key it belongs to, `comment` that key's; `primary` of the primary one. `storage` is
    its own first, then that of each partition's. `needed_by` is what depends on it but for foreign keys that are known.
    """

    name: str
    columns: tuple[str, ...]
    include: tuple[str, ...] = ()
    unique: bool = False
    primary: bool = False
    plain: bool = True
    valid: bool = True
    constraint: str = ""
    nulls_not_distinct: bool = False
    deferrable: bool = False
    predicate: str = ""
    generated: bool = False
    comment: str = ""
    storage: tuple[Storage, ...] = ()
    needed_by: tuple[str, ...] = ()

    def stored(self, table: str) -> Storage:
        """How that of a table is kept."""
        return next((each for each in self.storage if each.table == table), Storage())


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key. `on_delete` and `on_update` are clauses, empty for NO ACTION; `odd` is one that means something it
    could not mean with the tenant in it.

    One that is not `enforced` the database knows nothing of: the models, or a person, say so. It has no name.
    """

    name: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    on_delete: str = ""
    on_update: str = ""
    deferrable: str = ""
    odd: bool = False
    validated: bool = True
    comment: str = ""
    enforced: bool = True

    @property
    def loose(self) -> bool:
        """Whether rows may be there before what they refer to: nobody asks, or not before the transaction's end."""
        return not self.enforced or bool(self.deferrable)

    def joins(self, row: str, above: str, equal: str = "=") -> str:
        """In SQL: whether `row` refers to the row `above`."""
        pairs = zip(self.columns, self.target_columns, strict=True)
        return " and ".join(f"{above}.{theirs} {equal} {row}.{ours}" for ours, theirs in pairs)


@dataclass(frozen=True, slots=True)
class Table:
    """`isolation` is what Tenantry has it down as already; `rows` is PostgreSQL's estimate."""

    name: str
    owner: str
    columns: tuple[Column, ...] = ()
    indexes: tuple[Index, ...] = ()
    references: tuple[Reference, ...] = ()
    triggers: tuple[str, ...] = ()  # the app's own, that an UPDATE of a new column fires
    rows: int = 0
    bytes: int = 0
    partitioned: bool = False
    parts: tuple[tuple[str, tuple[Grant, ...]], ...] = ()  # the partitions, and who may use each by itself
    refusal: str = ""  # why no tenant can be given to its rows
    isolation: str = ""
    unidentified: bool = False  # published without a replica identity: PostgreSQL refuses any UPDATE
    grants: tuple[Grant, ...] = ()
    sequences: tuple[tuple[str, tuple[Grant, ...]], ...] = ()

    def column(self, name: str) -> Column | None:
        return next((each for each in self.columns if each.name == name), None)

    def reference(self, columns: tuple[str, ...]) -> Reference | None:
        """The foreign key of these columns; where a move is over, that of the tenant and them."""
        plain = (each for each in self.references if each.columns == columns)
        return next(plain, next((each for each in self.references if each.columns[1:] == columns), None))

    @property
    def leaves(self) -> tuple[str, ...]:
        """The tables that rows are in: the partitions, or the table itself."""
        return tuple(name for name, _ in self.parts) if self.partitioned else (self.name,)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return next((index.columns for index in self.indexes if index.primary), ())


@dataclass(frozen=True, slots=True)
class View:
    name: str
    owner: str
    reads: tuple[str, ...]
    invoker: bool
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependant:
    """What cannot do without an index: `kind` is view, materialized view, function, foreign key (`of` a table), or ''
    where `name` says what it is. `definition` is the query of a view, the clause of a foreign key."""

    table: str
    index: str
    kind: str
    name: str
    of: str
    definition: str

    @property
    def told(self) -> str:
        what = f"the {self.kind} {self.name}" if self.kind else self.name
        return f"{what} of {self.of}" if self.of else what


@dataclass(frozen=True)
class Schema:
    """`namespaces` are the schemas of the tables with who may use them; `login` is who reads."""

    tables: Mapping[str, Table]
    views: tuple[View, ...] = ()
    namespaces: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    login: str = ""
    version: int = 0
    may_be_quiet: bool = False  # whether the login may keep triggers from running in its session

    @cached_property
    def referring(self) -> Mapping[str, list[tuple[Table, Reference]]]:
        """The foreign keys that lead to a table, each with the table it is of."""
        found: dict[str, list[tuple[Table, Reference]]] = defaultdict(list)
        for table in self.tables.values():
            for reference in table.references:
                found[reference.target].append((table, reference))
        return found

    @cached_property
    def called(self) -> Mapping[str, list[Table]]:
        """Tables by their names alone, without capitals and underscores."""
        found: dict[str, list[Table]] = defaultdict(list)
        for table in self.tables.values():
            found[plain(split(table.name)[1]).lower().replace("_", "")].append(table)
        return found


def read(connection: psycopg.Connection[Any]) -> Schema:
    """What the connection's database is made of. Reads the catalog, and a few rows of columns whose name tells of users
    or organizations."""
    with connection.transaction():
        connection.execute("set local search_path = pg_catalog")  # so that whatever it prints is qualified
        return _read(connection)


def _read(connection: psycopg.Connection[Any]) -> Schema:
    tables = ask(connection, "tables")
    columns = _group(ask(connection, "columns"))
    indexes = _group(ask(connection, "indexes"))
    references = _group(ask(connection, "references"))
    triggers = _group(ask(connection, "triggers"))
    sequences = _group(ask(connection, "sequences"))
    partitions = _group(ask(connection, "partitions"))
    known = {(table[1], reference[0], reference[2]) for table in tables for reference in references[table[0]]}
    needed = _needed(connection, known)
    found = {}
    for oid, name, owner, rows, size, kind, refusal, isolation, unidentified, grants in tables:
        found[name] = Table(
            name,
            owner,
            columns=tuple(_column(connection, name, *column) for column in columns[oid]),
            indexes=tuple(_index(*index, tuple(needed[name, index[0]])) for index in indexes[oid]),
            references=tuple(_reference(*reference) for reference in references[oid]),
            triggers=tuple(trigger for (trigger,) in triggers[oid]),
            rows=int(rows),
            bytes=size,
            partitioned=kind == "p",
            parts=tuple((partition, _grants(held)) for partition, held in partitions[oid]),
            refusal=refusal,
            isolation=isolation,
            unidentified=unidentified,
            grants=_grants(grants),
            sequences=tuple((sequence, _grants(held)) for sequence, held in sequences[oid]),
        )
    views = [View(name, owner, tuple(reads), invoker, _grants(held)) for name, owner, reads, invoker, held in
             ask(connection, "views")]  # fmt: skip
    namespaces = {name: _grants(held) for name, held in ask(connection, "namespaces")}
    login = connection.execute(
        "select quote_ident(current_user), current_setting('server_version_num')::integer / 10000,"
        " has_parameter_privilege('session_replication_role', 'set')"
    ).fetchone() or ("", 0, False)
    return Schema(found, tuple(views), namespaces, *login)


def _group(rows: Iterable[tuple[Any, ...]]) -> Mapping[int, list[tuple[Any, ...]]]:
    """Rows by the oid they begin with."""
    grouped: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for oid, *rest in rows:
        grouped[oid].append(tuple(rest))
    return grouped


def _grants(held: list[list[Any]] | None) -> tuple[Grant, ...]:
    return tuple(Grant(grantee, privilege, grantable) for grantee, privilege, grantable in held or [])


def _column(connection: psycopg.Connection[Any], table: str, name: str, type_: str, not_null: bool) -> Column:
    holds = ""
    if (type_ == "text" or type_.startswith("character varying")) and _TELLING.search(name.lower()):
        holds = _sample(connection, table, name)
    return Column(name, type_, not_null, holds)


def _sample(connection: psycopg.Connection[Any], table: str, column: str) -> str:
    """What the first values of a column are. A table that the login may not read tells nothing."""
    if not answers.value(connection, _READABLE.format(table=literal(table))):
        return ""
    query = f"select {column} from {table} where {column} is not null limit {_SAMPLE}"
    values = answers.texts(connection, query)
    kinds = {kind_of(value) for value in values}
    return kinds.pop() if len(kinds) == 1 else ""


def kind_of(text: str) -> str:
    """Of what this could be Clerk's id: `organization` or `user`, else ''."""
    found = _CLERK_ID.fullmatch(text)
    return {"org": "organization", "user": "user"}[found["kind"]] if found else ""


def _needed(
    connection: psycopg.Connection[Any], known: set[tuple[str, str, str]]
) -> Mapping[tuple[str, str], list[str]]:
    """What needs an index, by its table and name; not the foreign keys that are known."""
    needed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in list_dependants(connection):
        if each.kind != "foreign key" or (each.of, each.name, each.table) not in known:
            needed[each.table, each.index].append(each.told)
    return needed


def list_dependants(connection: psycopg.Connection[Any]) -> list[Dependant]:
    """What cannot do without keys and indexes of the app's tables."""
    return [Dependant(*row) for row in ask(connection, "dependants")]


def _index(*row: Any) -> Index:
    name, columns, include, unique, primary, is_plain, valid, constraint, *rest = row
    distinct, deferrable, predicate, made, comment, storage, needed_by = rest
    return Index(
        name,
        tuple(columns),
        tuple(include),
        unique,
        primary,
        is_plain,
        valid,
        constraint,
        distinct,
        deferrable,
        predicate,
        made,
        comment,
        tuple(Storage(*each) for each in storage),
        needed_by,
    )


_ACTIONS = {"a": "", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


def _reference(*row: Any) -> Reference:
    name, columns, target, target_columns, deleted, updated, set_columns, deferrable, *rest = row
    on_delete = _ACTIONS[deleted] + (f" ({set_columns})" if set_columns else "")
    return Reference(
        name, tuple(columns), target, tuple(target_columns), on_delete, _ACTIONS[updated], deferrable, *rest
    )


_READABLE = """
select has_table_privilege(c.oid, 'select') and (not c.relforcerowsecurity or r.rolsuper) and c.relkind in ('r', 'p')
from pg_class as c join pg_roles as r on r.rolname = current_user where c.oid = {table}::regclass"""


_APP = """n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt')
  and n.nspname !~ '^pg_(toast|temp)' and not exists (
    select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')"""
"""Of the queries: whether a relation `c` in the schema `n` is the app's."""


def ask(connection: psycopg.Connection[Any], name: str) -> list[tuple[Any, ...]]:
    """The rows of a query of the folder `sql`, by its file's name; `{app}` in it is what tells the app's relations."""
    query = resources.files("tenantry.adopt").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return connection.execute(query.replace("{app}", _APP).encode()).fetchall()
