"""Orders, behind tenant isolation."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("text", sa.String, nullable=False),
    )
    op.isolate_table("orders")  # type: ignore[attr-defined]  # registered by tenantry.alembic
