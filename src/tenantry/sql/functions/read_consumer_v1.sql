-- What a consumer is to be told next. Writes nothing, and tells nobody that it was asked: see enter_change_v1.
--
-- options: {"kinds": ["member.*", ...], default ["*"]; "limit": how many changes to look at, default 100, at most 1000}
-- returns: {"state": "ready", "pos": <dealt with so far>, "changes": [as read_changes_v1, of these kinds],
--           "reached": <the last one looked at>, "more": true or false}
--          {"state": "waiting", "pos", "retry_in": <seconds>}: its handler failed
--          {"state": "parked", "pos"}: it waits for resume_consumer_v1
--          {"state": "busy", "pos"}: there is something to tell, and somebody else is telling it
--          {"state": "absent", "pos": 0}: there is no such consumer
-- Changes of a tenant that is no longer in the mirror at all are told to nobody. Raises TY010.
--
-- Who may call: tenantry_app.
create or replace function tenantry.read_consumer_v1(consumer text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  wanted constant text[] := coalesce(tenantry.clerk_texts(options, 'kinds'), '{*}');
  most   integer;
  known  tenantry.consumers;
  answer jsonb;
begin
  if coalesce(options ->> 'limit', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'limit is a whole number');
  end if;
  most := least(coalesce((options ->> 'limit')::integer, 100), 1000);
  select * into known from tenantry.consumers as c where c.name = consumer;
  if known.name is null then
    return jsonb_build_object('state', 'absent', 'pos', 0);
  elsif known.parked_at is not null then
    return jsonb_build_object('state', 'parked', 'pos', known.pos);
  elsif known.retry_at > clock_timestamp() then
    return jsonb_build_object('state', 'waiting', 'pos', known.pos, 'retry_in', extract(epoch from known.retry_at - clock_timestamp()));
  end if;

  select jsonb_build_object(
    'state', 'ready', 'pos', known.pos, 'reached', coalesce(max(c.pos), known.pos), 'more', count(*) = most,
    'changes', coalesce(jsonb_agg(to_jsonb(c) - 'seq' order by c.pos) filter (
      where tenantry.is_of_kinds(c.kind, wanted)
        and (c.tenant_id is null or exists (select from tenantry.tenants as t where t.id = c.tenant_id))), '[]'))
  into answer
  from (select * from tenantry.changes where pos > known.pos order by pos limit most) as c;
  -- The row's lock is asked for only now: to take it is to write, and who finds nothing should not.
  if answer -> 'changes' <> '[]' then
    perform from tenantry.consumers as c where c.name = consumer for no key update skip locked;
    if not found then
      return jsonb_build_object('state', 'busy', 'pos', known.pos);
    end if;
  end if;
  return answer;
end
$$;
