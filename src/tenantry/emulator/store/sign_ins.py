"""Sign-ins: attempts of one browser to sign somebody in, step by step."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.records import Client, SignIn, User
from tenantry.emulator.store.clients import Clients
from tenantry.emulator.store.codes import check_code
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.sessions import Sessions
from tenantry.emulator.store.users import Users, is_password

EMAIL_CODE = "email_code"
RESET_CODE = "reset_password_email_code"


class SignIns:
    def __init__(self, core: Core, clients: Clients, sessions: Sessions, users: Users) -> None:
        self._core = core
        self._clients = clients
        self._sessions = sessions
        self._users = users

    def get(self, client: Client, id: str) -> SignIn:
        """This browser's own only."""
        sign_in = self._core.state.sign_ins.get(id)
        if sign_in is None or sign_in.client_id != client.id:
            raise errors.not_found("sign in", id)
        return sign_in

    def create(self, client: Client) -> SignIn:
        self._clients.check_room(client)
        now, id = self._core.clock(), self._core.identifiers.new("sia")
        sign_in = self._core.create(SignIn(id=id, created_at=now, updated_at=now, client_id=client.id))
        self._clients.keep_attempt(sign_in)
        return sign_in

    def identify(self, sign_in: SignIn, identifier: str) -> SignIn:
        """By e-mail address or username. ClerkError for one that nobody has."""
        state, wanted = self._core.state, identifier.strip().lower()
        user_id = state.user_by_email.get(wanted) or state.user_by_username.get(wanted)
        if user_id is None:
            message = "Couldn't find your account."
            raise errors.ClerkError(422, "form_identifier_not_found", message, param="identifier")
        self._clients.check_room(self._clients.get(sign_in.client_id), user_id)
        self._sessions.check_sign_in(user_id)
        return self._update(sign_in, status="needs_first_factor", identifier=wanted, user_id=user_id)

    def redirect(self, sign_in: SignIn, strategy: str, redirect_url: str) -> SignIn:
        """The person is to be chosen on a page, which leads back to `redirect_url`."""
        return self._update(sign_in, strategy=strategy, redirect_url=redirect_url, prepared_at=self._core.clock())

    def send_code(self, sign_in: SignIn, strategy: str) -> SignIn:
        """No mail is sent: the code is known."""
        self._user_of(sign_in)
        return self._update(sign_in, strategy=strategy, prepared_at=self._core.clock())

    def try_password(self, sign_in: SignIn, password: str) -> SignIn:
        user = self._user_of(sign_in)
        if user.password is None:
            message = "The verification strategy is not valid for this account."
            raise errors.ClerkError(400, "strategy_for_user_invalid", message)
        if not is_password(user.password, password):
            message = "Password is incorrect. Try again, or use another method."
            raise errors.ClerkError(422, "form_password_incorrect", message, param="password")
        return self.complete(sign_in, user.id, "password")

    def try_code(self, sign_in: SignIn, strategy: str, code: str) -> SignIn:
        user = self._user_of(sign_in)
        check_code(code, sign_in.prepared_at if sign_in.strategy == strategy else None, self._core.clock())
        if strategy == RESET_CODE:
            return self._update(sign_in, status="needs_new_password", verified=True)
        return self.complete(sign_in, user.id, strategy)

    def reset_password(self, sign_in: SignIn, password: str) -> SignIn:
        user = self._user_of(sign_in)
        if sign_in.status != "needs_new_password":
            raise out_of_order("a new password", "No code has been verified for it.")
        self._users.update(user.id, {"password": password})
        return self.complete(sign_in, user.id, RESET_CODE)

    def complete(self, sign_in: SignIn, user_id: str, strategy: str, organization_id: str | None = None) -> SignIn:
        """A session begins. ClerkError when the user may not sign in."""
        session = self._clients.sign_in(self._clients.get(sign_in.client_id), user_id, organization_id)
        user = self._core.state.users[user_id]
        return self._update(
            sign_in,
            status="complete",
            identifier=sign_in.identifier or user.identifier,
            user_id=user_id,
            strategy=strategy,
            verified=True,
            error_code=None,
            session_id=session.id,
        )

    def fail(self, sign_in: SignIn, code: str) -> SignIn:
        return self._update(sign_in, error_code=code)

    def _user_of(self, sign_in: SignIn) -> User:
        user = self._core.state.users.get(sign_in.user_id or "")
        if user is None:
            raise out_of_order("the sign in", "It has no identifier yet.")
        if sign_in.status == "complete":
            raise out_of_order("the sign in", "It is complete already.")
        return user

    def _update(self, sign_in: SignIn, **changes: Any) -> SignIn:
        return self._core.update(sign_in, announce=False, **changes)


def out_of_order(what: str, why: str) -> errors.ClerkError:
    message = f"We were unable to complete {what} for this Client. {why}"
    return errors.ClerkError(400, "client_state_invalid", message)
