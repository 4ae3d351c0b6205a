"""Puts the app together: Tenantry, the database, the API and the pages."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from documents import api, emulator, errors, pages
from documents.database import create_engine, create_sessions
from tenantry.fastapi import Tenantry
from tenantry.settings import Settings

STATIC = Path(__file__).with_name("static")


def create_app(environ: Mapping[str, str] = os.environ) -> FastAPI:
    """The app for the settings in `environ`. Raises tenantry.errors.ConfigurationError."""
    tenancy = Tenantry(Settings.from_env(environ, sign_in_url="/sign-in", sign_up_url="/sign-up"))
    engine = create_engine(tenancy.settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with tenancy.lifespan(app):
            yield
        await engine.dispose()

    app = FastAPI(title="Documents", lifespan=lifespan)
    tenancy.install(app)
    app.state.sessions = tenancy.scoped(create_sessions(engine))
    app.state.emulator = emulator.find_emulator(tenancy.settings)
    errors.install(app)
    app.include_router(api.router)
    app.include_router(pages.router)
    if app.state.emulator is not None:
        app.include_router(emulator.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
