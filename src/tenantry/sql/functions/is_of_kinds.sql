-- Whether a kind of change is among `kinds`: itself, all of its subject (`member.*`), or all (`*`).
create or replace function tenantry.is_of_kinds(kind text, kinds text[])
returns boolean language sql immutable parallel safe as $$
  select kind = any (kinds) or split_part(kind, '.', 1) || '.*' = any (kinds) or '*' = any (kinds)
$$;
