"""People, as the controls make, change and remove them."""

from __future__ import annotations

from tenantry.emulator import render
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.records import User
from tenantry.emulator.seed import DEFAULT_PASSWORD
from tenantry.emulator.store.users import NewUser


def list_people(call: Call) -> Json:
    return {"data": [render.user(user) for user in call.state.users.values()]}


def get(call: Call) -> Json:
    return render.user(_named(call))


def create(call: Call) -> Json:
    """`email_address`; also `first_name`, `last_name`, `username`, `password`."""
    call.body.only("email_address", "first_name", "last_name", "username", "password")
    new = NewUser(
        email_addresses=(call.body.need("email_address").strip(),),
        username=call.body.text("username") or None,
        password=call.body.text("password") or DEFAULT_PASSWORD,
        fields=call.given("first_name", "last_name"),
    )
    return render.user(call.store.users.create(new))


def update(call: Call) -> Json:
    call.body.only("first_name", "last_name", "username", "create_organization_enabled")
    changes = call.given("first_name", "last_name", "username")
    if (enabled := call.body.flag("create_organization_enabled")) is not None:
        changes["create_organization_enabled"] = enabled
    return render.user(call.store.users.update(_named(call).id, changes))


def delete(call: Call) -> Json:
    return render.deleted(call.store.users.delete(_named(call).id))


def ban(call: Call) -> Json:
    return render.user(call.store.users.ban(_named(call).id))


def unban(call: Call) -> Json:
    return render.user(call.store.users.unban(_named(call).id))


def lock(call: Call) -> Json:
    return render.user(call.store.users.lock(_named(call).id, locked=True))


def unlock(call: Call) -> Json:
    return render.user(call.store.users.lock(_named(call).id, locked=False))


def _named(call: Call) -> User:
    """By id, e-mail address or username."""
    return call.store.users.find(call.path["user"])
