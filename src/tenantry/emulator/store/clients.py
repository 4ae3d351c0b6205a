"""Clients: browsers, each with the sessions of the people signed in at it."""

from __future__ import annotations

import secrets

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.records import Client, Session, SignIn, SignUp
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.sessions import Sessions


class Clients:
    def __init__(self, core: Core, sessions: Sessions) -> None:
        self._core = core
        self._sessions = sessions

    def create(self) -> Client:
        now = self._core.clock()
        client = Client(
            id=self._core.identifiers.new("client"),
            created_at=now,
            updated_at=now,
            secret=secrets.token_hex(24),
        )
        return self._core.create(client)

    def get(self, id: str) -> Client:
        client = self._core.state.clients.get(id)
        if client is None:
            raise errors.not_found("client", id)
        return client

    def find(self, secret: str) -> Client | None:
        """The client whose cookie this is."""
        return self._core.state.clients.get(self._core.state.client_by_secret.get(secret, ""))

    def find_by_dev_browser(self, name: str) -> Client | None:
        state = self._core.state
        return state.clients.get(state.client_by_dev_browser.get(name, ""))

    def sessions_of(self, client: Client) -> list[Session]:
        """Those that are alive, in the order of sign-in."""
        state = self._core.state
        found = [state.sessions[id] for id in state.sessions_of_client.get(client.id, {})]
        return [session for session in found if session.is_alive and session.expire_at > self._core.clock()]

    def session(self, client: Client, id: str | None = None) -> Session | None:
        """The live session with this id; without an id the one last active, or else the newest. This client's alone."""
        alive = self.sessions_of(client)
        wanted = id or self._core.state.clients[client.id].last_active_session_id
        found = next((session for session in alive if session.id == wanted), None)
        return found if found or id or not alive else alive[-1]

    def signed_in_at(self, client: Client) -> int:
        """When the last of its live sessions began; 0 without one."""
        return max((session.created_at for session in self.sessions_of(client)), default=0)

    def check_room(self, client: Client, user_id: str | None = None) -> None:
        """ClerkError when somebody is signed in here already: anybody, or this very user where several may be."""
        signed_in = self.sessions_of(client)
        if signed_in and self._core.state.settings.single_session:
            message = "You're currently in single session mode. You can only be signed into one account at a time."
            raise errors.refused("session_exists", message, status=400)
        for session in signed_in:
            if session.user_id == user_id:
                meta = {"session_id": session.id}
                raise ClerkError(400, "identifier_already_signed_in", "You're already signed in.", meta=meta)

    def sign_in(self, client: Client, user_id: str, organization_id: str | None = None) -> Session:
        """A new session of this user at this browser, which is then the active one."""
        self.check_room(client, user_id)
        session = self._sessions.create(user_id, organization_id, client_id=client.id)
        self.select(client, session)
        return session

    def select(self, client: Client, session: Session | None) -> Client:
        """Makes the session the one last active."""
        return self._core.update(self.get(client.id), last_active_session_id=session.id if session else None)

    def sign_out(self, client: Client, session: Session, status: str) -> None:
        """`status`: ended or removed. Another live session of the browser becomes the active one."""
        self._sessions.end(session, status)
        self.forget_attempts(client)
        left = self.sessions_of(client)
        self.select(client, left[-1] if left else None)

    def sign_out_all(self, client: Client, status: str) -> None:
        for session in self.sessions_of(client):
            self.sign_out(client, session, status)

    def keep_attempt(self, attempt: SignIn | SignUp) -> None:
        """The browser's newest sign-in or sign-up takes the place of the one before."""
        client, field = self.get(attempt.client_id), f"{attempt.kind}_id"
        self._drop_attempt(getattr(client, field))
        self._core.update(client, announce=False, **{field: attempt.id})

    def forget_attempts(self, client: Client) -> None:
        """An attempt that led to a session has done its work when the session is used, or is over."""
        client = self.get(client.id)
        for field in ("sign_in_id", "sign_up_id"):
            attempt = self._attempt(getattr(client, field))
            if attempt and attempt.session_id:
                self._core.delete(attempt, announce=False)
                client = self._core.update(client, announce=False, **{field: None})

    def _drop_attempt(self, id: str | None) -> None:
        if attempt := self._attempt(id):
            self._core.delete(attempt, announce=False)

    def _attempt(self, id: str | None) -> SignIn | SignUp | None:
        state = self._core.state
        return state.sign_ins.get(id or "") or state.sign_ups.get(id or "")
