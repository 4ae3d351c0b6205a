"""Sessions: who is signed in, and which organization is active."""

from __future__ import annotations

import secrets

from tenantry.emulator import errors
from tenantry.emulator.records import Session, SignInToken
from tenantry.emulator.store.core import Core

_WEEK = 7 * 86_400_000
_MONTH = 30 * 86_400_000


class Sessions:
    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, id: str) -> Session:
        session = self._core.state.sessions.get(id)
        if session is None:
            raise errors.not_found("session", id)
        return session

    def create(self, user_id: str, organization_id: str | None = None, *, client_id: str | None = None) -> Session:
        """Without an organization the user's newest one becomes active; `""` asks for the personal account.

        Without a `client_id` the session is that of a browser of its own. Who has no organization, where membership is
        required, gets a pending session.
        """
        self.check_sign_in(user_id)
        active = self._initial_organization(user_id, organization_id)
        now = self._core.clock()
        session = Session(
            id=self._core.identifiers.new("sess"),
            created_at=now,
            updated_at=now,
            user_id=user_id,
            client_id=client_id or self._core.identifiers.new("client"),
            status=self._status(active),
            organization_id=active,
            last_active_at=now,
            expire_at=now + _WEEK,
            abandon_at=now + _MONTH,
        )
        user = self._core.state.users[user_id]
        signed_in = {"last_sign_in_at": now, "updated_at": user.updated_at}
        if self._core.assumptions.user_updated_on_sign_in:
            self._core.update(user, last_sign_in_at=now)
        else:
            self._core.update(user, announce=False, **signed_in)
        return self._core.create(session)

    def activate(self, session: Session, organization_id: str | None) -> Session:
        """Switches the active organization; no event says so, unless a pending session becomes active."""
        if organization_id:
            self._check_member(session.user_id, organization_id)
        status = self._status(organization_id)
        becomes_active = session.status == "pending" and status == "active"
        changes = {"organization_id": organization_id, "status": status, "last_active_at": self._core.clock()}
        return self._core.update(session, announce=becomes_active, **changes)

    def send_code(self, session: Session) -> Session:
        """A code by which the session's user may verify a first factor again."""
        return self._core.update(session, announce=False, code_sent_at=self._core.clock())

    def verify(self, session: Session) -> Session:
        """The session's user has just verified a first factor."""
        return self._core.update(session, announce=False, verified_at=self._core.clock(), code_sent_at=None)

    def end(self, session: Session, status: str) -> Session:
        """`status`: revoked, ended or removed. A session that has ended stays as it is."""
        return self._core.update(session, status=status) if session.is_alive else session

    def end_all(self, user_id: str, status: str) -> None:
        for session in self._core.state.live_sessions_of(user_id):
            self.end(session, status)

    def forget(self, user_id: str) -> None:
        for id in list(self._core.state.sessions_of.get(user_id, {})):
            self._core.delete(self._core.state.sessions[id], announce=False)

    def leave(self, user_id: str, organization_id: str) -> None:
        """A user who is no member any more has the organization active in no session."""
        for session in self._core.state.live_sessions_of(user_id):
            if session.organization_id == organization_id:
                self._core.update(session, announce=False, organization_id=None, status=self._status(None))

    def create_sign_in_token(self, user_id: str, organization_id: str | None, seconds: int) -> SignInToken:
        if user_id not in self._core.state.users:
            raise errors.not_found("user", user_id)
        if organization_id:
            self._check_member(user_id, organization_id)
        now = self._core.clock()
        token = SignInToken(
            id=self._core.identifiers.new("sit"),
            created_at=now,
            updated_at=now,
            user_id=user_id,
            organization_id=organization_id,
            token=secrets.token_hex(24),
            expires_at=now + seconds * 1000,
        )
        return self._core.create(token)

    def revoke_sign_in_token(self, id: str) -> SignInToken:
        token = self._core.state.sign_in_tokens.get(id)
        if token is None:
            raise errors.not_found("sign-in token", id)
        if token.status != "pending":
            message = f"The sign-in token is already {token.status}."
            raise errors.refused("sign_in_token_not_pending", message, status=400)
        return self._core.update(token, announce=False, status="revoked")

    def use_sign_in_token(self, ticket: str) -> SignInToken | None:
        """The token with this ticket, from now on used; None when there is none. ClerkError when it is spent."""
        token = next((each for each in self._core.state.sign_in_tokens.values() if each.token == ticket), None)
        if token is None:
            return None
        if token.status == "accepted":
            message = "This sign in token has already been used. Each token can only be used once."
            raise errors.refused("sign_in_token_already_used_code", message, status=400)
        if token.status == "revoked":
            message = "This sign in token has been revoked and cannot be used anymore."
            raise errors.refused("sign_in_token_revoked_code", message, status=400)
        if token.expires_at <= self._core.clock():
            message = "This ticket has expired and cannot be used anymore."
            raise errors.refused("ticket_expired_code", message, status=400)
        return self._core.update(token, announce=False, status="accepted")

    def _status(self, organization_id: str | None) -> str:
        return "pending" if self._core.state.settings.needs_organization and not organization_id else "active"

    def check_sign_in(self, user_id: str) -> None:
        """ClerkError when the user is banned or locked."""
        user = self._core.state.users.get(user_id)
        if user is None:
            raise errors.not_found("user", user_id)
        if user.banned:
            raise errors.refused("user_banned", "This user is banned and cannot sign in.")
        if user.locked:
            raise errors.refused("user_locked", "This user is locked and cannot sign in.")

    def _check_member(self, user_id: str, organization_id: str) -> None:
        if self._core.state.membership(organization_id, user_id) is None:
            message = "The user is not a member of this organization, or there is none with this id."
            raise errors.refused("organization_not_found_or_unauthorized", message, status=404)

    def _initial_organization(self, user_id: str, organization_id: str | None) -> str | None:
        if organization_id == "" or not self._core.state.settings.enabled:
            return None
        if organization_id:
            self._check_member(user_id, organization_id)
            return organization_id
        memberships = self._core.state.memberships_of_user(user_id)
        return max(memberships, key=lambda each: (each.created_at, each.id)).organization_id if memberships else None
