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
from tenantry.emulator.hosts import check_host, check_origin
from tenantry.emulator.http import asking, find_handler, read_body, write_error
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
    """`origin` is the page's, for the token's `azp`; `session_id` the session the page says it acts in.

    A client found `by_name`, the one in the URL, was not known by its cookie, and gets none.
    `raw` is the whole body, of the type in `content_type`: for an upload, of which `form` holds nothing.
    """

    emulator: Emulator
    path: dict[str, str]
    query: Query
    form: Form
    origin: str
    client: Client | None
    session_id: str | None
    by_name: bool = False
    raw: bytes = b""
    content_type: str = ""

    @property
    def store(self) -> Store:
        return self.emulator.store

    @property
    def session(self) -> Session:
        """The session that is asking. ClerkError 401 when nobody is signed in at this browser."""
        session = self.store.clients.session(self.client, self.session_id) if self.client else None
        if session is None:
            raise self.unauthenticated()
        return session

    @property
    def user(self) -> User:
        return self.store.state.users[self.session.user_id]

    def unauthenticated(self) -> ClerkError:
        message = "Unable to authenticate the request, you need to supply an active session."
        return ClerkError(401, "authentication_invalid", message)

    def need_client(self) -> Client:
        """This browser's client; made now, when it has none."""
        if self.client is None:
            self.client = self.store.clients.create()
        return self.client


def create_endpoint(emulator: Emulator, wrapped: dict[str, Handler], bare: dict[str, Handler]) -> Endpoint:
    """An endpoint that answers each of these methods; `wrapped` answers have `response` and `client`."""

    async def answer(request: Request) -> Response:
        call = None
        try:
            check_host(request, emulator.store.state.settings.allowed_origins)
            check_origin(request, emulator.store.state.settings.allowed_origins)
            method = _method(request)
            call = await _read(emulator, request)
            handler = find_handler(wrapped | bare, method)
            with asking(request):
                content = handler(call)
            if isinstance(content, Response):
                response = content
            elif method in bare:
                response = JSONResponse(content)
            else:
                response = JSONResponse({"response": content, "client": _piggyback(call, method)})
        except ClerkError as error:
            response = write_error(error, emulator.store.identifiers.hex(32))
        # Also a client that was made for what then failed.
        if call is not None and call.client is not None and not call.by_name:
            cookies.set_client(response, emulator, call.client.id, secure=_is_secure(request))
        return response

    return answer


def _piggyback(call: Call, method: str) -> Json:
    """The client as it is after a change; a GET changes nothing."""
    if method == "GET" or call.client is None:
        return None
    return render_client(call.emulator, call.store.clients.get(call.client.id), call.origin)


async def _read(emulator: Emulator, request: Request) -> Call:
    """A browser is known by its cookie, or where that does not reach by its name in the URL."""
    clients = emulator.store.clients
    client = clients.find(request.cookies.get(cookies.CLIENT, ""))
    named = None if client else clients.find_by_dev_browser(request.query_params.get(cookies.DEV_BROWSER, ""))
    raw = await read_body(request)
    return Call(
        emulator=emulator,
        path=dict(request.path_params),
        query=Query(request.query_params),
        form=_read_form(request, raw),
        origin=_origin(request),
        client=client or named,
        session_id=request.query_params.get("_clerk_session_id"),
        by_name=named is not None,
        raw=raw,
        content_type=request.headers.get("content-type", ""),
    )


def _read_form(request: Request, raw: bytes) -> Form:
    """clerk-js sends forms; a body in JSON is taken as well, and of an upload nothing."""
    kind = request.headers.get("content-type", "")
    if "json" in kind:
        content = parse_json(raw)
        return Form.from_json(content if isinstance(content, dict) else {})
    if "multipart" in kind:
        return Form.from_pairs([])
    try:
        return Form.from_pairs(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True, max_num_fields=1000))
    except ValueError:
        raise ClerkError(400, "request_body_invalid", "The form has more than 1000 fields.") from None


def _method(request: Request) -> str:
    """clerk-js sends every change as a POST, with the method it means in the query."""
    stated = request.query_params.get("_method")
    if stated and request.method == "POST":
        return stated.upper()
    return "GET" if request.method == "HEAD" else request.method


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
