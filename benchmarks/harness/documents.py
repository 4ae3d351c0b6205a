"""The table that every scoped request reads: each tenant's documents, plain for the floor and isolated for Tenantry."""

from __future__ import annotations

from benchmarks.harness.postgres import Database

COLUMNS = "id bigint primary key, title text not null, body text not null, created_at timestamptz not null"
PLAIN = "plain.documents"
ISOLATED = "public.documents"


def fill_documents(database: Database, per_tenant: int, body: int = 200) -> None:
    """Makes and fills both tables with the same rows and the same indexes, for every tenant of the mirror.

    Ids and times go by document number first, so that one tenant's rows lie apart, as they do where tenants write
    at the same time.
    """
    database.run_as_app(f"""
        create schema plain;
        create table {PLAIN} (tenant_id uuid not null, {COLUMNS});
        create table {ISOLATED} ({COLUMNS});
        select tenantry.isolate_table_v1('{ISOLATED}');
    """)
    rows = f"""
        select t.id, (d - 1) * count(*) over () / {per_tenant} + t.n, 'document ' || d || ' of ' || t.n,
          repeat('x', {body}), timestamptz '2026-01-01' + d * interval '1 minute'
        from generate_series(1, {per_tenant}) as d
        cross join (select id, row_number() over (order by clerk_org_id) as n from tenantry.tenants) as t
        order by 2
    """
    columns = "tenant_id, id, title, body, created_at"
    database.run(f"insert into {PLAIN} ({columns}) {rows}")
    database.run(f"insert into {ISOLATED} ({columns}) select {columns} from {PLAIN} order by id")
    index_newest(database, PLAIN)
    index_newest(database, ISOLATED)
    database.run(f"drop index if exists {ISOLATED}_tenant_id_idx")  # both tables have one index that begins with it


def index_newest(database: Database, table: str, column: str = "tenant_id") -> None:
    database.run_as_app(f"create index on {table} ({column}, created_at desc)")


def copy_documents(database: Database, table: str, column: str = "tenant_id") -> None:
    """A further copy for a peer that changes its table, owned by the app."""
    columns = f"{column} uuid not null, {COLUMNS}"
    database.run_as_app(f"create table {table} ({columns})")
    database.run(f"insert into {table} select tenant_id, id, title, body, created_at from {PLAIN} order by id")
    index_newest(database, table, column)
