"""Fills Tenantry's mirror as its merges would have: organizations, users and memberships, by the hundred thousand.

Written straight into the tables, since a million deliveries take an hour. That merging would have written the same
rows is a test, and `benchmarks.growth` delivers the event of a membership that is there and expects nothing new.
"""

from __future__ import annotations

import time

from benchmarks.harness.clerk import EPOCH, INSTANCE
from benchmarks.harness.postgres import Database

# Members of one organization stand 13 users apart, and organizations begin 7 apart: users have several organizations.
_SEED = """
    set session_replication_role = replica;  -- no change feed: its readers are long past all this
    insert into tenantry.clerk_instance (instance_id) values ('{instance}') on conflict do nothing;

    insert into tenantry.tenants (
      id, clerk_org_id, name, slug, image_url, public_metadata, role_set_key, created_at,
      revision, observed_at, content_hash, last_seen)
    select tenantry.derive_tenant_id('{instance}', org_id), org_id, name, slug, image_url, '{{}}', role_set, {made},
      {epoch}, {made},
      hashtextextended(jsonb_build_array(name, slug, image_url, '{{}}'::jsonb, role_set)::text, 0), {made}
    from generate_series(0, {tenants} - 1) as n
    cross join lateral (select
      'org_' || lpad(n::text, 27, 'A') as org_id, 'Harbor & Pine ' || n as name, 'harbor-pine-' || n as slug,
      'https://img.example.test/org.png' as image_url, 'role_set:default' as role_set) as o;

    insert into tenantry.users (id) select distinct 'user_' || lpad((t * 7 + m * 13)::text, 27, 'A')
    from generate_series(0, {tenants} - 1) as t, generate_series(0, {members} - 1) as m;

    insert into tenantry.tenant_memberships (
      id, tenant_id, user_id, role, permissions, public_metadata, created_at,
      revision, observed_at, content_hash, last_seen)
    select 'orgmem_' || lpad(n::text, 27, 'A'),
      tenantry.derive_tenant_id('{instance}', 'org_' || lpad((n / {members})::text, 27, 'A')),
      'user_' || lpad((n / {members} * 7 + n % {members} * 13)::text, 27, 'A'), role, held, '{{}}', at,
      {epoch} + n, seen, hashtextextended(jsonb_build_array(role, held, '{{}}'::jsonb)::text, 0), seen
    from generate_series(0, {tenants} * {members} - 1) as n
    cross join lateral (select case when n % 10 = 0 then 'org:admin' else 'org:member' end as role,
      array['org:reports:read', 'org:sys_billing:read', 'org:sys_memberships:read'] as held,
      to_timestamp(({epoch} + n) / 1000.0) as at, to_timestamp(({epoch} + n + 25) / 1000.0) as seen) as m;

    -- The inbox of that many deliveries, their events forgotten.
    insert into tenantry.webhook_events (message_id, type, instance_id, outcome, digest, occurred_at)
    select 'msg_' || md5(n::text), 'organizationMembership.created', '{instance}', 'applied',
      sha256(int8send(n)), {made}
    from generate_series(0, {tenants}::bigint * {members} - 1) as n;
    reset session_replication_role;
"""


def member(tenant: int, number: int) -> int:
    """The number of the user who is the tenant's member `number`."""
    return tenant * 7 + number * 13


def membership(tenant: int, number: int, members: int) -> int:
    """The number of that membership, where every tenant has `members`."""
    return tenant * members + number


def script(tenants: int, members: int) -> str:
    """Fills an empty mirror with `tenants` organizations of `members` each; for a superuser."""
    made = f"to_timestamp({EPOCH} / 1000.0)"
    return _SEED.format(instance=INSTANCE, tenants=tenants, members=members, epoch=EPOCH, made=made)


def fill_mirror(database: Database, tenants: int, members: int) -> None:
    database.run(script(tenants, members))


def tenant_ids(database: Database) -> list[str]:
    """The tenants' ids, in the order of their numbers."""
    rows = database.rows(
        "select id::text from tenantry.tenants order by ltrim(substring(clerk_org_id from 5), 'A')::int"
    )
    return [tenant_id for (tenant_id,) in rows]


def remove(database: Database, membership_id: str) -> int:
    """Ends a membership as its deletion by an event would, now. Returns the second of it."""
    statement = "update tenantry.tenant_memberships set deleted_at = now() where id = %s returning id"
    if not database.rows(statement, membership_id):
        raise RuntimeError(f"there is no membership {membership_id}")
    return int(time.time())
