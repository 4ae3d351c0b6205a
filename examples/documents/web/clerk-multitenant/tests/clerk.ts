/** Stands in for Clerk and Next.js in tests: who is signed in, and what the request says. */

import type { Claims } from "../identity";

let claims: Claims | null = null;
let sent = new Headers();
let isCaching = false;

/** From here on, requests come with a token of these claims; without any, from nobody. */
export function signIn(as: Claims | null, headers: Record<string, string> = {}): void {
  claims = as;
  sent = new Headers(headers);
}

/** Runs what Next.js would keep for later: nothing in it may ask who is signed in. */
export async function cached<T>(work: () => Promise<T>): Promise<T> {
  isCaching = true;
  return work().finally(() => (isCaching = false));
}

/** The claims of an ordinary token, fresh. */
export function member(userId: string, orgId: string | null, more: Claims = {}): Claims {
  const now = Math.floor(Date.now() / 1000);
  const o = orgId === null ? {} : { o: { id: orgId, rol: "member" } };
  return {
    sub: userId,
    sid: `sess_${userId}`,
    iat: now,
    nbf: now - 10,
    exp: now + 60,
    v: 2,
    sts: "active",
    ...o,
    ...more,
  };
}

/** Clerk's `auth()`. */
export async function auth() {
  return { sessionClaims: claims, userId: claims?.sub ?? null, getToken: async () => null };
}

/** Next.js's `headers()`. */
export async function headers(): Promise<Headers> {
  if (isCaching) throw new Error("headers() was used inside a cached function");
  return sent;
}
