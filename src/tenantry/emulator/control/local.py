"""Who may use the controls: this machine, and no page of another site that a browser on it happens to show.

They need no key, so they answer only to a loopback address, under a loopback name (a page on another site cannot point
its own name here), and to no request that another site's page makes. A form of the control page must come from it.
"""

from __future__ import annotations

from starlette.requests import Request

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.hosts import host_of, is_loopback


def check_local(request: Request) -> None:
    """ClerkError 403 for whoever is not on this machine."""
    origin = request.headers.get("origin")
    hosts = [request.client.host if request.client else None, host_of(f"//{request.headers.get('host', '')}")]
    if not all(is_loopback(host) for host in [*hosts, *([host_of(origin)] if origin is not None else [])]):
        message = "The emulator's controls answer only on this machine, as 127.0.0.1 or localhost."
        raise ClerkError(403, "loopback_only", message)


def check_own_form(request: Request) -> None:
    """ClerkError 403 for a form that a page of another origin sends: another port is another origin."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    expected = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if (origin is not None and origin != expected) or site not in ("same-origin", "none"):
        raise ClerkError(403, "own_forms_only", "Only the control page itself may send its forms.")
