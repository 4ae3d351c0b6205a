"""Who visits an example in a browser, and the stage for it: the emulator, webhooks, the rows they make."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from playwright.async_api import Page, Route, expect

from examples.deployment import Deployment

PASSWORD = "long-enough-for-anybody"
SWITCHER = ".cl-organizationSwitcherTrigger"
USER_BUTTON = ".cl-userButtonTrigger"
CHOICE = ".cl-organizationSwitcherPreviewButton"

# Tells at every frame which organization the switcher names, and which document can be seen under it.
WATCH = """() => {
  const tell = () => {
    const title = document.querySelector(".list a");
    const shown = title?.checkVisibility({ visibilityProperty: true }) ? title.innerText : "nothing";
    window.tell(`${document.querySelector(".cl-organizationSwitcherTrigger")?.innerText.trim()}: ${shown}`);
    requestAnimationFrame(tell);
  };
  tell();
}"""


@dataclass(frozen=True)
class Person:
    id: str
    email: str
    name: str


@dataclass
class Stage:
    """One deployment for all tests here; each makes people and organizations of its own."""

    deployment: Deployment

    @property
    def url(self) -> str:
        return self.deployment.url

    def person(self, name: str) -> Person:
        email = f"{name.lower()}-{uuid4().hex[:8]}@example.test"
        given = {"email_address": [email], "first_name": name, "password": PASSWORD}
        return Person(self.deployment.clerk.post("/users", given)["id"], email, name)

    def ticket(self, person: Person) -> str:
        """Signs somebody in, once."""
        return str(self.deployment.clerk.post("/sign_in_tokens", {"user_id": person.id})["token"])

    def organization(self, name: str, admin: Person, **members: Person) -> str:
        """Its id. `members` are by role: `editor=grace`."""
        made: str = self.deployment.clerk.organization(name, created_by=admin.id)["id"]
        for role, person in members.items():
            self.join(made, person, role)
        self.deployment.settle()
        return made

    def join(self, organization: str, person: Person, role: str) -> None:
        place = f"/organizations/{organization}/memberships"
        self.deployment.clerk.post(place, {"user_id": person.id, "role": f"org:{role}"})

    def membership(self, organization: str, person: Person) -> str:
        return f"/organizations/{organization}/memberships/{person.id}"

    def write(self, author: Person, organization: str, title: str) -> str:
        """The id of a new document."""
        with self.deployment.sign_in(author.id, organization) as client:
            answer = client.post("/api/documents", json={"title": title, "body": "three short words"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def titles(self, reader: Person, organization: str) -> list[str]:
        with self.deployment.sign_in(reader.id, organization) as client:
            return [document["title"] for document in client.get("/api/documents").json()]

    @contextmanager
    def settings(self, **changes: Any) -> Iterator[None]:
        """The instance's settings changed inside the block."""
        state = self.deployment.clerk.emulator.store.state
        before = state.settings
        state.put_settings(replace(before, **changes))
        try:
            yield
        finally:
            state.put_settings(before)


@dataclass
class Visitor:
    """Somebody's tab."""

    page: Page
    stage: Stage

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.stage.url + path)

    async def enter(self, person: Person, organization: str = "") -> None:
        """Signed in by a link as in an e-mail, which the sign-in component reads; then in the organization, by name."""
        await self.open(f"/sign-in?__clerk_ticket={self.stage.ticket(person)}")
        await self.page.wait_for_url(self.stage.url + "/")
        await self.page.locator(USER_BUTTON).wait_for()  # Clerk's script is up, and has nothing more to correct
        if organization:
            await self.switch(organization)

    async def open_tab(self) -> Visitor:
        return Visitor(await self.page.context.new_page(), self.stage)

    async def share_focus(self) -> None:
        """Only the tab in front has the focus, as for a person; else Playwright gives it to every tab at all times, and
        clerk-js writes the cookie in each. A tab that loads another page gets it back."""
        devtools = await self.page.context.new_cdp_session(self.page)
        await devtools.send("Emulation.setFocusEmulationEnabled", {"enabled": False})

    async def lose_focus(self) -> None:
        """From now on another tab has it, and clerk-js writes no cookie here."""
        await self.run("document.hasFocus = () => false")

    async def come_to_front(self) -> None:
        """Clerk makes the organization of the tab that gets the focus the session's, once it is there."""
        await self.page.locator(USER_BUTTON).wait_for()
        async with self.page.expect_response(re.compile("/touch")):
            await self.page.bring_to_front()

    async def switch(self, organization: str) -> None:
        if await self.page.locator(SWITCHER).inner_text() == organization:
            return
        await self.page.locator(SWITCHER).click()
        await self.page.locator(CHOICE, has_text=organization).click()
        await self.sees_library_of(organization)

    async def sees_library_of(self, organization: str) -> None:
        await expect(self.page.locator(".where")).to_contain_text(organization)
        await expect(self.page.get_by_role("heading", name="Documents")).to_be_visible()

    async def sees_library_of_new(self, organization: str) -> None:
        """Its page may have come before the webhook that brings the name."""
        await self.sees_library_of("")
        self.stage.deployment.settle()
        await self.page.reload()
        await self.sees_library_of(organization)

    async def fill_in(self, title: str) -> None:
        await self.page.get_by_text("Write a new document").click()
        await self.page.get_by_label("Title", exact=True).fill(title)
        await self.page.get_by_role("button", name="Create document").click()

    async def write(self, title: str) -> None:
        await self.fill_in(title)
        await expect(self.page.get_by_role("heading", name=title)).to_be_visible()

    async def run(self, script: str, given: Any = None) -> Any:
        """What a script in the page answers when Clerk is there, which it does in time or never."""
        await self.page.locator(USER_BUTTON).wait_for()
        return await asyncio.wait_for(self.page.evaluate(script, given), 20)

    async def token(self) -> dict[str, Any]:
        """What the session cookie's token says."""
        claims: dict[str, Any] = await self.run(
            "Clerk.session.getToken().then((token) => JSON.parse(atob(token.split('.')[1]"
            ".replaceAll('-', '+').replaceAll('_', '/'))))"
        )
        return claims


@contextmanager
def holding_webhooks(stage: Stage) -> Iterator[None]:
    """None arrives inside the block; all have after it."""
    stage.deployment.control("POST", "/webhooks/pause", {})
    try:
        yield
    finally:
        stage.deployment.control("POST", "/webhooks/release", {})
        stage.deployment.settle()


@asynccontextmanager
async def slow_answer(page: Page, path: str, frames: list[str]) -> AsyncIterator[None]:
    """A page is asked for inside the block, and comes some frames after that: a click in the block may wait for it."""
    answered = asyncio.Event()

    async def hold(route: Route) -> None:
        if not answered.is_set():
            await some_more(frames)
        await route.continue_()
        answered.set()

    await page.route(re.compile(re.escape(path)), hold)
    yield
    async with asyncio.timeout(20):
        await answered.wait()


async def some_more(frames: list[str]) -> None:
    enough = len(frames) + 5
    async with asyncio.timeout(20):
        while len(frames) < enough:
            await asyncio.sleep(0.01)
