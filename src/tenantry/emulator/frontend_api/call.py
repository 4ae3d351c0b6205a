"""One call of the Frontend API: whose browser makes it, what it asks, how its answer or error is written.

A browser is a *client*, known by the cookie `__client`; the people signed in at it are its sessions. An answer holds
the object asked for as `response`, and with every change the client as it is now, so that the page never lags behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api import cookies
from tenantry.emulator.frontend_api.render.clients import client as render_client
from tenantry.emulator.http import asking, read_body, write_error
from tenantry.emulator.params import Form, Query, parse_json
from tenantry.emulator.records import Client, Session, User
from tenantry.emulator.store import Store

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

Json = dict[str, Any] | list[dict[str, Any]] | None
Handler = Callable[["Call"], Json | Response]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Call:
    """`origin` is the page's, for the token's `azp`; `session_id` the session the page says it acts in."""

    emulator: Emulator
    path: dict[str, str]
    query: Query
    form: Form
    origin: str
    client: Client | None
    session_id: str | None

    @property
    def store(self) -> Store:
        return self.emulator.store

    @property
    def session(self) -> Session:
        """The session that is asking. ClerkError 401 when nobody is signed in at this browser."""
        session = self.store.clients.session(self.client, self.session_id) if self.client else None
        if session is None:
            raise ClerkError(401, "authentication_invalid", "Unable to authenticate the request: nobody is signed in.")
        return session

    @property
    def user(self) -> User:
        return self.store.state.users[self.session.user_id]

    def need_client(self) -> Client:
        """This browser's client; made now, when it has none."""
        if self.client is None:
            self.client = self.store.clients.create()
        return self.client


def create_endpoint(emulator: Emulator, handlers: dict[str, Handler], *, wrapped: bool = True) -> Endpoint:
    """An endpoint that answers each method of `handlers`; `wrapped` answers have `response` and `client`."""

    async def answer(request: Request) -> Response:
        try:
            method = _method(request)
            call = await _read(emulator, request)
            handler = _find_handler(handlers, method)
            with asking(request):
                content = handler(call)
            if isinstance(content, Response):
                response = content
            else:
                shown = {"response": content, "client": _piggyback(call, method)} if wrapped else content
                response = JSONResponse(shown)
            if call.client is not None:
                cookies.set_client(response, emulator, call.client.id, secure=_is_secure(request))
            return response
        except ClerkError as error:
            return write_error(error, emulator.store.identifiers.hex(32))

    return answer


def _piggyback(call: Call, method: str) -> Json:
    """The client as it is after a change; a GET changes nothing."""
    if method == "GET" or call.client is None:
        return None
    return render_client(call.emulator, call.store.clients.get(call.client.id), call.origin)


async def _read(emulator: Emulator, request: Request) -> Call:
    """clerk-js sends forms; a body in JSON is taken as well."""
    raw = await read_body(request)
    if "json" in request.headers.get("content-type", ""):
        content = parse_json(raw)
        form = Form.from_json(content if isinstance(content, dict) else {})
    else:
        form = Form.from_pairs(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True, max_num_fields=1000))
    return Call(
        emulator=emulator,
        path=dict(request.path_params),
        query=Query(request.query_params),
        form=form,
        origin=_origin(request),
        client=emulator.store.clients.find(request.cookies.get(cookies.CLIENT, "")),
        session_id=request.query_params.get("_clerk_session_id"),
    )


def _method(request: Request) -> str:
    """clerk-js sends every change as a POST, with the method it means in the query."""
    stated = request.query_params.get("_method")
    return stated.upper() if stated and request.method == "POST" else request.method


def _origin(request: Request) -> str:
    """A page's own GET states no Origin: then its Referer tells."""
    stated = request.headers.get("origin")
    if stated and stated != "null":
        return stated
    try:
        page = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    return f"{page.scheme}://{page.netloc}" if page.scheme in ("http", "https") and page.netloc else ""


def _is_secure(request: Request) -> bool:
    return request.headers.get("x-forwarded-proto", request.url.scheme) == "https"


def _find_handler(handlers: dict[str, Handler], method: str) -> Handler:
    handler = handlers.get(method)
    if handler is None:
        raise ClerkError(405, "method_not_allowed", f"{method} is not allowed here; use {', '.join(handlers)}.")
    return handler
