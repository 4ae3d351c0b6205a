-- Sets the tenant of this transaction from a verified token's facts, and answers the context. Never writes: it works
-- in READ ONLY transactions and on replicas.
--
-- identity: {"user_id", "org_id", "org_slug", "role": "org:member", "permissions": [...], "features": [...],
--            "session_id", "issued_at": <iat, seconds>, "expires_at": <exp, seconds>, "instance_id",
--            "personal_account": true, "membership_source": "token"}
--           required: user_id, issued_at, expires_at, and org_id or personal_account
-- returns:  {"tenant_id", "org_id", "slug", "name", "user_id", "role", "role_source", "permissions",
--            "system_permissions", "app_permissions"}
-- raises:   TY002, TY003, TY010 to TY019
--
-- Who may call: tenantry_app (inside a tenant it answers TY002). Invoker, since SET ROLE is refused inside a definer.
create or replace function tenantry.set_tenant_v1(identity jsonb)
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  return tenantry.enter_tenant(tenantry.resolve_identity(identity));
end
$$;
