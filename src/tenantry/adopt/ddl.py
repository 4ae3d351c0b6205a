"""Pieces of SQL that several steps are made of."""

from __future__ import annotations

from collections.abc import Iterable

from tenantry.adopt.catalog import Index, Reference
from tenantry.adopt.names import listing, literal, plain


def function(name: str, body: str, *settings: str, spaces: Iterable[str] = ()) -> str:
    """Definer: the app's logins may neither call nor read what the move keeps. `settings` are in force in it. `spaces`
    are the schemas in which triggers of the app that it sets off find what they name."""
    also = "".join(f" set {setting}" for setting in settings)
    path = ", ".join(["pg_catalog", *spaces, "pg_temp"])
    return (
        f"create or replace function {name}() returns trigger language plpgsql security definer\n"
        f"set search_path = {path}{also} as $$\n{body}\n$$"
    )


def index(table: str, made: Index, manner: str) -> str:
    include = f" include ({listing(made.include)})" if made.include else ""
    distinct = " nulls not distinct" if made.nulls_not_distinct else ""
    stored = made.stored(table.removeprefix("only "))
    options = f" with ({stored.options})" if stored.options else ""
    place = f" tablespace {stored.tablespace}" if stored.tablespace else ""
    where = f" where {made.predicate}" if made.predicate else ""
    unique = "unique " if made.unique else ""
    return (
        f"create {unique}index {manner}{made.name} on {table} ({listing(made.columns)}){include}{distinct}"
        f"{options}{place}{where}"
    )


def actions(reference: Reference) -> str:
    """What a composite key does where the plain one did it; SET NULL and SET DEFAULT leave the tenant alone."""
    on_delete = reference.on_delete
    if on_delete in ("set null", "set default"):
        on_delete += f" ({listing(reference.columns)})"
    parts = [
        f"on delete {on_delete}" if on_delete else "",
        f"on update {reference.on_update}" if reference.on_update else "",
    ]
    return "".join(f" {part}" for part in [*parts, reference.deferrable] if part)


def _has_constraint(table: str, name: str) -> str:
    where = f"conrelid = {literal(table)}::regclass and conname = {literal(plain(name))}"
    return f"exists (select from pg_constraint where {where})"


def block(body: str) -> str:
    """An anonymous block, whose quotes are longer than any in it: a comment of the app's may hold them."""
    mark = "$$"
    while mark in body:
        mark = f"{mark[:-1]}_$"
    return f"do {mark} begin {body} end {mark}"


def drop_isolation(table: str) -> str:
    """Takes isolation from a table, unless somebody has done so by hand."""
    return (
        "do $$ begin if exists (select from tenantry.table_isolation\n"
        f"  where relation = {literal(table)}::regclass and mode = 'isolated') then\n"
        f"  perform tenantry.drop_isolation_v1({literal(table)}); end if; end $$"
    )


def unless_there(table: str, name: str, statement: str) -> str:
    return block(f"if not {_has_constraint(table, name)} then\n  {statement}; end if;")


def if_there(table: str, name: str, statement: str) -> str:
    return block(f"if {_has_constraint(table, name)} then\n  {statement}; end if;")
