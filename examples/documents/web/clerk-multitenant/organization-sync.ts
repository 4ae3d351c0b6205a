/**
 * What the middleware does about organizations in paths, `/orgs/[org]`: Clerk makes the path's organization the active
 * one where a page is opened, and everything below the path is held to it.
 */

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
