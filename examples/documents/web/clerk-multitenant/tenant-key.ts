/** Keys of client caches, as of React Query and SWR, that carry the tenant: no tenant finds what another was given. */

/** `tenantKey(useTenant(), "documents", id)`; the same on the server, where a query is prefetched. */
export function tenantKey<const Parts extends readonly unknown[]>(
  tenant: { readonly userId: string; readonly orgId: string | null },
  ...parts: Parts
): readonly ["tenant", string, string, ...Parts] {
  return ["tenant", tenant.userId, tenant.orgId ?? "", ...parts];
}
