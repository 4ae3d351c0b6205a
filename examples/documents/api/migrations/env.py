"""Runs the migrations as the tables' owner, then writes the roles of tenantry.toml to the database."""

from __future__ import annotations

import os
from pathlib import Path

from alembic import context
from sqlalchemy import Connection, create_engine, make_url

import tenantry.alembic  # noqa: F401  op.isolate_table and op.share_table, also for autogenerate
from documents.models import Base
from tenantry import mirror, roles

ROLES = Path(__file__).parents[1] / "tenantry.toml"


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
        apply_roles(connection)
    engine.dispose()


def apply_roles(connection: Connection) -> None:
    """As `tenantry roles apply` does: what a role may do is deployed with the code that asks for it."""
    role_map = roles.load(ROLES)
    call = mirror.set_role_permissions({role: role_map.permissions(role) for role in role_map.roles})
    connection.exec_driver_sql(call.percent, call.arguments)


main()
