"""`/organizations/{id}/domains` and `/organization_domains`."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors, render
from tenantry.emulator.backend_api.call import Call
from tenantry.emulator.backend_api.listing import Keys, ordered, page
from tenantry.emulator.records import Domain

Json = dict[str, Any]

_ORDERS: Keys[Domain] = {"created_at": lambda each: each.created_at, "name": lambda each: each.name}


def list_domains(call: Call) -> Json:
    organization = call.store.organizations.get(call.path["organization_id"])
    found = _filtered(call, call.store.state.domains_of(organization.id))
    return page(call, ordered(call, found, _ORDERS), lambda each: _show(call, each))


def list_all(call: Call) -> Json:
    organizations, names = set(call.query.texts("organization_id")), set(call.query.texts("domains"))
    query = (call.query.text("query") or "").lower()
    found = _filtered(call, list(call.store.state.domains.values()))
    found = [each for each in found if not organizations or each.organization_id in organizations]
    found = [each for each in found if not names or each.name in names]
    found = [each for each in found if query in each.name or query == each.organization_id.lower()]
    return page(call, ordered(call, found, _ORDERS), lambda each: _show(call, each))


def create(call: Call) -> Json:
    """Verified, unless the caller says otherwise."""
    body = call.body
    body.only("name", "enrollment_mode", "verified")
    organization = call.store.organizations.get(call.path["organization_id"])
    verified = body.flag("verified") is not False
    domain = call.store.domains.create(organization, body.need("name"), body.text("enrollment_mode"), verified=verified)
    return _show(call, domain)


def update(call: Call) -> Json:
    body = call.body
    body.only("enrollment_mode", "verified")
    mode, verified = body.text("enrollment_mode"), body.flag("verified")
    return _show(call, call.store.domains.update(_get(call), enrollment_mode=mode, verified=verified))


def delete(call: Call) -> Json:
    domain = _get(call)
    call.store.domains.delete(domain)
    return render.deleted(domain)


def verify_ownership(call: Call) -> Json:
    return _show(call, call.store.domains.verify_ownership(_get(call)))


def _get(call: Call) -> Domain:
    organization = call.store.organizations.get(call.path["organization_id"])
    return call.store.domains.get(organization.id, call.path["domain_id"])


def _filtered(call: Call, domains: list[Domain]) -> list[Domain]:
    verified, modes = call.query.flag("verified"), call.query.selection("enrollment_mode")
    if call.query.text("query") is not None and not (call.query.text("query") or "").strip():
        raise errors.invalid("query", "must not be blank")
    found = [each for each in domains if modes.holds(each.enrollment_mode)]
    return [each for each in found if verified is None or (each.verified_at is not None) is verified]


def _show(call: Call, domain: Domain) -> Json:
    return render.domain(call.store.state, domain)
