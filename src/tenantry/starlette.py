"""Tenantry in a Starlette app: who is asking, for every request; webhooks; the switcher; errors as RFC 9457 problems.

The middleware never refuses: it reads the token, and keeps an identity or the reason why there is none. Whoever needs
one asks, by `resolve` or by beginning a transaction, and gets it or that reason. So public pages, CORS preflights and
health checks need no exceptions list.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope
from starlette.websockets import WebSocket, WebSocketState

from tenantry import browser, database, mirror, proxy, roles, schema, silence, webhooks
from tenantry.alarm import Alarm
from tenantry.changes import CHANNEL, HANDLER_SECONDS, Announcer, Consumer, Feed, Start, make_consumer
from tenantry.clerk import find_keys
from tenantry.context import Scope, TenantContext, scope_of, use_scope
from tenantry.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DatabaseUnavailable,
    DeliveryRefused,
    MissingToken,
    NoTenant,
    OrganizationMismatch,
    PayloadTooLarge,
    TenantryError,
    UntrustedOrigin,
    WebhookError,
    WebhookNotConfigured,
    WrongInstance,
)
from tenantry.health import Health
from tenantry.identity import Identity
from tenantry.inbox import Inbox
from tenantry.notices import Notices
from tenantry.pool import Pool
from tenantry.reconcile import keep_reconciled
from tenantry.retention import keep_retention
from tenantry.settings import Settings, normalise_origin
from tenantry.streams import Streams, close_code
from tenantry.tokens import Verifier, token_from_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool
    from sqlalchemy.ext.asyncio import async_sessionmaker
    from sqlalchemy.orm import sessionmaker

    from tenantry.asyncpg import ScopedPool as AsyncpgPool
    from tenantry.mirror import Outcome
    from tenantry.psycopg import AsyncScopedPool, ScopedPool
    from tenantry.webhooks import Delivery

_Factory = TypeVar("_Factory", bound="sessionmaker[Any] | async_sessionmaker[Any]")
_Row = TypeVar("_Row")
_Handler = TypeVar("_Handler", bound="Callable[..., Any]")

log = logging.getLogger("tenantry")

WEBHOOK_PATH = "/webhooks/clerk"
EXPECTED_ORG = "tenantry-expected-org"
EXPECTED_ORG_IN_QUERY = "tenantry_expected_org"
_ORG_IN_PATH = re.compile(r"/orgs/([^/]+)")
_STATIC = Path(__file__).parent / "static"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_RECONCILE_SECONDS = 60  # for a statement of a run: a look at the whole mirror takes longer than a webhook
_BODY_SECONDS = 10  # a sender slower than this is not Svix
_ANSWER_SECONDS = 12  # under the 15 after which Svix counts a delivery as failed


class Tenantry:
    """Everything an app needs, from its settings: middleware, lifespan, webhook endpoint, scoped sessions.

    Without `settings` they come from environment variables; keyword arguments (`reconcile="15m"`) win over both. Raises
    ConfigurationError.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        settings = Settings.from_env(**overrides) if settings is None else settings.replace(**overrides)
        if settings.database_url is None:
            raise ConfigurationError("No database is given.", hint="Set DATABASE_URL to postgresql://user@host/name.")
        if settings.reconcile and settings.secret_key is None:
            raise ConfigurationError("TENANTRY_RECONCILE needs a key to ask Clerk with.", hint="Set CLERK_SECRET_KEY.")
        self.settings = settings
        self.verifier = Verifier.from_settings(settings, find_keys(settings))
        self.pool = Pool(settings.database_url)
        self.streams = Streams(
            self.pool,
            listen_url=settings.listen_url or settings.database_url,
            interval=settings.stream_interval if settings.membership_source == "mirror" else 0,
        )
        self.frontend = _find_frontend(settings)
        self._inbox = Inbox(self._record)
        self._announcer = Announcer(self.pool.run)
        self._consumers: dict[str, Consumer] = {}
        self._scoped: list[Any] = []
        self._alarm = Alarm()
        self._health = self._new_health()

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """From environment variables (`Settings.from_env`); keyword arguments win. Raises ConfigurationError."""
        return cls(**overrides)

    def install(self, app: Any, *, webhook_path: str = WEBHOOK_PATH, health: str | None = None) -> None:
        """Adds the middleware, the handler of Tenantry's errors, the webhook endpoint and `/tenantry.js` to an app.

        `health`: a path, if you like, for `show_health`.
        """
        app.add_middleware(TenantryMiddleware, tenancy=self)
        app.add_exception_handler(TenantryError, answer_error)
        app.add_route(webhook_path, self.receive_webhook, methods=["POST"])
        app.add_route(browser.SCRIPT_PATH, _send_script, methods=["GET"])
        if health is not None:
            app.add_route(health, self.show_health, methods=["GET"])

    def template_context(self, request: Request) -> dict[str, Any]:
        """For `Jinja2Templates(context_processors=[tenancy.template_context])`: `clerk`, the tags of a `browser.Page`.

        The page is made for whom the request's token names, whether or not they may enter their tenant.
        """
        identity = request_scope(request).identity
        page = browser.Page(
            settings=self.settings,
            user_id=identity.user_id if identity else None,
            organization_id=identity.org_id if identity else None,
            root_path=request.scope.get("root_path", ""),
        )
        return {"clerk": page}

    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[None]:
        """Opens Tenantry's connections for the app's life, after checking that this database and login can be used.

        Raises SchemaError (`tenantry db migrate` is missing), ConfigurationError (the login is above isolation),
        DatabaseUnavailable.
        """
        return self._live()

    @overload
    def scoped(self, factory: _Factory) -> _Factory: ...
    @overload
    def scoped(self, factory: ConnectionPool[Connection[_Row]]) -> ScopedPool[_Row]: ...
    @overload
    def scoped(self, factory: AsyncConnectionPool[AsyncConnection[_Row]]) -> AsyncScopedPool[_Row]: ...
    @overload
    def scoped(self, factory: asyncpg.Pool[Any]) -> AsyncpgPool: ...
    def scoped(self, factory: Any) -> Any:
        """What gives sessions or connections like `factory`, in the current tenant: its rows alone are there.

        A SQLAlchemy sessionmaker, sync or async, gives another; a pool of psycopg or asyncpg a `ScopedPool`.
        """
        maker = {base.__module__.partition(".")[0] for base in type(factory).__mro__}
        adapter = "psycopg" if "psycopg_pool" in maker else "asyncpg" if "asyncpg" in maker else "sqlalchemy"
        scoped = importlib.import_module(f"tenantry.{adapter}").scoped(factory)  # each needs its own driver installed
        self._scoped.append(scoped)
        return scoped

    def on(
        self,
        *kinds: str,
        name: str | None = None,
        using: Any = None,
        start: Start = "now",
        timeout: float = HANDLER_SECONDS,
    ) -> Callable[[_Handler], _Handler]:
        """A decorator for what is to be told of changes: `on("member.joined")`, `on("member.*", "user.deleted")`.

        The handler, async or not, takes a `Change`, and if it likes a session or connection of `using`, by default of
        what was given to `scoped`: it is in the tenant that the change concerns, and what is written through it
        happens once. `name` is what its position is kept by, by default the handler's own. `start`: from now on, or
        from the beginning, when the database sees the name for the first time. `timeout`: the seconds it has for a
        change; past them the attempt has failed. Raises ConfigurationError.
        """

        def register(handler: _Handler) -> _Handler:
            consumer = make_consumer(handler, kinds, name=name, start=start, using=using, timeout=timeout)
            if consumer.name in self._consumers:
                raise ConfigurationError(
                    f"Two handlers are called {consumer.name!r}.", hint="Give one a name: on(..., name='…')."
                )
            self._consumers[consumer.name] = consumer
            return handler

        return register

    def on_silence(self, handler: _Handler) -> _Handler:
        """A decorator for what is to be told that webhooks have stopped: it takes a `Silence`, and is async or not.

        It is called in one worker of however many, once a silence, when none has come for the time of the setting
        `silence` and Clerk shows a change that should have been told. Raises ConfigurationError.
        """
        if not self.settings.silence or self.settings.secret_key is None:
            raise ConfigurationError(
                "Nobody notices when webhooks stop.", hint="Set CLERK_SECRET_KEY, and TENANTRY_SILENCE to a time."
            )
        self._alarm.add(handler)
        return handler

    async def identify(self, connection: HTTPConnection) -> Scope:
        """How this request's transactions enter their tenant; with the error to raise where they may not."""
        try:
            identity = await self._verify(connection)
        except TenantryError as error:
            return Scope(key=(None, None), error=error)
        scope = scope_of(
            identity,
            personal_accounts=self.settings.personal_accounts == "allow",
            membership_source=self.settings.membership_source,
        )
        scope.error = _find_mismatch(connection, identity)
        return scope

    async def resolve(self, connection: HTTPConnection) -> TenantContext:
        """The tenant of this request, as the database decides now.

        A request asks once; a websocket, which outlives many decisions, every time.
        """
        scope = request_scope(connection)
        if scope.context is None or scope.error is not None or connection.scope["type"] == "websocket":
            return await self.pool.enter(scope)
        return scope.context

    async def receive_webhook(self, request: Request) -> Response:
        """POST from Clerk. 200: stored, whatever became of it; 400: not Clerk's; 413: too large; 503: send again."""
        body = await _read_body(request, self.settings.webhook_max_bytes)
        delivery = webhooks.verify(
            self.settings.webhook_signing_secrets,
            request.scope["headers"],
            body,
            max_bytes=self.settings.webhook_max_bytes,
        )
        told = await self._submit(delivery)
        level = logging.WARNING if told.outcome in ("failed", "refused") else logging.INFO
        # The code and not the error: PostgreSQL's sentences quote what they could not read.
        log.log(level, "webhook %s %r: %s", told.message_id, delivery.type, told.code or told.outcome)
        if told.outcome == "refused":
            raise DeliveryRefused(f"The delivery was refused: {told.error}.")
        return JSONResponse({"outcome": told.outcome, "message_id": told.message_id})

    async def show_health(self, request: Request) -> Response:
        """GET: the status as JSON, without names. 200, or 503 where something has failed or the database is away."""
        found = await self._health.read()
        checks = {check.name: {"level": check.level, "says": check.says} for check in found.checks}
        content = {"status": found.level, "at": found.at.isoformat(timespec="seconds"), "checks": checks}
        headers = {"Cache-Control": "no-store"}
        return JSONResponse(content, status_code=503 if found.level == "fail" else 200, headers=headers)

    async def _submit(self, delivery: Delivery) -> Outcome:
        """Records the delivery, or says in time that it is not known to be; if it is after all, a retry finds it."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._inbox.submit(delivery)
        except TimeoutError:
            raise DatabaseUnavailable(f"The delivery was not recorded within {_ANSWER_SECONDS} s.") from None

    async def _record(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        outcomes = await self.pool.record(deliveries, keep_private_metadata=self.settings.keep_private_metadata)
        if any(one.outcome == "applied" for one in outcomes):
            self._announcer.announce()
        return outcomes

    @asynccontextmanager
    async def _telling(self) -> AsyncIterator[None]:
        """Tells handlers of changes, over connections of its own: webhooks wait for none of them."""
        consumers = [(one, self._scoped_for(one)) for one in self._consumers.values()]
        if not consumers:
            yield
            return
        url = self.settings.database_url or ""
        pool = Pool(url, size=2 + sum(given is None for _, given in consumers))
        feed = Feed(pool.run)
        notices = Notices(
            self.settings.listen_url or url,
            heard=lambda _: feed.wake(),
            probe=lambda nonce: pool.run(mirror.probe_endings(nonce)),
            channel=CHANNEL,
            purpose="notices of changes",
            remedy="handlers are told every other second",
        )
        await pool.open()
        try:
            await feed.start((one, partial(_begin, given, pool)) for one, given in consumers)
            notices.start()
            yield
        finally:
            await notices.close()
            await feed.close()
            await pool.close()

    def _scoped_for(self, consumer: Consumer) -> Any:
        """What gives a handler its session or connection; None where it takes none. Raises ConfigurationError."""
        if not consumer.takes_handle:
            return None
        if consumer.using is not None:
            given = [consumer.using if hasattr(consumer.using, "transaction") else self.scoped(consumer.using)]
        else:
            given = list(self._scoped)
        fitting = [one for one in given if isinstance(_begin(one), AbstractAsyncContextManager) == consumer.waits]
        if len(fitting) != 1:
            kind = "async" if consumer.waits else "sync"
            raise ConfigurationError(
                f"The {kind} handler {consumer.name} takes a session, and {len(fitting)} {kind} sources are known.",
                hint=f"Give on(..., using=…) the {kind} sessionmaker or pool that is meant.",
            )
        return fitting[0]

    async def _verify(self, connection: HTTPConnection) -> Identity:
        headers = connection.scope["headers"]
        presented = token_from_headers(headers, self.settings.cookie_suffix)
        if presented is None:
            raise MissingToken
        if presented.from_cookie:
            self._check_origin(connection)
        return await self.verifier.verify(presented.token, cookie=presented.from_cookie)

    def _check_origin(self, connection: HTTPConnection) -> None:
        """A browser sends the cookie with any page's form: an unsafe request must say that the page is the app's."""
        if connection.scope["type"] == "http" and connection.scope["method"] in _SAFE_METHODS:
            return
        stated = connection.headers.get("origin", "")
        origin = _normalised(stated)
        trusted = self.settings.authorized_parties
        if not trusted:  # a development instance: elsewhere the token itself is refused
            scheme = stated.partition("://")[0]
            trusted = frozenset({_normalised(f"{scheme}://{connection.headers.get('host', '')}") or ""})
        if origin not in trusted:
            raise UntrustedOrigin(detail=f"its origin is {stated[:200]!r}")

    def _new_health(self) -> Health:
        return Health(lambda call: self.pool.run(call), reconcile_every=self.settings.reconcile)

    async def _keep_reconciled(self) -> None:
        """Where the settings say how often; over connections of its own, so that no webhook waits for a page."""
        if not self.settings.reconcile:
            return
        pool = Pool(self.settings.database_url or "", timeout=_RECONCILE_SECONDS)
        await keep_reconciled(self.settings, pool, self.settings.reconcile)

    async def _keep_retention(self) -> None:
        """Forgets old deliveries, unless the settings say that all are kept."""
        if self.settings.retention:
            await keep_retention(self.pool.run, self.settings.retention)

    async def _watch_silence(self) -> None:
        """Where there is a key to ask Clerk with, and the settings say after how long."""
        if self.settings.silence and self.settings.secret_key is not None:
            await silence.watch(self.settings, self.pool.run, self._alarm.tell)

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        await asyncio.to_thread(check_database, self.settings)
        await self.pool.open()
        if self.settings.membership_source == "token":
            log.warning("TENANTRY_MEMBERSHIP_SOURCE=token: the mirror's denials are ignored")
        if not self.settings.webhook_signing_secrets:
            log.warning("CLERK_WEBHOOK_SIGNING_SECRET is not set: webhooks are answered 503, the mirror falls behind")
        self._health = self._new_health()  # an app may live again, in another event loop
        work = (self._keep_reconciled(), self._keep_retention(), self._watch_silence())
        background = [asyncio.create_task(one) for one in work]
        try:
            async with self._telling():
                yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.streams.close()
            await self._inbox.drain()
            await self._announcer.close()
            await self.pool.close()
            if self.frontend is not None:
                await self.frontend.close()


def _begin(given: Any, pool: Pool | None = None) -> Any:
    """A transaction of what `scoped` gave, or of the pool where a handler takes no session."""
    if given is None:
        return pool.transaction() if pool is not None else None
    if hasattr(given, "transaction"):
        return given.transaction()
    return importlib.import_module("tenantry.sqlalchemy").begun(given)


class TenantryMiddleware:
    """Pure ASGI: reads who is asking into the request and the ContextVar, and refuses nobody."""

    def __init__(self, app: ASGIApp, tenancy: Tenantry) -> None:
        self.app = app
        self.tenancy = tenancy

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if self.tenancy.frontend is not None and self.tenancy.frontend.serves(scope):
            await self.tenancy.frontend(scope, receive, send)
            return
        found = await self.tenancy.identify(HTTPConnection(scope))
        scope["tenantry"] = (self.tenancy, found)
        try:
            with use_scope(found):
                await self.tenancy.streams.serve(self.app, scope, receive, send, found)
        finally:
            # A task that outlives its request, a worker started in one above all, must not act for its tenant.
            found.error = NoTenant(
                "The request this code was started in is over.",
                hint="Work that outlives a request names its tenant: tenant_context(tenant_id, reason=…).",
            )


def tenancy_of(connection: HTTPConnection) -> Tenantry:
    """The `Tenantry` installed in the app that serves this request."""
    return _installed(connection)[0]


def request_scope(connection: HTTPConnection) -> Scope:
    """How this request enters its tenant."""
    return _installed(connection)[1]


def request_identity(connection: HTTPConnection) -> Identity:
    """Who is asking. Raises the AuthenticationFailed that says why nobody is known."""
    scope = request_scope(connection)
    if scope.identity is None:
        raise scope.error or MissingToken()
    return scope.identity


async def answer_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answers one of Tenantry's errors: a problem document, or a policy close of a websocket."""
    known = error if isinstance(error, TenantryError) else TenantryError()
    level = logging.ERROR if known.status >= 500 else logging.INFO
    log.log(level, "%s: %s", known.code, " ".join(str(known).split()), exc_info=error if known.status == 500 else None)
    if not isinstance(connection, WebSocket):
        return problem(known)
    if connection.application_state is not WebSocketState.DISCONNECTED:
        await connection.close(close_code(known), known.code)
    return None


def problem(error: TenantryError) -> JSONResponse:
    """RFC 9457: `type`, `title`, `status`, `detail`, and our `code`. What only the operator can mend has no detail."""
    content = {
        "type": f"urn:tenantry:{error.code}",
        "title": error.title if error.status != 500 else "Internal Server Error",
        "status": error.status,
        "code": error.code,
    }
    explanation = " ".join(part for part in (_unless(error.message, error.title), error.hint) if part)
    if explanation and error.status < 500 and not isinstance(error, WrongInstance):
        content["detail"] = explanation
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, AuthenticationFailed):
        headers["WWW-Authenticate"] = "Bearer" if isinstance(error, MissingToken) else 'Bearer error="invalid_token"'
    if error.status == 503 and not isinstance(error, WebhookNotConfigured):
        headers["Retry-After"] = "5"
    return JSONResponse(content, status_code=error.status, headers=headers, media_type="application/problem+json")


def check_database(settings: Settings) -> None:
    """Refuses a database without this release's schema, and a login no policy holds; warns of roles not applied."""
    with database.connect(settings.database_url) as connection:
        schema.require(connection)
        row = connection.execute(_PRIVILEGED).fetchone()
        applied = schema.role_permissions(connection)
    if settings.roles_file is not None and roles.load(settings.roles_file).grants != applied:
        log.warning("the database's roles are not those of %s: run `tenantry roles apply`", settings.roles_file)
    if row is not None:
        _refuse_privileged(settings, *row)


def _refuse_privileged(settings: Settings, login: str, above: str) -> None:
    if not settings.allow_privileged_login:
        raise ConfigurationError(
            f'The app logs in to PostgreSQL as "{login}", who is or may become "{above}", whom no policy holds.',
            hint="Log in as an ordinary role (`tenantry db migrate --app-role NAME` grants what it needs), "
            "or set TENANTRY_ALLOW_PRIVILEGED_LOGIN=true.",
        )
    log.warning('the app logs in as "%s": a transaction without a tenant may see every tenant\'s rows', login)


# Whom the login is, or has been granted: what it can become with SET ROLE alone.
_PRIVILEGED = """
    select session_user, rolname from pg_roles
    where (rolsuper or rolbypassrls) and pg_has_role(session_user, oid, 'member')
    order by rolname <> session_user, rolname limit 1
"""


def _installed(connection: HTTPConnection) -> tuple[Tenantry, Scope]:
    found: tuple[Tenantry, Scope] | None = connection.scope.get("tenantry")
    if found is None:
        raise ConfigurationError("Tenantry is not installed in this app.", hint="Call tenancy.install(app).")
    return found


def _find_mismatch(connection: HTTPConnection, identity: Identity) -> OrganizationMismatch | None:
    """The client may state which organization it expects, by header, path or query; it never chooses one."""
    stated = connection.headers.getlist(EXPECTED_ORG) + _ORG_IN_PATH.findall(connection.scope["path"])
    stated += _stated_in_query(connection.scope.get("query_string", b""))
    own = {identity.org_id or "", identity.org_slug or identity.org_id or ""}
    for expected in stated:
        if expected not in own:
            return OrganizationMismatch(
                detail=f"expected {expected[:100]!r}, the token is for {identity.org_id or 'no organization'}",
                hint="Switch to the organization, or go to the page of the active one.",
            )
    return None


def _stated_in_query(query: bytes) -> list[str]:
    """A form without scripts of its own has no headers to state it in."""
    if EXPECTED_ORG_IN_QUERY.encode() not in query:  # nearly always: the rest of a query is the app's
        return []
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return [value for name, value in pairs if name == EXPECTED_ORG_IN_QUERY]


def _find_frontend(settings: Settings) -> proxy.FrontendProxy | None:
    """In development Clerk's frontend is the emulator's, under the app's own origin."""
    if settings.emulator_url is None or settings.proxy_url is None or not settings.proxy_url.startswith("/"):
        return None
    return proxy.FrontendProxy(settings.emulator_url, settings.proxy_url)


async def _send_script(request: Request) -> Response:
    """`tenantry.js`; browsers keep it, and ask whether it has changed."""
    response = await StaticFiles(directory=_STATIC).get_response("tenantry.js", request.scope)
    response.headers["Cache-Control"] = "no-cache"
    if response.status_code == 200:
        response.headers["Content-Type"] = "text/javascript; charset=utf-8"  # not what this machine's registry says
    return response


async def _read_body(request: Request, limit: int) -> bytes:
    """The raw body; refused as soon as it is known to be larger than `limit`, or takes too long to come."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:12]) > limit:
        raise _too_large(limit)
    received = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                received += chunk
                if len(received) > limit:
                    raise _too_large(limit)
    except (ClientDisconnect, TimeoutError):
        raise WebhookError(f"The webhook body broke off, or took more than {_BODY_SECONDS} s to arrive.") from None
    return bytes(received)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The webhook body has more than {limit} bytes.")


def _normalised(origin: str) -> str | None:
    try:
        return normalise_origin(origin)
    except ValueError:
        return None


def _unless(text: str, other: str) -> str | None:
    return None if text == other else text
