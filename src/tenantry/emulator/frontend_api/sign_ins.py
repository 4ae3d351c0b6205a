"""Signing in: by password, by e-mail code, by a ticket, or as somebody chosen on the page of people."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.redirects import checked_redirect
from tenantry.emulator.frontend_api.render import attempts
from tenantry.emulator.records import SignIn
from tenantry.emulator.store.sign_ins import EMAIL_CODE, RESET_CODE

_CODES = (EMAIL_CODE, RESET_CODE)


def create(call: Call) -> Json:
    """Goes as far as the form allows: with a password or a ticket to the end."""
    sign_in, form = call.store.sign_ins.create(call.need_client()), call.form
    strategy = form.text("strategy") or ""
    if form.flag("transfer"):
        return _show(call, _transfer(call, sign_in))
    if strategy == "ticket" or form.text("ticket"):
        return _show(call, _use_ticket(call, sign_in, form.need("ticket")))
    if strategy == attempts.PEOPLE_STRATEGY:
        return _show(call, call.store.sign_ins.redirect(sign_in, strategy, need_redirect(call)))
    if identifier := form.text("identifier"):
        sign_in = call.store.sign_ins.identify(sign_in, identifier)
    elif strategy:
        raise refused_strategy(strategy)
    if password := form.text("password"):
        sign_in = call.store.sign_ins.try_password(sign_in, password)
    elif strategy in _CODES:
        sign_in = call.store.sign_ins.send_code(sign_in, strategy)
    return _show(call, sign_in)


def get(call: Call) -> Json:
    return _show(call, _sign_in(call))


def prepare_first_factor(call: Call) -> Json:
    strategy = call.form.need("strategy")
    if strategy not in _CODES:
        raise refused_strategy(strategy)
    return _show(call, call.store.sign_ins.send_code(_sign_in(call), strategy))


def attempt_first_factor(call: Call) -> Json:
    strategy, sign_in = call.form.need("strategy"), _sign_in(call)
    if strategy == "password":
        return _show(call, call.store.sign_ins.try_password(sign_in, call.form.need("password")))
    if strategy == "ticket":
        return _show(call, _use_ticket(call, sign_in, call.form.need("ticket")))
    if strategy not in _CODES:
        raise refused_strategy(strategy)
    return _show(call, call.store.sign_ins.try_code(sign_in, strategy, call.form.need("code")))


def reset_password(call: Call) -> Json:
    sign_in = _sign_in(call)
    if call.form.flag("sign_out_of_other_sessions") and sign_in.user_id and sign_in.status == "needs_new_password":
        call.store.sessions.end_all(sign_in.user_id, "revoked")
    return _show(call, call.store.sign_ins.reset_password(sign_in, call.form.need("password")))


def refuse_second_factor(call: Call) -> Json:
    """Nobody has one here."""
    _sign_in(call)
    raise refused_strategy(call.form.text("strategy") or "")


def need_redirect(call: Call) -> str:
    return checked_redirect(call.store.state.settings, "redirect_url", call.form.need("redirect_url"))


def refused_strategy(strategy: str) -> errors.ClerkError:
    message = f"The verification strategy is not valid for this account: {strategy[:60] or 'none'}."
    return errors.ClerkError(400, "strategy_for_user_invalid", message, param="strategy")


def invalid_ticket() -> errors.ClerkError:
    message = "This ticket is invalid. Make sure that it is one that this instance has given out."
    return errors.ClerkError(400, "ticket_invalid_code", message, param="ticket")


def _use_ticket(call: Call, sign_in: SignIn, ticket: str) -> SignIn:
    """A sign-in token's, or that of an invitation to an organization, which is thereby accepted."""
    token = call.store.sessions.use_sign_in_token(ticket)
    if token:
        return call.store.sign_ins.complete(sign_in, token.user_id, "ticket", token.organization_id)
    invitation = call.store.invitations.find_by_ticket(ticket)
    if invitation is None:
        raise invalid_ticket()
    user_id = call.store.state.user_by_email.get(invitation.email_address)
    if user_id is None:
        message = "There is no account for this invitation yet. Sign up by it."
        raise errors.ClerkError(404, "invitation_account_not_exists", message)
    call.store.invitations.accept(invitation, user_id)
    return call.store.sign_ins.complete(sign_in, user_id, "ticket", invitation.organization_id)


def _transfer(call: Call, sign_in: SignIn) -> SignIn:
    """Who was chosen at a sign-up, but exists already, is signed in."""
    sign_up = call.store.state.sign_ups.get(call.store.clients.get(sign_in.client_id).sign_up_id or "")
    if sign_up is None or sign_up.existing_user_id is None or sign_up.external_strategy is None:
        raise errors.ClerkError(400, "account_transfer_invalid", "There is no account to transfer.")
    return call.store.sign_ins.complete(sign_in, sign_up.existing_user_id, sign_up.external_strategy)


def _sign_in(call: Call) -> SignIn:
    return call.store.sign_ins.get(call.need_client(), call.path["sign_in_id"])


def _show(call: Call, sign_in: SignIn) -> Json:
    return attempts.sign_in(call.store.state, sign_in)
