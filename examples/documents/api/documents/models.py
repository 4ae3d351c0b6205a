"""The tables: documents and comments belong to a tenant, languages to everybody."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID, uuid4

from sqlalchemy import DateTime, ForeignKey, ForeignKeyConstraint, Index, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenantry.sqlalchemy import TenantScoped, shared

CURRENT_USER = text("tenantry.current_user_id()")


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}


class Language(Base):
    """A language a document can be written in; the same for every tenant, and read-only to them."""

    __tablename__ = "languages"
    __table_args__ = shared("read")

    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Document(TenantScoped, Base):
    """A text of one organization. `author` is a Clerk user id; `words` is None until the job has counted them."""

    __tablename__ = "documents"
    __tenant_in_key__ = True
    __table_args__ = (Index("documents_newest", "tenant_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    title: Mapped[str]
    body: Mapped[str]
    language: Mapped[str] = mapped_column(ForeignKey("languages.code"))
    author: Mapped[str] = mapped_column(server_default=CURRENT_USER)
    words: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Comment(TenantScoped, Base):
    """A remark on a document. The composite key keeps it from ever being on another tenant's."""

    __tablename__ = "comments"
    __tenant_in_key__ = True
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "document_id"], ["documents.tenant_id", "documents.id"], ondelete="CASCADE"),
        Index("comments_of_document", "tenant_id", "document_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    document_id: Mapped[UUID]
    body: Mapped[str]
    author: Mapped[str] = mapped_column(server_default=CURRENT_USER)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
