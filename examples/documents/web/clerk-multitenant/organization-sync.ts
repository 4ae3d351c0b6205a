/**
 * What the middleware does about organizations in paths, `/orgs/[org]`: Clerk makes the path's organization the active
 * one where a page is opened, and everything below the path is held to it.
 */

import { NextResponse, type NextRequest } from "next/server";

import { EXPECTED_ORG } from "./expected-org";

/** For `clerkMiddleware`. It acts on page loads alone, and leaves the organization as it is for who is no member. */
export const organizationSyncOptions = {
  organizationPatterns: [
    "/orgs/:id",
    "/orgs/:id/(.*)",
  ],
};

/** The organization that a path names, by id or slug; null for paths of none. */
export function organizationOf(path: string): string | null {
  return /^\/orgs\/([^/]+)/.exec(path)?.[1] ?? null;
}

/** A request's headers, stating the organization of its path beside what its sender stated. */
export function stateOrganization(headers: Headers, organization: string): Headers {
  const stated = new Headers(headers);
  stated.append(EXPECTED_ORG, organization);
  return stated;
}

const GUARD = "__clerk_redirect_count";
const TRIED_SECONDS = 5;

/**
 * Within two seconds Clerk turns one page load, or three, and then no other: a guard against loops, which all tabs of a
 * browser share, as when it opens them all at its start. A load of another organization is sent back once, for one try
 * more; null where there is nothing to try, and then the session is as it will be.
 */
export function turnAgain(
  request: NextRequest,
  organization: string,
  session: { readonly orgId?: string | null | undefined; readonly orgSlug?: string | null | undefined },
): NextResponse | null {
  const { cookies, headers, method, nextUrl, url } = request;
  const tried = `tenantry_turned_${organization.replace(/[^\w-]/g, "_").slice(0, 64)}`;
  const count = new RegExp(`\\b${GUARD}=(\\d)`).exec(headers.get("cookie") ?? "")?.[1]; // the first, as Clerk reads it
  if (organization === session.orgId || organization === session.orgSlug) return null;
  if (method !== "GET" || headers.get("sec-fetch-dest") !== "document") return null;
  if (count === undefined || cookies.has(tried)) return null;
  const again = NextResponse.redirect(url);
  again.cookies.set(tried, "1", { maxAge: TRIED_SECONDS, httpOnly: true, sameSite: "lax" });
  // Clerk names no path for its cookie, which is then that of the page that it sent away: it may be any above this one.
  const above = nextUrl.pathname.split("/").slice(0, -1);
  above.forEach((_, depth) => {
    const path = above.slice(0, depth + 1).join("/") || "/";
    const isOneLeft = count === "3" && depth === above.length - 1; // of three; each takes three redirects
    const value = isOneLeft ? "2; Max-Age=2" : "; Max-Age=0";
    again.headers.append("Set-Cookie", `${GUARD}=${value}; Path=${path}; HttpOnly; SameSite=Lax`);
  });
  return again;
}
