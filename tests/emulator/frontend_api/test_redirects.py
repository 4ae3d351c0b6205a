"""Where a browser may be sent back to."""

from __future__ import annotations

import re

import httpx
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api.redirects import checked_redirect, origin_of, with_query
from tenantry.emulator.settings import Settings

_HEADS = st.sampled_from(["http://localhost", "https://127.0.0.1", "http://[::1]", "http://", "https:", ""])
_PARTS = st.sampled_from(
    ["localhost", "evil.example", "@", ":", "8000", "/", "\\", "?", "#", ".", "\t", "%00", "a", "[", "]"]
)
_URLS = st.builds(str.__add__, _HEADS, st.lists(_PARTS | st.characters(), max_size=6).map("".join))
_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}", re.ASCII)
_ALLOWED = Settings(allowed_origins=("https://app.example",))


def accepts(url: str) -> bool:
    try:
        return checked_redirect(_ALLOWED, "redirect_url", url) == url
    except ClerkError:
        return False


@given(_URLS)
@example("http://evil.example\\@localhost/")
@example("http://localhost\t@evil.example/")
@example("https://app.example@evil.example/")
@example("http://127.0.0.18/")
@example("http://127.0.0.1.evil.example/")
def test_what_is_accepted_is_of_this_machine_by_another_reading_too(url: str) -> None:
    if accepts(url):
        read = httpx.URL(url)
        assert read.scheme in ("http", "https")
        assert read.host in ("localhost", "::1") or read.host.endswith(".localhost") or _LOOPBACK.fullmatch(read.host)
        assert not read.userinfo
        assert not set("\\\t\r\n ") & set(url)


@given(st.sampled_from(["localhost", "127.0.0.1", "[::1]", "app.localhost"]), st.integers(1, 65_535))
def test_every_port_of_this_machine_is_accepted_and_told_as_a_browser_does(host: str, port: int) -> None:
    url = f"http://{host}:{port}/a?b=c#d"
    assert accepts(url)
    assert origin_of(url) == (f"http://{host}" if port == 80 else f"http://{host}:{port}")


def test_an_allowed_origin_is_that_one_alone() -> None:
    assert accepts("https://app.example/x")
    assert accepts("https://app.example:443/x")
    for url in ("http://app.example/x", "https://app.example:444/x", "https://www.app.example/x"):
        assert not accepts(url)


def test_a_parameter_takes_the_place_of_one_of_its_name_and_leaves_the_rest() -> None:
    url = with_query("http://localhost/a?nonce=old&b=&c=%26#d", nonce="n w")
    assert url == "http://localhost/a?b=&c=%26&nonce=n+w#d"
