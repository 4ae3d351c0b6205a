"""`/users` and `/email_addresses`."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors, render
from tenantry.emulator.backend_api import people
from tenantry.emulator.backend_api.call import METADATA_MOVED, Call
from tenantry.emulator.backend_api.listing import Keys, ordered, page
from tenantry.emulator.backend_api.memberships import show as show_membership
from tenantry.emulator.params import Body
from tenantry.emulator.ratelimit import ONE_OBJECT
from tenantry.emulator.records import EmailAddress, User
from tenantry.emulator.store.users import NewUser

Json = dict[str, Any]

_METADATA = ("public_metadata", "private_metadata", "unsafe_metadata")
_ORDERS: Keys[User] = {
    "created_at": lambda user: user.created_at,
    "updated_at": lambda user: user.updated_at,
    "email_address": lambda user: user.primary_email.email_address if user.primary_email else "",
    "first_name": lambda user: user.first_name or "",
    "last_name": lambda user: user.last_name or "",
    "username": lambda user: user.username or "",
    "phone_number": lambda user: "",
    "web3wallet": lambda user: "",
    "last_active_at": lambda user: user.last_active_at or 0,
    "last_sign_in_at": lambda user: user.last_sign_in_at or 0,
}
# Parameters that Clerk knows and that change nothing here.
_IGNORED = (
    "skip_password_checks", "sign_out_of_other_sessions", "skip_legal_checks", "skip_user_requirement",
    "skip_password_requirement", "notify_primary_email_address_changed", "profile_image_id",
)  # fmt: skip


def list_users(call: Call) -> list[Json]:
    users = ordered(call, _filtered(call), _ORDERS)
    cursor = call.query.text("starting_after")
    if cursor is not None:
        users = _after(call, users, cursor)
    return [render.user(user) for user in call.query.page(users)]


def count(call: Call) -> Json:
    return {"object": "total_count", "total_count": len(_filtered(call))}


def create(call: Call) -> Json:
    body = call.body
    emails = tuple(body.texts("email_address") or ())
    statuses = body.texts("email_address_identification_status") or []
    fields = _read_fields(body) | body.metadata(*_METADATA)
    new = NewUser(
        email_addresses=emails,
        reserved=tuple(index < len(statuses) and statuses[index] == "reserved" for index in range(len(emails))),
        username=body.text("username") or None,
        password=body.text("password"),
        external_id=body.text("external_id"),
        created_at=body.moment("created_at"),
        fields=fields | {name: body.flag(name) or False for name in ("banned", "locked")},
    )
    return render.user(call.store.users.create(new))


def get(call: Call) -> Json:
    return render.user(call.store.users.get(call.path["user_id"]))


def update(call: Call) -> Json:
    """Metadata replaces what was there, for callers of an API version that still takes it here."""
    body, id = call.body, call.path["user_id"]
    call.limit(ONE_OBJECT, id)
    readers = ("external_id", "username", "password", "primary_email_address_id")
    taken = (*_FIELDS, *readers, "created_at", *_IGNORED)
    body.only(*taken, *(_METADATA if call.version < METADATA_MOVED else ()))
    call.store.users.get(id)
    changes = _read_fields(body) | body.changes(dict.fromkeys(readers, body.text))
    if changes.get("password", "") is None:
        del changes["password"]
    if (created := body.moment("created_at")) is not None:
        changes["created_at"] = created
    if metadata := body.metadata(*_METADATA):
        call.store.users.replace_metadata(id, metadata)
    user = call.store.users.update(id, changes) if changes else call.store.users.get(id)
    if changes.get("password") and body.flag("sign_out_of_other_sessions"):
        call.store.sessions.end_all(id, "revoked")
    return render.user(user)


def delete(call: Call) -> Json:
    return render.deleted(call.store.users.delete(call.path["user_id"]))


def ban(call: Call) -> Json:
    return render.user(call.store.users.ban(call.path["user_id"]))


def unban(call: Call) -> Json:
    return render.user(call.store.users.unban(call.path["user_id"]))


def ban_many(call: Call) -> list[Json]:
    return [render.user(call.store.users.ban(id)) for id in _user_ids(call)]


def unban_many(call: Call) -> list[Json]:
    return [render.user(call.store.users.unban(id)) for id in _user_ids(call)]


def lock(call: Call) -> Json:
    return render.user(call.store.users.lock(call.path["user_id"], locked=True))


def unlock(call: Call) -> Json:
    return render.user(call.store.users.lock(call.path["user_id"], locked=False))


def merge_metadata(call: Call) -> Json:
    return render.user(call.store.users.merge_metadata(call.path["user_id"], _metadata(call)))


def replace_metadata(call: Call) -> Json:
    return render.user(call.store.users.replace_metadata(call.path["user_id"], _metadata(call)))


def list_memberships(call: Call) -> Json:
    user = call.store.users.get(call.path["user_id"])
    memberships = sorted(call.store.state.memberships_of_user(user.id), key=lambda each: each.created_at, reverse=True)
    return page(call, memberships, lambda each: show_membership(call, each))


def list_invitations(call: Call) -> Json:
    user, now = call.store.users.get(call.path["user_id"]), call.store.clock()
    addresses = {email.email_address for email in user.email_addresses}
    wanted = set(call.query.texts("status"))
    found = [each for each in call.store.state.invitations.values() if each.email_address in addresses]
    found = [each for each in found if not wanted or render.invitation_status(each, now) in wanted]
    state = call.store.state
    return page(call, found[::-1], lambda each: render.invitation_with_organization(state, each, now=now))


def create_email(call: Call) -> Json:
    body = call.body
    id, address = body.need("user_id"), body.need("email_address")
    verified, primary = bool(body.flag("verified")), bool(body.flag("primary"))
    return render.email_address(call.store.users.add_email(id, address, verified=verified, primary=primary))


def get_email(call: Call) -> Json:
    return render.email_address(call.store.users.get_email(call.path["email_address_id"])[1])


def update_email(call: Call) -> Json:
    body = call.body
    verified, primary = body.flag("verified"), body.flag("primary")
    email = call.store.users.update_email(call.path["email_address_id"], verified=verified, primary=primary)
    return render.email_address(email)


def delete_email(call: Call) -> Json:
    email: EmailAddress = call.store.users.delete_email(call.path["email_address_id"])
    return {"object": "email_address", "id": email.id, "deleted": True}


_TEXTS = ("first_name", "last_name", "locale")
_FLAGS = ("delete_self_enabled", "create_organization_enabled", "bypass_client_trust")
_FIELDS = (*_TEXTS, *_FLAGS, "create_organizations_limit", "legal_accepted_at")


def _read_fields(body: Body) -> dict[str, Any]:
    """Fields that are taken as they are, at creation and at a change."""
    found: dict[str, Any] = body.changes(dict.fromkeys(_TEXTS, body.text))
    found |= {name: value for name in _FLAGS if (value := body.flag(name)) is not None}
    if body.has("create_organizations_limit"):
        found["create_organizations_limit"] = body.integer("create_organizations_limit", 0)
    if (accepted := body.moment("legal_accepted_at")) is not None:
        found["legal_accepted_at"] = accepted
    return found


def _filtered(call: Call) -> list[User]:
    state = call.store.state
    matches = people.build_filter(call)
    organizations = call.query.selection("organization_id")
    users = [user for user in people.candidates(call, state) if matches(user)]
    if organizations.is_empty:
        return users
    return [user for user in users if organizations.holds(*state.joined.get(user.id, {}))]


def _after(call: Call, users: list[User], cursor: str) -> list[User]:
    people.require_default_order(call)
    ids = [user.id for user in users]
    if cursor not in ids:
        raise errors.invalid("starting_after", "must be the id of a user of this list")
    return users[ids.index(cursor) + 1 :]


def _metadata(call: Call) -> dict[str, dict[str, Any]]:
    call.limit(ONE_OBJECT, call.path["user_id"])
    call.body.only(*_METADATA)
    return call.body.metadata(*_METADATA)


def _user_ids(call: Call) -> list[str]:
    ids = call.body.texts("user_ids")
    if not ids:
        raise errors.missing("user_ids")
    if len(ids) > 50:
        raise errors.invalid("user_ids", "accepts at most 50 ids")
    for id in ids:
        call.store.users.get(id)
    return ids
