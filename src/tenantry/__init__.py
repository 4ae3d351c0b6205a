"""Tenantry keeps an app's Clerk organizations in its own PostgreSQL, and every query inside one of them.

Webhooks become rows, a request becomes a tenant, and a query stays inside it:

- `tenantry.fastapi`, `tenantry.starlette`: who is asking, the webhook endpoint, errors as problems
- `tenantry.browser`, `tenantry.js`: Clerk's components in server-rendered pages, kept in step with the server
- `tenantry.sqlalchemy`, `tenantry.alembic`: sessions that serve one tenant, migrations that isolate tables
- `tenant_context`, `current_tenant`: work without a request, and whom the running code works for
- `tenantry` on the command line: `dev`, `db`, `roles`, `instance`, `emulator`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Identity", "Settings", "TenantContext", "TenantryError", "current_tenant", "tenant_context"]

if TYPE_CHECKING:
    from tenantry.context import TenantContext, current_tenant, tenant_context
    from tenantry.errors import TenantryError
    from tenantry.identity import Identity
    from tenantry.settings import Settings

_HOMES = {
    "Identity": "identity",
    "Settings": "settings",
    "TenantContext": "context",
    "TenantryError": "errors",
    "current_tenant": "context",
    "tenant_context": "context",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: importing the package costs nothing."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"tenantry.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tenantry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
