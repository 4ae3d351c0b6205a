"use client";
/** What client components know: the tenant this part of the page was rendered for, and who is active in this tab. */
import { useClerk } from "@clerk/nextjs";
import { createContext, useCallback, useContext, useMemo, useSyncExternalStore } from "react";

import { activeIn, keyOf, type Who } from "./tab";

/** As the verified session told the server. Role and permissions are the token's, with `org:`. */
export interface ShownTenant extends Who {
  readonly orgSlug: string | null;
  readonly role: string | null;
  readonly permissions: readonly string[];
}

export const TenantContext = createContext<ShownTenant | null>(null);

/** The tenant this part of the page shows. Throws outside of a `<TenantBoundary>`. */
export function useTenant(): ShownTenant {
  const tenant = useContext(TenantContext);
  if (tenant === null) throw new Error("useTenant() was called outside of a <TenantBoundary>.");
  return tenant;
}

const UNKNOWN = "unknown";
const TURNING = "turning";

/**
 * Who is active in this tab, told with each change before the browser paints it. "unknown" before Clerk is there,
 * "turning" while it is between two states.
 */
export function useActive(): Who | "unknown" | "turning" {
  const clerk = useClerk();
  const state = useSyncExternalStore(
    useCallback((changed: () => void) => clerk.addListener(changed), [clerk]),
    () => {
      const active = activeIn(clerk);
      return active === null ? (clerk.loaded ? TURNING : UNKNOWN) : keyOf(active);
    },
    () => UNKNOWN,
  );
  return useMemo(() => {
    if (state === UNKNOWN || state === TURNING) return state;
    const [userId = "", orgId = ""] = state.split(" ");
    return { userId, orgId };
  }, [state]);
}
