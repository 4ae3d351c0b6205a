/** The verified session of this request, as Clerk's `auth()` has it, and what the request says it expects. */

import { auth } from "@clerk/nextjs/server";
import { headers } from "next/headers";

import { TenancyError } from "./errors";
import { EXPECTED_ORG } from "./expected-org";
import { readIdentity, type Identity } from "./identity";
import { isRecord } from "./json";
import { authorizedParties } from "./settings";

export interface Session {
  readonly identity: Identity;
  /** The organizations this request states it is for. They are compared with the token's and choose nothing. */
  readonly stated: readonly string[];
}

/** Reads headers, which makes a page dynamic. Raises a TenancyError with status 401, or `untrusted_origin`. */
export async function readSession(): Promise<Session> {
  const session = await auth();
  const claims = session.sessionClaims;
  if (!claims) {
    const status: unknown = Reflect.get(session, "sessionStatus"); // unknown to @clerk/nextjs 5
    throw new TenancyError(status === "pending" ? "session_pending" : "missing_token");
  }
  const sent = await headers();
  refuseForeignPages(sent);
  const identity = readIdentity({ ...claims }, readInstance(await session.getToken()));
  const expected = sent.get(EXPECTED_ORG);
  return { identity, stated: expected === null ? [] : expected.split(",").map((one) => one.trim()) };
}

/** What is expected may be the organization's id or slug; the empty text expects none. */
export function refuseMismatch(
  { orgId, orgSlug }: Pick<Identity, "orgId" | "orgSlug">,
  expectations: readonly (string | undefined)[],
): void {
  for (const expected of expectations) {
    if (expected === undefined || expected === (orgId ?? "") || expected === (orgSlug ?? orgId ?? "")) continue;
    throw new TenancyError("organization_mismatch", {
      detail: `expected ${expected.slice(0, 100)}, the session is in ${orgId ?? "no organization"}`,
      hint: "Switch to the organization, or go to the page of the active one.",
    });
  }
}

/** Next.js throws where there is no request, as in a cached function: what that is given is kept for everybody. */
export async function refuseInCache(): Promise<void> {
  await headers();
}

const told = new WeakSet<object>();

/** Marks what the server itself told of a tenant, to know it from a copy that somebody sent. */
export function vouchFor<T extends object>(tenant: T): T {
  told.add(tenant);
  return tenant;
}

/** Refuses what `vouchFor` did not mark: the arguments of a server action, among others, are the sender's. */
export function refuseForged(tenant: object): void {
  if (told.has(tenant)) return;
  throw new TenancyError("no_tenant", {
    message: "This is not the tenant that withTenant or tenantApi gave, but a copy, or somebody's own.",
    hint: "Hand it on as it is; never take it from a request or an action's arguments.",
  });
}

/** The id of the instance that signed, which stands in the token's header as `kid`; no request is made for it. */
function readInstance(token: string | null): string | null {
  try {
    const header: unknown = JSON.parse(Buffer.from(token?.split(".")[0] ?? "", "base64url").toString());
    const kid: unknown = isRecord(header) ? header.kid : null;
    return typeof kid === "string" && kid.startsWith("ins_") ? kid : null;
  } catch {
    return null; // tests hand in sessions without a token
  }
}

/** A browser sends the cookie with any page's form: where it says which page asks, that must be the app's own. */
function refuseForeignPages(sent: Headers | Awaited<ReturnType<typeof headers>>): void {
  const origin = sent.get("origin")?.toLowerCase();
  if (!origin || sent.has("authorization")) return;
  const host = (sent.get("x-forwarded-host") ?? sent.get("host") ?? "").toLowerCase();
  const own = URL.canParse(origin) && new URL(origin).host === host;
  if (!own && !authorizedParties().includes(origin)) {
    throw new TenancyError("untrusted_origin", { detail: `its origin is ${origin.slice(0, 200)}` });
  }
}
