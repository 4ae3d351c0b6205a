"""Whom the running code works for, and what its tenant may do."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import mirror
from tenantry.context import (
    Scope,
    TenantContext,
    current_scope,
    current_tenant,
    read_context,
    scope_of,
    tenant_context,
    use_scope,
)
from tenantry.errors import InvalidArgument, NoTenant, SessionPending
from tenantry.identity import Identity

TENANT = uuid.UUID("0b8a7f6e-0000-4000-8000-000000000001")


def answer(**changes: object) -> str:
    """What the database says of an admitted member."""
    told: dict[str, object] = {
        "tenant_id": str(TENANT),
        "org_id": "org_1",
        "slug": "acme",
        "name": None,
        "user_id": "user_1",
        "role": "org:member",
        "role_source": "token",
        "permissions": ["org:documents:read"],
        "system_permissions": ["org:sys_memberships:read"],
        "app_permissions": ["documents:*"],
    }
    return mirror.encode(told | changes)


def identity(**changes: Any) -> Identity:
    facts: dict[str, Any] = {"user_id": "user_1", "org_id": "org_1", "issued_at": 1, "expires_at": 61}
    return Identity(**facts | changes)


def test_without_a_scope_there_is_no_tenant_and_the_error_says_what_to_do() -> None:
    for ask in (current_scope, current_tenant):
        with pytest.raises(NoTenant, match="tenant_context"):
            ask()


def test_a_tenant_is_current_once_the_database_has_admitted_it() -> None:
    with use_scope(Scope(key=("org_1", "user_1"))) as scope:
        with pytest.raises(NoTenant, match="Begin a transaction"):
            current_tenant()
        admitted = scope.admit(answer())
        assert current_tenant() is admitted
    assert (admitted.id, admitted.org_id, admitted.slug, admitted.name) == (TENANT, "org_1", "acme", None)


def test_a_refused_scope_gives_its_reason_each_time() -> None:
    with use_scope(Scope(key=(None, None), error=SessionPending())):
        for ask in (current_tenant, current_scope().enter):
            with pytest.raises(SessionPending):
                ask()


def test_scopes_nest_and_end_with_an_error_too() -> None:
    with tenant_context(TENANT, reason="outer") as outer:
        with pytest.raises(RuntimeError), tenant_context(uuid.uuid4(), reason="inner") as inner:  # noqa: PT012
            assert current_scope() is inner
            raise RuntimeError
        assert current_scope() is outer
    with pytest.raises(NoTenant):
        current_scope()


def test_generators_that_take_turns_leave_no_tenant_behind() -> None:
    def titles(tenant_id: uuid.UUID) -> Iterator[str]:
        with tenant_context(tenant_id, reason="a generator"):
            yield "one"
            yield "two"

    def take_turns() -> None:
        for _ in zip(titles(TENANT), titles(uuid.uuid4()), strict=True):
            pass
        with pytest.raises(NoTenant, match="another order"):
            current_scope().enter()

    copy_context().run(take_turns)  # what is left behind is not for other tests to find


def test_a_job_names_its_tenant_its_user_and_its_reason() -> None:
    with tenant_context(str(TENANT), reason="nightly", user_id="user_1") as scope:
        call = scope.enter()
    assert call.function == "set_tenant_by_id_v1"
    assert call.arguments == (str(TENANT), "nightly", '{"user_id":"user_1"}')
    assert scope.key == (str(TENANT), "user_1")
    assert scope.provision is None


@given(st.text())
def test_an_id_that_is_no_uuid_is_a_sentence(text: str) -> None:
    try:
        uuid.UUID(text)
    except ValueError:
        with pytest.raises(InvalidArgument, match="is no tenant's id"), tenant_context(text, reason="test"):
            pass


async def test_tasks_inherit_a_scope_and_keep_it() -> None:
    async def ask() -> Scope:
        await asyncio.sleep(0)
        return current_scope()

    with tenant_context(TENANT, reason="test") as scope:
        task = asyncio.create_task(ask())
    assert await task is scope


def test_a_thread_of_ones_own_has_no_tenant() -> None:
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            current_scope()
        except NoTenant as error:
            caught.append(error)

    with tenant_context(TENANT, reason="test"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"membership_source": "token"}, {"membership_source": "token"}),
        ({"personal_accounts": True}, {}),  # of no concern to a token with an organization
    ],
)
def test_a_tokens_scope_asks_with_its_facts(options: dict[str, Any], expected: dict[str, Any]) -> None:
    scope = scope_of(identity(), **options)
    facts = mirror.decode(str(scope.enter().arguments[0]))
    assert facts == mirror.decode(identity().to_json()) | expected
    assert scope.provision is not None
    assert scope.provision.arguments == scope.enter().arguments
    assert scope.key == ("org_1", "user_1")


@pytest.mark.parametrize("allowed", [False, True])
def test_a_token_without_an_organization_may_be_a_personal_account(allowed: bool) -> None:
    facts = mirror.decode(str(scope_of(identity(org_id=None), personal_accounts=allowed).enter().arguments[0]))
    assert facts.get("personal_account", False) is allowed


def test_has_reads_what_the_database_decided_and_the_rest_from_the_token() -> None:
    token = identity(role="org:admin", permissions=frozenset({"org:documents:delete"}), claims={"pla": "o:pro"})
    tenant = read_context(answer(), token)
    assert tenant.has(role="member")
    assert not tenant.has(role="admin")
    assert tenant.has(permission="org:documents:read")
    assert tenant.has(permission="org:sys_memberships:read")
    assert not tenant.has(permission="org:documents:delete")
    assert tenant.has(plan="pro", role="org:member")
    assert not tenant.has()


def test_a_member_without_a_token_has_the_mirrors_role_and_no_plan() -> None:
    tenant = read_context(answer())
    assert tenant.has(role="org:member", permission="org:documents:read")
    assert not tenant.has(plan="pro")


def test_can_reads_the_apps_own_map() -> None:
    tenant = read_context(answer())
    assert tenant.can("documents:delete")
    assert not tenant.can("billing:read")


def test_the_app_itself_may_do_everything_and_has_no_role() -> None:
    tenant = read_context(
        answer(user_id=None, role=None, permissions=None, system_permissions=None, app_permissions=None)
    )
    assert tenant.can("billing:refund")
    assert tenant.has(permission="org:documents:delete")
    assert not tenant.has(role="org:admin")
    assert not tenant.has(permission="org:documents:delete", plan="pro")
    assert not tenant.has()


def test_a_context_shows_no_claims_of_its_token() -> None:
    tenant = read_context(answer(), identity(claims={"secret": "sentinel"}))
    assert isinstance(tenant, TenantContext)
    assert "sentinel" not in repr(tenant)
