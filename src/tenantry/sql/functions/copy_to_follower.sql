-- Has a table that follows copy these organizations, whose rows the caller has locked: all at once, or else one by one.
-- Answers how many it took; of the others it notes why not. After a lock that was not to be had, or half a second, what
-- is left waits for the next time: whoever changed the organizations is waiting too.
create or replace function tenantry.copy_to_follower(follower tenantry.followers, organizations tenantry.tenants[])
returns integer language plpgsql as $$
declare
  deadline constant timestamptz := clock_timestamp() + interval '0.5 s';
  refusal  tenantry.follower_gaps := tenantry.hand_over(follower, organizations);
  refused  boolean := refusal.code is not null;
  late     boolean := coalesce(refusal.code = '55P03', false);
  taken    uuid[] := case when refused then '{}' else array(select o.id from unnest(organizations) as o) end;
  one      tenantry.tenants;
begin
  foreach one in array case when refused then organizations else '{}' end loop
    if not late and cardinality(organizations) > 1 then
      refusal := tenantry.hand_over(follower, array[one]);
      refused := refusal.code is not null;
      late := coalesce(refusal.code = '55P03', false) or clock_timestamp() > deadline;
    else
      refused := true;
    end if;
    if refused then
      insert into tenantry.follower_gaps as g (relation, tenant_id, attempts, code, object, at)
      values (follower.relation, one.id, 1, refusal.code, refusal.object, clock_timestamp())
      on conflict (relation, tenant_id) do update set
        attempts = g.attempts + 1, code = excluded.code, object = excluded.object, at = excluded.at;
    else
      taken := taken || one.id;
    end if;
  end loop;
  delete from tenantry.follower_gaps as g where g.relation = follower.relation and g.tenant_id = any (taken);
  return cardinality(taken);
end
$$;
