-- Lets tenants draw from the sequences of a table they write, and takes every other right on them. A sequence that
-- another table of tenants draws from as well (a partition's parent, a shared counter) stays theirs to draw from.
create or replace function tenantry.grant_sequences(relation regclass, mode text)
returns void language plpgsql as $$
declare
  drawn   regclass;
  written boolean;
begin
  foreach drawn in array tenantry.sequences_of(relation) loop
    written := mode = 'write' or exists (
      select from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
      where i.mode in ('isolated', 'write') and i.relation <> grant_sequences.relation and drawn = any (tenantry.sequences_of(i.relation)));
    execute format('revoke all on sequence %s from public, tenantry_tenant, tenantry_bypass', drawn);
    -- USAGE tells how many rows all tenants have (pg_sequences.last_value). An identity column draws without it.
    if written and not exists (
      select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = drawn and d.deptype = 'i') then
      execute format('grant usage on sequence %s to tenantry_tenant', drawn);
    end if;
    execute format('grant %s on sequence %s to tenantry_bypass',
      case when written or mode = 'read' then 'usage, select, update' else 'select' end, drawn);
  end loop;
end
$$;
