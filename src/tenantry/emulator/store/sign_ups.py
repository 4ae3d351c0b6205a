"""Sign-ups: attempts of one browser to make a user, who is then signed in there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.records import Client, Invitation, SignUp
from tenantry.emulator.store import metadata
from tenantry.emulator.store.clients import Clients
from tenantry.emulator.store.codes import check_code
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.invitations import Invitations
from tenantry.emulator.store.memberships import check_room
from tenantry.emulator.store.users import NewUser, Users, checked_email, hash_password

REQUIRED = ("email_address", "password")
OPTIONAL = ("first_name", "last_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpFields:
    """What a form tells of the person; None for what it does not tell."""

    email_address: str | None = None
    password: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    unsafe_metadata: dict[str, Any] | None = None


class SignUps:
    def __init__(self, core: Core, clients: Clients, users: Users, invitations: Invitations) -> None:
        self._core = core
        self._clients = clients
        self._users = users
        self._invitations = invitations

    def get(self, client: Client, id: str) -> SignUp:
        """This browser's own only."""
        sign_up = self._core.state.sign_ups.get(id)
        if sign_up is None or sign_up.client_id != client.id:
            raise errors.not_found("sign up", id)
        return sign_up

    def create(self, client: Client) -> SignUp:
        self._clients.check_room(client)
        now, id = self._core.clock(), self._core.identifiers.new("sua")
        sign_up = self._core.create(SignUp(id=id, created_at=now, updated_at=now, client_id=client.id))
        self._clients.keep_attempt(sign_up)
        return sign_up

    def fill(self, sign_up: SignUp, fields: SignUpFields) -> SignUp:
        """ClerkError for a value that no user may have. Complete, when nothing is missing any more."""
        self._check_open(sign_up)
        changes: dict[str, Any] = {}
        if fields.email_address and fields.email_address.lower() != sign_up.email_address:
            changes |= self._new_address(fields.email_address)
        if fields.password is not None:
            changes["password"] = hash_password(sign_up.id, fields.password)
        if fields.unsafe_metadata is not None:
            changes["unsafe_metadata"] = metadata.check("unsafe_metadata", fields.unsafe_metadata)
        names = {"first_name": fields.first_name, "last_name": fields.last_name}
        changes |= {name: value or None for name, value in names.items() if value is not None}
        return self._proceed(self._update(sign_up, **changes))

    def accept(self, sign_up: SignUp, invitation: Invitation) -> SignUp:
        """The invited address needs no other proof: the ticket came by it."""
        self._check_open(sign_up)
        address = self._new_address(invitation.email_address)
        proof = {"email_strategy": "ticket", "email_verified": True, "invitation_id": invitation.id}
        return self._proceed(self._update(sign_up, **address | proof))

    def redirect(self, sign_up: SignUp, strategy: str, redirect_url: str) -> SignUp:
        """The person is to be chosen on a page, which leads back to `redirect_url`."""
        self._check_open(sign_up)
        return self._update(sign_up, external_strategy=strategy, redirect_url=redirect_url)

    def choose(self, sign_up: SignUp, user_id: str) -> SignUp:
        """Somebody who exists: there is nobody to sign up, but somebody to sign in."""
        return self._update(sign_up, existing_user_id=self._users.get(user_id).id)

    def send_code(self, sign_up: SignUp, strategy: str) -> SignUp:
        """No mail is sent: the code is known."""
        self._check_open(sign_up)
        if sign_up.email_address is None:
            raise errors.missing("email_address")
        return self._update(sign_up, email_strategy=strategy, prepared_at=self._core.clock())

    def try_code(self, sign_up: SignUp, code: str) -> SignUp:
        self._check_open(sign_up)
        check_code(code, sign_up.prepared_at, self._core.clock())
        return self._proceed(self._update(sign_up, email_verified=True))

    def _new_address(self, address: str) -> dict[str, Any]:
        address = checked_email("email_address", address.strip())
        if address in self._core.state.user_by_email:
            message = "That email address is taken. Please try another."
            raise errors.ClerkError(422, "form_identifier_exists", message, param="email_address")
        return {"email_address": address, "email_strategy": None, "email_verified": False, "prepared_at": None}

    def _proceed(self, sign_up: SignUp) -> SignUp:
        if missing_fields(sign_up) or unverified_fields(sign_up) or sign_up.email_address is None:
            return sign_up
        invitation, now = self._usable_invitation(sign_up), self._core.clock()
        kept = ("first_name", "last_name", "password", "unsafe_metadata")
        fields = {name: getattr(sign_up, name) for name in kept} | {"password_updated_at": now}
        user = self._users.create(NewUser(email_addresses=(sign_up.email_address,), fields=fields))
        if invitation:
            self._invitations.accept(invitation, user.id)
        joined = invitation.organization_id if invitation else None
        session = self._clients.sign_in(self._clients.get(sign_up.client_id), user.id, joined)
        return self._update(sign_up, user_id=user.id, session_id=session.id)

    def _usable_invitation(self, sign_up: SignUp) -> Invitation | None:
        """The one signed up by; ClerkError, before anybody is made, when it leads nowhere any more."""
        if sign_up.invitation_id is None:
            return None
        invitation = self._invitations.get(sign_up.invitation_id)
        self._invitations.find_by_ticket(invitation.ticket or "")
        check_room(self._core, self._core.state.organizations[invitation.organization_id], 1)
        return invitation

    def _check_open(self, sign_up: SignUp) -> None:
        if sign_up.user_id:
            message = "We were unable to complete the sign up for this Client. It is complete already."
            raise errors.ClerkError(400, "client_state_invalid", message)

    def _update(self, sign_up: SignUp, **changes: Any) -> SignUp:
        return self._core.update(sign_up, announce=False, **changes)


def missing_fields(sign_up: SignUp) -> list[str]:
    return [name for name in REQUIRED if getattr(sign_up, name) is None]


def unverified_fields(sign_up: SignUp) -> list[str]:
    return ["email_address"] if sign_up.email_address and not sign_up.email_verified else []
