/**
 * Put this around every part of a page that belongs to a tenant, once per layout:
 *
 *     // app/orgs/[org]/layout.tsx
 *     export default async function Layout({ children, params }: LayoutProps<"/orgs/[org]">) {
 *       return <TenantBoundary org={(await params).org}>{children}</TenantBoundary>;
 *     }
 *
 * It says for whom the server rendered, so that a tab never shows one tenant's data while another is active in it. It
 * does not isolate: pages read with `withTenant`, with `expected: org` where the path names the organization. Clerk's
 * components, the switcher above all, stand outside of it.
 */
import { auth } from "@clerk/nextjs/server";
import { headers } from "next/headers";
import { notFound } from "next/navigation";
import type { ReactNode } from "react";

import { readSession } from "./session";
import { TenantGate, TurnTo } from "./TenantGate";

export interface TenantBoundaryProps {
  /** The organization that the path names, by id or slug. Without one the page is that of the active organization. */
  readonly org?: string;
  /** Shown while the page turns to another tenant. */
  readonly fallback?: ReactNode;
  /** Shown where the path names an organization the person is not in; the app's "not found" page without it. */
  readonly otherwise?: ReactNode;
  readonly children: ReactNode;
}

export async function TenantBoundary({ org, fallback = null, otherwise, children }: TenantBoundaryProps) {
  const session = await auth();
  if (!session.userId) return session.redirectToSignIn();
  const { userId, orgId, orgSlug, role, permissions } = (await readSession()).identity;
  if (org !== undefined && org !== orgId && org !== orgSlug) {
    if (!(await isPageLoad())) return <TurnTo org={org} otherwise={otherwise} />;
    if (otherwise === undefined) notFound();
    return <>{otherwise}</>; // an element: React 18's types take no component that promises any other node
  }
  const tenant = { userId, orgId: orgId ?? "", orgSlug, role, permissions };
  return (
    <TenantGate tenant={tenant} org={org} fallback={fallback}>
      {children}
    </TenantGate>
  );
}

/** Whether the browser loads a whole page: the middleware has then turned the session to its path, if it may. */
async function isPageLoad(): Promise<boolean> {
  return (await headers()).get("sec-fetch-dest") !== "empty";
}
