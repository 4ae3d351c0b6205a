"""Documents and comments, each behind tenant isolation, and the languages that all tenants share.

Follows: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

LANGUAGES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "ja": "Japanese",
    "nl": "Dutch",
    "pt": "Portuguese",
    "tr": "Turkish",
    "zh": "Chinese",
}
NOW = sa.text("now()")
CURRENT_TENANT = sa.text("tenantry.current_tenant_id()")
CURRENT_USER = sa.text("tenantry.current_user_id()")


def upgrade() -> None:
    languages = op.create_table(
        "languages",
        sa.Column("code", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
    )
    op.bulk_insert(languages, [{"code": code, "name": name} for code, name in LANGUAGES.items()])
    op.create_table(
        "documents",
        sa.Column("tenant_id", sa.Uuid, server_default=CURRENT_TENANT, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("language", sa.String, sa.ForeignKey("languages.code"), nullable=False),
        sa.Column("author", sa.String, server_default=CURRENT_USER, nullable=False),
        sa.Column("words", sa.Integer),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    )
    op.create_index("documents_newest", "documents", ["tenant_id", "created_at"])
    op.create_table(
        "comments",
        sa.Column("tenant_id", sa.Uuid, server_default=CURRENT_TENANT, primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("document_id", sa.Uuid, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("author", sa.String, server_default=CURRENT_USER, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "document_id"], ["documents.tenant_id", "documents.id"], ondelete="CASCADE"
        ),
    )
    op.create_index("comments_of_document", "comments", ["tenant_id", "document_id", "created_at"])
    op.isolate_table("documents")
    op.isolate_table("comments")
    op.share_table("languages", mode="read")


def downgrade() -> None:
    op.drop_table("comments")
    op.drop_table("documents")
    op.drop_table("languages")
