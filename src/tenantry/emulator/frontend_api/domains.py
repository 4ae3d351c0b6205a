"""`/v1/organizations/{id}/domains`: added, verified by a code, and what they offer to whoever has an address there."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.frontend_api import listing
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.organizations import membership_of, organization_of
from tenantry.emulator.frontend_api.render import organizations as render
from tenantry.emulator.records import Domain, User

Json = dict[str, Any]

_MANAGE, _READ = "org:sys_domains:manage", "org:sys_domains:read"


def list_domains(call: Call) -> Json:
    organization_id = membership_of(call, _READ, _MANAGE).organization_id
    verified, modes = call.query.flag("verified"), call.query.texts("enrollment_mode")
    found = [
        each for each in call.store.state.domains_of(organization_id) if not modes or each.enrollment_mode in modes
    ]
    found = [each for each in found if verified is None or (each.verified_at is not None) is verified]
    return listing.page(call, found, lambda each: _show(call, each))


def create(call: Call) -> Json:
    """Verified at once when the person has a verified address of the domain."""
    call.form.only("name", "enrollment_mode")
    organization = organization_of(call, membership_of(call, _MANAGE))
    name, mode = call.form.need("name"), call.form.text("enrollment_mode") or None
    _check_mode(call, mode)
    address = _address_at(call.user, name)
    domain = call.store.domains.create(
        organization, name, mode, verified=address is not None, affiliation_email_address=address
    )
    return _show(call, domain)


def get(call: Call) -> Json:
    return _show(call, _get(call, _READ, _MANAGE))


def delete(call: Call) -> Json:
    domain = _get(call, _MANAGE)
    call.store.domains.delete(domain)
    return render.deleted("organization_domain", domain.id)


def update_enrollment_mode(call: Call) -> Json:
    call.form.only("enrollment_mode", "delete_pending")
    domain, mode = _get(call, _MANAGE), call.form.need("enrollment_mode")
    _check_mode(call, mode)
    if call.form.flag("delete_pending"):
        call.store.enrollments.withdraw(domain)
    return _show(call, call.store.domains.update(domain, enrollment_mode=mode, verified=None))


def prepare_affiliation_verification(call: Call) -> Json:
    call.form.only("affiliation_email_address")
    domain = _get(call, _MANAGE)
    return _show(call, call.store.domains.send_code(domain, call.form.need("affiliation_email_address")))


def attempt_affiliation_verification(call: Call) -> Json:
    call.form.only("code")
    domain = _get(call, _MANAGE)
    return _show(call, call.store.domains.try_code(domain, call.form.need("code")))


def _get(call: Call, *permissions: str) -> Domain:
    organization_id = membership_of(call, *permissions).organization_id
    return call.store.domains.get(organization_id, call.path["domain_id"])


def _check_mode(call: Call, mode: str | None) -> None:
    """A mode that the instance leaves out is refused; one that Clerk does not know at all, by the store."""
    allowed = call.store.state.settings.domains_enrollment_modes
    if mode is not None and mode not in allowed:
        message = f"This enrollment mode is not enabled for this instance's organizations; use {', '.join(allowed)}."
        raise errors.refused("organization_domain_enrollment_mode_not_enabled", message)


def _address_at(user: User, domain: str) -> str | None:
    addresses = [each.email_address for each in user.email_addresses if each.verified]
    return next((each for each in addresses if each.partition("@")[2] == domain.lower()), None)


def _show(call: Call, domain: Domain) -> Json:
    return render.domain(call.store.state, domain)
