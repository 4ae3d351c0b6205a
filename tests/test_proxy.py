"""The proxy of development: requests reach the emulator as the browser sent them, answers come back as they are."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from emulator.world import serve
from instance import signer
from signer import ISSUER
from tenantry.errors import ConfigurationError
from tenantry.proxy import FrontendProxy
from tenantry.settings import Settings
from tenantry.starlette import Tenantry


@dataclass
class Upstream:
    """Stands for the emulator and remembers what it was asked; `go_on` lets a stream send its second half."""

    requests: list[tuple[str, list[tuple[str, str]], bytes]] = field(default_factory=list)
    go_on: bool = False

    def app(self) -> Starlette:
        async def answer(request: Request) -> Response:
            target = request.scope["raw_path"].decode() + f"?{request.url.query}" * bool(request.url.query)
            body = await request.body()
            self.requests.append((f"{request.method} {target}", request.headers.items(), body))
            match request.path_params["rest"]:
                case "zipped":
                    return Response(gzip.compress(b"long " * 99), headers={"content-encoding": "gzip"})
                case "moved":
                    return RedirectResponse("http://app.test/back")
                case "streamed":
                    return StreamingResponse(self._halves())
            made = JSONResponse({"errors": []}, status_code=422)
            made.set_cookie("__client", "a", httponly=True)
            made.set_cookie("__client_uat", "1")
            return made

        async def secret(request: Request) -> Response:
            return PlainTextResponse("the controls")

        routes = [
            Route("/__clerk/{rest:path}", answer, methods=["GET", "POST", "DELETE"]),
            Route("/{rest:path}", secret),
        ]
        return Starlette(routes=routes)

    def headers(self) -> dict[str, str]:
        """Those of the latest request."""
        return dict(self.requests[-1][1])

    async def _halves(self) -> AsyncIterator[bytes]:
        yield b"first "
        while not self.go_on:
            await asyncio.sleep(0.01)
        yield b"second"


@dataclass
class World:
    upstream: Upstream
    url: str


def tenancy(emulator_url: str | None, **changes: Any) -> Tenantry:
    return Tenantry(
        Settings(
            database_url="postgresql://nobody@127.0.0.1:1/nothing",  # nothing here asks it
            jwt_key=signer().pem,
            issuers=(ISSUER,),
            emulator_url=emulator_url,
            **changes,
        )
    )


def app(emulator_url: str, **changes: Any) -> Starlette:
    """An app that has a page for everything, so that what the proxy does not take is seen."""

    async def page(request: Request) -> Response:
        return PlainTextResponse("the app's own page")

    installed = tenancy(emulator_url, **changes)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        """Ends what the app has open to the emulator, as Tenantry's own does, which asks for a database."""
        yield
        assert installed.frontend
        await installed.frontend.close()

    made = Starlette(lifespan=lifespan)
    installed.install(made)
    made.add_route("/{rest:path}", page, methods=["GET", "POST"])
    return made


def mount(path: str, inner: Starlette) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    return Starlette(routes=[Mount(path, inner)], lifespan=lifespan)


@pytest.fixture
def world() -> Iterator[World]:
    upstream = Upstream()
    with serve(upstream.app()) as emulator_url, serve(app(emulator_url)) as url:
        yield World(upstream, url)


@pytest.fixture
def client(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url, trust_env=False) as made:
        yield made


def test_a_request_arrives_with_its_query_body_cookies_and_origin(world: World, client: httpx.Client) -> None:
    headers = {"Origin": "http://app.test", "Referer": "http://app.test/page", "Cookie": "__client=x"}
    client.post("/__clerk/v1/client?_method=PATCH&a=%2F", data={"name": "Acme & Söhne"}, headers=headers)
    told, _, body = world.upstream.requests[-1]
    assert (told, body) == ("POST /__clerk/v1/client?_method=PATCH&a=%2F", b"name=Acme+%26+S%C3%B6hne")
    arrived = world.upstream.headers()
    assert {name: arrived[name.lower()] for name in headers} == headers
    assert arrived["content-type"] == "application/x-www-form-urlencoded"


def test_the_emulator_is_told_where_the_browser_is(world: World, client: httpx.Client) -> None:
    client.get("/__clerk/v1/environment", headers={"Host": "app.test:8000", "X-Forwarded-Host": "forged.example"})
    arrived = world.upstream.headers()
    assert arrived["x-forwarded-host"] == "app.test:8000"
    assert (arrived["x-forwarded-proto"], arrived["x-forwarded-for"]) == ("http", "127.0.0.1")
    assert arrived["host"].startswith("127.0.0.1:")


def test_what_is_about_one_connection_stays_with_it(world: World, client: httpx.Client) -> None:
    client.get("/__clerk/v1/client", headers={"Connection": "close, X-Mine", "X-Mine": "1", "TE": "trailers"})
    assert not {"x-mine", "te", "upgrade"} & world.upstream.headers().keys()


def test_an_answer_comes_back_with_its_status_and_every_cookie(client: httpx.Client) -> None:
    answer = client.get("/__clerk/v1/client")
    assert (answer.status_code, answer.json()) == (422, {"errors": []})
    assert [cookie.partition(";")[0] for cookie in answer.headers.get_list("set-cookie")] == [
        "__client=a",
        "__client_uat=1",
    ]


def test_one_visitors_cookies_are_not_kept_for_the_next(world: World, client: httpx.Client) -> None:
    client.get("/__clerk/v1/client")
    httpx.get(f"{world.url}/__clerk/v1/client", trust_env=False)
    assert "cookie" not in world.upstream.headers()


def test_a_compressed_answer_stays_compressed(client: httpx.Client) -> None:
    answer = client.get("/__clerk/zipped")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "long " * 99


def test_a_redirect_is_the_browsers_to_follow(client: httpx.Client) -> None:
    answer = client.get("/__clerk/moved")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://app.test/back")


def test_an_answer_is_passed_on_as_it_comes(world: World, client: httpx.Client) -> None:
    with client.stream("GET", "/__clerk/streamed") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first "
        world.upstream.go_on = True
        assert b"".join(parts) == b"second"


@pytest.mark.parametrize("path", ["/", "/__clerkish", "/__clerk", "/other/__clerk/v1"])
def test_other_paths_are_the_apps(world: World, client: httpx.Client, path: str) -> None:
    assert client.get(path).text == "the app's own page"
    assert world.upstream.requests == []


@given(st.lists(st.sampled_from(["..", ".", "v1", "emulator", "%2e%2e", "a%2Fb", ""]), max_size=6))
def test_no_path_leads_out_of_the_frontend_api(parts: list[str]) -> None:
    proxy = FrontendProxy("http://127.0.0.1:4010")
    raw = "/".join(["", "__clerk", *parts, "x"])
    scope = {"type": "http", "path": raw, "raw_path": raw.encode(), "query_string": b"a=1"}
    target = proxy._find_target(scope)
    assert target.raw_path.startswith(b"/__clerk/")
    assert target.raw_path.endswith(b"/x?a=1")
    assert (target.host, target.port) == ("127.0.0.1", 4010)


def test_a_path_of_another_name_is_the_same_frontend_api() -> None:
    upstream = Upstream()
    with serve(upstream.app()) as emulator_url, serve(app(emulator_url, proxy_url="/auth/clerk")) as url:
        httpx.get(f"{url}/auth/clerk/v1/client", trust_env=False)
    assert upstream.requests[0][0] == "GET /__clerk/v1/client"


@pytest.mark.parametrize("root_path", ["/below", "/__clerkish"])
def test_an_app_below_a_path_answers_there(root_path: str) -> None:
    upstream = Upstream()
    with serve(upstream.app()) as emulator_url, serve(mount(root_path, app(emulator_url))) as url:
        httpx.get(f"{url}{root_path}/__clerk/v1/client", trust_env=False)
    assert upstream.requests[0][0] == "GET /__clerk/v1/client"


def test_an_app_whose_path_was_taken_off_on_the_way_answers_too() -> None:
    upstream = Upstream()
    with serve(upstream.app()) as emulator_url:
        made = app(emulator_url)
        transport = httpx.ASGITransport(made, root_path="/below")

        async def ask() -> None:
            async with (
                made.router.lifespan_context(made),
                httpx.AsyncClient(transport=transport, base_url="http://app.test") as asking,
            ):
                await asking.get("/__clerk/v1/client")

        asyncio.run(ask())
    assert upstream.requests[0][0] == "GET /__clerk/v1/client"


@pytest.mark.parametrize("raw_path", [b"/__clerk/v1#x", b"/__clerk/v1?a#b", b"/__clerk/\xff"])
async def test_an_address_that_cannot_be_is_a_bad_request(world: World, raw_path: bytes) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = raw_path.partition(b"?")
    scope = {"type": "http", "method": "GET", "scheme": "http", "path": path.decode("latin-1"), "raw_path": path}
    await FrontendProxy(world.url)({**scope, "query_string": query, "headers": []}, asyncio.Queue().get, send)
    assert sent[0]["status"] == 400
    assert b'"urn:tenantry:invalid_target"' in sent[1]["body"]
    assert world.upstream.requests == []


def test_a_request_for_the_frontend_is_not_identified(world: World, client: httpx.Client) -> None:
    """A session token that would be refused elsewhere is none of the proxy's business."""
    answer = client.get("/__clerk/v1/client", headers={"Cookie": "__session=rubbish; __session=more"})
    assert answer.status_code == 422
    assert world.upstream.headers()["cookie"] == "__session=rubbish; __session=more"


def test_without_the_emulator_the_answer_says_what_to_start(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with caplog.at_level(logging.WARNING, "tenantry"), serve(app(url)) as site:
            answer = httpx.post(f"{site}/__clerk/v1/client", data={"a": "b"}, trust_env=False)
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "emulator_unavailable"
    assert url in answer.json()["detail"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_outside_development_there_is_no_proxy() -> None:
    assert tenancy(None, proxy_url="/__clerk").frontend is None
    with pytest.raises(ConfigurationError, match="live"):
        tenancy("http://127.0.0.1:4010", secret_key="sk_live_x")


async def test_it_opens_anew_after_it_was_closed(world: World) -> None:
    proxy = FrontendProxy(world.url)
    transport = httpx.ASGITransport(proxy)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as asking:
        for _ in range(2):
            assert (await asking.get("/__clerk/v1/client")).status_code == 422
            await proxy.close()
