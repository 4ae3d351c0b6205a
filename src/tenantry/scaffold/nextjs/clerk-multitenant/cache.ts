/**
 * Caches of the server, keyed by tenant. A cached function has no request: `withTenant` and `auth()` are refused inside
 * of one, on purpose; so is a tenant that the server itself did not tell. Ask outside, and hand it in:
 *
 *     const countDocuments = cacheForTenant(
 *       "documents.count",
 *       ({ tenantId, userId }) => withTenantById(tenantId, "count documents", (db) => count(db), { userId }),
 *       { tags: ["documents"], revalidate: 60 },
 *     );
 *
 *     const tenant = await withTenant(async (_, tenant) => tenant); // refuses whoever is out, cached or not
 *     await countDocuments(tenant);
 *
 * Never close over the `db` of a transaction in a cached function: what one tenant reads would be kept for all. With
 * `"use cache"` the function takes `cacheKey(tenant)` as an argument, and marks itself with
 * `cacheTag(...tenantTags(key, "documents"))`. After a change: `expireForTenant(tenant, "documents")`.
 */
import { revalidateTag, unstable_cache } from "next/cache";

import { refuseForged } from "./session";

/** Who something is cached for: a tenant as `withTenant` gives it is one. */
export interface CacheKey {
  readonly tenantId: string;
  readonly userId: string | null;
  readonly role: string | null;
}

export interface CacheOptions {
  readonly tags?: readonly string[];
  /** Seconds; false is until a tag expires. */
  readonly revalidate?: number | false;
  /** For everybody in the tenant alike. By default each person, in each role, has what they were given themselves. */
  readonly isShared?: boolean;
}

/** What tells two calls of a cached function apart. */
type Argument = string | number | boolean | null;

/** `work` with its results kept for each tenant, person, role and arguments. Results are JSON. */
export function cacheForTenant<Tenant extends CacheKey, Args extends readonly Argument[], Result>(
  name: string,
  work: (tenant: Tenant, ...args: Args) => Promise<Result>,
  { tags = [], revalidate = false, isShared = false }: CacheOptions = {},
): (tenant: Tenant, ...args: Args) => Promise<Result> {
  return async (tenant, ...args) => {
    refuseForged(tenant);
    const person = isShared ? [] : [tenant.userId, tenant.role];
    const key = JSON.stringify([name, tenant.tenantId, person, args]);
    return unstable_cache(() => work(tenant, ...args), [key], { tags: tenantTags(tenant, ...tags), revalidate })();
  };
}

/**
 * The plain values of a tenant, for functions with `"use cache"`, whose arguments are the key. Nothing tells such
 * values from somebody's own: a file with `"use server"` must not export a function that takes them.
 */
export function cacheKey(tenant: CacheKey): CacheKey {
  refuseForged(tenant);
  const { tenantId, userId, role } = tenant;
  return { tenantId, userId, role };
}

/** Tags that name the tenant: everything of it, and each of `tags` of it. */
export function tenantTags({ tenantId }: Pick<CacheKey, "tenantId">, ...tags: readonly string[]): string[] {
  const all = `tenant:${tenantId}`;
  return [all, ...tags.map((tag) => `${all}:${tag}`)];
}

/** Forgets what this tenant has under these tags, or everything it has. For server actions and route handlers. */
export function expireForTenant(tenant: Pick<CacheKey, "tenantId">, ...tags: readonly string[]): void {
  refuseForged(tenant);
  const [all, ...named] = tenantTags(tenant, ...tags);
  for (const tag of named.length > 0 ? named : [all]) if (tag !== undefined) expire(tag, { expire: 0 });
}

/** Next.js 14 and 15 know only the first argument, and expire at once; 16 wants to be told so. */
const expire: (tag: string, profile: { expire: number }) => void = revalidateTag;
