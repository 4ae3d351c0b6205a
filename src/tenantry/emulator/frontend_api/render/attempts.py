"""Sign-ins and sign-ups: how far they are, and what can be done next."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tenantry.emulator import render
from tenantry.emulator.frontend_api.redirects import origin_of
from tenantry.emulator.records import SignIn, SignUp, User
from tenantry.emulator.state import State
from tenantry.emulator.store.codes import LIFE
from tenantry.emulator.store.sign_ins import EMAIL_CODE, RESET_CODE
from tenantry.emulator.store.sign_ups import OPTIONAL, REQUIRED, missing_fields, unverified_fields

Json = dict[str, Any]

PEOPLE_STRATEGY = "oauth_custom_mock"  # the one custom provider that Clerk's specification knows
PEOPLE_PATH = "/__clerk/people"
_DAY = 86_400_000
_MESSAGES = {
    "user_banned": "This user is banned and cannot sign in.",
    "user_locked": "This user is locked and cannot sign in.",
    "external_account_exists": "This person has an account already.",
}


def sign_in(state: State, record: SignIn) -> Json:
    person = state.users.get(record.user_id or "")
    return {
        "object": "sign_in_attempt",
        "id": record.id,
        "status": record.status,
        "supported_identifiers": ["email_address"],
        "supported_first_factors": first_factors(person) if person else None,
        "supported_second_factors": None,
        "first_factor_verification": _first_factor(record),
        "second_factor_verification": None,
        "identifier": record.identifier,
        "user_data": _user_data(person) if person else None,
        "created_session_id": record.session_id,
        "abandon_at": record.created_at + _DAY,
    }


def sign_up(record: SignUp) -> Json:
    missing, unverified = missing_fields(record), unverified_fields(record)
    return {
        "object": "sign_up_attempt",
        "id": record.id,
        "status": "complete" if record.user_id else "missing_requirements",
        "required_fields": list(REQUIRED),
        "optional_fields": list(OPTIONAL),
        "missing_fields": missing,
        "unverified_fields": unverified,
        "verifications": {
            "email_address": _email_verification(record),
            "phone_number": None,
            "web3_wallet": None,
            "external_account": _external_account(record),
        },
        "username": None,
        "email_address": record.email_address,
        "phone_number": None,
        "web3_wallet": None,
        "password_enabled": record.password is not None,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "unsafe_metadata": record.unsafe_metadata,
        "public_metadata": {},
        "custom_action": False,
        "external_id": None,
        "created_session_id": record.session_id,
        "created_user_id": record.user_id,
        "abandon_at": record.created_at + _DAY,
        "legal_accepted_at": None,
    }


def first_factors(person: User) -> list[Json]:
    """By what this person can prove who they are."""
    factors: list[Json] = [{"strategy": "password"}] if person.password else []
    verified = [email for email in person.email_addresses if email.verified]
    for strategy in (EMAIL_CODE, RESET_CODE):
        factors += [
            {
                "strategy": strategy,
                "safe_identifier": email.email_address,
                "email_address_id": email.id,
                "primary": email.id == person.primary_email_address_id,
            }
            for email in verified
        ]
    return factors


def verification(strategy: str, status: str) -> Json:
    """Of a password or a ticket: done at once, or not."""
    shown: Json = {"object": f"verification_{strategy}", "status": status, "strategy": strategy}
    return shown | {"attempts": 1, "expire_at": None}


def code_verification(strategy: str, prepared_at: int, *, verified: bool) -> Json:
    return {
        "object": "verification_otp",
        "status": "verified" if verified else "unverified",
        "strategy": strategy,
        "attempts": 1 if verified else 0,
        "expire_at": prepared_at + LIFE,
    }


def _first_factor(record: SignIn) -> Json | None:
    strategy = record.strategy
    if strategy is None:
        return None
    status = "verified" if record.verified else "unverified"
    if strategy in (EMAIL_CODE, RESET_CODE):
        return code_verification(strategy, record.prepared_at or record.created_at, verified=record.verified)
    if strategy in ("password", "ticket"):
        return verification(strategy, status)
    return _external(record, strategy, status, record.error_code)


def _external_account(record: SignUp) -> Json | None:
    if record.external_strategy is None:
        return None
    status, error = ("transferable", "external_account_exists") if record.existing_user_id else ("unverified", None)
    return _external(record, record.external_strategy, status, error)


def _external(record: SignIn | SignUp, strategy: str, status: str, error: str | None) -> Json:
    """The page of people is asked for at the app's own origin, where this browser's cookie is."""
    message = _MESSAGES.get(error or "", "This person cannot be signed in.")
    url = f"{origin_of(record.redirect_url or '')}{PEOPLE_PATH}?{urlencode({'attempt': record.id})}"
    return {
        "object": "verification_oauth",
        "status": "failed" if error and status == "unverified" else status,
        "strategy": strategy,
        "external_verification_redirect_url": url if status == "unverified" and not error else None,
        "error": {"code": error, "message": message, "long_message": message} if error else None,
        "expire_at": record.created_at + LIFE,
        "attempts": None,
    }


def _email_verification(record: SignUp) -> Json | None:
    if record.email_address is None:
        return None
    if record.email_strategy == "ticket":
        return verification("ticket", "verified") | {"next_action": "", "supported_strategies": ["ticket"]}
    if record.prepared_at is None:
        shown: Json = {"status": "unverified", "strategy": "", "attempts": None, "expire_at": None}
        return shown | {"next_action": "needs_prepare", "supported_strategies": [EMAIL_CODE]}
    shown = code_verification(EMAIL_CODE, record.prepared_at, verified=record.email_verified)
    action = "" if record.email_verified else "needs_attempt"
    return shown | {"next_action": action, "supported_strategies": [EMAIL_CODE]}


def _user_data(person: User) -> Json:
    shown = render.public_user(person)
    return {name: shown[name] for name in ("first_name", "last_name", "image_url", "has_image", "profile_image_url")}
