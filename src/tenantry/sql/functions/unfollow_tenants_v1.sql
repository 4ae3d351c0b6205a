-- Ends what follow_tenants_v1 began: the table stays as it is, and nobody writes it any more. Also for a table that was
-- dropped since, by the number that check_v1 shows.
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.unfollow_tenants_v1(relation regclass)
returns jsonb language plpgsql as $$
declare
  known  tenantry.followers;
  schema regnamespace;
begin
  perform tenantry.refuse_second_context();
  select f.* into known from tenantry.followers as f where f.relation = unfollow_tenants_v1.relation;
  select c.relnamespace into schema from pg_class as c where c.oid = relation;
  if known.relation is null then
    perform tenantry.raise_error('TY030', format('%s follows nothing', coalesce(relation::text, 'null')));
  end if;
  perform tenantry.forget_follower(relation);
  execute format('drop function if exists %s(jsonb)', known.routine);
  if exists (select from pg_namespace as n cross join lateral aclexplode(n.nspacl) as g
             where n.oid = schema and g.grantee = 'tenantry_owner'::regrole and pg_has_role(g.grantor, 'usage'))
     and not exists (select from tenantry.followers as f join pg_class as c on c.oid = f.relation where c.relnamespace = schema) then
    execute format('revoke usage on schema %s from tenantry_owner', schema);
  end if;
  return jsonb_build_object('table', relation);
end
$$;
