"""A client with its sessions and the people signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry.emulator import render
from tenantry.emulator.frontend_api.render import attempts
from tenantry.emulator.frontend_api.render.users import user
from tenantry.emulator.records import Client, Session

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

Json = dict[str, Any]

_YEAR = 365 * 86_400_000


def client(emulator: Emulator, record: Client, origin: str) -> Json:
    """`origin` is the page's: the tokens inside are made for it."""
    store = emulator.store
    sessions = store.clients.sessions_of(record)
    active = store.clients.session(record)
    sign_in = store.state.sign_ins.get(record.sign_in_id or "")
    sign_up = store.state.sign_ups.get(record.sign_up_id or "")
    return {
        "object": "client",
        "id": record.id,
        "sessions": [session(emulator, each, origin) for each in sessions],
        "sign_in": attempts.sign_in(store.state, sign_in) if sign_in else None,
        "sign_up": attempts.sign_up(sign_up) if sign_up else None,
        "last_active_session_id": active.id if active else None,
        "last_authentication_strategy": None,
        "cookie_expires_at": store.clock() + _YEAR if sessions else None,
        "captcha_bypass": False,
        "created_at": record.created_at,
        # clerk-js notes it in `__client_uat`, and no server believes a session cookie from before that.
        "updated_at": store.clients.signed_in_at(record) or record.updated_at,
    }


def session(emulator: Emulator, record: Session, origin: str) -> Json:
    state = emulator.store.state
    person = state.users[record.user_id]
    return session_core(emulator, record, origin) | {
        "last_active_organization_id": record.organization_id,
        "user": user(state, person),
        "public_user_data": render.public_user(person),
        "factor_verification_age": record.factor_ages(emulator.store.clock()),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def session_core(emulator: Emulator, record: Session, origin: str) -> Json:
    """The session alone, with a fresh token while it lives."""
    token = emulator.mint_session_token(record, authorized_party=origin) if record.is_alive else None
    return {
        "object": "session",
        "id": record.id,
        "status": record.status,
        "expire_at": record.expire_at,
        "abandon_at": record.abandon_at,
        "last_active_at": record.last_active_at,
        "last_active_token": {"object": "token", "jwt": token} if token else None,
        "actor": None,
        "tasks": [{"key": "choose-organization"}] if record.status == "pending" else None,
    }
