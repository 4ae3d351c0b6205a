"""What columns could refer to, by their names and types, where no foreign key says: choices for a person, no more."""

from __future__ import annotations

import re

from tenantry.adopt.catalog import Reference, Schema, Table
from tenantry.adopt.names import plain
from tenantry.adopt.plan import Source, are_comparable
from tenantry.adopt.references import polymorphic

_NAMES_SOMETHING = re.compile(r"(?P<what>.+?)_?(id|uuid)")
_NAMES_USER = re.compile(
    r"(app_?|auth_?)?(user|owner|author|creator|member|person|profile|account|created_?by)_?(id|uuid)?"
)


def suggest(schema: Schema, table: Table, users: Source | None) -> list[Reference]:
    """`article_id` could refer to the key, of the same type, of a table `articles`; `author_id` to that of `users`."""
    found, odd = [], polymorphic(table)
    for column in table.columns:
        referring = any(column.name in reference.columns for reference in table.references)
        if column.name in odd or (column.name,) == table.primary_key or referring:
            continue
        for target in _named_by(schema, plain(column.name).lower(), users):
            key = users.key if users and target.name == users.table else ", ".join(target.primary_key)
            there = target.column(key)  # none where the key is of several columns
            if there and target.name != table.name and not target.refusal and are_comparable(column, there):
                found.append(Reference("", (column.name,), target.name, (key,), enforced=False))
    return found


def _named_by(schema: Schema, column: str, users: Source | None) -> list[Table]:
    """The tables that a column could mean by its name; one that names a person otherwise means the users'."""
    named = _NAMES_SOMETHING.fullmatch(column)
    one = named["what"].replace("_", "") if named else ""
    plurals = (one, f"{one}s", f"{one}es", f"{one[:-1]}ies")
    found = [table for name in plurals if one for table in schema.called.get(name, ())]
    if found or users is None or not _NAMES_USER.fullmatch(column):
        return found
    return [schema.tables[users.table]] if users.table in schema.tables else []
