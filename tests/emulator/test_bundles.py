"""The browser bundles: fetched by the real npm, from a registry of the test's own; loaded by a real browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from conftest import lack
from emulator.world import serve
from tenantry.emulator.bundles import PINNED, Bundle, Bundles, BundleUnavailable, cache_folder, create_app

SCRIPT = b"window.toy = 1;" * 100
HONEST = {"package/dist/toy.js": SCRIPT, "package/dist/toy.js.map": b"{}", "package/package.json": b"{}"}
pytestmark = pytest.mark.requires("node", "npm")


def tarball(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return packed.getvalue()


def sha512(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


@dataclass
class Registry:
    """An npm registry with one package, `toy` 1.0.0; `asked` counts what npm came for."""

    package: bytes = field(default_factory=lambda: tarball(HONEST))
    url: str = ""
    asked: list[str] = field(default_factory=list)
    delay: float = 0

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        return (Bundle("toy", "1.0.0", sha512(self.package), r"dist/[\w.-]+\.js"),)

    def app(self) -> Starlette:
        async def describe(request: Request) -> Response:
            self.asked.append("description")
            version = {"name": "toy", "version": "1.0.0", "dist": {"tarball": f"{self.url}/toy.tgz"}}
            return JSONResponse({"name": "toy", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})

        def send(request: Request) -> Response:
            self.asked.append("tarball")
            time.sleep(self.delay)
            return Response(self.package, media_type="application/octet-stream")

        return Starlette(routes=[Route("/toy", describe), Route("/toy.tgz", send)])


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm"))
    with serve(registry.app()) as registry.url:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
        yield registry


@contextmanager
def served(bundles: Bundles) -> Iterator[httpx.Client]:
    with serve(Starlette(routes=[Mount("/__clerk/npm", create_app(bundles))])) as url, httpx.Client() as client:
        client.base_url = httpx.URL(f"{url}/__clerk/npm")
        yield client


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_bundle_is_fetched_once_and_needs_no_npm_after_that(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Bundles(tmp_path / "cache", registry.bundles).file("toy", "dist/toy.js")
    assert path.read_bytes() == SCRIPT
    assert registry.asked.count("tarball") == 1
    monkeypatch.setenv("PATH", "")
    assert Bundles(tmp_path / "cache", registry.bundles).file("toy", "dist/toy.js") == path


def test_what_is_fetched_ahead_is_there(registry: Registry, tmp_path: Path) -> None:
    bundles = Bundles(tmp_path / "cache", registry.bundles)
    assert [files_in(folder) for folder in bundles.prefetch()] == [{"dist/toy.js", "dist/toy.js.gz"}]


def test_a_tarball_with_another_hash_is_refused_and_nothing_of_it_kept(registry: Registry, tmp_path: Path) -> None:
    pinned = registry.bundles
    registry.package = tarball(HONEST | {"package/dist/toy.js": b"steal()"})
    with pytest.raises(BundleUnavailable, match=r"toy@1\.0\.0 is not what was pinned: its SHA-512 is"):
        Bundles(tmp_path / "cache", pinned).file("toy", "dist/toy.js")
    assert files_in(tmp_path / "cache") == set()


def test_nothing_but_plain_files_of_the_served_folder_is_unpacked(registry: Registry, tmp_path: Path) -> None:
    hostile = ("package/dist/../../../up.js", "/absolute.js", "package/dist/.././side.js", "package/dist/deep/a.js")
    registry.package = tarball(
        HONEST | dict.fromkeys(hostile, b"evil()"), {"package/dist/link.js": "/etc/passwd", "package/dist": "/"}
    )
    folder = Bundles(tmp_path / "cache", registry.bundles).prefetch()[0]
    assert files_in(folder) == {"dist/toy.js", "dist/toy.js.gz"}
    assert files_in(tmp_path / "cache") == files_in(folder.parent.parent)
    assert not list(tmp_path.rglob("up.js"))


def test_processes_that_start_at_once_all_get_the_bundle(registry: Registry, tmp_path: Path) -> None:
    registry.delay = 0.3
    script = (
        "import sys; from pathlib import Path; from tenantry.emulator.bundles import Bundle, Bundles;"
        f"print(Bundles(Path(sys.argv[1]), ({registry.bundles[0]!r},)).file('toy', 'dist/toy.js').read_text())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0].encode().strip() for process in started] == [SCRIPT] * 3
    kept = list((tmp_path / "cache" / "npm").iterdir())
    assert len(kept) == 1, "the processes that came second left something"


def test_no_npm_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BundleUnavailable, match=r"fetched with npm, which is not installed\. Install Node\.js"):
        Bundles(tmp_path).file("@clerk/ui", "dist/ui.browser.js")


def test_no_network_is_said_in_a_sentence(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(BundleUnavailable, match=r"could not fetch toy@1\.0\.0 \(ECONNREFUSED\)\. Check the network"):
        Bundles(tmp_path, registry.bundles).file("toy", "dist/toy.js")


def test_a_version_that_the_registry_lacks_is_said_in_a_sentence(registry: Registry, tmp_path: Path) -> None:
    absent = Bundle("toy", "9.9.9", "", r"dist/.+\.js")
    with pytest.raises(BundleUnavailable, match=r"could not fetch toy@9\.9\.9 \((ETARGET|E404)\)"):
        Bundles(tmp_path, (absent,)).file("toy", "dist/toy.js")


def test_a_disk_that_cannot_be_written_is_said_in_a_sentence(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleUnavailable, match=r"cannot be kept on this disk: .* Set TENANTRY_CACHE"):
        Bundles(tmp_path / "file", registry.bundles).file("toy", "dist/toy.js")


def test_a_failure_is_not_remembered(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = Bundles(tmp_path / "cache", registry.bundles)
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        with pytest.raises(BundleUnavailable):
            bundles.file("toy", "dist/toy.js")
    assert bundles.file("toy", "dist/toy.js").read_bytes() == SCRIPT


def test_what_is_not_served_is_absent(registry: Registry, tmp_path: Path) -> None:
    bundles = Bundles(tmp_path / "cache", registry.bundles)
    for path in ("dist/other.js", "dist/toy.js.gz", "dist/toy.js.map", "package.json", "dist/", ""):
        with pytest.raises(LookupError):
            bundles.file("toy", path)
    with pytest.raises(LookupError):
        bundles.file("left-pad", "dist/toy.js")


@given(path=st.text(alphabet="dist/.\\ajcs\x00é", max_size=20) | st.text(max_size=20).map("dist/{}.js".format))
def test_no_served_path_leaves_its_folder(path: str) -> None:
    served = [bundle for bundle in PINNED if bundle.serves(path)]
    assert not served or re.fullmatch(r"dist/[A-Za-z0-9_.-]+\.js", path)


def test_any_version_is_the_pinned_one_and_only_the_exact_one_is_kept(registry: Registry, tmp_path: Path) -> None:
    with served(Bundles(tmp_path / "cache", registry.bundles)) as client:
        for version in ("1.0.0", "1", "7.7.7", "latest"):
            path = f"/toy@{version}/dist/toy.js"
            response = client.get(path)
            assert (response.status_code, response.content) == (200, SCRIPT)
            assert response.headers["content-type"] == "text/javascript; charset=utf-8"
            assert response.headers["content-encoding"] == "gzip"
            assert response.headers["access-control-allow-origin"] == "*"
            assert ("immutable" in response.headers["cache-control"]) == (version == "1.0.0")
            again = client.get(path, headers={"if-none-match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


def test_a_client_without_gzip_gets_the_plain_file(registry: Registry, tmp_path: Path) -> None:
    with served(Bundles(tmp_path / "cache", registry.bundles)) as client:
        response = client.get("/toy@1/dist/toy.js", headers={"accept-encoding": "identity"})
        assert (response.content, response.headers.get("content-encoding")) == (SCRIPT, None)
        assert response.headers["vary"] == "Accept-Encoding"


def test_a_path_that_is_not_served_is_404(registry: Registry, tmp_path: Path) -> None:
    with served(Bundles(tmp_path / "cache", registry.bundles)) as client:
        for path in ("/toy@1/package.json", "/toy@1/dist/..%2f..%2fpackage.json", "/@clerk/ui@1/dist/x.js", "/toy"):
            assert client.get(path).status_code == 404


def test_an_unavailable_bundle_is_503_and_to_a_script_tag_a_script_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with served(Bundles(tmp_path)) as client:
        refused = client.get("/@clerk/ui@1/dist/ui.browser.js")
        assert (refused.status_code, refused.headers["cache-control"]) == (503, "no-store")
        assert "npm, which is not installed" in refused.text
        script = client.get("/@clerk/ui@1/dist/ui.browser.js", headers={"sec-fetch-dest": "script"})
        assert (script.status_code, script.headers["cache-control"]) == (200, "no-store")
        assert "npm, which is not installed" in script.text


def test_the_cache_lies_where_the_users_caches_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    chosen, caches = tmp_path / "chosen", tmp_path / "caches"
    assert cache_folder({"TENANTRY_CACHE": str(chosen), "XDG_CACHE_HOME": str(caches)}) == chosen
    assert cache_folder({"XDG_CACHE_HOME": str(caches)}) == caches / "tenantry"
    usual = tmp_path / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tenantry"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == cache_folder({}) == usual


@pytest.fixture(scope="module")
def pinned() -> Bundles:
    """The real bundles, in the user's cache."""
    bundles = Bundles()
    try:
        bundles.prefetch()
    except BundleUnavailable as error:
        lack(str(error))
    return bundles


def test_the_pinned_bundles_hold_what_is_asked_of_them(pinned: Bundles) -> None:
    wanted = {
        "@clerk/clerk-js": "dist/clerk.browser.js",
        "@clerk/ui": "dist/ui.browser.js",
        "htmx.org": "dist/htmx.min.js",
        "@picocss/pico": "css/pico.min.css",
    }
    for name, path in wanted.items():
        file = pinned.file(name, path)
        assert gzip.decompress(file.with_name(f"{file.name}.gz").read_bytes()) == file.read_bytes() != b""


PAGE = """<!doctype html><title>bundles</title>
<script async crossorigin="anonymous" data-clerk-publishable-key="pk_test_Y2xlcmsuZW11bGF0b3IudGVzdCQ"
  data-clerk-proxy-url="/__clerk" src="{0}/__clerk/npm/@clerk/clerk-js@6/dist/clerk.browser.js"></script>
<script async crossorigin="anonymous" src="{0}/__clerk/npm/@clerk/ui@1/dist/ui.browser.js"></script>"""


@contextmanager
def page_with(bundles: Bundles) -> Iterator[str]:
    """The URL of a page that loads both of Clerk's bundles from another origin."""
    with serve(Starlette(routes=[Mount("/__clerk/npm", create_app(bundles))])) as scripts:
        page = HTMLResponse(PAGE.format(scripts))
        with serve(Starlette(routes=[Route("/", lambda request: page)])) as url:
            yield url


@pytest.fixture
def page() -> Iterator[Page]:
    browsers = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, browsers)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


@pytest.mark.requires("chromium")
def test_a_browser_loads_the_bundles_from_another_origin(pinned: Bundles, page: Page) -> None:
    with page_with(pinned) as url:
        page.goto(url)
        page.wait_for_function("Boolean(window.Clerk && window.__internal_ClerkUICtor)")
        assert page.evaluate("Clerk.version") == pinned.pinned["@clerk/clerk-js"].version


@pytest.mark.requires("chromium")
def test_a_page_shows_why_there_are_no_bundles(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with page_with(Bundles(tmp_path)) as url:
        page.goto(url)
        box = page.get_by_role("alert")
        box.wait_for()
        assert box.count() == 1
        assert "fetched with npm, which is not installed" in box.inner_text()
        assert [text for text in said if "@clerk/ui@1.34.0 is fetched with npm" in text]
