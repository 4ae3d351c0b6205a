/** The connections of this app to PostgreSQL: a pool that lends each one to one transaction at a time. */

import { Pool, type PoolClient, type QueryResult } from "pg";

import { errorFromDatabase, TenancyError } from "./errors";
import { statement, type Call } from "./mirror";
import { databaseUrl } from "./settings";

const CONNECT_MS = 10_000;

/** A connection in a transaction: `query` is the one thing to do with it, and only until the transaction ends. */
export type Lent = Omit<PoolClient, "release" | "end" | "connect">;

declare global {
  // `next dev` loads this module anew after each change, and must not open a pool each time.
  var tenantryPool: Pool | undefined;
}

/** Opened on first use. A query on it, outside `withTenant`, is in no tenant: isolated tables refuse it. */
export function pool(): Pool {
  if (globalThis.tenantryPool) return globalThis.tenantryPool;
  const made = new Pool({ connectionString: databaseUrl(), connectionTimeoutMillis: CONNECT_MS });
  made.on("error", ignore); // of a connection nobody uses: the pool replaces it
  return (globalThis.tenantryPool = made);
}

/** What a function answers, in a transaction of its own. */
export async function callFunction(call: Call): Promise<string> {
  const { rows } = await pool().query<{ answer: string }>(statement(call), [...call.values]);
  return rows[0]?.answer ?? "null";
}

/** The one value of a query's first row, as text. */
export async function readText(query: string): Promise<string | null> {
  const { rows } = await pool().query<{ answer: string | null }>(query);
  return rows[0]?.answer ?? null;
}

/**
 * A connection for the length of `work`. Whatever it began and left open is undone; a connection on which that fails,
 * or that would refuse every later tenant, is closed instead of going back to the pool.
 */
export async function onConnection<T>(work: (client: PoolClient, lending: Lending) => Promise<T>): Promise<T> {
  const client = await pool().connect();
  client.on("error", ignore); // whoever waits for a query hears of it; without a listener the process would end
  const lending = lend(client);
  let spent = false;
  try {
    return await work(client, lending);
  } catch (error) {
    spent = isTainted(error) || !(await rolledBack(client));
    throw error;
  } finally {
    lending.end();
    client.off("error", ignore);
    client.release(spent);
  }
}

/** Before a commit: a transaction in which a statement failed would be rolled back by it, which is no success. */
export async function refuseAborted(client: PoolClient): Promise<void> {
  await client.query(""); // a failed query's error comes ahead of what it did to the transaction
  const status = "getTransactionStatus" in client ? client.getTransactionStatus() : null; // older ones cannot tell
  if (status === "E") throw abortedError();
}

/** Commits; see `refuseAborted`. */
export async function commit(client: PoolClient): Promise<void> {
  const { command } = await client.query("commit");
  if (command !== "COMMIT") throw abortedError();
}

function abortedError(): Error {
  return new Error("Nothing was written: a query of this transaction failed, and its error was not passed on.");
}

/** The answer of a statement that another, in the same round trip, came before. */
export async function lastAnswer(client: PoolClient, script: string): Promise<string> {
  const results: QueryResult<{ answer: string }>[] = [await client.query<{ answer: string }>(script)].flat();
  return results.at(-1)?.rows[0]?.answer ?? "null";
}

/** A client on loan: the pool may have lent the connection to another tenant once it has `end`ed. */
export interface Lending {
  readonly lent: PoolClient;
  /** Runs what may use it; from then on it can only end its transaction, as an ORM does. */
  readonly during: <T>(work: () => Promise<T>) => Promise<T>;
  readonly end: () => void;
}

function lend(client: PoolClient): Lending {
  let state: "open" | "ending" | "over" = "open";
  const may = (name: string | symbol, query: unknown): boolean =>
    state === "open" ? name !== "release" && name !== "end" : state === "ending" && isEnding(query);
  const lent = new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...given: unknown[]) => {
        if (!may(name, given[0])) throw overError();
        return Reflect.apply(value, target, given);
      };
    },
  });
  const during = <T>(work: () => Promise<T>): Promise<T> => work().finally(() => (state = "ending"));
  return { lent, during, end: () => (state = "over") };
}

/** Whether this is a query that ends a transaction, in either form in which pg takes one. */
function isEnding(query: unknown): boolean {
  const text: unknown = typeof query === "object" && query !== null && "text" in query ? query.text : query;
  return text === "commit" || text === "rollback";
}

function overError(): TenancyError {
  return new TenancyError("no_tenant", {
    message: "The transaction of this withTenant is over, or not this code's to end.",
    hint: "Await every query inside the function that withTenant runs.",
  });
}

async function rolledBack(client: PoolClient): Promise<boolean> {
  try {
    await client.query("rollback");
    return true;
  } catch {
    return false;
  }
}

function isTainted(error: unknown): boolean {
  return ["tenant_already_set", "leftovers"].includes(errorFromDatabase(error)?.code ?? "");
}

function ignore(): void {
  // said above, where it is listened with
}
