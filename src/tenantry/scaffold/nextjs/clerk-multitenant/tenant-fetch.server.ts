/** `fetch` for server components, route handlers and server actions, to a FastAPI that knows Tenantry. */
import { auth } from "@clerk/nextjs/server";

import { TenancyError } from "./errors";
import { EXPECTED_ORG } from "./expected-org";
import { checkPath, refuse } from "./problem";
import { readSession, refuseMismatch, vouchFor } from "./session";

/** What a request may say. It is never cached by Next.js: see `cache.ts`. */
export type TenantRequest = Omit<RequestInit, "cache" | "next">;

export interface Expectation {
  /** The organization that the path or a form names, by id or slug; another one than the session's is refused. */
  readonly expected?: string;
}

/** The API as one tenant sees it. */
export interface TenantApi {
  /** Names the tenant in caches: the organization's id, or the user's in a personal account. */
  readonly tenantId: string;
  readonly userId: string;
  readonly orgId: string | null;
  readonly orgSlug: string | null;
  readonly role: string | null;
  readonly fetch: (path: string, init?: TenantRequest) => Promise<Response>;
}

/**
 * Asks `TENANTRY_API_URL` for a path with this request's session token.
 *
 * Throws TenancyError where the API or the session refuses: 401, 403, 409. Other answers are the API's own.
 */
export async function tenantFetch(path: string, init: TenantRequest & Expectation = {}): Promise<Response> {
  const { expected, ...rest } = init;
  const api = await tenantApi(expected === undefined ? {} : { expected });
  return api.fetch(path, rest);
}

/** The same for several requests, and for cached functions, which have no session themselves. */
export async function tenantApi({ expected }: Expectation = {}): Promise<TenantApi> {
  const { identity, stated } = await readSession();
  const { userId, orgId, orgSlug, role } = identity;
  refuseMismatch(identity, [...stated, expected]);
  const token = await (await auth()).getToken();
  if (token === null) throw new TenancyError("missing_token");
  const fetchForTenant = async (path: string, init: TenantRequest = {}): Promise<Response> => {
    const headers = new Headers(init.headers);
    headers.set("Authorization", `Bearer ${token}`);
    headers.set(EXPECTED_ORG, orgId ?? "");
    return refuse(await fetchWithin(addressOf(path), { ...init, headers, cache: "no-store" }));
  };
  return vouchFor({ tenantId: orgId ?? userId, userId, orgId, orgSlug, role, fetch: fetchForTenant });
}

/** Follows one redirect, as frameworks answer for a slash too many, and none to another origin. */
async function fetchWithin(address: string, init: RequestInit): Promise<Response> {
  const answer = await fetch(address, { ...init, redirect: "manual" });
  const location = answer.headers.get("location");
  if (answer.status < 300 || answer.status > 399 || location === null) return answer;
  const next = new URL(location, address);
  if (next.origin !== new URL(address).origin || answer.status < 307) {
    throw new TypeError(`The API's answer to ${new URL(address).pathname} leads elsewhere (${answer.status}).`);
  }
  return fetch(next, { ...init, redirect: "error" });
}

function addressOf(path: string): string {
  checkPath(path);
  const api = process.env.TENANTRY_API_URL ?? process.env.NEXT_PUBLIC_TENANTRY_API_URL;
  if (!api) {
    throw new TenancyError("configuration", {
      message: "The API's address is not given.",
      hint: "Set TENANTRY_API_URL to http://127.0.0.1:8000, or wherever it is.",
    });
  }
  return `${api.replace(/\/$/, "")}${path}`;
}
