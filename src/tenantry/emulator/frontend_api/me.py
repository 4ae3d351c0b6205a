"""The person's own profile: names, password, addresses."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.frontend_api import images
from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.render.users import email_address as render_email
from tenantry.emulator.frontend_api.render.users import user as render_user
from tenantry.emulator.frontend_api.sessions import check_password
from tenantry.emulator.records import EmailAddress
from tenantry.emulator.store.codes import check_code

_VERIFY_AFTER = 10  # minutes since the first factor, from when on Clerk asks for it again


def get(call: Call) -> Json:
    return _show(call)


def update(call: Call) -> Json:
    form = call.form
    changes: dict[str, str | None] = form.changes(dict.fromkeys(("first_name", "last_name", "username"), form.text))
    changes = {name: value or None for name, value in changes.items()}
    if primary := form.text("primary_email_address_id"):
        changes["primary_email_address_id"] = primary
    if changes:
        call.store.users.update(call.user.id, changes)
    if metadata := form.metadata("unsafe_metadata"):
        call.store.users.replace_metadata(call.user.id, metadata)
    return _show(call)


def merge_metadata(call: Call) -> Json:
    metadata = call.form.metadata("unsafe_metadata")
    if not metadata:
        raise errors.missing("unsafe_metadata")
    call.store.users.merge_metadata(call.user.id, metadata)
    return _show(call)


def delete(call: Call) -> Json:
    user = call.user
    if not user.delete_self_enabled:
        raise errors.refused("user_delete_self_not_enabled", "This user may not delete their own account.")
    _need_recent_verification(call)
    call.store.users.delete(user.id)
    return {"object": "user", "id": user.id, "deleted": True}


def change_password(call: Call) -> Json:
    """The old password is asked for unless somebody has just proved who they are."""
    user, form = call.user, call.form
    if user.password and form.text("current_password") is not None:
        check_password(call, form.need("current_password"), "current_password")
    else:
        _need_recent_verification(call)
    session = call.session
    call.store.users.update(user.id, {"password": form.need("new_password")})
    if form.flag("sign_out_of_other_sessions"):
        for other in call.store.state.live_sessions_of(user.id):
            if other.id != session.id:
                call.store.sessions.end(other, "revoked")
    return _show(call)


def remove_password(call: Call) -> Json:
    if call.form.text("current_password") is not None:
        check_password(call, call.form.need("current_password"), "current_password")
    else:
        _need_recent_verification(call)
    call.store.users.remove_password(call.user.id)
    return _show(call)


def list_emails(call: Call) -> Json:
    return [render_email(email) for email in call.user.email_addresses]


def create_email(call: Call) -> Json:
    user, address = call.user, call.form.need("email_address")
    _need_recent_verification(call)
    return render_email(call.store.users.add_email(user.id, address, verified=False, primary=False))


def get_email(call: Call) -> Json:
    return render_email(_email(call))


def delete_email(call: Call) -> Json:
    """The last one that is verified stays: by what else would its owner sign in?"""
    email = _email(call)
    _need_recent_verification(call)
    if not any(each.verified and each.id != email.id for each in call.user.email_addresses):
        message = "You cannot delete your last identification."
        raise errors.refused("identification_deletion_failed", message)
    call.store.users.delete_email(email.id)
    return {"object": "email_address", "id": email.id, "deleted": True}


def prepare_email_verification(call: Call) -> Json:
    """No mail is sent: the code is known."""
    email = _unverified_email(call)
    if call.form.need("strategy") != "email_code":
        raise errors.invalid("strategy", "must be email_code")
    return render_email(email)


def attempt_email_verification(call: Call) -> Json:
    email, now = _unverified_email(call), call.store.clock()
    check_code(call.form.need("code"), now, now)
    return render_email(call.store.users.update_email(email.id, verified=True, primary=None))


def set_image(call: Call) -> Json:
    user, image = call.user, images.read_upload(call.raw, call.content_type)
    call.store.users.update(user.id, {"image": image})
    return {"object": "image", "id": call.store.identifiers.new("img"), "name": "profile", "public_url": image}


def delete_image(call: Call) -> Json:
    user = call.user
    if user.image is None:
        raise errors.ClerkError(404, "image_not_found", "Image not found.")
    call.store.users.update(user.id, {"image": None})
    return {"object": "image", "deleted": True}


def refuse_external_account(call: Call) -> Json:
    """The page of people stands for no account that could be connected."""
    message = f"{call.user.identifier} cannot connect an account of another provider: the emulator has none."
    raise errors.ClerkError(422, "oauth_provider_not_enabled", message, param="strategy")


def create_service_token(call: Call) -> Json:
    """There are no integrations with other services."""
    raise errors.not_found(f"integration for {call.user.identifier}", call.form.need("service"))


def _email(call: Call) -> EmailAddress:
    id = call.path["email_id"]
    email = next((each for each in call.user.email_addresses if each.id == id), None)
    if email is None:
        raise errors.not_found("email address", id)
    return email


def _unverified_email(call: Call) -> EmailAddress:
    email = _email(call)
    if email.verified:
        message = "This verification has already been verified."
        raise errors.ClerkError(400, "verification_already_verified", message)
    return email


def _need_recent_verification(call: Call) -> None:
    """ClerkError that makes Clerk's components ask for the first factor, and then try again."""
    minutes, _ = call.session.factor_ages(call.store.clock())
    if minutes >= _VERIFY_AFTER:
        meta = {"reverification": {"level": "first_factor", "after_minutes": _VERIFY_AFTER}}
        message = "This needs a recent sign-in: verify a first factor of this session, and try again."
        raise errors.ClerkError(403, "session_reverification_required", message, meta=meta)


def _show(call: Call) -> Json:
    return render_user(call.store.state, call.user)
