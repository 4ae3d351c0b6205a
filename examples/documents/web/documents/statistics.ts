/** How large the library is: counted once a minute and organization, and again after a change made here. */

import { cacheForTenant } from "../clerk-multitenant/cache";
import { withTenantById } from "../clerk-multitenant/tenant";

export interface Statistics {
  readonly documents: number;
  readonly words: number;
}

/** What FastAPI writes meanwhile is counted within the minute. The page has asked before whether its reader may know. */
export const countLibrary = cacheForTenant(
  "library statistics",
  ({ tenantId }): Promise<Statistics> =>
    withTenantById(
      tenantId,
      "count an organization's documents",
      async (db) => {
        const { rows } = await db.query<Statistics>(
          "select count(*)::int documents, coalesce(sum(words), 0)::int words from documents",
        );
        return rows[0] ?? { documents: 0, words: 0 };
      },
      { readOnly: true },
    ),
  { tags: ["documents"], revalidate: 60, isShared: true },
);
