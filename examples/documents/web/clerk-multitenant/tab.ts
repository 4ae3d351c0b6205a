/**
 * Which tenant this browser tab shows, and requests in its name.
 *
 * A browser has one session cookie for all its tabs, and Clerk writes into it the organization of the tab that had the
 * focus last. So what a tab asks for says whom it is for: requests of Next.js's router and server actions state the
 * organization in `Tenantry-Expected-Org`, which the server compares with the session (409 if they differ), and carry
 * a token of this tab's own. Only before Clerk is there does the cookie do, if it is this tab's.
 */
import type { useClerk } from "@clerk/nextjs";

import { EXPECTED_ORG } from "./expected-org";
import { isRecord } from "./json";

export type Clerk = ReturnType<typeof useClerk>;

/** A user in an organization. "" is nobody, or the personal account. */
export interface Who {
  readonly userId: string;
  readonly orgId: string;
}

const PATIENCE = 10_000; // ms; clerk-js tries for minutes to get a token
const NEARLY_EXPIRED = 3_000; // ms

/** Whom the page is for, and who says so. */
interface Shown {
  readonly clerk: Clerk;
  readonly who: Who;
  /** Aborted when the page is not for them any more. */
  readonly end: AbortController;
  readonly deny: (code: string) => void;
}

let shown: Shown | null = null;
/** Gives `window.fetch` back to the page. */
let giveBack: (() => void) | null = null;

export const keyOf = ({ userId, orgId }: Who): string => `${userId} ${orgId}`;

/** Who is active in this tab; null before Clerk is there, and while it is between two states. */
export function activeIn(clerk: Clerk): Who | null {
  const { session } = clerk;
  if (!clerk.loaded || session === undefined || (session === null && isStillSignedIn(clerk))) return null;
  if (session === null || session.status !== "active") return { userId: "", orgId: "" };
  return { userId: session.user.id, orgId: clerk.organization?.id ?? "" };
}

/** While Clerk goes to another page it has no session; a token that comes then has it tell that nobody is signed in. */
function isStillSignedIn({ client }: Clerk): boolean {
  const last = client?.sessions.find(({ id }) => id === client.lastActiveSessionId);
  const isShown = shown === null || last?.user?.id === shown.who.userId; // the next page may be somebody else's
  return last?.status === "active" && isShown && sessionsOf(document.cookie).length > 0;
}

/** From now on this tab shows `who`. Called again where a page comes back that React had kept. */
export function show(clerk: Clerk, who: Who, deny: (code: string) => void): void {
  if (shown !== null && keyOf(shown.who) !== keyOf(who)) shown.end.abort();
  shown = { clerk, who, deny, end: new AbortController() };
  remember("shown", keyOf(who));
  stateRequests();
}

/** The page that showed `who` is gone. */
export function unshow(who: Who): void {
  if (shown?.who !== who) return;
  shown.end.abort();
  shown = null;
  giveBack?.();
}

/** Whether a page that the browser had kept may be seen again: this tab was nowhere else, and nobody signed out. */
export function isStillShown(who: Who): boolean {
  const isSignedIn = sessionsOf(document.cookie).some(({ sub }) => sub === who.userId);
  return isSignedIn && recall("shown") === keyOf(who);
}

/** What this tab remembers over reloads; nothing where the browser blocks storage, which then throws. */
export function recall(name: string): string | null {
  try {
    return sessionStorage.getItem(`tenantry.${name}`);
  } catch {
    return null;
  }
}

/** Returns whether it will be remembered. */
export function remember(name: string, value: string): boolean {
  try {
    sessionStorage.setItem(`tenantry.${name}`, value);
    return true;
  } catch {
    return false;
  }
}

/** `fetch` for the tenant this tab shows: with its token, and broken off when the page turns to another one. */
export async function fetchForTab(url: string, init: RequestInit): Promise<Response> {
  if (shown === null) throw new Error(`${url} was asked for outside of a <TenantBoundary>: no tenant is shown.`);
  const { clerk, who, end } = shown;
  const headers = new Headers(init.headers);
  headers.set(EXPECTED_ORG, who.orgId);
  const token = await tokenFor(clerk, who);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const signal = init.signal ? eitherOf(init.signal, end.signal) : end.signal;
  signal.throwIfAborted();
  return window.fetch(url, { ...init, headers, signal });
}

/** `AbortSignal.any`, which lets go of requests that are over, and which Safari has since 17.4 only. */
function eitherOf(...signals: AbortSignal[]): AbortSignal {
  const any: unknown = Reflect.get(AbortSignal, "any");
  if (typeof any === "function") return Reflect.apply(any, AbortSignal, [signals]);
  const either = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) either.abort(signal.reason);
    else signal.addEventListener("abort", () => either.abort(signal.reason), { signal: either.signal });
  }
  return either.signal;
}

/** Tells the page that the server let its person no further. */
export function deny(code: string): void {
  shown?.deny(code);
}

/** A session token for `who`; "" where Clerk gives none, and then the server refuses. */
export async function tokenFor(clerk: Clerk, { userId, orgId }: Who): Promise<string> {
  await load(clerk);
  const { session } = clerk;
  if (!session || session.user.id !== userId) return "";
  const asked = session.getToken(orgId ? { organizationId: orgId } : {}).catch(() => null);
  const tooLong = new Promise<null>((resolve) => setTimeout(resolve, PATIENCE, null));
  return (await Promise.race([asked, tooLong])) ?? "";
}

/** Waits for clerk-js, which a page's first effects are ahead of. */
async function load(clerk: Clerk): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  while (!clerk.loaded && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
}

/** The router and server actions use the page's `fetch`, and have no other place for a header. Until nothing is shown. */
function stateRequests(): void {
  if (giveBack !== null) return;
  const send = window.fetch;
  const state: typeof send = async (input, init) => {
    const headers = new Headers(init?.headers);
    if (shown === null || !(headers.has("RSC") || headers.has("Next-Action")) || headers.has(EXPECTED_ORG)) {
      return send(input, init);
    }
    const { clerk } = shown;
    const who = clerk.loaded ? activeIn(clerk) : shown.who;
    if (who === null || who.userId === "") return send(input, init); // Clerk signs out, or goes to another page
    headers.set(EXPECTED_ORG, who.orgId);
    const isEarly = !clerk.loaded && isCookieFor(who); // later on it is not enough: another tab may write it meanwhile
    const token = isEarly ? "" : await tokenFor(clerk, who);
    if (token) headers.set("Authorization", `Bearer ${token}`);
    return send(input, { ...init, headers });
  };
  window.fetch = state;
  giveBack = () => {
    if (window.fetch !== state) return; // somebody else has wrapped it meanwhile
    window.fetch = send;
    giveBack = null;
  };
}

/** Whether every session cookie is `who`'s, and good for a while yet: Clerk writes it under two names. */
function isCookieFor({ userId, orgId }: Who): boolean {
  const sessions = sessionsOf(document.cookie);
  const soon = (Date.now() + NEARLY_EXPIRED) / 1000;
  const since = lastSignIn(document.cookie); // Clerk's server believes no cookie from before it
  const isGood = ({ sub, org, iat, exp }: Session) => sub === userId && org === orgId && iat >= since && exp > soon;
  return sessions.length > 0 && sessions.every(isGood);
}

/** When somebody last signed in or out in this browser, in seconds, as Clerk's script notes it under two names. */
function lastSignIn(cookie: string): number {
  const noted = cookie.split("; ").flatMap((pair) => /^__client_uat(?:_[\w-]+)?=(\d+)$/.exec(pair)?.[1] ?? []);
  return Math.max(0, ...noted.map(Number));
}

interface Session {
  readonly sub: string;
  readonly org: string;
  readonly iat: number;
  readonly exp: number;
}

function sessionsOf(cookie: string): Session[] {
  const tokens = cookie.split("; ").flatMap((pair) => /^__session(?:_[\w-]+)?=(.+)$/.exec(pair)?.[1] ?? []);
  return tokens.map(readSession);
}

/** The claims of a token, unverified: they decide only what is asked. */
function readSession(token: string): Session {
  const nothing = { sub: "", org: "", iat: 0, exp: 0 };
  try {
    const claims: unknown = JSON.parse(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/")));
    if (!isRecord(claims)) return nothing;
    const { sub, iat, exp } = claims;
    if (typeof sub !== "string" || typeof iat !== "number" || typeof exp !== "number") return nothing;
    const org = isRecord(claims.o) ? claims.o.id : claims.org_id;
    return { sub, iat, exp, org: typeof org === "string" ? org : "" };
  } catch {
    return nothing;
  }
}
