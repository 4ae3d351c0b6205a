"""Where a browser may be sent back to: this machine's own pages, and the origins that the settings allow."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from tenantry.emulator import errors
from tenantry.emulator.hosts import is_loopback
from tenantry.emulator.settings import Settings

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")  # what browsers and we might read differently
_AUTHORITY = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)  # no user
_PORTS = {"http": 80, "https": 443}


def checked_redirect(settings: Settings, param: str, url: str) -> str:
    """The same URL; ClerkError when it leads anywhere else."""
    parts = _split(url)
    if parts is None or not (is_loopback(parts.hostname) or origin_of(url) in settings.allowed_origins):
        where = "of this machine, such as http://localhost:8000/, or of the setting allowed_origins"
        raise errors.invalid(param, f"must be an http(s) URL {where}")
    return url


def origin_of(url: str) -> str:
    """Scheme, host and port as a browser writes an Origin; empty when the URL has none."""
    parts = _split(url)
    if parts is None:
        return ""
    host = parts.hostname or ""
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def with_query(url: str, **more: str) -> str:
    """The URL with further parameters, each in place of one of its name."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in more]
    return parts._replace(query=urlencode([*query, *more.items()])).geturl()


def _split(url: str) -> SplitResult | None:
    if _UNSAFE.search(url):
        return None
    try:
        parts = urlsplit(url)
        known = parts.scheme in _PORTS and _AUTHORITY.fullmatch(parts.netloc) and parts.port != 0
    except ValueError:
        return None
    return parts if known else None
