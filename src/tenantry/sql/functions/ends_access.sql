-- Whether a row of the feed can mean that somebody may do less than before. Who joins, and what has another name, cannot.
create or replace function tenantry.ends_access(kind text, before jsonb, after jsonb)
returns boolean language sql immutable parallel safe as $$
  select kind in ('member.left', 'member.role_changed', 'tenant.deleted', 'user.deleted')
    or kind = 'member.updated' and before -> 'permissions' is distinct from after -> 'permissions'
    or kind = 'user.updated' and after -> 'banned' = 'true' and before -> 'banned' is distinct from 'true'
    or kind in ('role.created', 'role.updated', 'role.deleted', 'permission.updated', 'permission.deleted')
$$;
