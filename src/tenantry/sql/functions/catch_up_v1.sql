-- Copies organizations into the app's own tables that follow and do not have them as they are: see follow_tenants_v1.
--
-- options: {"limit": so many for each table, 100 unless given}
-- returns: {"copied": n, "behind": how many are left}: call it again, in another transaction, while it copies some
-- raises:  TY010
--
-- Who may call: tenantry_app. Locks: the organizations' rows and the app's, until the transaction ends.
create or replace function tenantry.catch_up_v1(options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  copied integer;
begin
  if coalesce(options ->> 'limit', '100') !~ '^[1-9]\d{0,5}$' then
    perform tenantry.raise_error('TY010', 'limit is a whole number up to 999999');
  end if;
  copied := tenantry.fill_gaps(coalesce(options ->> 'limit', '100')::integer);
  return jsonb_build_object('copied', copied, 'behind', (
    select count(*) from tenantry.follower_gaps as g join tenantry.followers as f on f.relation = g.relation
    join pg_class as c on c.oid = f.relation));
end
$$;
