"""The JSON API under /api: for scripts, and for a frontend that sends `Authorization: Bearer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Query
from pydantic import BaseModel, ConfigDict

from documents import library
from documents.database import Session, Sessions, get_sessions
from documents.jobs import count_words
from documents.library import CommentDraft, DocumentDraft, Search
from documents.models import Comment, Document, Language
from documents.people import list_members
from tenantry.fastapi import CurrentIdentity, CurrentTenant, requires

router = APIRouter(prefix="/api", tags=["documents"])
AppSessions = Annotated[Sessions, Depends(get_sessions)]


class ShownLanguage(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    code: str
    name: str


class ShownDocument(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str
    body: str
    language: str
    author: str
    words: int | None
    created_at: datetime
    updated_at: datetime


class ShownComment(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    document_id: UUID
    body: str
    author: str
    created_at: datetime


@router.get("/documents", response_model=list[ShownDocument])
async def list_documents(
    tenant: CurrentTenant, session: Session, search: Annotated[Search, Query()] = ""
) -> Sequence[Document]:
    """The newest 20, or those of them whose title holds `search`."""
    return await library.list_documents(session, search)


@router.get("/documents/{id}", response_model=ShownDocument)
async def read_document(id: UUID, tenant: CurrentTenant, session: Session) -> Document:
    return await library.find_document(session, id)


# Creating and deleting ask the app's own map (tenantry.toml), editing asks a permission given in Clerk's dashboard.
@router.post(
    "/documents", status_code=201, response_model=ShownDocument, dependencies=[requires(can="documents:create")]
)
async def create_document(
    draft: DocumentDraft, tenant: CurrentTenant, session: Session, sessions: AppSessions, tasks: BackgroundTasks
) -> Document:
    document = await library.create_document(session, draft)
    tasks.add_task(count_words, sessions, tenant.id, document.id)
    return document


@router.put("/documents/{id}", response_model=ShownDocument, dependencies=[requires(permission="org:documents:update")])
async def edit_document(
    id: UUID,
    draft: DocumentDraft,
    tenant: CurrentTenant,
    session: Session,
    sessions: AppSessions,
    tasks: BackgroundTasks,
) -> Document:
    document = await library.edit_document(session, id, draft)
    tasks.add_task(count_words, sessions, tenant.id, document.id)
    return document


@router.delete("/documents/{id}", status_code=204, dependencies=[requires(can="documents:delete")])
async def delete_document(id: UUID, tenant: CurrentTenant, session: Session) -> None:
    await library.delete_document(session, id)


@router.get("/documents/{id}/comments", response_model=list[ShownComment])
async def list_comments(id: UUID, tenant: CurrentTenant, session: Session) -> Sequence[Comment]:
    return await library.list_comments(session, id)


@router.post(
    "/documents/{id}/comments",
    status_code=201,
    response_model=ShownComment,
    dependencies=[requires(can="comments:create")],
)
async def add_comment(id: UUID, draft: CommentDraft, tenant: CurrentTenant, session: Session) -> Comment:
    return await library.add_comment(session, id, draft)


@router.get("/languages", response_model=list[ShownLanguage])
async def list_languages(tenant: CurrentTenant, session: Session) -> Sequence[Language]:
    """The shared table: the same for every organization."""
    return await library.list_languages(session)


@router.get("/me")
async def show_me(identity: CurrentIdentity) -> dict[str, Any]:
    """Who is signed in, with or without an organization: what the token says."""
    return {"user_id": identity.user_id, "org_id": identity.org_id, "expires_at": identity.expires_at}


@router.get("/organization")
async def show_organization(tenant: CurrentTenant, session: Session) -> dict[str, Any]:
    """The active organization, what the caller may do there, and its members as the mirror knows them."""
    return {
        "id": tenant.id,
        "org_id": tenant.org_id,
        "name": tenant.name,
        "role": tenant.role,
        "permissions": sorted(tenant.permissions),
        "members": [asdict(member) for member in await list_members(session)],
    }
