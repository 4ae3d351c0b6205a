-- Whether a pattern of `role_permissions` covers an app permission: segments are split by `:`, `*` stands for one
-- segment, a trailing `*` for one or more, `*` alone for everything.
create or replace function tenantry.permission_matches(pattern text, permission text)
returns boolean language sql immutable parallel safe as $$
  select pattern = '*' or pattern = permission or (
    position('*' in pattern) > 0
    and permission ~ ('^' || regexp_replace(
      replace(regexp_replace(pattern, '([.\-])', '\\\1', 'g'), '*:', '[^:]+:'), ':\*$', ':.+') || '$'))
$$;
