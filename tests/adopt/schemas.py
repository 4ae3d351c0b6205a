"""Schemas of any shape, for hypothesis: tables that refer to each other, to themselves, in circles, or to nobody."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tenantry.adopt.catalog import Column, Index, Reference, Schema, Table
from tenantry.adopt.names import quote, shorten

NAMES = ["articles", "users", "organizations", "comments", "tags", "teams", '"Order"', "accounts", "events", "x"]
HOLDS = ["", "", "", "user", "organization"]


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True))
    tables = {f"public.{name}": draw(_tables(f"public.{name}")) for name in names}
    for name, table in tables.items():
        targets = draw(st.lists(st.sampled_from(sorted(tables)), max_size=4, unique=True))
        columns = [Column(f"c{n}_id", "bigint", draw(st.booleans())) for n in range(len(targets))]
        references = [
            Reference(f"{n}_fkey", (column.name,), target, ("id",), draw(st.sampled_from(["", "cascade", "set null"])))
            for n, (column, target) in enumerate(zip(columns, targets, strict=True))
        ]
        indexes = [
            Index(quote(shorten(name, str(n), "idx")), (column.name,))
            for n, column in enumerate(columns)
            if draw(st.booleans())
        ]
        tables[name] = replace(
            table,
            columns=(*table.columns, *columns),
            references=tuple(references),
            indexes=(*table.indexes, *indexes),
        )
    return Schema(tables, login="owner", version=15)


@st.composite
def _tables(draw: st.DrawFn, name: str) -> Table:
    columns = [Column("id", "bigint", not_null=True)]
    key = quote(shorten(name, "pkey"))
    indexes = [Index(key, ("id",), unique=True, primary=True, constraint=key, generated=draw(st.booleans()))]
    for n in range(draw(st.integers(0, 2))):
        columns.append(Column(f"clerk{n}_id", "text", draw(st.booleans()), draw(st.sampled_from(HOLDS))))
        if draw(st.booleans()):
            key = quote(shorten(name, str(n), "key"))
            indexes.append(Index(key, (f"clerk{n}_id",), unique=True, constraint=key))
    refusal = draw(st.sampled_from(["", "", "", "", "it is a foreign table"]))
    return Table(name, "owner", tuple(columns), tuple(indexes), rows=draw(st.integers(0, 10_000)), refusal=refusal)
