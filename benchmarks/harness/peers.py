"""Tables as the peers' own libraries set them up: each with its copy of the documents."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from benchmarks.harness.documents import copy_documents
from benchmarks.harness.mirror import tenant_ids
from benchmarks.harness.postgres import APP_OF_ROLES, Database


def prepare_fastapi_rls(database: Database) -> None:
    """One policy on a setting, written by the library."""
    from fastapi_rls import RLS, TenantPolicy
    from fastapi_rls.registry import PolicyRegistry
    from sqlalchemy import create_engine

    copy_documents(database, "rls_documents")
    registry = PolicyRegistry()
    registry.register(TenantPolicy("isolation", column="tenant_id", table="rls_documents", context_type="uuid"))
    engine = create_engine(database.url().replace("://", "+psycopg://"))
    RLS(engine=engine, registry=registry).sync()
    engine.dispose()


def prepare_sqlalchemy_tenants(database: Database) -> None:
    """A role for each tenant, with the library's own policy and function.

    Its `create_tenant` grants every table to every role, which no table's list of grants holds beyond some 2,400
    tenants; one group role that carries the grants stands in for that.
    """
    import sqlalchemy_tenants.core as library

    database.run_as_app("create schema roles")
    copy_documents(database, "roles.documents", column="tenant")
    function = library._GET_TENANT_FUNCTION_TEMPLATE.format(
        name=library.GET_TENANT_FUNCTION_NAME, tenant_role_prefix=library.TENANT_ROLE_PREFIX
    )
    policy: Any = library.get_table_policy(table_name="documents", column_type=UUID)
    database.run_as_app(function)
    database.run_as_app("alter table roles.documents enable row level security")
    database.run_as_app("alter table roles.documents force row level security")
    database.run_as_app(policy.replace('"documents"', "roles.documents"))
    database.run("create role every_tenant; grant usage on schema roles to every_tenant")
    database.run(f"""
        grant select, insert, update, delete on roles.documents to every_tenant;
        grant usage on schema roles to {APP_OF_ROLES};
    """)
    names = [library.get_tenant_role_name(UUID(tenant_id)) for tenant_id in tenant_ids(database)]
    database.run("".join(f'create role "{name}" in role every_tenant role {APP_OF_ROLES};' for name in names))
