"""The app's own engine and sessions, as any SQLAlchemy app has them; Tenantry scopes what `create_sessions` makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tenantry.settings import Settings

Sessions = async_sessionmaker[AsyncSession]


def create_engine(settings: Settings) -> AsyncEngine:
    """psycopg serves the app and its migrations alike, and reads every form of DATABASE_URL."""
    url = make_url(settings.database_url or "").set(drivername="postgresql+psycopg")
    return create_async_engine(url, pool_pre_ping=True)


def create_sessions(engine: AsyncEngine) -> Sessions:
    """Objects stay readable after the commit: what was written is what is answered."""
    return async_sessionmaker(engine, expire_on_commit=False)


def get_sessions(request: Request) -> Sessions:
    """The app's scoped sessionmaker, for work that outlives the request's own session."""
    sessions: Sessions = request.app.state.sessions
    return sessions


async def open_session(sessions: Annotated[Sessions, Depends(get_sessions)]) -> AsyncIterator[AsyncSession]:
    """One transaction a request: committed when the endpoint returns, rolled back when it raises."""
    async with sessions.begin() as session:
        yield session


# `scope="function"` commits before the answer is sent: who reads "201 Created" can read the row, and so can the job.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]
