"""The pages: the library of the active organization, a document, signing in. Plain forms, and Clerk's components."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from documents import library
from documents.database import Session, Sessions, get_sessions
from documents.emulator import list_people
from documents.jobs import count_words
from documents.library import CommentDraft, DocumentDraft, Search
from documents.people import list_members
from documents.templating import render
from tenantry.errors import NoOrganization
from tenantry.fastapi import CurrentTenant, OptionalIdentity, OptionalTenant, requires

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
AppSessions = Annotated[Sessions, Depends(get_sessions)]


@router.get("/")
@router.get("/orgs/{org}")  # says whose library is meant: while another organization is active, Tenantry answers 409
async def show_library(
    request: Request,
    identity: OptionalIdentity,
    tenant: OptionalTenant,
    session: Session,
    search: Annotated[Search, Query()] = "",
) -> HTMLResponse:
    """The newest documents and the members; for who is not signed in, how to."""
    if identity is None:
        return render(request, "welcome.html", people=await list_people(request))
    if tenant is None:
        raise NoOrganization
    return render(
        request,
        "library.html",
        tenant=tenant,
        search=search,
        documents=await library.list_documents(session, search),
        languages=await library.list_languages(session),
        members=await list_members(session),
    )


@router.get("/sign-in")
async def show_sign_in(request: Request) -> HTMLResponse:
    """For everybody: the component sends on who is signed in already."""
    return render(request, "sign_in.html")


@router.get("/sign-up")
async def show_sign_up(request: Request) -> HTMLResponse:
    return render(request, "sign_up.html")


@router.get("/documents/{id}")
async def show_document(request: Request, id: UUID, tenant: CurrentTenant, session: Session) -> HTMLResponse:
    document = await library.find_document(session, id)
    return render(
        request,
        "document.html",
        tenant=tenant,
        document=document,
        comments=await library.list_comments(session, id),
        languages=await library.list_languages(session),
        members=await list_members(session),
    )


@router.post("/documents", dependencies=[requires(can="documents:create")])
async def create_document(
    draft: Annotated[DocumentDraft, Form()],
    tenant: CurrentTenant,
    session: Session,
    sessions: AppSessions,
    tasks: BackgroundTasks,
) -> RedirectResponse:
    document = await library.create_document(session, draft)
    tasks.add_task(count_words, sessions, tenant.id, document.id)
    return _go_to(document.id)


@router.post("/documents/{id}", dependencies=[requires(permission="org:documents:update")])
async def edit_document(
    id: UUID,
    draft: Annotated[DocumentDraft, Form()],
    tenant: CurrentTenant,
    session: Session,
    sessions: AppSessions,
    tasks: BackgroundTasks,
) -> RedirectResponse:
    await library.edit_document(session, id, draft)
    tasks.add_task(count_words, sessions, tenant.id, id)
    return _go_to(id)


@router.post("/documents/{id}/delete", dependencies=[requires(can="documents:delete")])
async def delete_document(id: UUID, tenant: CurrentTenant, session: Session) -> RedirectResponse:
    await library.delete_document(session, id)
    return RedirectResponse("/", status_code=303)


@router.post("/documents/{id}/comments", dependencies=[requires(can="comments:create")])
async def add_comment(
    id: UUID, draft: Annotated[CommentDraft, Form()], tenant: CurrentTenant, session: Session
) -> RedirectResponse:
    await library.add_comment(session, id, draft)
    return _go_to(id)


def _go_to(document_id: UUID) -> RedirectResponse:
    return RedirectResponse(f"/documents/{document_id}", status_code=303)
