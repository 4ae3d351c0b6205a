"""What goes wrong, for people: a page that says what happened and what to do. The API answers problems in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from documents.templating import render
from tenantry.errors import TenantryError
from tenantry.starlette import answer_error


@dataclass(frozen=True)
class Refusal:
    """What a page says, and which way out it `offers`: `sign-in`, `organizations` (to choose or create one), `tasks`
    (what Clerk asks before a session is whole), `sign-out`, or `back`."""

    title: str
    sentence: str
    offers: str = "back"


REFUSALS = {
    "missing_token": Refusal("Please sign in", "This page is for the members of an organization.", "sign-in"),
    "invalid_token": Refusal(
        "Please sign in again", "This session is of no use here: it may be of another site.", "sign-in"
    ),
    # Read by people without script alone: for others the page renews the session's token and comes back.
    "token_expired": Refusal(
        "One moment", "Your session is being renewed. If this page stays, sign in again.", "sign-in"
    ),
    "session_ended": Refusal("You have been signed out", "This session was ended. Sign in again to go on.", "sign-in"),
    "session_pending": Refusal("One more step", "Choose the organization you want to work in, or create one.", "tasks"),
    "no_organization": Refusal(
        "Choose an organization", "You are signed in, but in no organization. Documents belong to one.", "organizations"
    ),
    "not_a_member": Refusal(
        "You are no longer a member",
        "Somebody removed you from this organization. Its documents stay with it; ask an admin to invite you again.",
        "organizations",
    ),
    "organization_deleted": Refusal(
        "This organization is gone", "It was deleted, and its documents are not reachable.", "organizations"
    ),
    "organization_mismatch": Refusal(
        "This is another organization's page",
        "You have switched since you opened it, perhaps in another tab. Nothing was changed.",
        "organizations",
    ),
    "user_banned": Refusal("Your account is blocked", "An administrator has banned it. Ask them why.", "sign-out"),
    "user_deleted": Refusal(
        "Your account is gone", "It was deleted. Sign in as somebody else, or create a new one.", "sign-out"
    ),
    "permission_denied": Refusal(
        "You may not do this", "Your role in this organization does not allow it. Ask an admin."
    ),
    "untrusted_origin": Refusal(
        "This came from another page", "The form was not sent by this site, so nothing was changed."
    ),
    "database_unavailable": Refusal("We will be back in a moment", "The database does not answer. Please try again."),
}
KEPT_HEADERS = ("www-authenticate", "retry-after")


def install(app: FastAPI) -> None:
    """After `tenancy.install`, whose own answers stay what the API gives."""
    app.add_exception_handler(TenantryError, answer_tenancy_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid_input)
    app.add_exception_handler(IntegrityError, answer_conflict)


def is_page(request: Request) -> bool:
    return not request.url.path.startswith(("/api/", "/webhooks/"))


async def answer_tenancy_error(request: Request, error: Exception) -> Response:
    """Headers and status are Tenantry's; a page says it in words."""
    answer = await answer_error(request, error)
    if answer is None or not is_page(request) or not isinstance(error, TenantryError) or error.status == 500:
        return answer or Response(status_code=500)
    refusal = REFUSALS.get(error.code) or Refusal("You cannot see this", error.title, "sign-out")
    page = _page(request, error.status, refusal)
    page.headers.update({name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers})
    return page


async def answer_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if not is_page(request):
        return await http_exception_handler(request, error)
    title = "Page not found" if error.status_code == 404 else "That did not work"
    return _page(request, error.status_code, Refusal(title, str(error.detail)))


async def answer_invalid_input(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    if request.url.path.startswith("/documents/") and any(_place(found) == "id" for found in error.errors()):
        return _page(request, 404, Refusal("Page not found", "There is no such document."))
    if not is_page(request):
        # Without what was sent: it may hold what JSON cannot (NaN, lone surrogates).
        found = [
            {name: value for name, value in each.items() if name in ("type", "loc", "msg")} for each in error.errors()
        ]
        return JSONResponse({"detail": found}, status_code=422)
    return _page(request, 422, Refusal("Please check what you wrote", _explain(error.errors())))


async def answer_conflict(request: Request, error: Exception) -> Response:
    """Two people at once: what one writes to, the other has just deleted."""
    sentence = "Somebody changed this at the same time. Look again, and repeat what you did."
    if not is_page(request):
        return JSONResponse({"detail": sentence}, status_code=409)
    return _page(request, 409, Refusal("Somebody was faster", sentence))


def _page(request: Request, status: int, refusal: Refusal) -> Response:
    return render(request, "error.html", status_code=status, status=status, refusal=refusal)


def _explain(found: Sequence[Any]) -> str:
    return " ".join(f"{_place(each).capitalize()}: {each['msg']}." for each in found)


def _place(error: Any) -> str:
    return str(error["loc"][-1])
