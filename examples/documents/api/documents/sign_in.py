"""Signing in during development: the Clerk emulator's people, each with a button. Mounted only beside the emulator.

Clerk's own components do this in a real app. Here a session token of the emulator goes into the cookie that Clerk uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse

from tenantry.errors import ConfigurationError
from tenantry.settings import Settings

COOKIE = "__session"
SECONDS = 3600  # Clerk's live for 60 s and are renewed by its frontend, which is not here

router = APIRouter(prefix="/dev", include_in_schema=False)


@dataclass(frozen=True)
class Choice:
    """Somebody who can sign in, in one of their organizations."""

    user_id: str
    person: str
    organization_id: str
    organization: str
    role: str


@dataclass(frozen=True)
class Emulator:
    """The emulator at `url`: its Backend API tells who there is, its controls make a token."""

    url: str
    secret_key: str

    async def list_choices(self) -> list[Choice]:
        """Every membership, by organization and then as people joined. Raises httpx.HTTPError."""
        answer = await self._ask(
            "GET", "/v1/organization_memberships", params={"limit": 100, "order_by": "+created_at"}
        )
        choices = [
            Choice(
                user_id=found["public_user_data"]["user_id"],
                person=_name(found["public_user_data"]),
                organization_id=found["organization"]["id"],
                organization=found["organization"]["name"],
                role=found["role"],
            )
            for found in answer.json()["data"]
        ]
        return sorted(choices, key=lambda choice: choice.organization)

    async def mint_token(self, user: str, organization: str, origin: str) -> str:
        """A session token made for a page of `origin`. Raises httpx.HTTPError, also where there is no such member."""
        asked = {"user": user, "organization": organization, "azp": origin, "expires_in": SECONDS}
        answer = await self._ask("POST", "/emulator/tokens", json=asked)
        return str(answer.json()["jwt"])

    async def _ask(self, method: str, path: str, **request: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret_key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=5, trust_env=False) as client:
            answer = await client.request(method, path, **request)  # type: ignore[arg-type]
        return answer.raise_for_status()


def find_emulator(environ: Mapping[str, str], settings: Settings) -> Emulator | None:
    """The emulator that TENANTRY_EMULATOR_URL names, or None. Raises ConfigurationError beside a live instance."""
    url = environ.get("TENANTRY_EMULATOR_URL")
    if not url or settings.secret_key is None:
        return None
    if not settings.development:
        raise ConfigurationError(
            "TENANTRY_EMULATOR_URL is set beside a live Clerk key.", hint="Unset it: it lets everybody sign in."
        )
    return Emulator(url, settings.secret_key)


@router.post("/sign-in")
async def sign_in(
    request: Request, user: Annotated[str, Form()], organization: Annotated[str, Form()]
) -> RedirectResponse:
    emulator: Emulator = request.app.state.emulator
    try:
        token = await emulator.mint_token(user, organization, str(request.base_url).rstrip("/"))
    except httpx.HTTPStatusError:
        raise HTTPException(404, "The emulator knows no such member any more.") from None
    except httpx.HTTPError:
        raise HTTPException(503, "The Clerk emulator does not answer.") from None
    answer = RedirectResponse("/", status_code=303)
    answer.set_cookie(COOKIE, token, max_age=SECONDS, httponly=True, samesite="lax")
    return answer


@router.post("/sign-out")
async def sign_out() -> RedirectResponse:
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


async def offer_choices(request: Request) -> list[Choice] | None:
    """Who can sign in here; None where signing in is the Clerk frontend's, or the emulator is down."""
    emulator: Emulator | None = request.app.state.emulator
    if emulator is None:
        return None
    try:
        return await emulator.list_choices()
    except httpx.HTTPError:
        return None


def _name(person: Mapping[str, str | None]) -> str:
    return " ".join(filter(None, (person["first_name"], person["last_name"]))) or person["identifier"] or "Somebody"
