"""Filters by user, which the lists of users and of memberships share."""

from __future__ import annotations

from collections.abc import Callable

from tenantry.emulator import errors
from tenantry.emulator.backend_api.call import Call
from tenantry.emulator.records import User
from tenantry.emulator.state import State

UserFilter = Callable[[User], bool]

_WITHOUT_DATA = ("phone_number", "web3_wallet", "phone_number_query", "provider", "provider_user_id")


def build_filter(call: Call) -> UserFilter:
    """All of the query's conditions on a user; what the emulator has no data for matches nobody."""
    checks = [*_by_value(call), *_by_text(call), *_by_time(call)]
    if any(call.query.texts(name) for name in _WITHOUT_DATA):
        checks.append(lambda user: False)
    return lambda user: all(check(user) for check in checks)


def candidates(call: Call, state: State) -> list[User]:
    """The users a filter need look at: those asked for by id, else all."""
    wanted = call.query.selection("user_id")
    if wanted.include:
        return [state.users[id] for id in state.users.keys() & wanted.include]
    return list(state.users.values())


def _by_value(call: Call) -> list[UserFilter]:
    checks: list[UserFilter] = []
    ids, externals = call.query.selection("user_id"), call.query.selection("external_id")
    if not ids.is_empty:
        checks.append(lambda user: ids.holds(user.id))
    if not externals.is_empty:
        checks.append(lambda user: externals.holds(user.external_id))
    if addresses := {address.lower() for address in call.query.texts("email_address")}:
        checks.append(lambda user: any(email.email_address in addresses for email in user.email_addresses))
    if usernames := {username.lower() for username in call.query.texts("username")}:
        checks.append(lambda user: user.username in usernames)
    if (banned := call.query.flag("banned")) is not None:
        checks.append(lambda user: user.banned is banned)
    return checks


def _by_text(call: Call) -> list[UserFilter]:
    fields: dict[str, Callable[[User], list[str | None]]] = {
        "query": lambda user: [user.id, *_addresses(user), user.username, *_names(user)],
        "email_address_query": _addresses,
        "username_query": lambda user: [user.username],
        "name_query": _names,
    }
    return [_contains(value.lower(), of) for name, of in fields.items() if (value := call.query.text(name))]


def _by_time(call: Call) -> list[UserFilter]:
    moments: dict[str, Callable[[User], int | None]] = {
        "created_at": lambda user: user.created_at,
        "last_active_at": lambda user: user.last_active_at,
        "last_sign_in_at": lambda user: user.last_sign_in_at,
    }
    checks: list[UserFilter] = []
    for name, of in moments.items():
        before = call.query.integer(f"{name}_before", None, 0)
        after = call.query.integer(f"{name}_after", None, 0)
        if before is not None or after is not None:
            checks.append(_within(of, after, before))
    if (since := call.query.integer("last_active_at_since", None, 0)) is not None:
        checks.append(_within(moments["last_active_at"], since - 1, None))
    return checks


def _within(of: Callable[[User], int | None], after: int | None, before: int | None) -> UserFilter:
    def check(user: User) -> bool:
        moment = of(user)
        if moment is None:
            return False
        return (after is None or moment > after) and (before is None or moment < before)

    return check


def _contains(wanted: str, of: Callable[[User], list[str | None]]) -> UserFilter:
    return lambda user: any(wanted in value.lower() for value in of(user) if value)


def _addresses(user: User) -> list[str | None]:
    return [email.email_address for email in user.email_addresses]


def _names(user: User) -> list[str | None]:
    return [user.first_name, user.last_name, " ".join(filter(None, (user.first_name, user.last_name)))]


def require_default_order(call: Call) -> None:
    """A cursor goes with the order of creation and no offset only."""
    name, _ = call.query.order(["created_at"], "-created_at")
    if name != "created_at" or call.query.integer("offset", 0, 0):
        raise errors.invalid("starting_after", "needs the order of created_at and no offset")
