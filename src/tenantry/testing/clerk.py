"""Organizations and members as tests make them: every act is an event that the mirror records as in production."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from tenantry import database, mirror, webhooks
from tenantry.clerk import find_keys
from tenantry.context import Scope, scope_of, use_scope
from tenantry.errors import InvalidArgument, WebhookError
from tenantry.roles import normalise_role
from tenantry.testing import objects
from tenantry.testing.claims import (
    ActiveOrganization,
    check_permissions,
    claims_v1,
    claims_v2,
    is_system,
    session_claims,
)
from tenantry.testing.instance import ORIGIN, Instance, Webhook
from tenantry.testing.objects import Json, create_id
from tenantry.tokens import Verifier

if TYPE_CHECKING:
    import psycopg

    from tenantry.settings import Settings


class Clerk:
    """What one test has made in Clerk. `connection` is the app's login to the test's database, in autocommit."""

    def __init__(self, instance: Instance, settings: Settings, connection: psycopg.Connection[Any]) -> None:
        self.instance = instance
        self.settings = settings
        self.connection = connection
        self._people: dict[str, Json] = {}
        self._numbers = count(1)

    def create_organization(self, name: str, *, slug: str | None = None) -> Tenant:
        """A new organization; Clerk allows several of one name. A new application's have no slug."""
        shown = objects.organization(self.number("org", name), name=name, slug=slug, at=self.instance.now())
        self.tell(self.instance.webhook("organization.created", shown))
        return Tenant(self, shown)

    def find_person(self, handle: str) -> Json:
        """The user of this handle, who signs up when first named."""
        if handle not in self._people:
            email = re.sub(r"\W+", ".", handle.lower()) + "@example.test"
            shown = objects.user(
                create_id("user", handle), first_name=handle.capitalize(), email=email, at=self.instance.now()
            )
            self.tell(self.instance.webhook("user.created", shown))
            self._people[handle] = shown
        return self._people[handle]

    def number(self, prefix: str, label: str) -> str:
        """An id that the test has not used."""
        return create_id(prefix, f"{label}{next(self._numbers)}")

    def tell(self, delivery: Webhook) -> None:
        """Verifies and records a delivery, as the webhook endpoint does. Raises WebhookError when it is not taken."""
        verified = webhooks.verify([self.instance.webhook_secret], delivery.headers, delivery.body)
        [told] = mirror.read_outcomes(database.run(self.connection, mirror.record_events([verified])))
        if told.outcome not in ("applied", "stale"):
            raise WebhookError(f"The mirror did not take {verified.type}: {told.error or told.outcome}.")


class Tenant:
    """An organization. `organization` is Clerk's object as it is now."""

    def __init__(self, clerk: Clerk, organization: Json) -> None:
        self.clerk = clerk
        self.organization = organization
        self._members: set[str] = set()

    @property
    def org_id(self) -> str:
        """Clerk's id."""
        return str(self.organization["id"])

    @property
    def name(self) -> str:
        return str(self.organization["name"])

    @property
    def slug(self) -> str | None:
        slug: str | None = self.organization["slug"]
        return slug

    @cached_property
    def id(self) -> UUID:
        """The id in `tenantry.tenants`, which `tenant_context` takes and isolated rows carry."""
        query = "select (tenantry.find_tenant(%s)).id"
        [(id,)] = self.clerk.connection.execute(query, [self.org_id]).fetchall()
        return UUID(str(id))

    def member(
        self,
        handle: str,
        *,
        role: str = "org:member",
        permissions: Iterable[str] = (),
        features: Iterable[str] = (),
        plan: str | None = None,
    ) -> Member:
        """A user joins; in every organization the same handle is the same user.

        `permissions` are Clerk's (`org:orders:delete`), `features` and `plan` what their tokens say of the plan
        (`exports`, `u:themes`). Raises InvalidArgument for a member who has not left, or a permission not Clerk's.
        """
        if handle in self._members:
            raise InvalidArgument(f"{handle!r} is a member of {self.name} already.", hint="Use change_role or leave.")
        held = check_permissions(permissions)
        user = self.clerk.find_person(handle)
        self._count(self._members | {handle})
        shown = objects.membership(
            self.clerk.number("orgmem", handle),
            of=self.organization,
            user=user,
            role=normalise_role(role),
            permissions=held,
            at=self.clerk.instance.now(),
        )
        joined = Member(self, handle, user, shown, features=tuple(features), plan=plan)
        self.clerk.tell(joined.webhook("organizationMembership.created"))
        return joined

    def delete(self) -> None:
        """The organization is deleted, and nobody is let in any more."""
        self.clerk.tell(self.webhook("organization.deleted"))

    def webhook(self, type: str, **changes: Any) -> Webhook:
        """A signed delivery of an event `organization.…`; `changes` are fields of the object. Nothing is recorded."""
        return _deliver(self.clerk.instance, type, {"organization": self.organization}, changes)

    def _count(self, members: set[str]) -> None:
        self._members = members
        self.organization["members_count"] = len(members)


class Member:
    """A user in an organization. `user` and `membership` are Clerk's objects as they are now."""

    def __init__(
        self, tenant: Tenant, handle: str, user: Json, membership: Json, *, features: tuple[str, ...], plan: str | None
    ) -> None:
        self.tenant = tenant
        self.handle = handle
        self.user = user
        self.membership = membership
        self.session_id = tenant.clerk.number("sess", handle)
        self._features = features
        self._plan = plan
        self._out_since: int | None = None

    @property
    def user_id(self) -> str:
        """Clerk's id."""
        return str(self.user["id"])

    @property
    def role(self) -> str:
        return str(self.membership["role"])

    @property
    def permissions(self) -> tuple[str, ...]:
        return tuple(self.membership["permissions"])

    def token(
        self, *, version: Literal[1, 2] = 2, age: int = 0, life: int = 60, organization: bool = True, **changes: Any
    ) -> str:
        """A session token, signed `age` seconds ago to live `life` seconds; without an active organization if asked.

        Of who has left or is banned it is the last one they got: Clerk signs them none afterwards. `changes` are
        claims; None leaves one out.
        """
        basis = session_claims(
            user_id=self.user_id,
            session_id=self.session_id,
            issuer=self.clerk.instance.issuer,
            origin=ORIGIN,
            issued_at=self._last_signed() - age,
            life=life,
        )
        active = self._active_organization() if organization else None
        added = claims_v1(active) if version == 1 else claims_v2(active, features=self._features, plan=self._plan)
        signed = {name: value for name, value in (basis | added | changes).items() if value is not None}
        return self.clerk.instance.sign(signed)

    def headers(self, **token: Any) -> dict[str, str]:
        """The headers of a request with a token: see `token`."""
        return {"Authorization": f"Bearer {self.token(**token)}"}

    def cookies(self, **token: Any) -> dict[str, str]:
        """The session cookie instead. An unsafe request also takes an `Origin` of `http://testserver`."""
        return {f"__session_{self.clerk.settings.cookie_suffix}": self.token(**token)}

    def change_role(self, role: str, *, permissions: Iterable[str] = ()) -> None:
        """The member gets another role with these permissions; tokens they had say the old one."""
        self._change(self.membership, role=normalise_role(role), permissions=list(check_permissions(permissions)))
        self.clerk.tell(self.webhook("organizationMembership.updated"))

    def leave(self) -> None:
        """The membership ends; `Tenant.member` makes a new one."""
        self.tenant._count(self.tenant._members - {self.handle})
        self.clerk.tell(self.webhook("organizationMembership.deleted"))

    def ban(self) -> None:
        """The user is banned, in every organization."""
        self._change(self.user, banned=True)
        self.clerk.tell(self.webhook("user.updated"))

    def sign_out(self) -> None:
        """The session of this member's tokens ends."""
        self.clerk.tell(self.webhook("session.ended"))

    def webhook(self, type: str, **changes: Any) -> Webhook:
        """A signed delivery of an event about this member: `user.…`, `organizationMembership.…` or `session.…`.

        `changes` are fields of the object. Nothing is recorded: post it to your endpoint.
        """
        if type == "organizationMembership.deleted" or changes.get("banned"):
            self._out_since = self.clerk.instance.now()
        status = type.partition(".")[2].replace("created", "active")
        shown = {
            "user": self.user,
            "organizationMembership": self.membership | {"organization": dict(self.tenant.organization)},
            "session": objects.session(
                self.session_id,
                user=self.user,
                organization_id=self.tenant.org_id,
                status=status,
                at=self.membership["created_at"],
            ),
        }
        return _deliver(self.clerk.instance, type, shown, changes)

    @property
    def clerk(self) -> Clerk:
        return self.tenant.clerk

    def _last_signed(self) -> int:
        """When Clerk last signed them a token, in seconds."""
        moments = [int(time.time() * 1000)]
        moments += [self._out_since] if self._out_since is not None else []
        moments += [self.user["updated_at"]] if self.user["banned"] else []
        return int(min(moments)) // 1000

    def _active_organization(self) -> ActiveOrganization:
        custom = tuple(permission for permission in self.permissions if not is_system(permission))
        return ActiveOrganization(id=self.tenant.org_id, slug=self.tenant.slug, role=self.role, permissions=custom)

    def _change(self, shown: Json, **changes: Any) -> None:
        shown |= changes | {"updated_at": self.clerk.instance.now()}


@contextmanager
def acting_as(member: Member, **token: Any) -> Iterator[Scope]:
    """The running code works for this member, as in a request that carries their token; `token` is `Member.token`'s.

    Raises an AuthenticationFailed where the token is not good; the database decides when a transaction begins.
    """
    settings = member.clerk.settings
    verifier = Verifier.from_settings(settings, find_keys(settings))
    identity = verifier.verify_with(member.clerk.instance.public_key, member.token(**token), now=time.time())
    scope = scope_of(
        identity,
        personal_accounts=settings.personal_accounts == "allow",
        membership_source=settings.membership_source,
    )
    with use_scope(scope):
        yield scope


def _deliver(instance: Instance, type: str, shown: dict[str, Json], changes: Json) -> Webhook:
    kind, _, verb = type.partition(".")
    if kind not in shown:
        raise InvalidArgument(
            f"{type!r} is no event about {' or '.join(shown)}.",
            hint="clerk_instance.webhook(type, data) signs any event.",
        )
    at = instance.now()
    data = shown[kind]
    if verb == "deleted" and kind != "organizationMembership":  # the one deletion that shows the whole object
        data = objects.deleted(data)
    elif changes:
        data = data | {"updated_at": at}
    return instance.webhook(type, data | changes, at=at)
