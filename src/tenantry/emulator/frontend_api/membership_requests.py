"""`/v1/organizations/{id}/membership_requests`: answered by who manages the members."""

from __future__ import annotations

from typing import Any

from tenantry.emulator.frontend_api import listing
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.memberships import MANAGE
from tenantry.emulator.frontend_api.organizations import membership_of
from tenantry.emulator.frontend_api.render import organizations as render
from tenantry.emulator.records import MembershipRequest

Json = dict[str, Any]

_STATUSES = ("pending", "accepted", "rejected")


def list_requests(call: Call) -> Json:
    organization_id, wanted = membership_of(call, MANAGE).organization_id, listing.statuses(call, _STATUSES)
    found = [each for each in call.store.state.membership_requests_of(organization_id) if each.status in wanted]
    return listing.page(call, found, lambda each: _show(call, each))


def accept(call: Call) -> Json:
    return _show(call, call.store.membership_requests.accept(_get(call)))


def reject(call: Call) -> Json:
    return _show(call, call.store.membership_requests.reject(_get(call)))


def _get(call: Call) -> MembershipRequest:
    organization_id = membership_of(call, MANAGE).organization_id
    return call.store.membership_requests.get(organization_id, call.path["request_id"])


def _show(call: Call, request: MembershipRequest) -> Json:
    return render.membership_request(call.store.state, request)
