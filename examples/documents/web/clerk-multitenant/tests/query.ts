/** How a test asks the database, inside a transaction and past all tenancy. */

import { pool, type Db } from "../database";

export async function query(db: Db, sql: string): Promise<Record<string, unknown>[]> {
  const { rows } = await db.query<Record<string, unknown>>(sql);
  return rows;
}

/** On a connection of the same pool, in no tenant. */
export async function queryOutside(sql: string): Promise<Record<string, unknown>[]> {
  const { rows } = await pool().query<Record<string, unknown>>(sql);
  return rows;
}
