"""Who may ask: this machine under its own names, and whoever the setting `allowed_origins` names.

The keys and passwords of an emulator are known to everybody, so no page of another site may use them from a browser on
this machine: neither under a name of its own that it points here (the host tells), nor by a form (the origin tells).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request

from tenantry.emulator.errors import ClerkError


def is_loopback(host: str | None) -> bool:
    """Whether the host, without its port, can be nothing but this machine."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_of(url: str) -> str | None:
    """Such as `localhost` of `//localhost:4010`; None when there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def check_host(request: Request, allowed_origins: Sequence[str]) -> None:
    """ClerkError 403 under a foreign name. A proxy states the app's besides; a page can state one too: both count."""
    allowed = {host_of(origin) for origin in allowed_origins} - {None}
    stated = [request.headers.get("host", ""), *request.headers.getlist("x-forwarded-host")]
    for name in (each.strip() for value in stated for each in value.split(",")):
        host = host_of(f"//{name}")
        if not is_loopback(host) and host not in allowed:
            raise _refused("host_invalid", f"as {name[:100]!r}", f"http://{name[:100]}")


def check_origin(request: Request, allowed_origins: Sequence[str]) -> None:
    """ClerkError 403 for what a page of a foreign origin asks; no Origin is no page, or its own GET."""
    origin = request.headers.get("origin")
    if origin is not None and not is_loopback(host_of(origin)) and origin not in allowed_origins:
        raise _refused("origin_invalid", f"to a page of {origin[:100]!r}", origin[:100])


def _refused(code: str, how: str, origin: str) -> ClerkError:
    instead = f"Use 127.0.0.1 or localhost, or add {origin!r} to the setting allowed_origins if it is yours."
    return ClerkError(403, code, f"The emulator does not answer {how}. {instead}")
