"""Signing up: with an e-mail address and a password, or by an invitation to an organization."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.render import attempts
from tenantry.emulator.frontend_api.sign_ins import invalid_ticket, need_redirect, refused_strategy
from tenantry.emulator.records import SignUp
from tenantry.emulator.store.sign_ins import EMAIL_CODE
from tenantry.emulator.store.sign_ups import SignUpFields


def create(call: Call) -> Json:
    if call.form.flag("transfer"):
        raise errors.ClerkError(400, "account_transfer_invalid", "There is no account to transfer.")
    return _show(_fill(call, call.store.sign_ups.create(call.need_client())))


def get(call: Call) -> Json:
    return _show(_sign_up(call))


def update(call: Call) -> Json:
    return _show(_fill(call, _sign_up(call)))


def prepare_verification(call: Call) -> Json:
    strategy = call.form.text("strategy") or EMAIL_CODE
    if strategy != EMAIL_CODE:
        raise refused_strategy(strategy)
    return _show(call.store.sign_ups.send_code(_sign_up(call), strategy))


def attempt_verification(call: Call) -> Json:
    strategy = call.form.text("strategy") or EMAIL_CODE
    if strategy != EMAIL_CODE:
        raise refused_strategy(strategy)
    return _show(call.store.sign_ups.try_code(_sign_up(call), call.form.need("code")))


def _fill(call: Call, sign_up: SignUp) -> SignUp:
    form = call.form
    strategy = form.text("strategy") or ""
    if strategy == attempts.PEOPLE_STRATEGY:
        return call.store.sign_ups.redirect(sign_up, strategy, need_redirect(call))
    if strategy not in ("", "ticket", "password", EMAIL_CODE):
        raise refused_strategy(strategy)
    fields = SignUpFields(
        email_address=form.text("email_address") or None,
        password=form.text("password") or None,
        first_name=form.text("first_name"),
        last_name=form.text("last_name"),
        unsafe_metadata=form.mapping("unsafe_metadata"),
    )
    if ticket := form.text("ticket"):
        invitation = call.store.invitations.find_by_ticket(ticket)
        if invitation is None:
            raise invalid_ticket()
        sign_up = call.store.sign_ups.accept(sign_up, invitation)
    sign_up = call.store.sign_ups.fill(sign_up, fields)
    return call.store.sign_ups.send_code(sign_up, strategy) if strategy == EMAIL_CODE else sign_up


def _sign_up(call: Call) -> SignUp:
    return call.store.sign_ups.get(call.need_client(), call.path["sign_up_id"])


def _show(sign_up: SignUp) -> Json:
    return attempts.sign_up(sign_up)
