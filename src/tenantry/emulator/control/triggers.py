"""Makes an event happen by a real change: for each type the change that causes it, and what it needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from tenantry.emulator import errors
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.control.organizations import accept, offered_role, stated
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.records import Domain, Invitation, Membership, Permission, Role, Session, User
from tenantry.emulator.render import invitation_status
from tenantry.emulator.store.invitations import NewInvitation
from tenantry.emulator.store.users import NewUser


@dataclass(frozen=True, slots=True)
class Trigger:
    """`needs` and `takes` are parameters; `does` says what the change is."""

    type: str
    does: str
    run: Callable[[Call], object]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.type} ({', '.join(self.needs)})"

    def describe(self) -> Json:
        return {name: value for name, value in asdict(self).items() if name != "run"}


# What each parameter means, for the page and the command line.
PARAMETERS = {
    "user": "a person: e-mail address, username or id",
    "organization": "an organization: name, slug or id",
    "role": "a role's key, such as org:admin",
    "permission": "a permission's key, such as org:reports:read",
    "domain": "a domain, such as example.com",
    "name": "a name to give",
}


def list_triggers(call: Call) -> Json:
    return {"data": [trigger.describe() for trigger in TRIGGERS.values()], "parameters": PARAMETERS}


def trigger(call: Call) -> Json:
    """`type`, and what that needs. Answers which `events` were announced and the `deliveries` that carry them."""
    chosen = _find(call.body.need("type"))
    call.body.only("type", *PARAMETERS)
    for name in PARAMETERS:
        if call.body.text(name) and name not in (*chosen.needs, *chosen.takes):
            raise errors.invalid(name, f"has no part in {chosen.type}")
    for name in chosen.needs:
        if not call.body.text(name):
            needed = " and ".join(chosen.needs)
            message = f"{chosen.type} needs {needed}; {name} is {PARAMETERS[name]}."
            raise ClerkError(422, "form_param_missing", message, param=name)
    before = {delivery.id for delivery in call.emulator.webhooks.deliveries()}
    chosen.run(call)
    made = [each.id for each in call.emulator.webhooks.deliveries() if each.id not in before]
    return {
        "type": chosen.type,
        "does": chosen.does,
        "events": [e.type for e in call.controls.events],
        "deliveries": made,
    }


def _find(type: str) -> Trigger:
    if type not in TRIGGERS:
        message = f"{type[:60]!r} is no event that the emulator can send. It can send: {', '.join(TRIGGERS)}."
        raise ClerkError(422, "form_param_value_invalid", message, param="type")
    return TRIGGERS[type]


def _user(call: Call) -> User:
    return call.store.users.find(call.body.need("user"))


def _names(call: Call) -> Json:
    """A first and a last name of `name`; none when it was not given."""
    first, _, last = (call.body.text("name") or "").partition(" ")
    return {"first_name": first, "last_name": last or None} if first else {}


def _create_user(call: Call) -> object:
    new = NewUser(email_addresses=(call.body.need("user"),), fields=_names(call))
    return call.store.users.create(new)


def _create_organization(call: Call) -> object:
    creator = _user(call).id if call.body.text("user") else None
    return call.store.organizations.create(call.body.need("organization"), created_by=creator)


def _named(call: Call) -> Json:
    return {"name": name} if (name := call.body.text("name")) else {}


def _membership(call: Call) -> Membership:
    user, organization = _user(call), stated(call)
    membership = call.state.membership(organization.id, user.id)
    if membership is None:
        raise ClerkError(404, "resource_not_found", f"{user.identifier} is no member of {organization.name}.")
    return membership


def _invite(call: Call) -> object:
    new = NewInvitation(email_address=call.body.need("user"), role=offered_role(call))
    return call.store.invitations.create(stated(call), new)


def _invitation(call: Call) -> Invitation:
    organization, address, now = stated(call), call.body.need("user").lower(), call.store.clock()
    for invitation in call.state.invitations_of(organization.id):
        if invitation.email_address == address and invitation_status(invitation, now) == "pending":
            return invitation
    raise ClerkError(404, "resource_not_found", f"{address} has no pending invitation to {organization.name}.")


def _add_domain(call: Call) -> object:
    return call.store.domains.create(stated(call), call.body.need("domain"), None, verified=False)


def _domain(call: Call) -> Domain:
    name = call.body.need("domain").lower()
    for domain in call.state.domains.values():
        if domain.name == name:
            return domain
    raise errors.not_found("organization domain", name)


def _create_role(call: Call) -> object:
    key = call.body.need("role")
    return call.store.roles.create(call.body.text("name") or _title(key), key, None, [])


def _role(call: Call) -> Role:
    return call.store.roles.find(call.body.need("role"))


def _create_permission(call: Call) -> object:
    key = call.body.need("permission")
    return call.store.permissions.create(call.body.text("name") or _title(key), key)


def _permission(call: Call) -> Permission:
    return call.store.permissions.find(call.body.need("permission"))


def _sign_in(call: Call) -> Session:
    wanted = call.body.text("organization")
    return call.store.sessions.create(_user(call).id, stated(call).id if wanted else None)


def _sign_in_without_organization(call: Call) -> Session:
    if not call.state.settings.needs_organization:
        message = "A session is pending only where membership is required: turn enabled and membership_required on."
        raise ClerkError(422, "form_param_value_invalid", message)
    return call.store.sessions.create(_user(call).id, "")


def _session(call: Call) -> Session:
    """The newest that is alive."""
    user = _user(call)
    alive = call.state.live_sessions_of(user.id)
    if not alive:
        message = f"{user.identifier} has no session; trigger session.created first."
        raise ClerkError(404, "resource_not_found", message, param="user")
    return alive[-1]


def _table() -> tuple[Trigger, ...]:
    member, domain = ("user", "organization"), ("organization", "domain")
    return (
        Trigger("user.created", "signs somebody up", _create_user, ("user",), ("name",)),
        Trigger(
            "user.updated",
            "changes a person's name, or only when they were changed",
            lambda call: call.store.users.update(_user(call).id, _names(call)),
            ("user",),
            ("name",),
        ),
        Trigger("user.deleted", "deletes a person", lambda call: call.store.users.delete(_user(call).id), ("user",)),
        Trigger(
            "organization.created",
            "creates an organization, with a first member where one is given",
            _create_organization,
            ("organization",),
            ("user",),
        ),
        Trigger(
            "organization.updated",
            "renames an organization, or only changes when it was changed",
            lambda call: call.store.organizations.update(stated(call).id, _named(call)),
            ("organization",),
            ("name",),
        ),
        Trigger(
            "organization.deleted",
            "deletes an organization",
            lambda call: call.store.organizations.delete(stated(call).id),
            ("organization",),
        ),
        Trigger(
            "organizationMembership.created",
            "adds a person to an organization",
            lambda call: call.store.memberships.create(stated(call), _user(call).id, offered_role(call)),
            member,
            ("role",),
        ),
        Trigger(
            "organizationMembership.updated",
            "gives a member another role",
            lambda call: call.store.memberships.change_role(_membership(call), _role(call)),
            (*member, "role"),
        ),
        Trigger(
            "organizationMembership.deleted",
            "removes a member",
            lambda call: call.store.memberships.delete(_membership(call)),
            member,
        ),
        Trigger("organizationInvitation.created", "invites somebody by e-mail", _invite, member, ("role",)),
        Trigger(
            "organizationInvitation.accepted",
            "accepts an invitation, signing up first where needed",
            lambda call: accept(call, _invitation(call)),
            member,
        ),
        Trigger(
            "organizationInvitation.revoked",
            "revokes an invitation",
            lambda call: call.store.invitations.revoke(_invitation(call), None),
            member,
        ),
        Trigger("organizationDomain.created", "adds a domain that is not verified", _add_domain, domain),
        Trigger(
            "organizationDomain.updated",
            "verifies a domain",
            lambda call: call.store.domains.update(_domain(call), enrollment_mode=None, verified=True),
            ("domain",),
        ),
        Trigger(
            "organizationDomain.deleted",
            "removes a domain",
            lambda call: call.store.domains.delete(_domain(call)),
            ("domain",),
        ),
        Trigger("role.created", "creates a role", _create_role, ("role",), ("name",)),
        Trigger(
            "role.updated",
            "renames a role, or only changes when it was changed",
            lambda call: call.store.roles.update(_role(call).id, _named(call)),
            ("role",),
            ("name",),
        ),
        Trigger("role.deleted", "deletes a role", lambda call: call.store.roles.delete(_role(call).id), ("role",)),
        Trigger("permission.created", "creates a permission", _create_permission, ("permission",), ("name",)),
        Trigger(
            "permission.updated",
            "renames a permission, or only changes when it was changed",
            lambda call: call.store.permissions.update(_permission(call).id, _named(call)),
            ("permission",),
            ("name",),
        ),
        Trigger(
            "permission.deleted",
            "deletes a permission",
            lambda call: call.store.permissions.delete(_permission(call).id),
            ("permission",),
        ),
        Trigger("session.created", "signs a person in", _sign_in, ("user",), ("organization",)),
        Trigger("session.pending", "signs a person in, to no organization", _sign_in_without_organization, ("user",)),
        *(
            Trigger(
                f"session.{status}",
                does,
                lambda call, status=status: call.store.sessions.end(_session(call), status),  # type: ignore[misc]
                ("user",),
            )
            for status, does in (
                ("ended", "signs a person out"),
                ("removed", "removes a person's newest session"),
                ("revoked", "revokes a person's newest session"),
            )
        ),
    )


def _title(key: str) -> str:
    """A name for `org:reports:read`: Reports read."""
    return key.removeprefix("org:").replace(":", " ").replace("_", " ").capitalize()


TRIGGERS = {each.type: each for each in _table()}
