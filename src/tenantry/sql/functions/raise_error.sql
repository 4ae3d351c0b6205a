-- Raises Tenantry's error `code`: message and hint stand here, once; what happened goes into `detail`.
-- Called by every other function; adapters map the SQLSTATE, never the text. Locks nothing.
create or replace function tenantry.raise_error(code text, detail text default null)
returns void language plpgsql as $$
declare
  message text;
  hint    text;
begin
  select known.message, known.hint into message, hint
  from (values
    ('TY001', 'No tenant is set for this transaction.',
              'Begin it with tenantry.set_tenant_v1(identity), set_tenant_by_id_v1(tenant_id, reason) or bypass_tenant_v1(reason).'),
    ('TY002', 'This transaction already has a tenant or the bypass.',
              'One transaction serves one tenant: commit or roll back before the next.'),
    ('TY003', 'This connection still holds a temporary table of a tenant, or a cursor WITH HOLD.',
              'Create it ON COMMIT DROP, close the cursor before the commit, or DISCARD ALL before the connection serves on.'),
    ('TY010', 'A function of tenantry got an argument it cannot read.', null),
    ('TY011', 'The mirror has not seen this organization or user yet.',
              'Call tenantry.provision_v1(identity) in a transaction of its own, then begin again.'),
    ('TY012', 'The user is not a member of this organization.', null),
    ('TY013', 'This organization has been deleted.', null),
    ('TY014', 'This user has been deleted.', null),
    ('TY015', 'This user is banned.', null),
    ('TY016', 'This session has ended.', 'Sign in again.'),
    ('TY017', 'The session has no active organization.', 'Choose an organization, or allow personal accounts.'),
    ('TY018', 'This belongs to another Clerk instance than this database.',
              'Compare the Clerk keys with `tenantry instance show`; after copying a database, `tenantry instance rebind`.'),
    ('TY019', 'The session token has expired and the mirror knows no live membership.', 'Get a fresh token.'),
    ('TY020', 'No tenant has this id.', 'See `tenantry tenants list`.'),
    ('TY021', 'A reconcile run is under way already.', 'Wait for it to end.'),
    ('TY030', 'This table cannot be isolated or shared as asked.', null),
    ('TY040', 'This tenant is a personal account and has no organization id.', 'Isolate by the key `id` where personal accounts are tenants.')
  ) as known(code, message, hint)
  where known.code = raise_error.code;

  raise exception using
    errcode = code,
    message = coalesce(message, 'tenantry error ' || code),
    detail = coalesce(detail, ''),
    hint = coalesce(hint, '');
end
$$;
