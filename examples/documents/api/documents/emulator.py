"""Signing in during development: the Clerk emulator's people, each with a button. Mounted only beside the emulator.

The button makes a sign-in token with Clerk's Backend API and brings it to the sign-in page, as a mailed link would.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse

from tenantry.settings import Settings

router = APIRouter(prefix="/dev", include_in_schema=False)


@dataclass(frozen=True)
class Membership:
    """`role` carries `org:`."""

    organization: str
    role: str


@dataclass(frozen=True)
class Person:
    """Somebody of the emulator's, with the organizations they are in, in the order they joined."""

    user_id: str
    name: str
    memberships: tuple[Membership, ...]


@dataclass(frozen=True)
class Emulator:
    """The emulator at `url`, asked by Clerk's Backend API alone. Its methods raise httpx.HTTPError."""

    url: str
    secret_key: str

    async def list_people(self) -> list[Person]:
        """The first hundred, in the order they signed up."""
        order = {"limit": 100, "order_by": "+created_at"}
        users, memberships = await asyncio.gather(
            self._ask("GET", "/users", params=order), self._ask("GET", "/organization_memberships", params=order)
        )
        joined: dict[str, list[Membership]] = defaultdict(list)
        for found in memberships["data"]:
            membership = Membership(found["organization"]["name"], found["role"])
            joined[found["public_user_data"]["user_id"]].append(membership)
        return [Person(user["id"], _name(user), tuple(joined[user["id"]])) for user in users]

    async def make_ticket(self, user_id: str) -> str:
        """A sign-in token: who brings it is signed in as `user_id`, once."""
        made = await self._ask("POST", "/sign_in_tokens", json={"user_id": user_id})
        return str(made["token"])

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.secret_key}"}
        async with httpx.AsyncClient(headers=headers, timeout=5, trust_env=False) as client:
            answer = await client.request(method, f"{self.url}/v1{path}", **request)
        return answer.raise_for_status().json()


def find_emulator(settings: Settings) -> Emulator | None:
    """The emulator that TENANTRY_EMULATOR_URL names, or None. Beside a live key the settings themselves refuse it."""
    if settings.emulator_url is None or settings.secret_key is None:
        return None
    return Emulator(settings.emulator_url, settings.secret_key)


@router.post("/sign-in")
async def sign_in(request: Request, user: Annotated[str, Form()]) -> RedirectResponse:
    _check_own_form(request)
    emulator: Emulator = request.app.state.emulator
    try:
        ticket = await emulator.make_ticket(user)
    except httpx.HTTPStatusError:
        raise HTTPException(404, "The emulator knows no such person any more.") from None
    except httpx.HTTPError:
        raise HTTPException(503, "The Clerk emulator does not answer.") from None
    return RedirectResponse(f"/sign-in?__clerk_ticket={ticket}", status_code=303)


def _check_own_form(request: Request) -> None:
    """HTTPException 403: no page of another site signs anybody in here."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise HTTPException(403, "Only a page of this app may sign in.")


async def list_people(request: Request) -> list[Person] | None:
    """Who can sign in by a click; None where there is no emulator, or it is down."""
    emulator: Emulator | None = request.app.state.emulator
    if emulator is None:
        return None
    try:
        return await emulator.list_people()
    except httpx.HTTPError:
        return None


def _name(user: Mapping[str, Any]) -> str:
    names = " ".join(filter(None, (user["first_name"], user["last_name"])))
    addresses = [each["email_address"] for each in user["email_addresses"]]
    return names or user["username"] or next(iter(addresses), "Somebody")
