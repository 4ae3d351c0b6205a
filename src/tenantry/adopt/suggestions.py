"""What columns could mean by their names and types: what they refer to, what of an organization they hold.

Choices for a person, no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tenantry.adopt.catalog import Column, Reference, Schema, Table
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


# --- organizations ----------------------------------------------------------------------------------------------------

_NAMES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "organizationname", "orgname", "companyname", "displayname", "title"),
    "slug": ("slug", "orgslug", "organizationslug"),
    "image_url": ("imageurl", "logourl", "avatarurl", "image", "logo"),
    "created_at": ("createdat",),
    "updated_at": ("updatedat",),
    "deleted_at": ("deletedat", "endedat", "isdeleted", "deleted"),
}
"""What of an organization can be copied, and what columns for it are called, without `_` and capitals."""


def suggest_columns(table: Table) -> Mapping[str, str]:
    """What is copied into which column, by names and types; when it was made, where a row cannot do without."""
    found = {}
    for what, names in _NAMES.items():
        fitting = {plain(c.name).lower().replace("_", ""): c for c in table.columns if _fits(what, c)}
        column = next((fitting[name] for name in names if name in fitting), None)
        if column is not None and (what != "created_at" or column.not_null):
            found[what] = column.name
    return found


def _fits(what: str, column: Column) -> bool:
    if what in ("created_at", "updated_at", "deleted_at"):
        return column.type.startswith("timestamp") or (what == "deleted_at" and column.type == "boolean")
    return column.type == "text" or column.type.startswith("character varying")
