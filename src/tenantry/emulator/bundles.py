"""What runs in a browser: Clerk's two bundles and what the control page needs, from npm, pinned and kept in a cache.

Nothing of it is part of this package. `npm pack` fetches a tarball at first use, with the registry, proxy and
credentials that the user's npm is configured for; its SHA-512 is checked; what is served of it is unpacked into the
user's cache folder. From then on neither Node nor a network is needed.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

_TIMEOUT = 180  # seconds for one `npm pack`: the largest tarball has 3.6 MB
_QUIET = ("--loglevel=error", "--ignore-scripts")
_FEW_RETRIES = ("--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-timeout=60000")  # a page is waiting
_ANYWHERE = {
    "Access-Control-Allow-Origin": "*",  # Clerk's script tags are `crossorigin`
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
_CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """An npm package at one version. `files` is a pattern for the paths in it that are served."""

    name: str
    version: str
    sha512: str
    files: str

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}"

    def serves(self, path: str) -> bool:
        return re.fullmatch(self.files, path, re.ASCII) is not None


# Two versions that fit each other: @clerk/clerk-js loads the components of @clerk/ui.
CLERK_JS = Bundle(
    name="@clerk/clerk-js",
    version="6.40.0",
    sha512="2MnZ/ygvuCmeuqfXQmsxfQaLN/SSJvQbtT2cLXbgr5VKr3KmZFZBVvX977fG3eZ6pprl4J9pO+I2bbe6BvColg==",
    files=r"dist/[\w.-]+\.js",
)
UI = Bundle(
    name="@clerk/ui",
    version="1.34.0",
    sha512="EP6Wcf+iqV5hJRMjfmVSOb7wWEgt2DuUOnR3Yv/ULPdmGgGWa64oc4tB4VfD66z8nXgtXqHEXNNnGURAOfQ7vQ==",
    files=r"dist/[\w.-]+\.js",
)
HTMX = Bundle(
    name="htmx.org",
    version="2.0.11",
    sha512="Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
    files=r"dist/htmx\.min\.js",
)
PICO = Bundle(
    name="@picocss/pico",
    version="2.1.1",
    sha512="kIDugA7Ps4U+2BHxiNHmvgPIQDWPDU4IeU6TNRdvXQM1uZX+FibqDQT2xUOnnO2yq/LUHcwnGlu1hvf4KfXnMg==",
    files=r"css/pico\.min\.css",
)
PINNED = (CLERK_JS, UI, HTMX, PICO)


class BundleUnavailable(Exception):
    """A bundle is neither in the cache nor could it be fetched. The text says why and what to do."""


class Bundles:
    """The pinned bundles on this machine. May be used by several threads and processes at once.

    `folder` is where they are kept; None is `cache_folder()`.
    """

    def __init__(self, folder: Path | None = None, pinned: tuple[Bundle, ...] = PINNED) -> None:
        self.pinned = {bundle.name: bundle for bundle in pinned}
        self._folder = folder
        self._locks = {name: threading.Lock() for name in self.pinned}

    def file(self, name: str, path: str) -> Path:
        """One file of a bundle: `file("@clerk/ui", "dist/ui.browser.js")`; a copy for gzip lies beside it as `.gz`.

        Blocks for seconds when the bundle has to be fetched. LookupError when it has no such file, BundleUnavailable.
        """
        bundle = self.pinned.get(name)
        if bundle is None or not bundle.serves(path):
            raise LookupError(f"There is no {path} of {name} here.")
        found = self._unpacked(bundle) / path
        if not found.is_file():
            raise LookupError(f"There is no {path} in {bundle.spec}.")
        return found

    def prefetch(self) -> list[Path]:
        """Fetches what is not in the cache yet, for images and machines that have no network later.

        Returns the folders, one a bundle. BundleUnavailable.
        """
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._unpacked, self.pinned.values()))

    def _unpacked(self, bundle: Bundle) -> Path:
        """The bundle's folder. It appears whole: a folder that is there is complete."""
        try:
            target = (self._folder or cache_folder()) / "npm" / _folder_name(bundle)
            with self._locks[bundle.name]:
                if not target.is_dir():
                    _fetch(bundle, target)
        except OSError as error:
            raise BundleUnavailable(
                f"{bundle.spec} cannot be kept on this disk: {error}. Set TENANTRY_CACHE to a folder with room for it."
            ) from None
        return target


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this user's programs keep what can be fetched again; TENANTRY_CACHE names another place."""
    if chosen := environment.get("TENANTRY_CACHE"):
        return Path(chosen).absolute()
    return _user_caches(environment) / "tenantry"


def _user_caches(environment: Mapping[str, str]) -> Path:
    given = Path(environment.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # a relative one is to be ignored, says the XDG specification
        return given
    if local := environment.get("LOCALAPPDATA"):
        return Path(local)
    try:
        home = Path.home()
    except RuntimeError:
        raise BundleUnavailable("This user has no home folder. Set TENANTRY_CACHE to a folder to keep it in.") from None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _folder_name(bundle: Bundle) -> str:
    """Another hash or another choice of files is another folder: no release finds what an older one left out."""
    key = hashlib.sha256(f"{bundle.sha512} {bundle.files} gz".encode()).hexdigest()[:12]
    return f"{bundle.spec.removeprefix('@').replace('/', '-')}-{key}"


def _fetch(bundle: Bundle, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as name:
        tarball = _pack(bundle, Path(name))
        _check(bundle, tarball)
        fresh = Path(name, "unpacked")
        for path, content in _read(bundle, tarball):
            _write(fresh / path, content)
        _put_in_place(fresh, target)


def _pack(bundle: Bundle, folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise BundleUnavailable(
            f"{bundle.spec} is fetched with npm, which is not installed. Install Node.js, or copy the cache folder "
            f"{folder.parent} from a machine that has it."
        )
    command = [npm, "pack", bundle.spec, "--pack-destination", str(folder), *_QUIET, *_FEW_RETRIES]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise _unfetched(bundle, f"no answer within {_TIMEOUT} s") from None
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode != 0 or not tarballs:
        code = re.search(r"^npm (?:error|ERR!) code (\w+)$", done.stderr, re.MULTILINE)
        raise _unfetched(bundle, code.group(1) if code else f"exit code {done.returncode}")
    return tarballs[0].read_bytes()


def _unfetched(bundle: Bundle, why: str) -> BundleUnavailable:
    return BundleUnavailable(
        f"npm could not fetch {bundle.spec} ({why}). Check the network and npm's configuration: "
        f"`npm pack {bundle.spec}` must work once; after that no network is needed."
    )


def _check(bundle: Bundle, tarball: bytes) -> None:
    found = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if found != bundle.sha512:
        raise BundleUnavailable(
            f"What npm fetched as {bundle.spec} is not what was pinned: its SHA-512 is {found[:12]}..., "
            f"not {bundle.sha512[:12]}.... Find out what the configured registry serves; nothing of it was kept."
        )


def _read(bundle: Bundle, tarball: bytes) -> Iterator[tuple[str, bytes]]:
    """The files that are served, and a gzip of each. Names are matched, never trusted; links are no files."""
    with tempfile.SpooledTemporaryFile() as spool:
        spool.write(tarball)
        spool.seek(0)
        with tarfile.open(fileobj=spool, mode="r:gz") as archive:
            for member in archive:
                path = member.name.removeprefix("package/")
                content = archive.extractfile(member) if member.isreg() and bundle.serves(path) else None
                if content:
                    plain = content.read()
                    yield path, plain
                    yield f"{path}.gz", gzip.compress(plain, compresslevel=6, mtime=0)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _put_in_place(fresh: Path, target: Path) -> None:
    try:
        fresh.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster, with the same bytes
            raise


def create_app(bundles: Bundles) -> Starlette:
    """To be mounted at `/__clerk/npm`: `/@clerk/clerk-js@6/dist/clerk.browser.js`. Any version is the pinned one."""

    async def serve(request: Request) -> Response:
        name, path = request.path_params["name"], request.path_params["path"]
        try:
            found = await asyncio.to_thread(bundles.file, name, path)
        except LookupError as error:
            return PlainTextResponse(str(error), 404, headers=_ANYWHERE)
        except BundleUnavailable as error:
            return _explain(request, str(error))
        is_exact = request.path_params["version"] == bundles.pinned[name].version
        return _send(request, found, is_exact)

    return Starlette(routes=[Route("/{name:path}@{version}/{path:path}", serve)])


def _send(request: Request, path: Path, is_exact: bool) -> Response:
    """Kept by the browser for good under its exact version; asked about each time under `@6`, which may move."""
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    headers = _ANYWHERE | {
        "Cache-Control": "public, max-age=31536000, immutable" if is_exact else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if zipped:
        headers["Content-Encoding"] = "gzip"
    sent = path.with_name(f"{path.name}.gz") if zipped else path
    response = FileResponse(sent, headers=headers, media_type=_CONTENT_TYPES[path.suffix], stat_result=sent.stat())
    if request.headers.get("if-none-match") == response.headers["etag"]:
        kept = ("etag", "cache-control", "vary", "access-control-allow-origin", "cross-origin-resource-policy")
        return Response(status_code=304, headers={name: response.headers[name] for name in kept})
    return response


def _explain(request: Request, why: str) -> Response:
    """503; but to a script tag a script that says why: a browser runs none that comes with an error's status."""
    headers = _ANYWHERE | {"Cache-Control": "no-store"}
    if request.headers.get("sec-fetch-dest") != "script":
        return PlainTextResponse(why, 503, headers=headers)
    return Response(_SHOW % json.dumps(why), 200, headers=headers, media_type=_CONTENT_TYPES[".js"])


_SHOW = """\
(() => {
  const why = "Clerk emulator: " + %s;
  console.error(why);
  const show = () => {
    if (document.getElementById("tenantry-bundle-unavailable")) return;
    const box = document.createElement("div");
    box.id = "tenantry-bundle-unavailable";
    box.setAttribute("role", "alert");
    box.textContent = why;
    Object.assign(box.style, {
      position: "fixed", inset: "auto 1rem 1rem", zIndex: "2147483647", padding: "1rem", borderRadius: "0.5rem",
      border: "1px solid #b91c1c", background: "#fef2f2", color: "#7f1d1d", font: "1rem/1.5 system-ui, sans-serif",
      overflowWrap: "anywhere",
    });
    document.body.append(box);
  };
  document.body ? show() : addEventListener("DOMContentLoaded", show);
})();
"""
