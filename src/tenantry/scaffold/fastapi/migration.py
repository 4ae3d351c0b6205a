"""Puts tables behind tenant isolation: each row belongs to one tenant, and is there for that tenant alone.

Runs after `tenantry db migrate`, as the tables' owner. A table that has rows already needs to know whose they are:
op.isolate_table("orders", backfill="org_..."), once for each table.
"""

from alembic import op

import tenantry.alembic  # noqa: F401  (teaches op what isolation is)

revision = "REVISION"
down_revision = "HEAD"
branch_labels = None
depends_on = None

TABLES = ["TABLE"]


def upgrade() -> None:
    for table in TABLES:
        op.isolate_table(table)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_isolation(table)
