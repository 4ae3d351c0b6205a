"""Tenantry's webhook endpoint, as docs/fastapi.md installs it."""

from __future__ import annotations

from fastapi import FastAPI

from tenantry.fastapi import Tenantry


def as_documented() -> FastAPI:
    tenancy = Tenantry.from_env()
    app = FastAPI(lifespan=tenancy.lifespan)
    tenancy.install(app)
    return app
