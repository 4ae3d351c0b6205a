"""Runs the migrations as the tables' owner."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import create_engine, make_url

import tenantry.alembic  # noqa: F401  op.isolate_table and op.share_table, also for autogenerate
from documents.models import Base


def main() -> None:
    """`--sql` prints, everything else runs."""
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(make_url(os.environ["TENANTRY_MIGRATION_URL"]).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        context.run_migrations()
    engine.dispose()


main()
