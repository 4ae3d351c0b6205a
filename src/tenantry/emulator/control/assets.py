"""The page's style and script: two small libraries fetched from npm once, and a plain style for where they are not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from tenantry.emulator.bundles import Bundles, BundleUnavailable

_STATIC = Path(__file__).parent / "static"
_OWN = ("control.css", "control.js", "plain.css")
_FETCHED = {"pico.css": ("@picocss/pico", "css/pico.min.css"), "htmx.js": ("htmx.org", "dist/htmx.min.js")}
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_PATIENCE = 3.0  # seconds that a page waits for them
_RETRY_AFTER = 30.0


class Assets:
    """Fetches at the first page, in the background; the page is plain HTML as long as it has to be."""

    def __init__(self, bundles: Bundles) -> None:
        self._bundles = bundles
        self._fetching: asyncio.Task[None] | None = None
        self._failed_at = 0.0

    async def missing(self) -> str | None:
        """None when both libraries are here, else a sentence why not."""
        if self._fetching is None or (self._failed_at and time.monotonic() > self._failed_at + _RETRY_AFTER):
            self._failed_at = 0.0
            self._fetching = asyncio.create_task(self._fetch())
        try:
            await asyncio.wait_for(asyncio.shield(self._fetching), _PATIENCE)
        except TimeoutError:
            return "Its style and script are being fetched from npm; load it again in a moment."
        except BundleUnavailable as error:
            return str(error)
        return None

    async def serve(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in (*_OWN, *_FETCHED):
            return PlainTextResponse("There is no such file.", 404)
        try:
            path = _STATIC / name if name in _OWN else await asyncio.to_thread(self._bundles.file, *_FETCHED[name])
        except BundleUnavailable as error:
            return PlainTextResponse(str(error), 503)
        return FileResponse(path, media_type=_TYPES[Path(name).suffix], headers={"cache-control": "no-cache"})

    async def _fetch(self) -> None:
        try:
            await asyncio.gather(*(asyncio.to_thread(self._bundles.file, *each) for each in _FETCHED.values()))
        except BundleUnavailable:
            self._failed_at = time.monotonic()
            raise
