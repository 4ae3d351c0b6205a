-- The statement that isolates a table again as it is registered.
create or replace function tenantry.isolation_statement(isolation tenantry.table_isolation)
returns text language sql stable as $$
  select format('select tenantry.isolate_table_v1(%L, %L);', isolation.relation,
    jsonb_build_object('column', isolation.tenant_column, 'key', isolation.tenant_key, 'permissions', isolation.permissions))
$$;
