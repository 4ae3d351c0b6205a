"""Whom the running code works for: a ContextVar that requests set from a verified token and jobs by hand.

A `Scope` says how transactions enter the tenant; adapters call its `entry` when one begins and keep the database's
answer, the `TenantContext`. Async tasks and threads started by a framework inherit the scope; a thread of your own does
not, and fails closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tenantry import mirror, roles
from tenantry.errors import InvalidArgument, NoTenant, TenantryError

if TYPE_CHECKING:
    from tenantry.identity import Identity
    from tenantry.mirror import Call


@dataclass(frozen=True, kw_only=True)
class TenantContext:
    """The tenant of a transaction or request, and what its user may do there, as the database decided.

    `role` carries `org:`. `permissions` are Clerk's own; `system_permissions` (`org:sys_…`) are never in a token and
    come from the mirror; `app_permissions` are the patterns of the app's own map. `name` is None until the mirror has
    seen the organization. Without a user (`user_id` None) the app itself acts: every permission, no role.
    """

    id: UUID
    org_id: str | None
    slug: str | None
    name: str | None
    user_id: str | None
    role: str | None
    permissions: frozenset[str] = frozenset()
    system_permissions: frozenset[str] = frozenset()
    app_permissions: frozenset[str] = frozenset()

    @property
    def identity(self) -> Identity | None:
        """The token's facts; None in a job. No field, so that answering with a context does not show the claims."""
        return self.__dict__.get("_identity")

    def has(
        self,
        *,
        role: str | None = None,
        permission: str | None = None,
        feature: str | None = None,
        plan: str | None = None,
        reverification: str | Mapping[str, object] | None = None,
    ) -> bool:
        """Clerk's `has()`, with the role and permissions that hold now: see `Identity.has`."""
        if self.user_id is None:
            return permission is not None and (role, feature, plan, reverification) == (None, None, None, None)
        return self._holder().has(
            role=role, permission=permission, feature=feature, plan=plan, reverification=reverification
        )

    def can(self, permission: str) -> bool:
        """The app's own map: whether the role has this permission in `tenantry.toml`."""
        return self.user_id is None or roles.can(self.app_permissions, permission)

    def _holder(self) -> Identity:
        held = self.permissions | self.system_permissions
        if self.identity is not None:
            return replace(self.identity, role=self.role, permissions=held)
        from tenantry.identity import Identity

        return Identity(
            user_id=self.user_id or "",
            org_id=self.org_id,
            role=self.role,
            permissions=held,
            issued_at=0,
            expires_at=0,
        )


@dataclass(slots=True)
class Scope:
    """How the transactions of a request or job enter their tenant.

    `entry` is the call that sets it; `provision` the one that makes an unknown tenant known, for tokens. `key` is equal
    for the same tenant and user: a session serves one of them for life. `error`: entering is refused with it before the
    database is asked. `context` is the database's latest answer, and `entered` whether it ever gave one. `rules` raise
    where a context may not do what the request asked for: what stays open is held to them as long as it lasts.
    """

    key: tuple[str | None, str | None]
    entry: Call | None = None
    provision: Call | None = None
    identity: Identity | None = None
    error: TenantryError | None = None
    context: TenantContext | None = None
    entered: bool = False
    instance_id: str | None = None
    rules: list[Callable[[TenantContext], object]] = field(default_factory=list)

    def enter(self) -> Call:
        """The call to make when a transaction begins. Raises the reason why there is none."""
        if self.error is not None:
            raise self.error
        if self.entry is None:
            raise NoTenant
        return self.entry

    def admit(self, answer: str) -> TenantContext:
        """Keeps what the database answered to `entry`."""
        self.context = read_context(answer, self.identity)
        self.entered = True
        return self.context


_current: ContextVar[Scope | None] = ContextVar("tenantry_scope", default=None)


def current_scope() -> Scope:
    """The running code's scope. Raises NoTenant where nothing set one."""
    scope = _current.get()
    if scope is None:
        raise NoTenant(
            "This code runs for no tenant.",
            hint="Call it in a request that carries a session token, or inside tenant_context(tenant_id, reason=…).",
        )
    return scope


def current_tenant() -> TenantContext:
    """The tenant of the request or job, once a transaction or `CurrentTenant` has entered it. Raises NoTenant."""
    scope = current_scope()
    if scope.error is not None:
        raise scope.error
    if scope.context is None:
        raise NoTenant(
            "The tenant of this request or job has not been entered yet.",
            hint="Begin a transaction first, or depend on CurrentTenant.",
        )
    return scope.context


@contextmanager
def use_scope(scope: Scope) -> Iterator[Scope]:
    """Makes `scope` the running code's for the length of a `with`."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        if _current.get() is not scope:
            # Generators that take turns leave in another order than they entered, and what is current afterwards is
            # an accident: nobody is to work in it.
            scope.error = NoTenant(
                "A tenant was left in another order than it was entered.",
                hint="Do not `yield` inside tenant_context: collect inside, yield outside.",
            )
        _current.reset(token)


@contextmanager
def tenant_context(
    tenant_id: UUID | str, *, reason: str, user_id: str | None = None, instance_id: str | None = None
) -> Iterator[Scope]:
    """Work for a tenant without a token: jobs, cron, other webhooks, a shell.

    Every transaction begun inside enters the tenant; the database checks then that it still exists and, with
    `user_id`, that the user is still a member; with `instance_id`, that it mirrors this Clerk instance. `reason` goes
    to the server's log.
    """
    try:
        key = UUID(str(tenant_id))
    except ValueError:
        raise InvalidArgument(
            f"{str(tenant_id)[:100]!r} is no tenant's id.",
            hint="A tenant's id is the uuid in tenantry.tenants.id, not Clerk's org_….",
        ) from None
    entry = mirror.set_tenant_by_id(key, reason, user_id, instance_id)
    with use_scope(Scope(key=(str(key), user_id), entry=entry, instance_id=instance_id)) as scope:
        yield scope


def scope_of(identity: Identity, *, personal_accounts: bool = False, membership_source: str = "mirror") -> Scope:
    """The scope of a verified token; the database decides whether it is let in."""
    options: dict[str, Any] = {}
    if identity.org_id is None and personal_accounts:
        options["personal_account"] = True
    if membership_source == "token":
        options["membership_source"] = "token"
    facts = mirror.encode(identity.as_json() | options) if options else identity.to_json()
    return Scope(
        key=(identity.org_id, identity.user_id),
        entry=mirror.set_tenant(facts),
        provision=mirror.provision(facts),
        identity=identity,
        instance_id=identity.instance_id,
    )


def read_context(answer: str, identity: Identity | None = None) -> TenantContext:
    """A `TenantContext` from the JSON text that set_tenant_v1 and set_tenant_by_id_v1 answer."""
    told = mirror.decode(answer)
    context = TenantContext(
        id=UUID(told["tenant_id"]),
        org_id=told["org_id"],
        slug=told["slug"],
        name=told["name"],
        user_id=told["user_id"],
        role=told["role"],
        permissions=frozenset(told["permissions"] or ()),
        system_permissions=frozenset(told["system_permissions"] or ()),
        app_permissions=frozenset(told["app_permissions"] or ()),
    )
    context.__dict__["_identity"] = identity
    return context
