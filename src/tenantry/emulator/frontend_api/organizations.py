"""`/v1/organizations`: what members may see and do of an organization, and who may make one."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api import images, listing
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.render import organizations as render
from tenantry.emulator.records import Membership, Organization

Json = dict[str, Any]

MANAGE_PROFILE, DELETE_PROFILE = "org:sys_profile:manage", "org:sys_profile:delete"


def create(call: Call) -> Json:
    call.form.only("name", "slug")
    user = call.user
    call.store.organizations.check_enabled()
    if not (call.store.state.settings.users_may_create_organizations and user.create_organization_enabled):
        message = "Organization creation is not enabled for this user."
        raise errors.refused("user_create_organization_not_enabled", message)
    name, slug = call.form.need("name"), call.form.text("slug") or None
    return _show(call, call.store.organizations.create(name, slug=slug, created_by=user.id))


def get(call: Call) -> Json:
    return _show(call, organization_of(call, _need_membership(call)))


def update(call: Call) -> Json:
    call.form.only("name", "slug")
    organization = organization_of(call, _need_membership(call, MANAGE_PROFILE))
    found = {"name": call.form.text("name"), "slug": call.form.text("slug")}
    changes = {name: value for name, value in found.items() if value}
    if call.form.has("name") and "name" not in changes:
        raise errors.missing("name")
    return _show(call, call.store.organizations.update(organization.id, changes) if changes else organization)


def delete(call: Call) -> Json:
    """Its members' sessions have it active no longer."""
    organization = organization_of(call, _need_membership(call, DELETE_PROFILE))
    if not organization.admin_delete_enabled:
        message = "Deletion by admin is not enabled for this organization."
        raise errors.refused("organization_admin_delete_not_enabled", message)
    call.store.organizations.delete(organization.id)
    slug = {"slug": organization.slug} if organization.slug else {}
    return render.deleted("organization", organization.id) | slug


def set_logo(call: Call) -> Json:
    organization = organization_of(call, _need_membership(call, MANAGE_PROFILE))
    logo = images.read_upload(call.raw, call.content_type)
    return _show(call, call.store.organizations.set_logo(organization, logo))


def delete_logo(call: Call) -> Json:
    organization = organization_of(call, _need_membership(call, MANAGE_PROFILE))
    if organization.logo is None:
        raise ClerkError(404, "image_not_found", "Image not found.")
    call.store.organizations.set_logo(organization, None)
    return render.deleted("image")


def list_roles(call: Call) -> Json:
    membership_of(call)
    state = call.store.state
    found = listing.page(call, [*state.roles.values()], lambda each: render.role(state, each))
    return found | {"has_role_set_migration": False}


def membership_of(call: Call, *permissions: str) -> Membership:
    """The caller's, in the organization of the path. ClerkError without one, or without any of the `permissions`.

    A stranger is not told whether there is such an organization.
    """
    user = call.user
    call.store.organizations.check_enabled()
    membership = call.store.state.membership(_id(call), user.id)
    if membership is None:
        message = "Current user is not a member of the organization. Only organization members can perform this action."
        raise errors.refused("not_a_member_in_organization", message)
    if permissions and not any(call.store.state.holds(membership, each) for each in permissions):
        message = "Current user is missing an organization permission."
        meta = {"permissions": [*permissions]}
        raise ClerkError(403, "missing_organization_permission", message, meta=meta)
    return membership


def organization_of(call: Call, membership: Membership) -> Organization:
    return call.store.state.organizations[membership.organization_id]


def _need_membership(call: Call, *permissions: str) -> Membership:
    """As `membership_of`; here Clerk answers a stranger as if there were no such organization."""
    call.store.organizations.check_enabled()
    if call.store.state.membership(_id(call), call.user.id) is None:
        message = "Given organization not found, or you don't have permission to access the organization."
        raise errors.refused("organization_not_found_or_unauthorized", message, status=404)
    return membership_of(call, *permissions)


def _id(call: Call) -> str:
    """The path may name an organization by its slug."""
    named = call.path["organization_id"]
    return call.store.state.organization_by_slug.get(named, named)


def _show(call: Call, organization: Organization) -> Json:
    return render.organization(call.store.state, organization)
