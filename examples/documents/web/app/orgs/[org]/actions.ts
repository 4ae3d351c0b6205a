"use server";

import { notFound, redirect } from "next/navigation";

import { expireForTenant } from "../../../clerk-multitenant/cache";
import type { Db } from "../../../clerk-multitenant/database";
import { TenancyError } from "../../../clerk-multitenant/errors";
import { requirePermission, withTenant } from "../../../clerk-multitenant/tenant";
import { BadDraft, checkDraft, readForm, type Draft } from "../../../documents/draft";
import { createDocument, deleteDocument, editDocument } from "../../../documents/library";
import type { Outcome } from "./writer";

// `org` is bound by the page that sends this, and chooses nothing: where another organization is active by now, perhaps
// in another tab, nothing is changed.

export async function create(org: string, _before: Outcome, form: FormData): Promise<Outcome> {
  const draft = readForm(form);
  return change(org, draft, async (db) => {
    await requirePermission("documents:create");
    return `/orgs/${org}/documents/${await createDocument(db, draft)}`;
  });
}

export async function edit(org: string, id: string, _before: Outcome, form: FormData): Promise<Outcome> {
  const draft = readForm(form);
  return change(org, draft, async (db) => {
    await requirePermission("org:documents:update");
    if (!(await editDocument(db, id, draft))) notFound();
    return `/orgs/${org}/documents/${id}`;
  });
}

export async function remove(org: string, id: string, _before: Outcome): Promise<Outcome> {
  return change(org, undefined, async (db) => {
    await requirePermission("documents:delete");
    if (!(await deleteDocument(db, id))) notFound();
    return `/orgs/${org}`;
  });
}

/** Commits what `work` does and goes on to where it says; or nothing is changed, and the answer tells why. */
async function change(org: string, draft: Draft | undefined, work: (db: Db) => Promise<string>): Promise<Outcome> {
  let there: string;
  try {
    if (draft) checkDraft(draft);
    there = await withTenant(
      async (db, tenant) => {
        const decided = await work(db);
        expireForTenant(tenant, "documents");
        return decided;
      },
      { expected: org },
    );
  } catch (error) {
    if (!(error instanceof TenancyError || error instanceof BadDraft)) throw error;
    return { problem: error.message, ...(draft ? { typed: draft } : {}) };
  }
  redirect(there);
}
