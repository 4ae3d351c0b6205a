"use client";
/** The half of `<TenantBoundary>` in the browser: shows its part of the page to the tenant it was made for. */
import { useClerk } from "@clerk/nextjs";
import { notFound, useRouter } from "next/navigation";
import {
  Fragment,
  useCallback,
  useEffect,
  useInsertionEffect,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
  type ReactNode,
} from "react";

import { activeIn, isStillShown, keyOf, recall, remember, show, unshow, type Clerk, type Who } from "./tab";
import { TenantContext, useActive, type ShownTenant } from "./use-tenant";

const REFRESH_AFTER = [300, 3_000]; // ms; Clerk refreshes by itself after most switches
const PATIENCE = 10_000; // ms until what stays hidden explains itself
const TAKES_LONG = "The page takes long to follow the switch.";
const LEAVING = 60_000; // ms; a page may have to be compiled first
const MOST_RELOADS = 2;

/** The organization that the person is leaving, as the path names it: not to be turned back to meanwhile. */
let left: string | null = null;
let leaving: ReturnType<typeof setInterval> | undefined;

interface GateProps {
  readonly tenant: ShownTenant;
  /** The organization as the path names it, by id or slug. */
  readonly org: string | undefined;
  /** Shown instead while the page turns to another tenant. */
  readonly fallback: ReactNode;
  readonly children: ReactNode;
}

/**
 * What is inside is unmounted in the same moment in which another tenant becomes active, and mounted anew, without any
 * state of the old one, when the server has rendered it for the active one.
 */
export function TenantGate({ tenant, org, fallback, children }: GateProps): ReactNode {
  const clerk = useClerk();
  const { userId, orgId } = tenant;
  const who = useMemo(() => ({ userId, orgId }), [userId, orgId]);
  const active = useActive();
  const [denied, setDenied] = useState<Who | null>(null);
  const [, look] = useReducer((count: number) => count + 1, 0);
  const isOpen = active === "unknown" || (active !== "turning" && keyOf(active) === keyOf(who));

  useInsertionEffect(() => () => unshow(who), [who]);
  useEffect(() => hideWhileKept(who), [who]);
  const isStuck = useTurn(who, active, org);
  const open = useCallback(() => {
    show(clerk, who, () => setDenied(who));
    look();
  }, [clerk, who]);

  if (denied === who) return <Notice text="Your access to this organization has ended." />;
  if (isOpen) {
    return (
      <TenantContext.Provider value={tenant}>
        <Opening onOpen={open} />
        <Fragment key={keyOf(who)}>{children}</Fragment>
      </TenantContext.Provider>
    );
  }
  return isStuck ? <Notice text={TAKES_LONG} /> : fallback;
}

/**
 * Tells of opening before anything beside it asks for data. Next.js keeps pages that were left (`cacheComponents`), and
 * React tells a kept page of no change: when it comes back, the gate looks again before the browser paints.
 */
function Opening({ onOpen }: { readonly onOpen: () => void }): null {
  useLayoutEffect(onOpen, [onOpen]);
  return null;
}

/** Turns the page to who is active. Returns whether it takes too long. */
function useTurn(who: Who, active: ReturnType<typeof useActive>, org: string | undefined): boolean {
  const clerk = useClerk();
  const router = useRouter();
  const wasOpen = useRef(false);
  const [stuck, setStuck] = useState<unknown>(null);

  useEffect(() => () => void (wasOpen.current = false), []); // a kept page that comes back was asked for by its path
  useEffect(() => {
    if (active === "unknown") return;
    if (active !== "turning" && keyOf(active) === keyOf(who)) {
      const now = activeIn(clerk); // a kept page that comes back runs this with what it knew when it was left
      wasOpen.current = now !== null && keyOf(now) === keyOf(who);
      remember("reloads", "0");
      return;
    }
    const timers = [setTimeout(() => setStuck(active), PATIENCE)];
    const later = (delay: number, work: () => void) => timers.push(setTimeout(work, delay));
    if (active === "turning") {
      // Clerk goes to another page, and says when it has.
    } else if (active.userId !== who.userId) {
      later(1_000, () => reload()); // where nothing of the other person's is left; Clerk itself leaves sooner
    } else if (org === undefined) {
      for (const delay of REFRESH_AFTER) later(delay, () => router.refresh());
    } else if (wasOpen.current) {
      leave(org);
      router.replace(pathOfOther(org, active, clerk));
    } else {
      void clerk.setActive({ organization: who.orgId || null }).catch(() => setStuck(active)); // the path says which
    }
    return () => timers.forEach(clearTimeout);
  }, [clerk, router, who, active, org]);
  return stuck === active;
}

/** Until the path is another: meanwhile the server may render this one again, for the new organization. */
function leave(org: string): void {
  left = org;
  const path = window.location.pathname;
  const deadline = Date.now() + LEAVING;
  clearInterval(leaving);
  leaving = setInterval(() => {
    if (window.location.pathname === path && Date.now() < deadline) return;
    clearInterval(leaving);
    left = null;
  }, 50);
}

/** Where a switch leads from a page whose path names its organization: to the same place of the other one. */
function pathOfOther(org: string, active: Who, clerk: Clerk): string {
  const parts = window.location.pathname.split("/");
  const place = parts.indexOf(encodeURIComponent(org));
  if (place < 0 || active.orgId === "") return "/";
  const isById = org.startsWith("org_");
  const name = isById ? active.orgId : (clerk.organization?.slug ?? active.orgId);
  return [...parts.slice(0, place), encodeURIComponent(name)].join("/");
}

/** A page for a moment while this tab turns to the organization that its path names, if the person is in it. */
export function TurnTo({ org, otherwise }: { readonly org: string; readonly otherwise: ReactNode }): ReactNode {
  const clerk = useClerk();
  const router = useRouter();
  const active = useActive();
  const [refused, setRefused] = useState<string>(); // the browser may know memberships that have ended
  const memberships = clerk.user?.organizationMemberships ?? [];
  const wanted = memberships.find(({ organization }) => organization.id === org || organization.slug === org);
  const isKnown = active !== "unknown" && active !== "turning";
  const wantedId = left === org || wanted?.organization.id === refused ? undefined : wanted?.organization.id;
  const [stuck, setStuck] = useState<string>();

  useEffect(() => {
    if (!isKnown || wantedId === undefined) return undefined;
    const timers = [setTimeout(() => setStuck(wantedId), PATIENCE)];
    const isActive = active.orgId === wantedId;
    if (isActive) {
      show(clerk, active, () => setRefused(wantedId)); // the cookie may be another tab's: ask in the name of this one
      for (const delay of [0, ...REFRESH_AFTER]) timers.push(setTimeout(() => router.refresh(), delay));
    } else {
      void clerk.setActive({ organization: wantedId }).catch(() => setRefused(wantedId));
    }
    return () => {
      timers.forEach(clearTimeout);
      if (isActive) unshow(active);
    };
  }, [clerk, router, active, isKnown, wantedId]);

  if (stuck !== undefined && stuck === wantedId) return <Notice text={TAKES_LONG} />;
  if (!isKnown || wantedId !== undefined || left === org) return null;
  if (otherwise === undefined) notFound();
  return otherwise;
}

function Notice({ text }: { readonly text: string }): ReactNode {
  return (
    <div role="alert">
      <p>{text}</p>
      <button type="button" onClick={() => reload(true)}>
        Reload
      </button>
    </div>
  );
}

/** As a GET of this address. Not forever, where the server sees somebody else than Clerk does. */
function reload(isAsked = false): void {
  const count = isAsked ? 0 : Number(recall("reloads") ?? 0);
  if (count >= MOST_RELOADS) return;
  if (!remember("reloads", String(count + 1)) && !isAsked) return; // nobody would count
  window.location.replace(window.location.href.replace(/#.*$/, ""));
}

/** A page that the browser keeps for its back button comes back as it was, whoever is active by then. */
function hideWhileKept(who: Who): () => void {
  const { style } = document.documentElement;
  const leave = (event: PageTransitionEvent) => {
    if (event.persisted) style.visibility = "hidden";
  };
  const comeBack = (event: PageTransitionEvent) => {
    if (!event.persisted) return;
    if (isStillShown(who)) style.visibility = "";
    else window.location.reload();
  };
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", comeBack);
  return () => {
    window.removeEventListener("pagehide", leave);
    window.removeEventListener("pageshow", comeBack);
  };
}
