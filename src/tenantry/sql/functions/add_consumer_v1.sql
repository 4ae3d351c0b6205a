-- Makes a consumer, unless it is there: then only its kinds are noted.
--
-- consumer: its name, 1 to 200 characters
-- options:  {"from": "now" (default) or "beginning", "kinds": ["member.joined", "user.*", ...], default ["*"]}
--           "now": it is told of what is committed from here on
-- returns:  {"created": true or false, "pos": n}; raises TY010
--
-- Who may call: tenantry_app, in a transaction of its own: "now" holds the sequencer's lock until the commit.
create or replace function tenantry.add_consumer_v1(consumer text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  start constant text := coalesce(options ->> 'from', 'now');
  told  constant text[] := coalesce(tenantry.clerk_texts(options, 'kinds'), '{*}');
  known tenantry.consumers;
  place bigint := 0;
begin
  if coalesce(consumer, '') !~ '^[[:print:]]{1,200}$' then
    perform tenantry.raise_error('TY010', 'a consumer''s name has 1 to 200 printable characters');
  elsif start not in ('now', 'beginning') then
    perform tenantry.raise_error('TY010', format('a consumer starts from now or from the beginning, not from %L', start));
  end if;
  update tenantry.consumers as c set kinds = told where c.name = consumer and c.kinds <> told;
  select * into known from tenantry.consumers as c where c.name = consumer;
  if known.name is not null then
    return jsonb_build_object('created', false, 'pos', known.pos);
  end if;
  if start = 'now' then
    perform set_config('idle_in_transaction_session_timeout', '5s', true), pg_advisory_xact_lock(hashtext('tenantry.sequence'), 0);
    while tenantry.place_changes(10000) > 0 loop
    end loop;
    place := coalesce((select max(c.pos) from tenantry.changes as c), 0);
  end if;
  insert into tenantry.consumers (name, kinds, pos) values (consumer, told, place) on conflict do nothing;
  return jsonb_build_object('created', found, 'pos', (select c.pos from tenantry.consumers as c where c.name = consumer));
end
$$;
