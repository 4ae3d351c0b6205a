import { unstable_cache } from "next/cache";

import { can, withTenant, withTenantById } from "../../../clerk-multitenant/tenant";
import { listDocuments } from "../../../documents/library";

const list = unstable_cache(() => withTenant((db) => listDocuments(db)), ["whoever asks first, in a transaction"]);
const judge = unstable_cache(() => can("documents:create"), ["whoever asks first what they may"]);

/** What cached functions are given that ask for the tenant inside a transaction of one. */
export async function GET(): Promise<Response> {
  const { tenantId } = await withTenant(async (_, tenant) => tenant);
  const asked = [list, judge].flatMap((cached) => [
    withTenant<unknown>(() => cached()),
    withTenantById<unknown>(tenantId, "a probe", () => cached()),
  ]);
  const given = await Promise.allSettled(asked);
  return Response.json(given.map((one) => (one.status === "rejected" ? "refused" : one.value)));
}
