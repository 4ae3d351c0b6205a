-- Tenants, in order of their Clerk ids, with how many members they have.
--
-- options: {"deleted": true: those deleted alone; false: the others alone, "limit": n, at most 1000, "after": "<Clerk id>"}
-- returns: [{"id", "org_id", "user_id", "name", "slug", "members", "created_at", "ended_at", "purged_at"}, ...]
--
-- Who may call: tenantry_app.
create or replace function tenantry.list_tenants_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
begin
  if coalesce(options ->> 'limit', '1000') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number');
  elsif jsonb_typeof(options -> 'deleted') <> 'boolean' then
    perform tenantry.raise_error('TY010', 'deleted is true or false');
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', page.id, 'org_id', page.clerk_org_id, 'user_id', page.clerk_user_id, 'name', page.name, 'slug', page.slug,
      'members', (select count(*) from tenantry.members as m where m.tenant_id = page.id),
      'created_at', page.created_at, 'ended_at', page.ended_at, 'purged_at', page.purged_at) order by page.clerk_id collate "C"), '[]')
    from (
      select t.*, coalesce(t.clerk_org_id, t.clerk_user_id) as clerk_id from tenantry.tenants as t
      where coalesce(t.clerk_org_id, t.clerk_user_id) collate "C" > coalesce(tenantry.clerk_text(options, 'after'), '')
        and (options -> 'deleted' is null or (options -> 'deleted')::boolean = (t.ended_at is not null))
      order by coalesce(t.clerk_org_id, t.clerk_user_id) collate "C" limit least(coalesce((options ->> 'limit')::integer, 1000), 1000)) as page);
end
$$;
