/** What a page of `/orgs/[org]` reads. Who may not see it is led away, before anything of it is sent. */

import { notFound, redirect } from "next/navigation";

import type { Db } from "../clerk-multitenant/database";
import { TenancyError } from "../clerk-multitenant/errors";
import { withTenant, type Tenant } from "../clerk-multitenant/tenant";

/** `org` is the path's: while another organization is active, there is no such page. */
export async function visit<T>(org: string, read: (db: Db, tenant: Tenant) => Promise<T>): Promise<T> {
  try {
    return await withTenant(read, { expected: org, readOnly: true });
  } catch (error) {
    if (!(error instanceof TenancyError)) throw error;
    if (error.status === 401) redirect("/sign-in");
    if (error.status === 403) redirect(`/?refused=${error.code}`);
    if (error.status === 409) notFound();
    throw error;
  }
}
