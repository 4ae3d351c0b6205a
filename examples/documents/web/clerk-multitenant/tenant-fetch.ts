"use client";
/** `fetch` for client components, to an API that knows Tenantry, in the name of the organization this tab shows. */
import { checkPath, refuse } from "./problem";
import { deny, fetchForTab } from "./tab";

/** What a request may say; it is never cached, and its organization is the tab's. */
export type TenantRequest = Omit<RequestInit, "cache">;

/**
 * Asks `NEXT_PUBLIC_TENANTRY_API_URL` (without it, this site) for a path, with a token of this tab's own whatever the
 * cookie says, and tells it which organization is meant. Broken off when the page turns to another tenant.
 *
 * Throws TenancyError where Tenantry refuses: 401, 403, 409. Other answers are the API's own.
 */
export async function tenantFetch(path: string, init: TenantRequest = {}): Promise<Response> {
  const answer = await fetchForTab(addressOf(path), { ...init, cache: "no-store" });
  return refuse(answer, ({ code, status }) => {
    if (status === 403 && code !== "permission_denied") deny(code);
  });
}

function addressOf(path: string): string {
  checkPath(path);
  return `${(process.env.NEXT_PUBLIC_TENANTRY_API_URL ?? "").replace(/\/$/, "")}${path}`;
}
