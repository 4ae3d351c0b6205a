/** How a test asks the database, inside a transaction and past all tenancy. */

import { prisma, type Db } from "../database";

export async function query(db: Db, sql: string): Promise<Record<string, unknown>[]> {
  return db.$queryRawUnsafe<Record<string, unknown>[]>(sql);
}

/** On a connection of the same pool, in no tenant. */
export async function queryOutside(sql: string): Promise<Record<string, unknown>[]> {
  return prisma().$queryRawUnsafe<Record<string, unknown>[]>(sql);
}
