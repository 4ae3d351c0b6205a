/** Transactions over Drizzle (`drizzle-orm/node-postgres`). */

import { drizzle, type NodePgDatabase } from "drizzle-orm/node-postgres";
import type { PoolClient } from "pg";

import { onConnection, refuseAborted } from "./connection";
import { statement, type Call } from "./mirror";

export { callFunction, pool, readText } from "./connection";

/** Your tables, for `db.query`: `import * as schema from "../db/schema"` in place of this. */
const schema = {};

/** What `withTenant` hands to its function: Drizzle's transaction, which is in the tenant. */
export type Db = Parameters<Parameters<NodePgDatabase<typeof schema>["transaction"]>[0]>[0];

/** Runs `work` in a transaction that begins with a call, and gives it the answer. */
export async function transaction<T>(
  call: Call,
  readOnly: boolean,
  work: (db: Db, answer: string) => Promise<T>,
): Promise<T> {
  return onConnection((client, { lent, during }) =>
    drizzle(lent, { schema }).transaction(
      async (db) => {
        const answer = await enter(client, call);
        const result = await during(() => work(db, answer));
        await refuseAborted(client);
        return result;
      },
      readOnly ? { accessMode: "read only" } : undefined,
    ),
  );
}

async function enter(client: PoolClient, call: Call): Promise<string> {
  const { rows } = await client.query<{ answer: string }>(statement(call), [...call.values]);
  return rows[0]?.answer ?? "null";
}
