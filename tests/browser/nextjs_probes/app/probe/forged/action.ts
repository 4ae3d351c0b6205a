"use server"; // wrong on purpose: whoever finds the action's id can call it, with what arguments they like

import { cacheForTenant, type CacheKey } from "../../../clerk-multitenant/cache";
import { withTenantById } from "../../../clerk-multitenant/tenant";
import { listDocuments } from "../../../documents/library";

export const listForWhomever = cacheForTenant(
  "documents of whatever tenant",
  ({ tenantId }: CacheKey) => withTenantById(tenantId, "a probe", (db) => listDocuments(db)),
  { isShared: true },
);
