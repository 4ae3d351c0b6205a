"""The page of people: where "Continue with Seeded person" leads, as a provider's own page would be."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import RedirectResponse, Response

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.pages import HEADERS, refuse, render_page
from tenantry.emulator.records import SignIn, SignUp, User
from tenantry.emulator.state import State

_MOST = 50


@dataclass(frozen=True, slots=True)
class Person:
    """One line of the page. `memberships` are names of organizations and roles."""

    id: str
    name: str
    email: str
    memberships: tuple[tuple[str, str], ...]
    is_barred: bool


def show(call: Call) -> Response:
    try:
        attempt = _attempt(call, call.query.text("attempt") or "")
    except ClerkError as error:
        return refuse(error)
    state, wanted = call.store.state, (call.query.text("query") or "").lower()
    found = [user for user in state.users.values() if wanted in f"{user.full_name} {user.identifier}".lower()]
    page = {
        "attempt": attempt.id,
        "query": wanted,
        "people": [_person(state, user) for user in found[:_MOST]],
        "left_out": max(len(found) - _MOST, 0),
        "is_searchable": len(state.users) > 8,
    }
    return render_page("people.html", page)


def choose(call: Call) -> Response:
    """Signs the chosen person in and leads back to the page that asked; who may not sign in is refused there."""
    try:
        attempt = _attempt(call, call.form.need("attempt"))
        user = call.store.users.get(call.form.need("user_id"))
        if isinstance(attempt, SignUp):
            call.store.sign_ups.choose(attempt, user.id)
        else:
            _sign_in(call, attempt, user)
    except ClerkError as error:
        return refuse(error)
    return RedirectResponse(attempt.redirect_url or "/", 303, headers=HEADERS)


def _sign_in(call: Call, attempt: SignIn, user: User) -> None:
    if user.banned or user.locked:
        call.store.sign_ins.fail(attempt, "user_banned" if user.banned else "user_locked")
    else:
        call.store.sign_ins.complete(attempt, user.id, attempt.strategy or "")


def _attempt(call: Call, id: str) -> SignIn | SignUp:
    """What this browser is about to do: a sign-in or a sign-up that is not over."""
    state = call.store.state
    attempt = state.sign_ins.get(id) or state.sign_ups.get(id)
    if attempt is None or call.client is None or attempt.client_id != call.client.id or attempt.session_id:
        message = "This sign-in is over, or was begun in another browser. Go back to the app and begin again."
        raise ClerkError(404, "resource_not_found", message)
    return attempt


def _person(state: State, user: User) -> Person:
    memberships = [
        (state.organizations[each.organization_id].name, state.roles[each.role_id].name)
        for each in state.memberships_of_user(user.id)
    ]
    return Person(user.id, user.full_name, user.identifier, tuple(memberships), user.banned or user.locked)
