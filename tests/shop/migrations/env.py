"""Runs the migrations as the tables' owner; imports the app, whose engine is made from the environment."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import create_engine

import tenantry.alembic  # noqa: F401  op.isolate_table
from shop.main import Base

engine = create_engine(os.environ["TENANTRY_MIGRATION_URL"].replace("://", "+psycopg://"))
with engine.begin() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    context.run_migrations()
