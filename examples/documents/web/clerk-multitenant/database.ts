/** Transactions over node-postgres (`pg`). */

import pg from "pg";

import { commit, lastAnswer, onConnection, type Lent } from "./connection";
import { statement, type Call } from "./mirror";

export { callFunction, pool, readText } from "./connection";

/** What `withTenant` hands to its function: pg's client, in a transaction that is in the tenant. */
export type Db = Lent;

/** Runs `work` in a transaction that begins with a call, and gives it the answer. BEGIN and call share a round trip. */
export async function transaction<T>(
  call: Call,
  readOnly: boolean,
  work: (db: Db, answer: string) => Promise<T>,
): Promise<T> {
  return onConnection(async (client, { lent, during }) => {
    const opening = readOnly ? "begin read only" : "begin";
    const answer = await lastAnswer(client, `${opening}; ${statement(call, pg.escapeLiteral)}`);
    const result = await during(() => work(lent, answer));
    await commit(client);
    return result;
  });
}
