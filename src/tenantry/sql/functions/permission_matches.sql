-- Whether a pattern of `role_permissions` covers an app permission: segments are split by `:`, `*` stands for one
-- segment, a trailing `*` for one or more, `*` alone for everything. What is no well-formed permission is covered by
-- none. The same as `roles.matches` in Python; tests/vectors/can.json holds both to it.
create or replace function tenantry.permission_matches(pattern text, permission text)
returns boolean language sql immutable parallel safe as $$
  select coalesce(
    length(permission) <= 200 and permission ~ '^[a-z0-9_.-]+(:[a-z0-9_.-]+)*$'
    and (cardinality(given) = cardinality(wanted) or (wanted[cardinality(wanted)] = '*' and cardinality(given) > cardinality(wanted)))
    and not exists (select from generate_subscripts(wanted, 1) as n where wanted[n] <> '*' and wanted[n] <> given[n]), false)
  from (select string_to_array(pattern, ':'), string_to_array(permission, ':')) as split(wanted, given)
$$;
