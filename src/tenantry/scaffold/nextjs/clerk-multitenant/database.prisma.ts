/** Transactions over Prisma (interactive, with the driver adapter for `pg`). */

import { PrismaPg } from "@prisma/adapter-pg";

import { PrismaClient, type Prisma } from "../generated/prisma/client";
import { statement, type Call } from "./mirror";
import { databaseUrl } from "./settings";

/** What `withTenant` hands to its function: Prisma's client, in a transaction that is in the tenant. */
export type Db = Prisma.TransactionClient;

declare global {
  // `next dev` loads this module anew after each change, and must not connect each time.
  var tenantryPrisma: PrismaClient | undefined;
}

/** Connects on first use. A query on it, outside `withTenant`, is in no tenant: isolated tables refuse it. */
export function prisma(): PrismaClient {
  globalThis.tenantryPrisma ??= new PrismaClient({ adapter: new PrismaPg({ connectionString: databaseUrl() }) });
  return globalThis.tenantryPrisma;
}

/** What a function answers, in a transaction of its own. */
export async function callFunction(call: Call): Promise<string> {
  return answerOf(prisma(), call);
}

/** The one value of a query's first row, as text. */
export async function readText(query: string): Promise<string | null> {
  const rows = await prisma().$queryRawUnsafe<{ answer: string | null }[]>(query);
  return rows[0]?.answer ?? null;
}

/**
 * Runs `work` in a transaction that begins with a call, and gives it the answer. Pass on what a query throws: Prisma
 * calls it a success where PostgreSQL rolled back because of an error that was caught.
 */
export async function transaction<T>(
  call: Call,
  readOnly: boolean,
  work: (db: Db, answer: string) => Promise<T>,
): Promise<T> {
  return prisma().$transaction(async (db) => {
    if (readOnly) await db.$executeRawUnsafe("set transaction read only");
    return work(db, await answerOf(db, call));
  });
}

/** Unsafe says Prisma of statements that are no template; the values go beside the statement all the same. */
async function answerOf(db: Db, call: Call): Promise<string> {
  const rows = await db.$queryRawUnsafe<{ answer: string }[]>(statement(call), ...call.values);
  return rows[0]?.answer ?? "null";
}
