"""Sessions of this browser and of this person: touched, asked for tokens, verified again, ended."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.render import attempts
from tenantry.emulator.frontend_api.render.clients import session as render_session
from tenantry.emulator.frontend_api.render.clients import session_core
from tenantry.emulator.frontend_api.sign_ins import refused_strategy
from tenantry.emulator.records import Session
from tenantry.emulator.store.codes import check_code
from tenantry.emulator.store.sign_ins import EMAIL_CODE
from tenantry.emulator.store.users import is_password

Shown = dict[str, object]

_INTENTS = ("focus", "select_session", "select_org")
_LEVELS = ("first_factor", "second_factor", "multi_factor")


def get(call: Call) -> Json:
    return _show(call, _session(call))


def touch(call: Call) -> Json:
    """Makes it the browser's active session, and an organization its active one: by id or slug, "" for none."""
    session, client = _session(call), call.need_client()
    intent = call.form.text("intent")
    if intent and intent not in _INTENTS:
        raise errors.invalid("intent", f"must be one of {', '.join(_INTENTS)}")
    session = call.store.sessions.activate(session, _wanted(call, session, "active_organization_id"))
    call.store.clients.select(client, session)
    call.store.clients.forget_attempts(client)
    return _show(call, session)


def create_token(call: Call) -> Json:
    session = _session(call)
    wanted = _wanted(call, session, "organization_id")
    jwt = call.emulator.mint_session_token(session, wanted or "", authorized_party=call.origin)
    return {"object": "token", "jwt": jwt}


def create_token_from_template(call: Call) -> Json:
    _session(call)
    raise errors.not_found("JWT template", call.path["template_name"])


def end(call: Call) -> Json:
    return _sign_out(call, "ended")


def remove(call: Call) -> Json:
    return _sign_out(call, "removed")


def list_of_user(call: Call) -> Json:
    return [_show(call, session) for session in call.store.state.live_sessions_of(call.user.id)]


def list_active(call: Call) -> Json:
    """With where each is used: the emulator only ever sees this machine."""
    sessions = call.store.state.live_sessions_of(call.user.id)
    return [_core(call, each) | {"latest_activity": _activity(each)} for each in reversed(sessions)]


def revoke(call: Call) -> Json:
    session = call.store.sessions.get(call.path["session_id"])
    if session.user_id != call.user.id:
        raise errors.not_found("session", session.id)
    return _show(call, call.store.sessions.end(session, "revoked"))


def start_verification(call: Call) -> Json:
    """Nobody has a second factor: whatever level is asked for, it is the first."""
    session, level = _session(call), call.form.need("level")
    if level not in _LEVELS:
        raise errors.invalid("level", f"must be one of {', '.join(_LEVELS)}")
    return _show_verification(call, session, "needs_first_factor", None)


def prepare_verification(call: Call) -> Json:
    strategy = call.form.need("strategy")
    if strategy != EMAIL_CODE:
        raise refused_strategy(strategy)
    session = call.store.sessions.send_code(_session(call))
    code = attempts.code_verification(strategy, session.code_sent_at or 0, verified=False)
    return _show_verification(call, session, "needs_first_factor", code)


def attempt_verification(call: Call) -> Json:
    strategy, session = call.form.need("strategy"), _session(call)
    now = call.store.clock()
    if strategy == "password":
        check_password(call, call.form.need("password"), "password")
        verified = attempts.verification(strategy, "verified")
    elif strategy == EMAIL_CODE:
        check_code(call.form.need("code"), session.code_sent_at, now)
        verified = attempts.code_verification(strategy, session.code_sent_at or now, verified=True)
    else:
        raise refused_strategy(strategy)
    return _show_verification(call, call.store.sessions.verify(session), "complete", verified)


def refuse_second_factor(call: Call) -> Json:
    _session(call)
    raise refused_strategy(call.form.text("strategy") or "")


def check_password(call: Call, password: str, param: str) -> None:
    """ClerkError when it is not the password of whose session asks."""
    if not is_password(call.user.password, password):
        message = "Password is incorrect. Try again, or use another method."
        raise errors.ClerkError(422, "form_password_incorrect", message, param=param)


def _session(call: Call) -> Session:
    """The session of the path: alive, and of this browser."""
    if call.client is None:
        raise call.unauthenticated()
    id = call.path["session_id"]
    session = call.store.clients.session(call.client, id)
    if session is None:
        raise errors.not_found("session", id)
    call.session_id = id
    return session


def _wanted(call: Call, session: Session, param: str) -> str | None:
    """The organization asked for; that of the session when none is, and when one is needed but "" is asked for."""
    state, stated = call.store.state, call.form.text(param)
    if stated is None or (not stated and state.settings.needs_organization):
        return session.organization_id
    wanted = state.organization_by_slug.get(stated, stated)
    if wanted:
        call.store.organizations.check_enabled()
    if wanted and state.membership(wanted, session.user_id) is None:
        message = "You are not a member of this organization, or there is none with this id."
        raise errors.refused("organization_not_found_or_unauthorized", message)
    return wanted or None


def _sign_out(call: Call, status: str) -> Json:
    session = _session(call)
    call.store.clients.sign_out(call.need_client(), session, status)
    return _show(call, call.store.sessions.get(session.id))


def _show(call: Call, session: Session) -> dict[str, object]:
    return render_session(call.emulator, session, call.origin)


def _core(call: Call, session: Session) -> dict[str, object]:
    return session_core(call.emulator, session, call.origin)


def _activity(session: Session) -> Shown:
    id = session.id.replace("sess_", "sess_activity_")
    place = {"ip_address": "127.0.0.1", "city": "This machine", "country": "localhost"}
    return {"object": "session_activity", "id": id, "is_mobile": False, **place}


def _show_verification(call: Call, session: Session, status: str, first_factor: Shown | None) -> Json:
    factors = attempts.first_factors(call.user)
    return {
        "object": "session_reverification",
        "level": "first_factor",
        "status": status,
        "supported_first_factors": [each for each in factors if each["strategy"] in ("password", EMAIL_CODE)],
        "supported_second_factors": None,
        "first_factor_verification": first_factor,
        "second_factor_verification": None,
        "session": _core(call, session),
    }
