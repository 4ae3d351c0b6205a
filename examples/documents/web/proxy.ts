/**
 * Signs people in, and makes the organization of a path `/orgs/[org]` the session's active one.
 *
 * It authenticates and syncs; it does not isolate. A request that got past it, or that it never saw, reaches no row of
 * any tenant outside `withTenant`, and there only those of the verified session's organization.
 */

import { clerkMiddleware } from "@clerk/nextjs/server";
import { NextResponse } from "next/server";

import {
  organizationOf,
  organizationSyncOptions,
  stateOrganization,
  turnAgain,
} from "./clerk-multitenant/organization-sync";
import { authorizedParties } from "./clerk-multitenant/settings";

export default clerkMiddleware(
  async (auth, request) => {
    const organization = organizationOf(request.nextUrl.pathname);
    if (organization === null) return undefined;
    const session = await auth();
    if (!session.userId && request.method === "GET") return session.redirectToSignIn({ returnBackUrl: request.url });
    const again = turnAgain(request, organization, session);
    return again ?? NextResponse.next({ request: { headers: stateOrganization(request.headers, organization) } });
  },
  { organizationSyncOptions, authorizedParties: authorizedParties() },
);

export const config = {
  // Everything but files, Clerk's own paths in development, and its webhooks, which no session comes with. Files of an
  // organization, and of an API, are answered by routes.
  matcher: [
    "/((?!_next|__clerk|api/webhooks/clerk(?:$|/)|.*\\.(?:ico|png|jpe?g|svg|webp|gif|css|js|woff2?|txt|xml|map)$).*)",
    "/(orgs|api/(?!webhooks/clerk(?:$|/))|trpc)(.*)",
  ],
};
