/** What one does with documents. No query names a tenant: inside `withTenant` the others' rows do not exist. */

import { randomUUID } from "node:crypto";

import type { Db } from "../clerk-multitenant/database";
import type { Draft } from "./draft";

/** `author` is a Clerk user id; `words` is null until somebody has counted them. */
export interface Document {
  readonly id: string;
  readonly title: string;
  readonly body: string;
  readonly language: string;
  readonly author: string;
  readonly words: number | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface Language {
  readonly code: string;
  readonly name: string;
}

const NEWEST = 20;
const COLUMNS = `id, title, body, language, author, words, created_at "createdAt", updated_at "updatedAt"`;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The newest ones whose title holds `search`. */
export async function listDocuments(db: Db, search = ""): Promise<Document[]> {
  const pattern = `%${search.replaceAll("\0", "").replace(/[\\%_]/g, "\\$&")}%`;
  const { rows } = await db.query<Document>(
    `select ${COLUMNS} from documents where title ilike $1 order by created_at desc, id limit ${NEWEST}`,
    [pattern],
  );
  return rows;
}

/** Null for another organization's document, as for one that never was. */
export async function findDocument(db: Db, id: string): Promise<Document | null> {
  if (!UUID.test(id)) return null;
  const { rows } = await db.query<Document>(`select ${COLUMNS} from documents where id = $1`, [id]);
  return rows[0] ?? null;
}

/** The new document's id. The tenant and the author are the columns' defaults. */
export async function createDocument(db: Db, draft: Draft): Promise<string> {
  const id = randomUUID();
  await db.query("insert into documents (id, title, body, language, words) values ($1, $2, $3, $4, $5)", [
    id,
    draft.title,
    draft.body,
    draft.language,
    countWords(draft.body),
  ]);
  return id;
}

/** Whether there was such a document. */
export async function editDocument(db: Db, id: string, draft: Draft): Promise<boolean> {
  if (!UUID.test(id)) return false;
  const { rowCount } = await db.query(
    "update documents set title = $2, body = $3, language = $4, words = $5, updated_at = now() where id = $1",
    [id, draft.title, draft.body, draft.language, countWords(draft.body)],
  );
  return rowCount === 1;
}

/** Whether there was such a document. */
export async function deleteDocument(db: Db, id: string): Promise<boolean> {
  if (!UUID.test(id)) return false;
  const { rowCount } = await db.query("delete from documents where id = $1", [id]);
  return rowCount === 1;
}

export async function listLanguages(db: Db): Promise<Language[]> {
  const { rows } = await db.query<Language>("select code, name from languages order by name");
  return rows;
}

function countWords(text: string): number {
  return text.split(/\s+/).filter(Boolean).length;
}
