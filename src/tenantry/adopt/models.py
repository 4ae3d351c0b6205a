"""What an app's SQLAlchemy models say of its tables, and the database does not: references, and tables.

Models name things as they are, the catalog as SQL writes them; a table whose schema is chosen at run time
(`schema_translate_map`) is found by its name, where there is one of it only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.operators import and_, eq

from tenantry.adopt import plan as plans
from tenantry.adopt.catalog import Reference, Schema, Table
from tenantry.adopt.names import format_target, plain, quote, split
from tenantry.adopt.plan import Decision
from tenantry.errors import ConfigurationError

_Pairs = tuple[tuple[Any, Any], ...]  # columns of a reference: each that refers, and what to


def complete(schema: Schema, models: Any, name: str) -> tuple[Schema, list[str]]:
    """The schema with the references that only the models have, and a sentence for each thing that does not fit.

    `models` is a MetaData, or what has one: a declarative base, a registry, a module; `name` is how it was asked for.
    Raises ConfigurationError where it is something else, or contradicts itself.
    """
    metadata = _find_metadata(models, name)
    reader = _Reader(schema, metadata)
    if metadata.tables and not reader.found:
        raise ConfigurationError(
            f"None of the {len(metadata.tables)} tables of '{name}' is in the database.",
            hint="Is it the right database, and are these its models?",
        )
    if not metadata.tables:
        raise ConfigurationError(
            f"'{name}' has no tables.", hint="Name a module that imports all models, such as that of Alembic's env.py."
        )
    return reader.read(_find_mappers(models, metadata, name))


def _find_metadata(models: Any, name: str) -> sa.MetaData:
    found = models if isinstance(models, sa.MetaData) else getattr(models, "metadata", None)
    if not isinstance(found, sa.MetaData):
        raise ConfigurationError(
            f"'{name}' is a {type(models).__name__}, and has no MetaData.",
            hint="Name a declarative base, or a MetaData: --metadata app.models:Base",
        )
    return found


def _find_mappers(models: Any, metadata: sa.MetaData, name: str) -> list[orm.Mapper[Any]]:
    """Those of a base's registry, whose relationships may refer where no foreign key does. A MetaData has none."""
    base = getattr(models, "Model", models)  # Flask-SQLAlchemy's base is an attribute of what people name
    candidates = (base, getattr(base, "registry", None), getattr(base, "_sa_registry", None))
    registry = next((each for each in candidates if isinstance(each, orm.registry)), None)
    if registry is None:
        return []
    try:
        registry.configure()
    except exc.SQLAlchemyError as error:
        raise ConfigurationError(f"The models of '{name}' contradict themselves.", detail=str(error)) from None
    mappers = [mapper for mapper in registry.mappers if getattr(mapper.local_table, "metadata", None) is metadata]
    return sorted(mappers, key=lambda mapper: str(mapper.class_.__qualname__))


class _Reader:
    def __init__(self, schema: Schema, metadata: sa.MetaData) -> None:
        self._schema = schema
        self._tables = {_plain(table.name): table for table in schema.tables.values()}
        parts = [name for table in schema.tables.values() for name, _ in table.parts]
        self._others = {_plain(name) for name in (*parts, *(view.name for view in schema.views))}
        self._model = sorted(metadata.tables.values(), key=lambda table: table.fullname)
        self.found = {table.key: there for table in self._model if (there := self._find(table))}
        self._notices: list[str] = []

    def read(self, mappers: list[orm.Mapper[Any]]) -> tuple[Schema, list[str]]:
        declared: dict[str, dict[tuple[str, ...], Reference]] = defaultdict(dict)
        for pairs in (*self._foreign_keys(), *_relationships(mappers)):
            if (found := self._reference(pairs)) and found[1].columns not in declared[found[0].name]:
                declared[found[0].name][found[1].columns] = found[1]
        tables = {
            name: replace(table, references=(*table.references, *declared[name].values()))
            for name, table in self._schema.tables.items()
        }
        return replace(self._schema, tables=tables), [*self._differences(), *dict.fromkeys(self._notices)]

    def _find(self, table: sa.Table) -> Table | None:
        name, space = _folded(table.name), _folded(table.schema or "public")
        if found := self._tables.get((space, name)):
            return found
        elsewhere = [there for (_, each), there in self._tables.items() if each == name]
        translated = not table.schema or not any(space == each for each, _ in self._tables)
        return elsewhere[0] if translated and len(elsewhere) == 1 else None

    def _differences(self) -> Iterator[str]:
        for table in self._model:
            if (
                table.key not in self.found
                and (_folded(table.schema or "public"), _folded(table.name)) not in self._others
            ):
                yield f"The models have {table.fullname}, and the database does not."
        known = {there.name for there in self.found.values()}
        for name, there in sorted(self._schema.tables.items()):
            if name not in known and not there.isolation:
                yield f"The database has {name}, and the models do not."

    # references

    def _foreign_keys(self) -> Iterator[_Pairs]:
        for table in self._model:
            keys = sorted(table.foreign_key_constraints, key=lambda key: list(key.column_keys))
            for key in keys:
                try:
                    yield tuple((element.parent, element.column) for element in key.elements)
                except exc.SQLAlchemyError as error:
                    self._notices.append(f"The models' {table.fullname}: {error}")

    def _reference(self, pairs: _Pairs) -> tuple[Table, Reference] | None:
        """The table that refers, and what to; None where there is nothing to add, or nothing that could be."""
        table, target = (self.found.get(column.table.key) for column in pairs[0])
        if table is None or target is None:
            return None
        columns = tuple(_in_catalog(ours, table) for ours, _ in pairs)
        theirs = tuple(_in_catalog(there, target) for _, there in pairs)
        if any(set(r.columns) == set(columns) and r.target == target.name for r in table.references):
            return None  # the database says so itself
        decision = Decision(table.name, "reference", columns, refers_to=format_target(target.name, theirs))
        missing = [column for column in columns if table.column(column) is None]
        problems = [f"it has no column {', '.join(missing)}"] if missing else []
        problems += plans.check_target(self._schema, table, decision)
        if problems:
            told = f"The models let {table.name} ({', '.join(columns)}) refer to {decision.refers_to}"
            self._notices += [f"{told}, and the database cannot: {problem}" for problem in problems]
            return None
        return table, Reference("", columns, target.name, theirs, enforced=False)


def _relationships(mappers: list[orm.Mapper[Any]]) -> Iterator[_Pairs]:
    """Those of joins that say no more than which columns are equal; of a table between two, both."""
    for mapper in mappers:
        for relationship in sorted(mapper.relationships, key=lambda each: each.key):
            joins: list[tuple[Any, Any]] = [(relationship.primaryjoin, relationship.synchronize_pairs)]
            joins.append((relationship.secondaryjoin, relationship.secondary_synchronize_pairs or []))
            for join, pairs in joins:
                tests = list(_tests(join))
                is_plain = bool(pairs) and len(tests) == len(pairs) and all(map(_is_equality, tests))
                if is_plain and all(isinstance(column.table, sa.Table) for pair in pairs for column in pair):
                    yield tuple((ours, theirs) for theirs, ours in pairs)


def _tests(join: Any) -> Iterable[Any]:
    is_and = isinstance(join, BooleanClauseList) and join.operator is and_
    return join.clauses if is_and else [join]


def _is_equality(test: Any) -> bool:
    columns = isinstance(test, BinaryExpression) and (test.left, test.right)
    return bool(columns) and test.operator is eq and all(isinstance(each, sa.Column) for each in columns or ())


# --- names ------------------------------------------------------------------------------------------------------------


def _plain(name: str) -> tuple[str, str]:
    space, table = split(name)
    return plain(space), plain(table)


def _folded(name: str) -> str:
    """As PostgreSQL has it: SQLAlchemy quotes capitals, unless it is told not to."""
    return name.lower() if getattr(name, "quote", None) is False else str(name)


def _in_catalog(column: sa.Column[Any], table: Table) -> str:
    name = _folded(column.name)
    return next((each.name for each in table.columns if plain(each.name) == name), quote(name))
