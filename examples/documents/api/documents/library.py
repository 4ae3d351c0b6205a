"""What one does with documents; the API and the pages both call this.

No query names a tenant: inside a request's session the others' rows do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import HTTPException
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from documents.models import Comment, Document, Language

NEWEST = 20


def check_storable(value: str) -> str:
    """Refuses the one character that PostgreSQL's text cannot hold."""
    if "\0" in value:
        raise ValueError("it holds the character NUL")
    return value


Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(check_storable)
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100_000), AfterValidator(check_storable)]
Remark = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), AfterValidator(check_storable)
]
Search = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(check_storable)]


class DocumentDraft(BaseModel):
    """What a person writes: a new document, or the new state of an old one."""

    title: Line
    body: Text = ""
    language: Annotated[str, Field(pattern="^[a-z]{2}$")] = "en"


class CommentDraft(BaseModel):
    body: Remark


async def list_documents(session: AsyncSession, search: str = "") -> Sequence[Document]:
    """The newest ones, at most `NEWEST`, whose title holds `search`."""
    query = select(Document).order_by(Document.created_at.desc(), Document.id).limit(NEWEST)
    if search:
        query = query.where(Document.title.icontains(search, autoescape=True))
    return (await session.scalars(query)).all()


async def find_document(session: AsyncSession, id: UUID) -> Document:
    """404 for another organization's document, as for one that never was."""
    found = await session.scalar(select(Document).where(Document.id == id))
    if found is None:
        raise HTTPException(404, "There is no such document.")
    return found


async def create_document(session: AsyncSession, draft: DocumentDraft) -> Document:
    await _check_language(session, draft.language)
    document = Document(**draft.model_dump())
    session.add(document)
    await session.flush()
    await session.refresh(document)
    return document


async def edit_document(session: AsyncSession, id: UUID, draft: DocumentDraft) -> Document:
    await _check_language(session, draft.language)
    document = await find_document(session, id)
    document.title, document.body, document.language = draft.title, draft.body, draft.language
    document.words = None  # the job counts them anew
    document.updated_at = func.now()
    await session.flush()
    await session.refresh(document)
    return document


async def delete_document(session: AsyncSession, id: UUID) -> None:
    """Its comments go with it."""
    await session.delete(await find_document(session, id))


async def list_comments(session: AsyncSession, document_id: UUID) -> Sequence[Comment]:
    """Oldest first."""
    await find_document(session, document_id)
    query = select(Comment).where(Comment.document_id == document_id).order_by(Comment.created_at, Comment.id)
    return (await session.scalars(query)).all()


async def add_comment(session: AsyncSession, document_id: UUID, draft: CommentDraft) -> Comment:
    await find_document(session, document_id)
    comment = Comment(document_id=document_id, body=draft.body)
    session.add(comment)
    await session.flush()
    await session.refresh(comment)
    return comment


async def list_languages(session: AsyncSession) -> Sequence[Language]:
    return (await session.scalars(select(Language).order_by(Language.name))).all()


async def _check_language(session: AsyncSession, code: str) -> None:
    if await session.get(Language, code) is None:
        raise HTTPException(422, f"There is no language '{code}'.")
